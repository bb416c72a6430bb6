package upstream

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
)

// Service is one service's endpoints and connections. It is safe for concurrent use.
type Service struct {
	name    string
	metrics Metrics
	dialer  *Dialer
	budget  retryBudget
	// outliers has a mutex of its own, which may be taken under mu.
	outliers outliers
	typical  typicalTime
	current  atomic.Pointer[configuration]

	mu     sync.Mutex // one Configure, Close or lookup that changes something at a time; no request takes it
	closed bool
	names  map[string]*name // of endpoints, that are looked up
}

// configuration is what [Service.Configure] and the lookups of names set, immutable.
type configuration struct {
	settings  Settings
	endpoints []*endpoint   // in the order of the settings and of the addresses
	latencies *latencies    // that hedges begin by; nil: they do not
	missing   error         // why names have no address; nil where none lacks one
	changed   chan struct{} // closed when there is another one; nil where no name waits for its first lookup
}

// Metrics counts what happens. Every member is set.
type Metrics struct {
	Responses       StatusCounter   // by status
	Unreachable     filters.Counter // attempts without a response: nothing was sent
	Broken          filters.Counter // the connection broke, or the response was malformed
	TimedOut        filters.Counter
	Connects        filters.Counter
	ConnectFailures filters.Counter
	Retries         filters.Counter
	BudgetRefused   filters.Counter // repeats and hedges for which the budget had no room
	Hedges          filters.Counter // second attempts that began, and those that won
	HedgesWon       filters.Counter
	Duration        filters.Observer // seconds to the response's head
	Lookups         filters.Counter  // of names
	LookupFailures  filters.Counter
	// Health is called with an endpoint's health, by its address, once that is known, and when it
	// changes; Unwatched when it is checked no more. Neither may configure or close the service.
	Health    func(endpoint string, healthy bool)
	Unwatched func(endpoint string)
	// Ejected is called when an endpoint is ejected for so long, Readmitted when it is used again
	// before it has been removed or the service closed.
	Ejected    func(endpoint string, d time.Duration)
	Readmitted func(endpoint string)
	// Resolved is called when a name has other addresses than before, LookupFault after a lookup
	// that failed or gave too many, with the addresses that are used. They are lent.
	Resolved    func(name string, old, now []netip.Addr)
	LookupFault func(name string, used []netip.Addr, err error)
}

// StatusCounter counts responses by their status, which has three digits. It is safe for concurrent use.
type StatusCounter interface{ Count(status int) }

// Response is a service's response: its head, and the body to be read to its end. Close is called
// once; strings of the response are good until then.
type Response interface {
	// Head returns the status, the fields without those of the connection, and the length of the
	// body: -1 when it is not known, and of a response without a body what it says of one.
	Head() (status int, h filters.Header, length int64)
	io.ReadCloser
	// Next returns what has come already and was not read, nil when there is nothing.
	Next() []byte
	// Trailer returns the fields behind the body, after its end.
	Trailer() filters.Header
	// Stream makes the response a stream: behind it, and not before, the service may be silent for so
	// long, and a piece of either body ends the silence. At first a silence is bounded by the timeout
	// of the attempt, and by the response's body alone.
	Stream(silence time.Duration)
	// Watch has ctx cut short what waits for the service, in place of the context that it was sent with.
	Watch(ctx context.Context)
	// Endpoint is the address that the response comes from, as long as its body has not been read to
	// its end.
	Endpoint() string
	// Uploading reports whether the request's body still goes out, which Close may wait for.
	Uploading() bool
	// ClientTime returns how long the client was waited for so far within the request's body.
	ClientTime() time.Duration
}

// New returns a service, which looks its endpoints' names up and checks their health until Close.
// It does not wait for that.
func New(s Settings, m Metrics, d *Dialer) *Service {
	svc := &Service{name: s.Name, metrics: m, dialer: d, names: map[string]*name{}}
	svc.current.Store(&configuration{settings: Settings{Name: s.Name}})
	svc.Configure(s)
	d.add(svc)
	return svc
}

