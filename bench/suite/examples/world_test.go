//go:build !race

package examples_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
)

// The ports of what all examples share.
const (
	coordinatorPort = "36789"
	redisPort       = "6379"
	mariadbPort     = "3306"
)

// world is what runs.
type world struct {
	*testing.T
	bin         string            // folder with the programs
	shared      map[string]string // addresses by port
	coordinator *harness.Program
	redis       *redistest.Server
	mariadb     *sqltest.Server
	examples    []*running
}

// running is an example that runs.
type running struct {
	example
	world    *world
	dir      string            // its working directory
	at       map[string]string // addresses by the port in the file
	tries    []try
	gateway  *harness.Program
	services []*harness.Program
	load     *load
}

// startWorld starts the servers and the examples, each as its header says.
func startWorld(t *testing.T, examples []example) *world {
	t.Helper()
	w := &world{T: t, bin: t.TempDir(), shared: map[string]string{}}
	for name, path := range map[string]string{"sluice": build.Sluice(t), "sluice-dtm": build.Coordinator(t),
		"sluice-examples": build.Examples(t)} {
		path, err := filepath.Abs(path)
		if err == nil {
			err = os.Symlink(path, filepath.Join(w.bin, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.shared[coordinatorPort] = harness.Address(t)
	w.redis = redistest.Run(t, redistest.Options{AppendFsync: "always"})
	w.shared[redisPort] = w.redis.Addr()
	w.mariadb = sqltest.MariaDB(t)
	w.shared[mariadbPort] = w.mariadb.Addr()
	for _, e := range examples {
		w.examples = append(w.examples, w.start(e))
	}
	return w
}

var addressPattern = regexp.MustCompile(`(127\.0\.0\.1|\[::1\]):\d+`)

// start runs the commands of one example.
func (w *world) start(e example) *running {
	w.Helper()
	r := &running{example: e, world: w, dir: w.TempDir(), at: map[string]string{}}
	h := readHeader(w.T, e.file, r.replace)
	r.tries = h.tries
	folder := filepath.Join(r.dir, "deploy", "examples")
	err := os.MkdirAll(folder, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, e.file), []byte(h.config), 0o600)
	}
	if err == nil {
		err = os.Symlink(w.bin, filepath.Join(r.dir, "bin"))
	}
	if err == nil {
		err = os.Symlink(filepath.Join(build.Root(w), "deploy", "examples", "java"), filepath.Join(folder, "java"))
	}
	if err != nil {
		w.Fatal(err)
	}
	for _, line := range h.programs {
		if strings.HasPrefix(line, "redis-server ") {
			continue // it runs already, as the line says
		}
		switch program := strings.Fields(line)[0]; program {
		case "bin/sluice-dtm":
			if w.coordinator == nil {
				w.coordinator = r.run(line, w.shared[coordinatorPort], "/api/dtmsvr/version")
			}
		case "bin/sluice-examples":
			if e.mariadb {
				line = strings.Replace(line, program, program+" --mariadb 'root@tcp("+w.mariadb.Addr()+")'", 1)
			}
			r.services = append(r.services, r.run(line, "", "/healthz"))
		case "bin/sluice":
			if strings.Fields(line)[1] == "run" {
				r.gateway = r.run(line, r.at["9901"], "/readyz")
			} else {
				r.services = append(r.services, r.run(line, "", "/healthz"))
			}
		case "java":
			r.services = append(r.services, r.run(line, "", ""))
		default:
			w.Fatalf("%s: %q is not known here", e.file, line)
		}
	}
	if r.gateway == nil || len(r.services) == 0 {
		w.Fatalf("%s: its header starts no gateway or no services", e.file)
	}
	return r
}

// replace puts addresses of this run in the place of those in the text.
func (r *running) replace(text string) string {
	return addressPattern.ReplaceAllStringFunc(text, func(address string) string {
		host, port, _ := net.SplitHostPort(address)
		if shared := r.world.shared[port]; shared != "" {
			return shared
		}
		if r.at[port] == "" {
			r.at[port] = harness.Address(r.world)
		}
		_, free, _ := net.SplitHostPort(r.at[port])
		return net.JoinHostPort(host, free)
	})
}

// run starts a command as a shell does, and waits until it serves the path at the addresses. Without addresses they are
// those of the command that stand alone or behind an equals sign: what it listens on. Without a path it is enough that
// something listens.
func (r *running) run(line, address, path string) *harness.Program {
	r.world.Helper()
	addresses := []string{address}
	if address == "" {
		addresses = nil
		for _, word := range strings.Fields(line) {
			if _, value, found := strings.Cut(word, "="); found {
				word = value
			}
			if word != "" && addressPattern.FindString(word) == word {
				addresses = append(addresses, word)
			}
		}
	}
	if len(addresses) == 0 {
		r.world.Fatalf("%s: %q listens on nothing", r.file, line)
	}
	return harness.StartProgram(r.world, r.file+": "+line, startLimit, func() *exec.Cmd {
		cmd := exec.Command("sh", "-c", "exec "+line)
		cmd.Dir = r.dir
		// What is compiled for a minute only need not be compiled well.
		cmd.Env = append(os.Environ(), "JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
		return cmd
	}, func() bool {
		for _, a := range addresses {
			if !serves(r.world.Context(), a, path) {
				return false
			}
		}
		return true
	})
}

func serves(ctx context.Context, address, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if path == "" {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	status, _, err := get(ctx, "http://"+address+path)
	return err == nil && status == http.StatusOK
}

// url is a URL at the address that stands for the port.
func (r *running) url(port, path string) string {
	r.world.Helper()
	if r.at[port] == "" {
		r.world.Fatalf("%s has no address with port %s", r.file, port)
	}
	return "http://" + r.at[port] + path
}

// tryAll pastes what the header says to try into a shell.
func (r *running) tryAll() {
	r.world.Helper()
	for _, l := range r.tries {
		ctx, cancel := context.WithTimeout(r.world.Context(), requestLimit)
		cmd := exec.CommandContext(ctx, "sh", "-c", l.line)
		cmd.Dir = r.dir
		out, err := cmd.Output()
		cancel()
		first, _, _ := strings.Cut(string(out), "\n")
		if err != nil || !strings.Contains(first, fmt.Sprintf(" %d ", l.status)) {
			r.world.Errorf("%s: %s\n%s\nprints: %v\n%s", r.file, l.shows, l.line, err, out)
		}
	}
}

// startLimit is how long a program may take until it serves: those in Java take a minute on a busy machine.
const startLimit = 4 * time.Minute

// requestLimit bounds every request of these tests.
const requestLimit = 40 * time.Second

// client keeps no connection open, so that none is left to a process that was killed.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: requestLimit}

func get(ctx context.Context, url string) (status int, body string, err error) {
	return roundTrip(ctx, http.MethodGet, url, "")
}

func roundTrip(ctx context.Context, method, url, body string, fields ...string) (int, string, error) {
	status, _, said, err := exchange(ctx, method, url, body, fields...)
	return status, said, err
}

func exchange(ctx context.Context, method, url, body string, fields ...string) (int, http.Header, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp.StatusCode, resp.Header, string(said), err
}
