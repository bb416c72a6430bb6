package upstream

import (
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/control/config"
)

// endpoint is one instance of a service, at one address: its load and its health. They stay while
// the service has the endpoint and its name that address, whatever else of the settings changes.
type endpoint struct {
	config.Endpoint
	address string // that connections are made to; where no name is written, Endpoint.Address
	service *Service
	inUse   atomic.Int64 // exchanges under way
	down    atomic.Bool  // it failed its health check
	passes  atomic.Bool  // its last health check
	// cut off: no connection to it came about, and its name has others. Passed over until one does.
	cutOff  atomic.Bool
	outlier outlier
	removed atomic.Bool // the service has it no more: no request is assigned to it
	pool    atomic.Pointer[pool]

	// published: the metrics have its health. It belongs to the watch, and without one to Configure
	// and Close.
	published bool
	watch     *watch // nil when it is not checked; under the service's mu
}

func newEndpoint(t target, s *Service, tls *tls.Config) *endpoint {
	e := &endpoint{Endpoint: t.Endpoint, address: t.address, service: s}
	e.pool.Store(newPool(e, tls))
	return e
}

// target is an endpoint as it is configured, at one address.
type target struct {
	config.Endpoint
	address string
}

func (e *endpoint) target() target { return target{e.Endpoint, e.address} }

// named returns the name and the port of an endpoint whose name has to be looked up; false for an
// address and a socket.
func named(c config.Endpoint) (host, port string, ok bool) {
	if c.Network != "tcp" {
		return "", "", false
	}
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return "", "", false
	}
	_, err = netip.ParseAddr(host)
	return host, port, err != nil
}

// out reports whether the endpoint is passed over while there is another one.
func (e *endpoint) out() bool { return e.dead() || e.outlier.ejected.Load() }

// dead reports whether the endpoint is known not to work: it is passed over also where the others are
// ejected, of which some requests may succeed.
func (e *endpoint) dead() bool { return e.down.Load() || e.cutOff.Load() }

// pick returns the less loaded of two endpoints drawn at random, and for a repeat another one than
// that which has just failed. Endpoints that failed their health check, that cannot be connected to or
// that are ejected are left out while there is another one: when all have failed it, the check may be
// what is wrong. nil when there is no endpoint.
func pick(endpoints []*endpoint, failed *endpoint) *endpoint {
	switch len(endpoints) {
	case 0:
		return nil
	case 1:
		return endpoints[0]
	}
	one := draw(endpoints, func(e *endpoint) bool { return e != failed && !e.out() })
	if one == nil {
		one = draw(endpoints, func(e *endpoint) bool { return e != failed && !e.dead() })
	}
	if one == nil {
		one = draw(endpoints, func(e *endpoint) bool { return e != failed })
	}
	other := draw(endpoints, func(e *endpoint) bool {
		return e != failed && e != one && e.out() == one.out() && e.dead() == one.dead()
	})
	if other != nil && other.inUse.Load() < one.inUse.Load() {
		return other
	}
	return one
}

// draw returns the first suitable endpoint from a random one on; nil when there is none.
func draw(endpoints []*endpoint, suitable func(*endpoint) bool) *endpoint {
	if len(endpoints) == 0 { // they went while a request or a check was connecting to one
		return nil
	}
	from := rand.IntN(len(endpoints))
	for i := range endpoints {
		if e := endpoints[(from+i)%len(endpoints)]; suitable(e) {
			return e
		}
	}
	return nil
}

// sibling returns another address of an endpoint's name that is not passed over; nil when there is
// none.
func (e *endpoint) sibling() *endpoint {
	if e.address == e.Address {
		return nil
	}
	return draw(e.service.current.Load().endpoints, func(o *endpoint) bool {
		return o != e && o.Endpoint == e.Endpoint && !o.out()
	})
}
