package transactions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/freeport"
	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// world is what runs for one pair of stores.
type world struct {
	pair     pair
	dir      string
	services map[int]*measure.Process // by statements
	mariadb  string                   // its address
	parts    []namedPart              // that CPU is counted of
	gateway  measure.Site
	dtm      measure.Site
}

type namedPart struct {
	name string
	*measure.Process
}

func (w *world) stop() {
	for i := len(w.parts) - 1; i >= 0; i-- {
		w.parts[i].Shutdown()
	}
}

func (w *world) start(ctx context.Context, name string, s measure.Site, cmd *exec.Cmd) (*measure.Process, error) {
	p, err := measure.StartProcess(ctx, cmd, s)
	if err != nil {
		return nil, fmt.Errorf("transactions: %s: %w", name, err)
	}
	w.parts = append(w.parts, namedPart{name, p})
	return p, nil
}

// site is a fresh address and folder.
func (w *world) site(name string) (s measure.Site, err error) {
	s.Dir = filepath.Join(w.dir, name)
	if err = os.MkdirAll(s.Dir, 0o755); err != nil {
		return s, err
	}
	if s.Listen, err = freeport.Pick(); err == nil {
		s.Admin, err = freeport.Pick()
	}
	return s, err
}

// startRedis runs a Redis that is as durable as most are: it has its log on disk every second.
func (w *world) startRedis(ctx context.Context, name string) (address string, err error) {
	path, err := child.Find("redis-server")
	if err != nil {
		return "", err
	}
	s, err := w.site(name)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return "", err
	}
	_, err = w.start(ctx, name, s, exec.Command(path, "--port", port, "--bind", host, "--dir", s.Dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec"))
	return s.Listen, err
}

func (w *world) startCoordinator(ctx context.Context, program string) (err error) {
	if w.dtm, err = w.site("sluice-dtm"); err != nil {
		return err
	}
	args := []string{"--listen", w.dtm.Listen, "--data", w.dtm.Dir, "--store", w.pair.coordinator,
		"--log-level", "error"}
	if w.pair.coordinator == redis {
		at, err := w.startRedis(ctx, "coordinator's Redis")
		if err != nil {
			return err
		}
		host, port, err := net.SplitHostPort(at)
		if err != nil {
			return err
		}
		args = append(args, "--store-host", host, "--store-port", port)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error") // DTM's logger reads it before any flag
	_, err = w.start(ctx, "coordinator", w.dtm, cmd)
	return err
}

type serviceAt struct{ Name, Address string }

func serviceName(statements int) string { return "statements-" + strconv.Itoa(statements) }

func (w *world) startServices(ctx context.Context, o *Options, statements int) error {
	name := "services"
	if statements > 0 {
		name = fmt.Sprintf("services with %d statements", statements)
	}
	s, err := w.site(serviceName(statements))
	if err != nil {
		return err
	}
	p, err := w.start(ctx, name, s, exec.Command(o.Program, "bench", "part", Part, s.Listen, strconv.Itoa(statements),
		w.mariadb))
	if err == nil {
		w.services[statements] = p
	}
	return err
}

func (w *world) startGateway(ctx context.Context, o *Options) (err error) {
	if w.gateway, err = w.site("gateway"); err != nil {
		return err
	}
	branches, err := freeport.Pick()
	if err != nil {
		return err
	}
	values := map[string]any{
		"Listen": w.gateway.Listen, "Admin": w.gateway.Admin, "Dir": w.gateway.Dir, "Store": w.pair.gateway,
		"Coordinator": w.dtm.Listen, "Branches": branches, "Steps": steps,
	}
	if w.pair.gateway == redis {
		if values["Redis"], err = w.startRedis(ctx, "gateway's Redis"); err != nil {
			return err
		}
	}
	var services []serviceAt
	for statements, p := range w.services {
		services = append(services, serviceAt{serviceName(statements), p.Site.Listen})
	}
	values["Services"] = services
	var text bytes.Buffer
	if err := configurations.ExecuteTemplate(&text, "transactions.yaml.tmpl", values); err != nil {
		return err
	}
	file := filepath.Join(w.gateway.Dir, "sluice.yaml")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return err
	}
	_, err = w.start(ctx, "gateway", w.gateway, exec.Command(o.Program, "run", "--log-level", "error", "-c", file))
	return err
}

var configurations = template.Must(template.ParseFS(templateFiles, "templates/*.tmpl"))

// startMariaDB runs a MariaDB whose commits reach the operating system, as most have it where DTM's branches are short.
func (w *world) startMariaDB(ctx context.Context) error {
	s, err := w.site("mariadb")
	if err != nil {
		return err
	}
	data := filepath.Join(s.Dir, "data")
	prefix, err := asUser(s.Dir)
	if err != nil {
		return err
	}
	command := func(args ...string) (*exec.Cmd, error) {
		path, err := child.Find(args[0])
		if err != nil {
			return nil, err
		}
		args = append(append(append([]string{}, prefix...), path), args[1:]...)
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = s.Dir
		return cmd, nil
	}
	create, err := command("mariadb-install-db", "--no-defaults", "--datadir="+data,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=64M", "--tmpdir="+s.Dir)
	if err != nil {
		return err
	}
	if out, err := create.CombinedOutput(); err != nil {
		return fmt.Errorf("transactions: making data of MariaDB: %w: %s", err, bytes.TrimSpace(out))
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return err
	}
	cmd, err := command("mariadbd", "--no-defaults", "--datadir="+data, "--bind-address="+host, "--port="+port,
		"--socket="+filepath.Join(data, "s"), "--pid-file="+filepath.Join(data, "pid"), "--tmpdir="+s.Dir,
		"--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M",
		"--innodb-log-file-size=64M", "--performance-schema=OFF", "--max-connections=300")
	if err != nil {
		return err
	}
	w.mariadb = s.Listen
	_, err = w.start(ctx, "MariaDB", s, cmd)
	return err
}

// asUser is what goes before a command of MariaDB, which does not run as root: there it runs as its own user, to whom
// the folder is given. The death with the parent is set anew, because the kernel forgets it at a change of user.
func asUser(dir string) (prefix []string, err error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("mysql")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	return []string{"setpriv", "--reuid", u.Uid, "--regid", u.Gid, "--clear-groups", "--pdeathsig", "KILL"},
		os.Chown(dir, uid, gid)
}

// startAll starts everything for a pair. What was started is in parts, also after an error.
func (w *world) startAll(ctx context.Context, o *Options) error {
	if err := w.knowsStore(ctx, o.Coordinator); err != nil {
		return err
	}
	if err := w.startCoordinator(ctx, o.Coordinator); err != nil {
		return err
	}
	if len(o.Statements) > 0 {
		if err := w.startMariaDB(ctx); err != nil {
			return err
		}
	}
	for _, n := range append([]int{0}, o.Statements...) {
		if err := w.startServices(ctx, o, n); err != nil {
			return err
		}
	}
	return w.startGateway(ctx, o)
}

// knowsStore: an older sluice-dtm has no store of its own.
func (w *world) knowsStore(ctx context.Context, program string) error {
	out, err := exec.CommandContext(ctx, program, "-h").CombinedOutput()
	if err != nil && len(out) == 0 {
		return err
	}
	if !strings.Contains(string(out), w.pair.coordinator) {
		return errors.New("sluice-dtm has no store " + w.pair.coordinator)
	}
	return nil
}
