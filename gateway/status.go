package gateway

import (
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

var _ admin.Gateway = (*gateway)(nil)

func (g *gateway) adminOptions(cfg *config.Config) admin.Options {
	return admin.Options{
		Gateway: g, Records: g.stores.records, Codec: g.stores.codec, Bridge: g.bridge,
		Breakers: g.policies, Metrics: g.metrics.registry, PProf: cfg.Admin.PProf, Logger: g.Logger,
	}
}

// Unready implements [admin.Gateway].
func (g *gateway) Unready() string {
	switch {
	case g.draining.Load():
		return "draining"
	case g.engine.Load() == nil:
		return "not configured"
	case !g.stores.reached.Load():
		return "the store has not been reached"
	case !g.stores.up.Load() && g.engine.Load().cfg.Admin.ReadyNeedsStore:
		return "the store does not answer"
	}
	// Once, as the store: keys that cannot be fetched after a reload must not take a whole fleet out of
	// its balancer.
	if !g.prepared.Load() {
		if why := g.policies.Unready(); why != "" {
			return why
		}
		g.prepared.Store(true)
	}
	return ""
}

// Config implements [admin.Gateway].
func (g *gateway) Config() *config.Config { return g.engine.Load().cfg }

// Status implements [admin.Gateway].
func (g *gateway) Status() admin.Status {
	e := g.engine.Load()
	g.mu.Lock()
	fault, loaded := g.lastFault, g.lastLoad
	g.mu.Unlock()
	s := admin.Status{
		Build: g.Build, Since: wholeSeconds(g.began), Reason: g.Unready(), Draining: g.draining.Load(),
		Addresses: admin.Addresses(g.addresses),
		Configuration: admin.ConfigurationStatus{
			Version: e.cfg.Hash(), Loaded: wholeSeconds(loaded), Files: e.cfg.Files(), Fault: fault,
		},
		Store:    admin.StoreStatus{Up: g.stores.up.Load(), Gateways: g.stores.liveGateways()},
		Routes:   make([]admin.RouteStatus, len(e.routes)),
		Policies: g.policies.Status(),
	}
	s.Ready = s.Reason == ""
	s.Control = controlStatus(g.Source)
	if f, ok := g.Source.(source.Finder); ok {
		s.Discovery = f.Finding()
	}
	for i, rt := range e.routes {
		s.Routes[i] = admin.RouteStatus{Name: rt.name, Filters: rt.chain.Names()}
	}
	s.Services = servicesStatus(e.services)
	if g.bridge != nil {
		s.Transactions = admin.TransactionsOf(g.bridge)
	}
	return s
}

func servicesStatus(services []*upstream.Service) []admin.ServiceStatus {
	list := make([]admin.ServiceStatus, 0, len(services))
	for _, svc := range services {
		endpoints := svc.Endpoints()
		s := admin.ServiceStatus{Name: svc.Name(), Endpoints: make([]admin.EndpointStatus, len(endpoints))}
		for i, e := range endpoints {
			s.Endpoints[i] = admin.EndpointStatus{
				Endpoint: e.Endpoint, Address: e.Address, State: string(e.State),
				InUse: e.InUse, Connections: e.Idle + e.Shared,
				EjectedFor: config.Duration(e.EjectedFor.Round(time.Millisecond)),
			}
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b admin.ServiceStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// controlStatus returns how a source stands with its control plane; nil where it has none.
func controlStatus(s source.Source) *source.ControlStatus {
	if f, ok := s.(source.Fleet); ok {
		return f.Status()
	}
	return nil
}

func wholeSeconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
