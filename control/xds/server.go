package xds

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

	ads "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	load "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/envoydialect"
	"github.com/sluice-gateway/sluice/control/source"
)

// Source gives documents.
type Source interface {
	// First returns the document to start with. The error says why there is none.
	First(ctx context.Context) (*config.Document, error)
	// Watch gives every later one to the sink, until ctx ends.
	Watch(ctx context.Context, sink source.DocumentSink) error
}

// Options is what a control plane is run with.
type Options struct {
	Source Source
	// Check says why a gateway would refuse a document; nil: no gateway is asked.
	Check func(*config.Document) error
	// Discovery is how the endpoints of services are found.
	Discovery discovery.Options
	Envoy     envoydialect.Options
	// OnReady is called once, when nodes are served; nil is none.
	OnReady func(Addresses)
	// DrainLimit bounds how long the end may take; 0 is 30 s.
	DrainLimit time.Duration
	Logger     *slog.Logger
	Build      string // the program's version, for the status
}

// Addresses are those that a control plane listens on; empty where it does not.
type Addresses struct {
	Control string `json:"control"`
	Admin   string `json:"admin"`
	Probes  string `json:"probes"`
}

// ErrConfig says that a document reads well and that what it refers to cannot be used.
var ErrConfig = errors.New("xds: the configuration cannot be used")

const defaultDrainLimit = 30 * time.Second

// controlPlane is one running process.
type controlPlane struct {
	Options
	*plane
	began     time.Time
	addresses Addresses
	stopping  atomic.Bool
	tls       atomic.Pointer[tls.Config]
	applied   atomic.Pointer[applied]

	faultMu sync.Mutex
	fault   string
}

// applied is the last document that was good.
type applied struct {
	release *release
	config  *config.Config
	loaded  time.Time
}

// Run serves nodes until ctx ends, then ends their streams, so that they go to another control plane
// or wait for this one. The error says why it did not come up.
func Run(ctx context.Context, o Options) error { return runWith(ctx, o, func(*controlPlane) {}) }

func runWith(ctx context.Context, o Options, change func(*controlPlane)) error {
	if o.DrainLimit == 0 {
		o.DrainLimit = defaultDrainLimit
	}
	if o.Discovery.Logger == nil {
		o.Discovery.Logger = o.Logger
	}
	d, err := o.Source.First(ctx)
	if err != nil {
		return err
	}
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	c := &controlPlane{Options: o, began: time.Now(), plane: newPlane(streams, o.Logger, newMetrics(), usualBounds)}
	o.Discovery.Apart = true // what one configuration finds is nothing to the nodes of another
	c.watcher = discovery.New(o.Discovery)
	defer c.watcher.Close()
	c.metrics.registry.Add(c.watcher)
	change(c)
	if err := c.enforce(d); err != nil {
		return err
	}
	l, err := c.listen(d.Config())
	if err != nil {
		return err
	}
	defer l.close()
	return c.run(ctx, l, endStreams)
}

