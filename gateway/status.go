package gateway

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transaction"
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
	case g.stores.state.Load().err != nil && g.engine.Load().cfg.Admin.ReadyNeedsStore:
		return g.stores.state.Load().String()
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
	configuration := admin.ConfigurationStatus{
		Version: e.cfg.Hash(), Loaded: wholeSeconds(g.applied), Files: e.cfg.Files(), Fault: g.lastFault,
		Refused: g.refused,
	}
	certificates := g.certificates
	g.mu.Unlock()
	s := admin.Status{
		Build: g.Build, Since: wholeSeconds(g.began), Reason: g.Unready(), Draining: g.draining.Load(),
		Addresses:     admin.Addresses(g.addresses),
		Configuration: configuration,
		Store:         g.stores.status(),
		Resources:     g.resources(),
		Routes:        make([]admin.RouteStatus, len(e.routes)),
		Limits:        limitsStatus(e.cfg, g.policies),
		Policies:      g.policies.Status(),
	}
	s.Ready = s.Reason == ""
	for _, c := range certificates {
		s.Certificates = append(s.Certificates, admin.CertificateStatus{Setting: c.setting, Ends: wholeSeconds(c.ends)})
	}
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
		s.Coordinator = coordinatorStatus(e.cfg, g.bridge)
	}
	return s
}

// status returns how the store is, as the last look at it has found.
func (st *stores) status() admin.StoreStatus {
	state := st.state.Load()
	s := admin.StoreStatus{
		Kind: st.kind, Up: state.err == nil, State: admin.StoreUp, Since: wholeSeconds(state.since),
		Gateways: st.liveGateways(), Members: st.gateways(),
	}
	if state.err != nil {
		s.State, s.Fault = admin.StoreDown, state.err.Error()
		if state.takesNoWrites() {
			s.State = admin.StoreNoWrites
		}
	}
	if c := st.census.last.Load(); c != nil {
		s.Keys = &admin.KeysStatus{Open: c.Open, Unknown: c.Unknown}
		if !c.Oldest.IsZero() {
			s.Keys.UnknownSince = wholeSeconds(c.Oldest)
		}
	}
	return s
}

func (g *gateway) resources() admin.Resources {
	of := func(r budget.Resource) admin.ResourceStatus {
		return admin.ResourceStatus{Used: g.budget.Used(r), Max: g.budget.Limit(r), Refused: g.budget.Refused(r)}
	}
	s := admin.Resources{RequestsInFlight: of(budget.InFlight), BufferedBytes: of(budget.Buffered),
		UpstreamConnections: of(budget.Upstreams),
		ClientConnections:   admin.ResourceStatus{Max: int64(g.descriptors.clients)}}
	if open := g.openConnections.Load(); open != nil {
		all, _ := (*open)()
		s.ClientConnections.Used = int64(all)
	}
	return s
}

func limitsStatus(cfg *config.Config, policies *policy.Set) []admin.LimitStatus {
	var list []admin.LimitStatus
	for _, name := range slices.Sorted(maps.Keys(cfg.Limits)) {
		c, d := cfg.Limits[name], policies.Decisions(name)
		list = append(list, admin.LimitStatus{
			Name: name, Rate: c.Rate.String(), Burst: c.Burst, Scope: c.Scope, Mode: c.Mode,
			Allowed: d.Allowed, Refused: d.Refused, ShadowRefused: d.ShadowRefused, StoreFailures: d.StoreFailures,
		})
	}
	return list
}

func coordinatorStatus(cfg *config.Config, b *transaction.Bridge) *admin.CoordinatorStatus {
	now := b.CoordinatorState()
	s := &admin.CoordinatorStatus{State: coordinatorBreakerState(b).String(), Fault: now.Cause, Refused: now.Refused}
	if now.Open {
		s.Since = wholeSeconds(now.Since)
	}
	if cfg.Coordinator != nil {
		s.Endpoints = cfg.Coordinator.DTM.Endpoints
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
