package upstream

import (
	"io"
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
	budget  budget
	current atomic.Pointer[configuration]

	mu     sync.Mutex // one Configure or Close at a time; no request takes it
	closed bool
}

// configuration is what [Service.Configure] sets, immutable.
type configuration struct {
	settings  Settings
	endpoints []*endpoint // in the order of the settings
}

// Metrics counts what happens. Every member is set.
type Metrics struct {
	Connects        filters.Counter
	ConnectFailures filters.Counter
	Retries         filters.Counter
	Duration        filters.Observer // seconds to the response's head
	// Health is called with an endpoint's health after its first check, and when that changes;
	// Unwatched when it is checked no more. Neither may configure or close the service.
	Health    func(endpoint string, healthy bool)
	Unwatched func(endpoint string)
}

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
	// Endpoint is the address that the response comes from, as long as its body has not been read to
	// its end.
	Endpoint() string
	// Uploading reports whether the request's body still goes out, which Close may wait for.
	Uploading() bool
}

// New returns a service, which checks its endpoints' health until Close.
func New(s Settings, m Metrics) *Service {
	svc := &Service{name: s.Name, metrics: m}
	svc.current.Store(&configuration{settings: Settings{Name: s.Name}})
	svc.Configure(s)
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
	old := s.current.Load()
	settings.Name = s.name
	if s.closed || old.settings.Equal(settings) {
		return
	}
	next := &configuration{settings: settings.clone()}
	removed := s.takeOver(old, next)
	s.current.Store(next)
	for _, e := range removed {
		e.removed.Store(true) // behind the store, so that a request that sees it finds the endpoints that are left
		e.pool.Load().close()
	}
	s.watchLocked(old, next, removed)
}

// takeOver makes the endpoints of a configuration, with those of the old one that stay, and returns
// those that do not. Where the TLS is another one, endpoints that have it begin with new
// connections.
func (s *Service) takeOver(old, next *configuration) (removed []*endpoint) {
	kept := make(map[config.Endpoint][]*endpoint, len(old.endpoints)) // more than one where it is configured twice
	for _, e := range old.endpoints {
		kept[e.Endpoint] = append(kept[e.Endpoint], e)
	}
	newTLS := !sameTLS(&old.settings, &next.settings)
	for _, c := range next.settings.Endpoints {
		if same := kept[c]; len(same) > 0 {
			e := same[0]
			next.endpoints, kept[c] = append(next.endpoints, e), same[1:]
			if c.TLS && newTLS {
				e.pool.Swap(newPool(e, next.settings.TLS)).close()
			}
			continue
		}
		next.endpoints = append(next.endpoints, newEndpoint(c, s, next.settings.TLS))
	}
	for _, e := range old.endpoints {
		if left := kept[e.Endpoint]; len(left) > 0 {
			removed, kept[e.Endpoint] = append(removed, left...), nil
		}
	}
	return removed
}

// Close ends the health checks and closes the idle connections; those in use close at their end. A
// request that comes later has a connection of its own.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	endpoints := s.current.Load().endpoints
	endWatches(endpoints)
	for _, e := range endpoints {
		e.unpublish()
		e.pool.Load().close()
	}
}
