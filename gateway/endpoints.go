package gateway

import (
	"slices"
	"sync"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// discovered are the endpoints of services for which none are written, as a source has found them. The zero value
// knows none.
type discovered struct {
	// applying is held while a configuration is put in force or endpoints are: one that is built with the endpoints of
	// a moment ago must not come into force behind newer ones.
	applying  sync.Mutex
	endpoints map[string][]config.Endpoint
}

// of returns the endpoints of a service: those that are written, else those that were found. applying is held.
func (d *discovered) ofLocked(name string, c *config.Service) []config.Endpoint {
	if len(c.Endpoints) > 0 {
		return c.ParsedEndpoints()
	}
	return d.endpoints[name]
}

// setLocked notes what was found. A configuration may come later than the endpoints of its services.
func (d *discovered) setLocked(service string, endpoints []config.Endpoint) {
	if d.endpoints == nil {
		d.endpoints = map[string][]config.Endpoint{}
	}
	d.endpoints[service] = slices.Clone(endpoints)
}

// keepLocked forgets the endpoints of services that a configuration has not, or has written.
func (d *discovered) keepLocked(cfg *config.Config) {
	for name := range d.endpoints {
		if c := cfg.Services[name]; c == nil || len(c.Endpoints) > 0 {
			delete(d.endpoints, name)
		}
	}
}

// SetEndpoints implements [source.Sink]. Endpoints that stay keep their connections, their health and their load;
// those that go are assigned no further request, and their connections close behind what they carry. The breaker,
// the limits and the overload control of the service go on.
func (g *gateway) SetEndpoints(service string, endpoints []config.Endpoint) {
	g.discovered.applying.Lock()
	defer g.discovered.applying.Unlock()
	g.discovered.setLocked(service, endpoints)
	e := g.engine.Load()
	if e == nil { // the first configuration is built with them
		return
	}
	c := e.cfg.Services[service]
	if c == nil || len(c.Endpoints) > 0 {
		return
	}
	if i := slices.IndexFunc(e.services, func(s *upstream.Service) bool { return s.Name() == service }); i >= 0 {
		e.services[i].SetEndpoints(endpoints)
	}
}
