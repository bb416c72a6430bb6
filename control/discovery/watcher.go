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

// Options are what a [Watcher] works with. Update is set.
type Options struct {
	// Update is called with the endpoints of a service whenever they have changed; the list is the
	// callee's. It must return, and must not call [Watcher.Close].
	Update   func(service string, endpoints []config.Endpoint)
	Logger   *slog.Logger  // nil: nothing is logged
	Resolver Resolver      // nil: the system's
	Look     time.Duration // how often files are looked at; 0: 500ms
	Gather   time.Duration // the least time between two rounds of updates; 0: 100ms
	RetryMin time.Duration // how soon the API of a cluster is asked again; 0: 500ms
	RetryMax time.Duration // and how late; 0: 30s
	Timeout  time.Duration // how long that API may take to begin an answer; 0: 30s
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
	services map[string]*service
	clusters map[clusterKey]*cluster // by where they are, for the services of one to share connections
}

// service is one whose endpoints are found. All of it is under the watcher's mu.
type service struct {
	name      string
	watch     *watch // of the present source
	endpoints []config.Endpoint
	known     bool // endpoints are those of an answer, be it of an earlier source
	changed   bool // the update of endpoints waits
	status    Status
	logAt     time.Time // when a failure is logged again
	toldAt    time.Time // when a change was logged
	untold    int       // changes since then
}

// watch is one source at work.
type watch struct {
	watcher *Watcher
	service string
	cancel  context.CancelFunc
	source  string        // see sourceKey
	first   chan struct{} // closed at its first answer or failure
	heard   bool          // first is closed; under the watcher's mu
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
	w.done.Go(w.deliver)
	return w
}

// Watch has update called with the endpoints of all services of a configuration that are found,
// until ctx ends. See [Options.Update].
func Watch(ctx context.Context, cfg *config.Config, o Options) {
	w := New(o)
	defer w.Close()
	w.Configure(cfg)
	<-ctx.Done()
}

// Close ends all watches. No update comes behind it.
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
// is the same as before goes on. A service that the configuration has no more, or whose endpoints are
// written in it, has no update behind it but one that has begun.
func (w *Watcher) Configure(cfg *config.Config) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	for name, s := range w.services {
		if c := cfg.Services[name]; c == nil || c.EndpointsFrom == nil {
			s.watch.cancel()
			delete(w.services, name)
		}
	}
	used := map[clusterKey]bool{}
	for name, c := range cfg.Services {
		if c == nil || c.EndpointsFrom == nil {
			continue
		}
		if k := c.EndpointsFrom.Kubernetes; k != nil {
			used[keyOfCluster(k)] = true
		}
		w.watchLocked(name, c)
	}
	for key, c := range w.clusters {
		if !used[key] {
			c.close()
			delete(w.clusters, key)
		}
	}
}

// sourceKey is the same for two services whose endpoints are found in the same way.
func sourceKey(c *config.Service) string {
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

func (w *Watcher) watchLocked(name string, c *config.Service) {
	s, key := w.services[name], sourceKey(c)
	switch {
	case s == nil:
		s = &service{name: name, status: Status{Service: name}}
		w.services[name] = s
	case s.watch.source == key:
		return
	default:
		s.watch.cancel()
	}
	ctx, cancel := context.WithCancel(w.ctx)
	s.watch = &watch{watcher: w, service: name, cancel: cancel, source: key, first: make(chan struct{})}
	s.status.Source, s.status.Fault, s.status.Note, s.logAt = c.EndpointsFrom.String(), "", "", time.Time{}
	s.status.Answered, s.status.FaultSince = time.Time{}, time.Time{}
	from, watch := w.sourceLocked(c), s.watch
	w.done.Go(func() { from.run(ctx, watch) })
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
	for _, first := range w.unheard() {
		select {
		case <-first:
		case <-ctx.Done():
			return
		}
	}
}

func (w *Watcher) unheard() (list []<-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.services {
		list = append(list, s.watch.first)
	}
	return list
}

// Endpoints returns the endpoints of a service as they were found last; false where nothing was.
func (w *Watcher) Endpoints(service string) ([]config.Endpoint, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.services[service]
	if s == nil || !s.known {
		return nil, false
	}
	return slices.Clone(s.endpoints), true
}

// deliver calls Update with what has changed, until the watcher is closed.
func (w *Watcher) deliver() {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.wake:
		}
		for _, name := range w.waiting() {
			if endpoints, ok := w.take(name); ok {
				w.o.Update(name, endpoints)
			}
		}
		rest.Reset(w.o.Gather)
		select {
		case <-w.ctx.Done():
			return
		case <-rest.C:
		}
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

// take returns the endpoints whose update waits; false where none does any more.
func (w *Watcher) take(name string) ([]config.Endpoint, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.services[name]
	if s == nil || !s.changed || w.closed {
		return nil, false
	}
	s.changed = false
	return slices.Clone(s.endpoints), true
}
