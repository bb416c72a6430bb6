package flashsale

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/sluice-gateway/sluice/bench/shop"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"port": portOf, "json": asJSON}).
	ParseFS(templateFiles, "templates/*.tmpl"))

// portOf is the port of host:port.
func portOf(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	return port, err
}

// world is what is started for one contender: services, store, coordinator, and what stands before
// the services.
type world struct {
	site
	o        *Options
	c        contender
	capacity map[string]shop.Capacity
	plain    bool // one service behind GETs, in place of the sale
	draft    bool // with the second transaction of scenario b
	opens    time.Time

	services    map[string]string // host:port by name, those that take load
	allServices map[string]string
	shop        *part
	redis       *redisParts
	coordinator *part
	dtmAddress  string
	gateways    []*gateway
	peer        *part
	targets     []string // host:port that the load goes to
}

// gateway is one gateway process.
type gateway struct {
	*part
	listen, admin, branches, config string
}

// serviceNames are those that a run needs.
var serviceNames = []string{"order", "stock", "payment"}

const serviceTimeout = 2 * time.Second

// timeout is what the gateway gives a service: in scenario b a call takes some ten times as long.
func (w *world) timeout() time.Duration {
	if w.draft {
		return 4 * serviceTimeout
	}
	return serviceTimeout
}

