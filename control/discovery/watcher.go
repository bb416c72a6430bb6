package discovery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// Resolver looks names up. [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Options are what a [Watcher] works with. The zero value is ready.
type Options struct {
	Logger   *slog.Logger  // nil: nothing is logged
	Resolver Resolver      // nil: the system's
	Look     time.Duration // how often files are looked at; 0: 500ms
	Gather   time.Duration // the least time between two rounds of updates; 0: 100ms
	RetryMin time.Duration // how soon the API of a cluster is asked again; 0: 500ms
	RetryMax time.Duration // and how late; 0: 30s
	Timeout  time.Duration // how long that API may take to begin an answer; 0: 30s
	// Apart has a service whose source changes begin without endpoints, not with those of the source before.
	Apart bool
}

// Watcher watches the sources of services. It is safe for concurrent use.
type Watcher struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{} // an update waits

	mu       sync.Mutex
	closed   bool
	services map[string]*service     // by name
	clusters map[clusterKey]*cluster // by where they are, for the services of one to share connections
}

// source finds endpoints until ctx ends, and reports what it finds.
type source interface {
	run(ctx context.Context, r reporter)
}

// reporter takes what a source finds.
type reporter interface {
	// found takes a whole list, which is the reporter's. note says what is odd about it, or is empty.
	found(endpoints []config.Endpoint, note string)
	// alive says that the source answers, and has nothing new.
	alive()
	// failed says that the source does not answer, or not rightly.
	failed(err error)
}

// New returns a watcher without services. End it with [Watcher.Close].
func New(o Options) *Watcher {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	o.Look = cmp.Or(o.Look, 500*time.Millisecond)
	o.Gather = cmp.Or(o.Gather, 100*time.Millisecond)
	o.RetryMin = cmp.Or(o.RetryMin, 500*time.Millisecond)
	o.RetryMax = cmp.Or(o.RetryMax, 30*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	w := &Watcher{
		o: o, wake: make(chan struct{}, 1), services: map[string]*service{}, clusters: map[clusterKey]*cluster{},
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Watch has update called with the endpoints of the services of a configuration that are found, until
// ctx ends: see [Watcher.Deliver].
func Watch(ctx context.Context, cfg *config.Config, o Options, update func(string, []config.Endpoint)) {
	w := New(o)
	defer w.Close()
	w.Configure(cfg)
	w.Deliver(ctx, update)
}

// Close ends all watches.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cancel()
	w.done.Wait()
	for _, c := range w.clusters { // nothing else uses them any more
		c.close()
	}
}

// Configure watches the sources of a configuration's services from now on, and no others. One that
// is the same as before goes on.
func (w *Watcher) Configure(cfg *config.Config) { w.Begin(cfg).Commit() }

// startLocked begins to watch a service's source.
func (w *Watcher) startLocked(name string, c *config.Service) *service {
	ctx, cancel := context.WithCancel(w.ctx)
	s := &service{
		watcher: w, name: name, key: SourceKey(c), cancel: cancel, first: make(chan struct{}),
		status: Status{Service: name, Source: c.EndpointsFrom.String()},
	}
	from := w.sourceLocked(c)
	w.done.Go(func() { from.run(ctx, s) })
	return s
}

// SourceKey is the same for two services whose endpoints are found in the same way.
func SourceKey(c *config.Service) string {
	f := c.EndpointsFrom
	key := fmt.Sprintf("%s %s", f.Scheme, f)
	switch {
	case f.DNS != nil:
		key += " " + c.DNS.String()
	case f.Kubernetes != nil:
		key = fmt.Sprintf("%s %q", key, []string{f.Kubernetes.API, f.Kubernetes.Token, f.Kubernetes.CA})
	}
	return key
}

func (w *Watcher) sourceLocked(c *config.Service) source {
	f := c.EndpointsFrom
	switch {
	case f.DNS != nil:
		return &names{from: f, every: time.Duration(c.DNS), resolver: w.o.Resolver}
	case f.Kubernetes != nil:
		key := keyOfCluster(f.Kubernetes)
		if w.clusters[key] == nil {
			w.clusters[key] = newCluster(key, w.o.Timeout)
		}
		return &slicesSource{
			from: f, cluster: w.clusters[key], retry: backoff{min: w.o.RetryMin, max: w.o.RetryMax}, gather: w.o.Gather,
		}
	}
	return &file{from: f, every: w.o.Look}
}

// Await waits until each source has answered or failed once, or ctx ends.
func (w *Watcher) Await(ctx context.Context) {
	w.mu.Lock()
	list := slices.Collect(maps.Values(w.services))
	w.mu.Unlock()
	awaitAll(ctx, list)
}

func awaitAll(ctx context.Context, list []*service) {
	for _, s := range list {
		select {
		case <-s.first:
		case <-ctx.Done():
			return
		}
	}
}

// Endpoints returns the endpoints of all services as they were found last. A service that never had an
// answer is not among them.
func (w *Watcher) Endpoints() map[string][]config.Endpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string][]config.Endpoint{}
	for name, s := range w.services {
		if s.known {
			all[name] = slices.Clone(s.endpoints)
		}
	}
	return all
}

// Deliver calls update with the endpoints of each service that are known, and then with those of each
// whose endpoints change, until ctx ends or the watcher is closed. The list is the callee's. One
// Deliver runs at a time.
func (w *Watcher) Deliver(ctx context.Context, update func(service string, endpoints []config.Endpoint)) {
	w.deliver(ctx, func(s *service, endpoints []config.Endpoint) { update(s.name, endpoints) })
}

// DeliverSources is [Watcher.Deliver] by the source ([SourceKey]) that has found the endpoints.
func (w *Watcher) DeliverSources(ctx context.Context, update func(key string, endpoints []config.Endpoint)) {
	w.deliver(ctx, func(s *service, endpoints []config.Endpoint) { update(s.key, endpoints) })
}

func (w *Watcher) deliver(ctx context.Context, update func(s *service, endpoints []config.Endpoint)) {
	w.again()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.ctx.Done():
			return
		case <-w.wake:
		}
		for _, name := range w.waiting() {
			if s, endpoints := w.take(name); s != nil && ctx.Err() == nil {
				update(s, endpoints)
			}
		}
		rest.Reset(w.o.Gather)
		select {
		case <-ctx.Done():
			return
		case <-w.ctx.Done():
			return
		case <-rest.C:
		}
	}
}

// again has all endpoints that are known delivered.
func (w *Watcher) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.services {
		s.changed = s.known
	}
	w.wakeLocked()
}

func (w *Watcher) wakeLocked() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// waiting returns the services whose endpoints have changed, by name.
func (w *Watcher) waiting() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(w.services)) {
		if w.services[name].changed {
			list = append(list, name)
		}
	}
	return list
}

// take returns the service whose update waits, and its endpoints; nil where none does any more.
func (w *Watcher) take(name string) (*service, []config.Endpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.services[name]
	if s == nil || !s.changed || w.closed {
		return nil, nil
	}
	s.changed = false
	return s, slices.Clone(s.endpoints)
}
