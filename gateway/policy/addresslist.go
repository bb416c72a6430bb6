package policy

import (
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/addresslist"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// addressListPolicy refuses requests by the address of their client.
type addressListPolicy struct {
	refused *metric.CounterVec // route
}

func newAddressList(env *Env) Policy {
	return &addressListPolicy{refused: env.Metrics.Counter("addresslist_refused_total",
		"Requests of clients whose address may not use the route (allow, deny): refused with forbidden.", "route")}
}

func (*addressListPolicy) Name() string { return "addresslist" }

func (*addressListPolicy) Applies(s Scope) bool {
	return (s.Kind == RouteChain || s.Kind == StatusChain) && len(s.Route.Allow)+len(s.Route.Deny) > 0
}

func (p *addressListPolicy) Filter(_ *Build, s Scope) (filters.Filter, error) {
	return addresslist.New(addressLists(s), p.refused.WithLabelValues(s.Route.Name)), nil
}

func addressLists(s Scope) addresslist.Settings {
	return addresslist.Settings{Allow: s.Route.Allow, Deny: s.Route.Deny}
}

func (*addressListPolicy) Explain(e *Explainer, s Scope) bool {
	list, n := "allow", len(s.Route.Allow)
	if n == 0 {
		list, n = "deny", len(s.Route.Deny)
	}
	if r := addresslist.New(addressLists(s), filters.Discard).Request(e.Exchange, new(filters.Slot)); r != nil {
		e.Line("addresslist", "%s of %d networks: %s is refused", list, n, e.Exchange.Client)
		e.Refusal(r)
		return false
	}
	e.Line("addresslist", "%s of %d networks: %s passes", list, n, e.Exchange.Client)
	return true
}

func (*addressListPolicy) Status() Status { return Status{} }