// Name returns the service's name.
func (s *Service) Name() string { return s.name }

// Configure changes the settings, but for the name, which is the service's identity. Requests under
// way end with the settings that they began with, and none fails because of the change. Endpoints
// that stay keep their load, their health and, unless the TLS changes, their connections. Those
// that go are assigned no request once it has returned: their idle connections are closed, those in
// use at the end of their exchange. What the retries have in their budget stays. A closed service
// stays as it is.
func (s *Service) Configure(settings Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.current.Load().settings
	settings.Name = s.name
	settings = settings.complete()
	if s.closed || old.Equal(settings) {
		return
	}
	s.publishLocked(settings)
	s.forgetLocked(settings.Endpoints)
	if old.DNS != settings.DNS {
		s.pokeLocked()
	}
	if old.KeepAlive != settings.KeepAlive {
		for _, e := range s.current.Load().endpoints {
			e.pool.Load().trim()
		}
	}
}

// SetEndpoints changes the endpoints alone, as [Service.Configure] does.
func (s *Service) SetEndpoints(endpoints []config.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	settings := s.current.Load().settings
	if s.closed || slices.Equal(settings.Endpoints, endpoints) {
		return
	}
	settings.Endpoints = slices.Clone(endpoints)
	s.publishLocked(settings)
	s.forgetLocked(settings.Endpoints)
}

// publishLocked has the service go on with the settings, and with the addresses that its names have
// now.
func (s *Service) publishLocked(settings Settings) {
	old, next := s.current.Load(), &configuration{settings: settings}
	next.latencies = latenciesOf(old, &settings, time.Now())
	targets, missing, pending := s.targetsLocked(settings.Endpoints)
	if next.missing = missing; pending {
		next.changed = make(chan struct{})
	}
	removed := s.takeOver(old, next, targets)
	s.current.Store(next)
	if old.changed != nil {
		close(old.changed)
	}
	for _, e := range removed {
		e.removed.Store(true) // behind the store, so that a request that sees it finds the endpoints that are left
		e.pool.Load().close()
	}
	s.watchLocked(old, next, removed)
	for _, e := range s.outliers.settle(next, removed, time.Now()) {
		if !e.removed.Load() {
			s.metrics.Readmitted(e.address)
		}
	}
}

// takeOver makes the endpoints of a configuration, with those of the old one that stay, and returns
// those that do not. Where the TLS is another one, endpoints that have it begin with new
// connections.
func (s *Service) takeOver(old, next *configuration, targets []target) (removed []*endpoint) {
	kept := make(map[target][]*endpoint, len(old.endpoints)) // more than one where it is configured twice
	for _, e := range old.endpoints {
		kept[e.target()] = append(kept[e.target()], e)
	}
	newTLS := !sameTLS(&old.settings, &next.settings)
	for _, t := range targets {
		if same := kept[t]; len(same) > 0 {
			e := same[0]
			next.endpoints, kept[t] = append(next.endpoints, e), same[1:]
			if t.TLS && newTLS {
				e.pool.Swap(newPool(e, next.settings.TLS)).close()
			}
			continue
		}
		next.endpoints = append(next.endpoints, newEndpoint(t, s, next.settings.TLS))
	}
	for _, e := range old.endpoints {
		if left := kept[e.target()]; len(left) > 0 {
			removed, kept[e.target()] = append(removed, left...), nil
		}
	}
	return removed
}

// Close ends the lookups and the health checks and closes the idle connections; those in use close
// at their end. A request that comes later has a connection of its own.
func (s *Service) Close() {
	s.dialer.remove(s)
	for _, n := range s.close() {
		<-n.done // which may be about to take mu
	}
}

func (s *Service) close() []*name {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	endpoints := s.current.Load().endpoints
	endWatches(endpoints)
	s.outliers.close(endpoints, time.Now())
	for _, e := range endpoints {
		e.unpublish()
		e.pool.Load().close()
	}
	return s.forgetLocked(nil)
}
