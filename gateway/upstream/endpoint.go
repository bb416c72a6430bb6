package upstream

import (
	"crypto/tls"
	"math/rand/v2"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/control/config"
)

// endpoint is one instance of a service: its load and its health. They stay while the service has
// the endpoint, whatever else of the settings changes.
type endpoint struct {
	config.Endpoint
	service *Service
	inUse   atomic.Int64 // exchanges under way
	down    atomic.Bool  // it failed its health check
	removed atomic.Bool  // the service has it no more: no request is assigned to it
	pool    atomic.Pointer[pool]

	// published: the metrics have its health. It belongs to the watch, and without one to Configure
	// and Close.
	published bool
	watch     *watch // nil when it is not checked; under the service's mu
}

func newEndpoint(c config.Endpoint, s *Service, tls *tls.Config) *endpoint {
	e := &endpoint{Endpoint: c, service: s}
	e.pool.Store(newPool(e, tls))
	return e
}

// pick returns the less loaded of two endpoints drawn at random, and for a repeat another one than
// that which has just failed. Endpoints that failed their health check are left out while there is
// another one: when all have failed it, the check may be what is wrong. nil when there is no
// endpoint.
func pick(endpoints []*endpoint, failed *endpoint) *endpoint {
	switch len(endpoints) {
	case 0:
		return nil
	case 1:
		return endpoints[0]
	}
	one := draw(endpoints, func(e *endpoint) bool { return e != failed && !e.down.Load() })
	if one == nil {
		one = draw(endpoints, func(e *endpoint) bool { return e != failed })
	}
	other := draw(endpoints, func(e *endpoint) bool {
		return e != failed && e != one && e.down.Load() == one.down.Load()
	})
	if other != nil && other.inUse.Load() < one.inUse.Load() {
		return other
	}
	return one
}

// draw returns the first suitable endpoint from a random one on; nil when there is none.
func draw(endpoints []*endpoint, suitable func(*endpoint) bool) *endpoint {
	from := rand.IntN(len(endpoints))
	for i := range endpoints {
		if e := endpoints[(from+i)%len(endpoints)]; suitable(e) {
			return e
		}
	}
	return nil
}
