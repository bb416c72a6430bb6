package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/envoy/ratelimitservice"
	"github.com/sluice-gateway/sluice/gateway/jwks"
	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/systemd"
)

// Options is what a gateway is run with.
type Options struct {
	// Source gives the configuration, the first one and those that follow.
	Source source.Source
	// OnReady is called once, when the gateway accepts requests; nil is none.
	OnReady func(Addresses)
	// DrainLimit bounds how long requests in flight may take to finish; 0 is 30 s.
	DrainLimit time.Duration
	// ReopenLogs has the files of logs opened again with each value, as after a rotation; nil never does.
	ReopenLogs <-chan struct{}
	Logger     *slog.Logger
	Build      string // the program's version, for the status
	// Sockets are listening ones that the process was started with; nil: it opens its own.
	Sockets *systemd.Sockets
	// Manager is told how the gateway stands; nil: nobody is.
	Manager *systemd.Manager
	// Roots verify the servers that the gateway itself asks, those of key sets; nil: the system's.
	Roots *x509.CertPool
}

// Addresses are those that the gateway listens on, with the ports that were found for :0. One that
// is not listened on is empty.
type Addresses struct{ HTTP, HTTPS, Admin, Probes, Branches, Envoy string }

// ErrConfig says that a configuration reads well and that what it refers to cannot be used: a key
// file, a certificate.
var ErrConfig = errors.New("gateway: the configuration cannot be used")

// defaultDrainLimit is the contract's.
const defaultDrainLimit = 30 * time.Second

// gateway is one running process.
type gateway struct {
	Options
	*process
	started   *config.Config // with which the listeners were opened
	engine    atomic.Pointer[engine]
	tls       atomic.Pointer[tls.Config] // certificates in force; nil without listen.https
	addresses Addresses
	began     time.Time
	draining  atomic.Bool
	prepared  atomic.Bool // every policy has had what it needs once
	// openConnections counts those of clients; nil before there are listeners for them.
	openConnections atomic.Pointer[func() (all, http2 int)]
	stop            context.CancelFunc // ends process.stopping

	mu        sync.Mutex // guards what follows
	lastFault string     // why the newest configuration was refused; empty when it was applied
	applied   time.Time  // the one in force
	refused   *admin.RefusedStatus

	certificates []certificate // of the one in force
}

// Run runs a gateway until ctx ends, then drains it: no new connections, requests in flight finish.
// What is still in flight when the drain's limit is over is cut off. The error says why it did not
// come up.
func Run(ctx context.Context, o Options) error { return run(ctx, o, false) }

func run(ctx context.Context, o Options, envoy bool) error {
	if o.DrainLimit == 0 {
		o.DrainLimit = defaultDrainLimit
	}
	for {
		cfg, err := first(ctx, &o)
		if err != nil {
			if ctx.Err() != nil { // stopped while it waited
				return nil
			}
			return err
		}
		if envoy {
			cfg = forEnvoy(cfg)
		}
		err = runWith(ctx, o, cfg, envoy)
		w, waits := o.Source.(source.Waiting)
		if !waits || !errors.Is(err, ErrConfig) && !errors.Is(err, errBranches) {
			return err
		}
		w.Refused(err)
	}
}

// runWith runs a gateway whose first configuration is known.
func runWith(ctx context.Context, o Options, cfg *config.Config, envoy bool) error {
	g := &gateway{Options: o, started: cfg, began: time.Now()}
	env := &policy.Env{Logger: o.Logger, Metrics: policy.NewMetrics(), KeyTransport: jwks.NewTransport(o.Roots)}
	m := newMetrics(env.Metrics)
	if c, ok := o.Source.(metric.Collector); ok {
		m.registry.Add(c)
	}
	st, err := openStores(ctx, cfg, o.Logger, m)
	if err != nil {
		return err
	}
	env.Stores = st.forPolicies()
	var stopping context.Context
	stopping, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer g.stop()
	d := processDescriptors(cfg.Listen.MaxConnections, o.Logger)
	g.process = newProcess(env, st, m, budget.New(limitsOf(&cfg.Listen, d.upstreams)), stopping)
	if g.envoy = envoy; envoy {
		g.rateLimits = ratelimitservice.New(o.Logger, env.Metrics)
	}
	g.descriptors, g.tracing.Build = d, o.Build
	m.publishBudget(g.budget, d)
	m.publishProcess(o.Build, g.Unready)
	defer g.process.close()
	return g.run(ctx, cfg)
}

