package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// Options is what a gateway is run with.
type Options struct {
	// Load reads the configuration: at the start, and for a reload.
	Load func() (*config.Config, error)
	// Reload asks for a reload at once; nil is none. The configuration's files are watched beside it.
	Reload <-chan struct{}
	// OnReady is called once, when the gateway accepts requests; nil is none.
	OnReady func(Addresses)
	// DrainLimit bounds how long requests in flight may take to finish; 0 is 30 s.
	DrainLimit time.Duration
	Logger     *slog.Logger
	Build      string // the program's version, for the status
}

// Addresses are those that the gateway listens on, with the ports that were found for :0. One that is not listened on is empty.
type Addresses struct{ HTTP, HTTPS, Admin, Branches string }

// ErrConfig says that a configuration reads well and that what it refers to cannot be used: a key file, a certificate.
var ErrConfig = errors.New("gateway: the configuration cannot be used")

// defaultDrainLimit is the contract's.
const defaultDrainLimit = 30 * time.Second

// gateway is one running process.
type gateway struct {
	Options
	shared      *shared
	coordinator *transaction.Bridge // nil without one
	engine      atomic.Pointer[engine]
	tls         atomic.Pointer[tls.Config] // certificates in force; nil without listen.https
	addresses   Addresses
	began       time.Time
	draining    atomic.Bool
	stopping    context.Context // ends when the drain begins
	stop        context.CancelFunc

	mu        sync.Mutex // of what follows
	lastFault string     // why the last configuration was refused; empty when it was applied
	lastLoad  time.Time
}

// Run runs a gateway until ctx ends, then drains it: no new connections, requests in flight finish. What is still in flight when the
// drain's limit is over is cut off. The error says why it did not come up.
func Run(ctx context.Context, o Options) error {
	if o.DrainLimit == 0 {
		o.DrainLimit = defaultDrainLimit
	}
	cfg, err := o.Load()
	if err != nil {
		return err
	}
	g := &gateway{Options: o, began: time.Now(), lastLoad: time.Now()}
	g.stopping, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer g.stop()
	if g.shared, err = newShared(ctx, cfg, o.Logger); err != nil {
		return err
	}
	defer g.shared.close()
	return g.run(ctx, cfg)
}

func (g *gateway) run(ctx context.Context, cfg *config.Config) error {
	servers, err := g.listen(cfg)
	if err != nil {
		return err
	}
	defer servers.close()
	if err := g.start(ctx, cfg); err != nil {
		return err
	}

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
	run("store watch", g.shared.watchStore)
	if g.shared.membership != nil {
		run("membership", g.shared.membership.Run)
	}
	if g.coordinator != nil {
		g.shared.metrics.pendingTransactions(g.coordinator.Pending)
		run("transactions", g.coordinator.Run)
	}
	run("configuration", g.watchConfig)

	failed := servers.serve()
	g.Logger.Info("ready", "http", g.addresses.HTTP, "https", g.addresses.HTTPS, "admin", g.addresses.Admin, "branches", g.addresses.Branches)
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

// start builds the coordinator's stand-in and the first engine.
func (g *gateway) start(ctx context.Context, cfg *config.Config) error {
	if cfg.Coordinator != nil {
		client, err := sagaclient.New(sagaclient.Options{Endpoints: cfg.Coordinator.DTM.Endpoints})
		if err != nil {
			return err
		}
		g.coordinator = transaction.New(transaction.Options{
			Client: client, Store: g.shared.store, Codec: g.shared.codec, Base: branchBase(cfg.Coordinator.DTM.Branches, g.addresses.Branches),
			Call: g.callBranch, Longest: g.longestCall, Steps: g.stepsOf, Metrics: g.shared.metrics.transaction(), Logger: g.Logger,
		})
	}
	e, err := g.shared.build(cfg, g.coordinator, g.stopping)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	g.engine.Store(e)
	g.shared.metrics.configInfo.WithLabelValues(cfg.Hash()).Set(1)
	return nil
}

// branchBase is where the coordinator finds the branch address: the host as it is configured, which may be a name that it resolves, with the
// port that was found.
func branchBase(configured, listening string) string {
	host, _, err := net.SplitHostPort(configured)
	_, port, err2 := net.SplitHostPort(listening)
	if err != nil || err2 != nil || host == "" {
		return "http://" + listening
	}
	return "http://" + net.JoinHostPort(host, port)
}

// servers are the listeners and what serves on them.
type servers struct {
	list    []served
	clients *clientListeners
}

type served struct {
	server   server
	listener net.Listener
	last     bool // stays open through the drain: admin, and the branch calls that requests in flight wait for
}

// server is an [http1.Server] or an [http.Server].
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

func (s *servers) add(srv server, l net.Listener, last bool) {
	s.list = append(s.list, served{srv, l, last})
}

// close ends what is still open after a drain, or of a start that failed.
func (s *servers) close() {
	for _, sv := range s.list {
		switch srv := sv.server.(type) {
		case *http1.Server:
			srv.Close()
		case *http.Server:
			srv.Close()
		}
		sv.listener.Close()
	}
	if s.clients != nil {
		s.clients.http2.server.Close()
	}
}

// leave has clients go elsewhere with their next requests.
func (s *servers) leave() {
	for _, sv := range s.list {
		if srv, ok := sv.server.(*http1.Server); ok {
			srv.DisableKeepAlives()
		}
	}
}

// serve starts all and returns where the first failure comes out.
func (s *servers) serve() <-chan error {
	failed := make(chan error, len(s.list))
	for _, sv := range s.list {
		go func() {
			if err := sv.server.Serve(sv.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, http1.ErrClosed) {
				failed <- fmt.Errorf("gateway: serving on %s: %w", sv.listener.Addr(), err)
			}
		}()
	}
	return failed
}

// shutdown closes the listeners of one kind and waits for their requests.
func (s *servers) shutdown(ctx context.Context, last bool) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.list))
	for i, sv := range s.list {
		if sv.last == last {
			wg.Go(func() { errs[i] = sv.server.Shutdown(ctx) })
		}
	}
	if !last {
		wg.Go(func() { s.clients.http2.server.Shutdown(ctx) }) // tells the clients to go; the connections are waited for above
	}
	wg.Wait()
	return errors.Join(errs...)
}