// start starts everything for the contender. What was started is in the site also when it fails.
func (w *world) start(ctx context.Context) error {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return fmt.Errorf("flashsale: %w", err)
	}
	if err := w.startShop(ctx); err != nil {
		return err
	}
	if w.c.start != nil {
		return w.c.start(ctx, w)
	}
	if w.c.Keys && w.o.Store == storeRedis && !w.plain {
		if err := w.startRedis(ctx, w.killsRedis()); err != nil {
			return err
		}
	}
	if w.c.Transactions && !w.plain {
		if err := w.startCoordinator(ctx); err != nil {
			return err
		}
	}
	n := w.o.Gateways
	if w.plain {
		n = 1
	}
	for i := range n {
		if err := w.startGateway(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startShop(ctx context.Context) error {
	at, err := pickAddresses(len(shop.Names))
	if err != nil {
		return err
	}
	args := []string{"shop", "--log-level", "error", "--no-keys", "--dir", filepath.Join(w.dir, "shop")}
	w.services, w.allServices = map[string]string{}, map[string]string{}
	for i, name := range shop.Names {
		args = append(args, "--"+name, at[i])
		w.allServices[name] = at[i]
		if slices.Contains(serviceNames, name) {
			w.services[name] = at[i]
		}
	}
	for name, c := range w.capacity {
		args = append(args, "--capacity", name+"="+c.String())
	}
	for sku, n := range w.o.stock() {
		args = append(args, "--units", fmt.Sprintf("%s=%d", sku, n))
	}
	w.shop = w.add("shop", answers("http://"+w.services["stock"]+"/healthz"), func() *exec.Cmd {
		return exec.Command(w.o.Program, args...)
	})
	return w.shop.start(ctx)
}

func (w *world) startCoordinator(ctx context.Context) error {
	program, err := w.o.coordinator()
	if err != nil {
		return err
	}
	at, err := pickAddresses(1)
	if err != nil {
		return err
	}
	w.dtmAddress = at[0]
	data := filepath.Join(w.dir, "dtm")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("flashsale: %w", err)
	}
	w.coordinator = w.add("coordinator", answers("http://"+at[0]+"/api/dtmsvr/version"), func() *exec.Cmd {
		cmd := exec.Command(program, "--listen", at[0], "--data", data, "--log-level", "error", "--cron", "1s")
		cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
		return cmd
	})
	return w.coordinator.start(ctx)
}

// coordinator is the path of the coordinator's program.
func (o *Options) coordinator() (string, error) {
	if o.Coordinator != "" {
		return o.Coordinator, nil
	}
	const program = "sluice-dtm"
	if path, err := exec.LookPath(filepath.Join(filepath.Dir(o.Program), program)); err == nil {
		return path, nil
	}
	return find(program)
}

func (w *world) startGateway(ctx context.Context, i int) error {
	at, err := pickAddresses(3)
	if err != nil {
		return err
	}
	g := &gateway{listen: at[0], admin: at[1], branches: at[2],
		config: filepath.Join(w.dir, fmt.Sprintf("gateway-%d.yaml", i+1))}
	if err := w.configure(g); err != nil {
		return err
	}
	g.part = w.add(fmt.Sprintf("gateway-%d", i+1), answers("http://"+g.admin+"/readyz"), func() *exec.Cmd {
		return exec.Command(w.o.Program, "run", "--log-level", "warn", "-c", g.config)
	})
	w.gateways = append(w.gateways, g)
	w.targets = append(w.targets, g.listen)
	return g.start(ctx)
}

// configure writes a gateway's configuration and checks it.
func (w *world) configure(g *gateway) error {
	text, err := w.configText(g, w.timeout())
	if err != nil {
		return err
	}
	if err := os.WriteFile(g.config, text, 0o600); err != nil {
		return fmt.Errorf("flashsale: %w", err)
	}
	if out, err := exec.Command(w.o.Program, "validate", "-c", g.config).CombinedOutput(); err != nil {
		return fmt.Errorf("flashsale: the gateway's configuration: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (w *world) configText(g *gateway, timeout time.Duration) ([]byte, error) {
	values := w.values(g.listen)
	values["Admin"], values["Branches"], values["Timeout"] = g.admin, g.branches, timeout
	units, err := json.Marshal(map[string]int64{hotItem: w.o.units()})
	if err != nil {
		return nil, err
	}
	values["Stock"], values["Opens"] = string(units), w.opens.UTC().Format(time.RFC3339Nano)
	if r := w.redis; r != nil && r.replica != nil {
		values["Sentinels"], values["Master"] = r.addresses, masterName
	} else if r != nil {
		values["Redis"] = r.addresses[0]
	}
	values["Coordinator"] = w.dtmAddress
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, "sluice.yaml.tmpl", values); err != nil {
		return nil, fmt.Errorf("flashsale: %w", err)
	}
	return text.Bytes(), nil
}

// sells tells whether the gateways have a sale.
func (w *world) sells() bool { return w.c.Keys && !w.plain && !w.draft }

// values are what all templates are filled with.
func (w *world) values(listen string) map[string]any {
	return map[string]any{
		"Listen": listen, "Dir": w.dir, "Services": w.services, "Plain": w.plain, "Draft": w.draft,
		"Classes": classes, "Shedding": w.c.Shedding, "Breakers": w.c.Shedding && !w.plain, "Keys": w.c.Keys,
		"Sale": w.sells(), "Transactions": w.c.Transactions && !w.plain,
		"Sentinels": []string(nil), "Redis": "",
	}
}

// startPeer starts another proxy, whose configuration a template makes.
func (w *world) startPeer(ctx context.Context, file string, values map[string]any,
	command func(config string) *exec.Cmd) error {
	at, err := pickAddresses(1)
	if err != nil {
		return err
	}
	all := w.values(at[0])
	for name, v := range values {
		all[name] = v
	}
	config := filepath.Join(w.dir, file)
	if file != "" {
		var text bytes.Buffer
		if err := templates.ExecuteTemplate(&text, file+".tmpl", all); err != nil {
			return fmt.Errorf("flashsale: %w", err)
		}
		if err := os.WriteFile(config, text.Bytes(), 0o600); err != nil {
			return fmt.Errorf("flashsale: %w", err)
		}
	} else {
		config = at[0] // a program without a file is told its address
	}
	w.peer = w.add("peer", accepts(at[0]), func() *exec.Cmd { return command(config) })
	w.targets = []string{at[0]}
	return w.peer.start(ctx)
}

// setCapacity changes what a service gets done.
func (w *world) setCapacity(ctx context.Context, service string, c shop.Capacity) error {
	body := fmt.Sprintf(`{"workers":%d,"latency":%q}`, c.Workers, c.Latency)
	return w.tell(ctx, http.MethodPost, service, "/capacity", body)
}

// tell sends something to a service behind the gateways' backs.
func (w *world) tell(ctx context.Context, method, service, path, body string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+w.services[service]+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("flashsale: %s: %w", service, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("flashsale: %s %s: %s: %s", service, path, resp.Status, text)
	}
	return nil
}