func (c *controlPlane) run(ctx context.Context, l *listeners, endStreams func()) error {
	g := grpc.NewServer(c.serverOptions()...)
	ads.RegisterAggregatedDiscoveryServiceServer(g, c.plane)
	load.RegisterLoadReportingServiceServer(g, c.plane)
	operators := c.operatorServers(l)

	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer endWork()
	background.Go(func() { c.publish(work) })
	background.Go(func() { c.watcher.DeliverSources(work, c.SetEndpoints) })
	background.Go(func() {
		if err := c.Source.Watch(work, c); err != nil {
			c.Logger.Error("the configuration is no longer watched", "error", err)
		}
	})

	failed := make(chan error, 1+len(operators))
	go func() { failed <- g.Serve(netutil.LimitListener(l.control, connectionsMax)) }()
	for _, o := range operators {
		go func() {
			if err := o.Serve(o.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		}()
		defer o.Close()
	}
	defer g.Stop()
	c.Logger.Info("ready", "control", c.addresses.Control, "admin", c.addresses.Admin, "probes", c.addresses.Probes,
		"version", c.applied.Load().release.version)
	if c.OnReady != nil {
		c.OnReady(c.addresses)
	}
	select {
	case err := <-failed:
		return fmt.Errorf("xds: serving: %w", err)
	case <-ctx.Done():
	}
	c.drain(g, endStreams)
	return nil
}

// drain ends the streams with a word to the nodes, and then the connections.
func (c *controlPlane) drain(g *grpc.Server, endStreams func()) {
	c.Logger.Info("draining", "limit", c.DrainLimit.String())
	c.stopping.Store(true)
	c.plane.drain()
	endStreams()
	stopped := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(stopped)
	}()
	limit := time.NewTimer(c.DrainLimit)
	defer limit.Stop()
	select {
	case <-stopped:
		c.Logger.Info("drained")
	case <-limit.C:
		c.Logger.Warn("streams were still open at the end of the drain and are cut off")
		g.Stop()
	}
}

// What a node's connection may take, and how long it lasts.
const (
	connectionBuffer = 8 << 10 // bytes of each direction: a node reads and writes little
	connectionsMax   = streamsMax + 1000
	streamsOfOne     = 8 // of a connection
	handshakeMax     = 10 * time.Second
	keepaliveAfter   = 30 * time.Second
	keepaliveMax     = 15 * time.Second
	pingsAtLeast     = 10 * time.Second // apart; a client that pings more often is cut off
	// A connection ends by then, so that a certificate which is no longer good does not last, and the
	// nodes spread over the replicas again. Nodes come back with what they have and are sent nothing.
	connectionAge   = 30 * time.Minute
	connectionGrace = 10 * time.Second
	connectionIdle  = time.Minute // without a stream
)

func (c *controlPlane) serverOptions() []grpc.ServerOption {
	list := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(requestMax), grpc.MaxSendMsgSize(MessageBytesMax + requestMax),
		grpc.MaxConcurrentStreams(streamsOfOne), grpc.ConnectionTimeout(handshakeMax),
		grpc.ReadBufferSize(connectionBuffer), grpc.WriteBufferSize(connectionBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: keepaliveAfter, Timeout: keepaliveMax, MaxConnectionAge: connectionAge,
			MaxConnectionAgeGrace: connectionGrace, MaxConnectionIdle: connectionIdle,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsAtLeast, PermitWithoutStream: true}),
	}
	if c.tls.Load() == nil {
		return list
	}
	// Each handshake asks anew, so a reload renews the certificates.
	return append(list, grpc.Creds(handshakes{credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.tls.Load(), nil },
	}), c.plane}))
}

// listeners are the open addresses; nil where the configuration has none.
type listeners struct{ control, admin, probes net.Listener }

func (l *listeners) close() {
	for _, one := range []net.Listener{l.control, l.admin, l.probes} {
		if one != nil {
			one.Close()
		}
	}
}

// listen opens every address before anything is served, so that a busy one is a clean failure.
func (c *controlPlane) listen(cfg *config.Config) (*listeners, error) {
	l := new(listeners)
	for _, one := range []struct {
		into             *net.Listener
		shown            *string
		setting, address string
	}{
		{&l.control, &c.addresses.Control, "control.listen.address", cfg.ControlPlane().Listen.Address},
		{&l.admin, &c.addresses.Admin, "admin.address", cfg.Admin.Address},
		{&l.probes, &c.addresses.Probes, "admin.probes", cfg.Admin.Probes},
	} {
		if one.address == "" {
			continue
		}
		var err error
		if *one.into, err = net.Listen("tcp", one.address); err != nil {
			l.close()
			return nil, fmt.Errorf("xds: %s: %w", one.setting, err)
		}
		*one.shown = (*one.into).Addr().String()
	}
	return l, nil
}