// listen opens every address before anything is served, so that a busy one is a clean failure.
func (g *gateway) listen(cfg *config.Config) (*servers, error) {
	s := &servers{}
	open := func(what, address string) (net.Listener, error) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("gateway: %s: %w", what, err)
		}
		return l, nil
	}
	front := g.newClientListeners(cfg)
	s.clients = front
	var l net.Listener
	var err error
	if cfg.Listen.HTTP != "" {
		if l, err = open("listen.http", cfg.Listen.HTTP); err != nil {
			return nil, err
		}
		g.addresses.HTTP = l.Addr().String()
		s.add(front.server(nil), l, false)
	}
	if h := cfg.Listen.HTTPS; h != nil {
		tlsConfig, err := tlsFor(h)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		g.tls.Store(tlsConfig)
		if l, err = open("listen.https", h.Address); err != nil {
			return nil, err
		}
		g.addresses.HTTPS = l.Addr().String()
		s.add(front.server(g.tls.Load), l, false) // each handshake asks anew, so a reload renews it
	}
	if l, err = open("admin.address", cfg.Admin.Address); err != nil {
		return nil, err
	}
	g.addresses.Admin = l.Addr().String()
	s.add(g.internalServer(g.admin(cfg)), l, true)
	if cfg.Coordinator != nil {
		if l, err = open("coordinator.dtm.branches", cfg.Coordinator.DTM.Branches); err != nil {
			return nil, err
		}
		g.addresses.Branches = l.Addr().String()
		s.add(g.internalServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.coordinator.ServeHTTP(w, r) })), l, true)
	}
	return s, nil
}

func (g *gateway) internalServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 75 * time.Second, ErrorLog: slog.NewLogLogger(g.Logger.Handler(), slog.LevelWarn)}
}

// drain ends the gateway in order: unready at once, go on accepting for drainDelay, then no new connections, and what is in flight
// finishes.
func (g *gateway) drain(s *servers) error {
	g.draining.Store(true)
	delay := time.Duration(g.engine.Load().cfg.Listen.DrainDelay)
	g.Logger.Info("draining", "delay", delay.String(), "limit", g.DrainLimit.String())
	s.leave()
	time.Sleep(delay) // nothing to wait for: load balancers have that long to notice
	g.stop()
	ctx, cancel := context.WithTimeout(context.Background(), g.DrainLimit)
	defer cancel()
	err := s.shutdown(ctx, false)
	if g.coordinator != nil {
		err = errors.Join(err, g.coordinator.Wait(ctx))
	}
	err = errors.Join(err, s.shutdown(ctx, true))
	if g.coordinator != nil {
		err = errors.Join(err, g.coordinator.Wait(ctx)) // what came in before the branch address was closed
	}
	if err != nil {
		g.Logger.Warn("requests were still in flight at the end of the drain and are cut off", "limit", g.DrainLimit.String(), "error", err)
		return nil
	}
	g.Logger.Info("drained")
	return nil
}

// callBranch sends a branch's call through the chain that the service has in the engine in force.
func (g *gateway) callBranch(ctx context.Context, service string, x *filters.Exchange, body []byte) (int, []byte, filters.Outcome) {
	rt := g.engine.Load().branches[service]
	if rt == nil {
		g.Logger.Error("a branch calls a service that is not in the configuration any more", "service", service, "gid", x.Logical.Key)
		return 0, nil, filters.NotDispatched
	}
	x.BufferBody, x.Received = branchAnswerMax, time.Now()
	rec := &recorder{most: branchAnswerMax}
	rt.serve(x, &whole{message.Message{Bytes: body}}, rec)
	if x.Response.Local {
		return x.Response.Status, nil, filters.NotDispatched
	}
	if rec.aborted {
		return 0, nil, filters.NoResponse
	}
	return rec.status, rec.body, filters.Completed
}

const branchAnswerMax = 64 << 10

// whole is the inbound of a request that the gateway itself makes.
type whole struct{ message message.Message }

func (w *whole) Message() (*message.Message, error) { return &w.message, nil }

// stepsOf returns the names of the steps of the transaction that a route leads to today.
func (g *gateway) stepsOf(route string) (names []string, ok bool) {
	cfg := g.engine.Load().cfg
	for _, r := range cfg.Routes {
		if r.Name == route && r.Transaction != "" {
			return transaction.StepNames(cfg.Transactions[r.Transaction]), true
		}
	}
	return nil, false
}

func (g *gateway) longestCall(service string) time.Duration {
	if c := g.engine.Load().cfg.Services[service]; c != nil {
		return longest(c)
	}
	return time.Second
}
