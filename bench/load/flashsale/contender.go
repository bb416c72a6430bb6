package flashsale

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// contender is what stands before the services: the gateway, the gateway without something, or
// another proxy.
type contender struct {
	Name         string
	Shedding     bool // overload, priorities and breakers
	Keys         bool // idempotency, and with it the sale
	Transactions bool
	start        func(ctx context.Context, w *world) error // nil: it is the gateway
}

// The contenders' names.
const (
	ours         = "sluice"
	noShedding   = "shedding off"
	noKeys       = "idempotency off"
	nginxLimit   = "nginx + limit_req"
	envoyLimit   = "envoy + adaptive concurrency"
	failsafe     = "failsafe-go"
	failsafePrio = "failsafe-go, prioritized"
)

// ControlNames are what Options.Controls takes for the sale.
var ControlNames = []string{noShedding, noKeys, nginxLimit, envoyLimit, failsafe}

// ShortControls are those of the short form.
var ShortControls = []string{noShedding, noKeys}

// contenderNamed returns one; false for an unknown name.
func contenderNamed(name string) (contender, bool) {
	for _, c := range []contender{
		{Name: ours, Shedding: true, Keys: true, Transactions: true},
		{Name: noShedding, Keys: true, Transactions: true},
		{Name: noKeys, Shedding: true},
		{Name: nginxLimit, start: startNginx},
		{Name: envoyLimit, start: startEnvoy},
		{Name: failsafe, start: startFailsafe(false)},
		{Name: failsafePrio, start: startFailsafe(true)},
	} {
		if c.Name == name {
			return c, true
		}
	}
	return contender{}, false
}

// startNginx tells nginx what a service can do, which no other contender is told.
func startNginx(ctx context.Context, w *world) error {
	path, err := find("nginx")
	if err != nil {
		return err
	}
	rate := w.o.Capacity.PerSecond()
	return w.startPeer(ctx, "nginx.conf", map[string]any{"Rate": int(rate), "Burst": max(1, int(rate/20)),
		"TimeoutSeconds": int(serviceTimeout.Seconds())}, func(config string) *exec.Cmd {
		return exec.Command(path, "-p", filepath.Dir(config), "-c", config)
	})
}

// startEnvoy gives each service an own listener behind the first, since a controller is one for a
// listener; where there is one service its listener is the first.
func startEnvoy(ctx context.Context, w *world) error {
	path, err := find("envoy")
	if err != nil {
		return err
	}
	clusters := map[string]string{"stock": w.services["stock"], "order": w.services["order"]}
	inner := map[string]string{"stock": ""} // the address that startPeer picks
	if !w.plain {
		at, err := pickAddresses(2)
		if err != nil {
			return err
		}
		inner["stock"], inner["order"] = at[0], at[1]
		clusters["to_stock"], clusters["to_order"] = at[0], at[1]
	}
	values := map[string]any{"Inner": inner, "Clusters": clusters, "Timeout": fmt.Sprintf("%gs",
		w.peerTimeout().Seconds())}
	return w.startPeer(ctx, "envoy.yaml", values, func(config string) *exec.Cmd {
		return exec.Command(path, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
	})
}

// peerTimeout is how long other proxies wait for a service: in the plain scenarios a little less than
// clients do, so that their limiters see how a call ends that takes too long.
func (w *world) peerTimeout() time.Duration {
	if w.plain {
		return 900 * time.Millisecond
	}
	return serviceTimeout
}

// startFailsafe runs this program with failsafe-go's adaptive limiter in the gateway's place.
func startFailsafe(prioritized bool) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		name := PartFailsafe
		if prioritized {
			name = PartFailsafePrioritized
		}
		return w.startPeer(ctx, "", nil, func(listen string) *exec.Cmd {
			cmd := exec.Command(w.o.Program, "bench", "part", name, listen, w.services["order"], w.services["stock"],
				w.peerTimeout().String())
			cmd.Env = os.Environ()
			return cmd
		})
	}
}