func (g *gateway) run(ctx context.Context, cfg *config.Config) error {
	l, err := listen(cfg, g.envoy, g.Sockets)
	if err != nil {
		return err
	}
	defer l.close()
	g.Sockets.DropUnused(g.Logger)
	g.addresses = l.addresses()
	if err := g.start(cfg); err != nil {
		return err
	}
	servers := g.servers(cfg, l)
	defer servers.close()

	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer endWork()
	run := func(name string, f func(context.Context) error) {
		background.Go(func() {
			if err := f(work); err != nil {
				g.Logger.Error("a background task ended", "task", name, "error", err)
			}
		})
	}
	run("store watch", g.stores.watch)
	run("census of keys", func(ctx context.Context) error { return g.stores.countKeys(ctx) })
	run("refusal log", g.refusals.run)
	run("log files", func(ctx context.Context) error { return g.access.reopenAt(ctx, g.ReopenLogs) })
	run("memory limit", newMemoryKeeper(g.budget).run)
	if g.stores.membership != nil {
		run("membership", g.stores.membership.Run)
	}
	if g.bridge != nil {
		g.metrics.registry.Add(&transactionsNow{g.bridge})
		run("transactions", g.bridge.Run)
	}
	if f, ok := g.Source.(source.Fleet); ok {
		f.Report(g.metrics.loads)
	}
	run("configuration", func(ctx context.Context) error { return g.Source.Watch(ctx, g) })

	if servers.clients != nil {
		open := servers.open
		g.openConnections.Store(&open)
		g.metrics.publishConnections(servers.open)
		g.metrics.publishCuts(servers.clients.cuts)
	}
	failed := servers.serve()
	g.Manager.Ready(g.standing())
	run("readiness", g.sayReady)
	if g.Manager != nil {
		run("service manager", func(ctx context.Context) error { return g.tellManager(ctx, servers) })
	}
	if g.OnReady != nil {
		g.OnReady(g.addresses)
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	return g.drain(servers)
}

// start makes the bridge to the coordinator and puts the first configuration in force.
func (g *gateway) start(cfg *config.Config) error {
	if cfg.Coordinator != nil {
		if err := g.makeBridge(&cfg.Coordinator.DTM); err != nil {
			return err
		}
	}
	g.discovered.applying.Lock()
	defer g.discovered.applying.Unlock()
	if d, ok := g.Source.(source.Discoverer); ok {
		for service, endpoints := range d.Discovered() {
			g.discovered.setLocked(service, endpoints)
		}
	}
	if err := g.enforceLocked(cfg, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// drain ends the gateway in order: unready at once, go on accepting for drainDelay, then no new
// connections, and what is in flight finishes.
func (g *gateway) drain(s *servers) error {
	g.draining.Store(true)
	delay := time.Duration(g.engine.Load().cfg.Listen.DrainDelay)
	g.Logger.Info("draining", "delay", delay.String(), "limit", g.DrainLimit.String())
	g.Manager.Stopping(g.standing(), delay+g.DrainLimit+stopMargin)
	s.leave()
	time.Sleep(delay) // nothing to wait for: load balancers have that long to notice
	g.stop()
	ctx, cancel := context.WithTimeout(context.Background(), g.DrainLimit)
	defer cancel()
	err := s.shutdown(ctx, false)
	if g.bridge != nil {
		err = errors.Join(err, g.bridge.Wait(ctx))
	}
	err = errors.Join(err, s.shutdown(ctx, true))
	if g.bridge != nil {
		err = errors.Join(err, g.bridge.Wait(ctx)) // what came in before the branch address was closed
	}
	if err != nil {
		g.Logger.Warn("requests were still in flight at the end of the drain and are cut off", "limit",
			g.DrainLimit.String(), "error", err)
		return nil
	}
	g.Logger.Info("drained")
	return nil
}
