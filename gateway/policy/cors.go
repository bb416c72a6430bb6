package policy

import (
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/cors"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// corsPolicy lets scripts of other origins use routes.
type corsPolicy struct {
	preflights *metric.CounterVec // route, result
}

func newCORS(env *Env) Policy {
	return &corsPolicy{
		preflights: env.Metrics.Counter("cors_preflights_total",
			"Preflights of browsers that the gateway answered, by route: allowed, refused (an origin that is not "+
				"among cors.origins).", "route", "result"),
	}
}

func (*corsPolicy) Name() string { return "cors" }

func (*corsPolicy) Applies(s Scope) bool {
	return (s.Kind == RouteChain || s.Kind == StatusChain) && s.Route.CORS != nil
}

func (p *corsPolicy) Filter(_ *Build, s Scope) (filters.Filter, error) {
	return cors.New(corsSettings(s.Route.CORS), p.preflights.WithLabelValues(s.Route.Name, "allowed"),
		p.preflights.WithLabelValues(s.Route.Name, "refused")), nil
}

func corsSettings(c *config.CORS) cors.Settings {
	return cors.Settings{Origins: c.Origins, Credentials: c.Credentials, Expose: c.Expose,
		MaxAge: time.Duration(c.MaxAge)}
}

func (*corsPolicy) Explain(e *Explainer, s Scope) bool {
	c := s.Route.CORS
	x := e.Exchange
	origin := x.Header.Joined("Origin")
	f := cors.New(corsSettings(c), filters.Discard, filters.Discard)
	if _, ok := cors.IsPreflight(x); ok {
		if r := f.Request(x, new(filters.Slot)); r.Reason != "" {
			e.Line("cors", "preflight of %s: refused, it is not among %s", origin, strings.Join(c.Origins, ", "))
			e.Refusal(r)
		} else {
			e.Line("cors", "preflight of %s: answered", origin)
		}
		return false
	}
	switch {
	case origin == "":
		e.Line("cors", "no Origin: not a script of another origin")
	case f.Allows(origin):
		e.Line("cors", "scripts of %s may read the response", origin)
	default:
		e.Line("cors", "scripts of %s may not read the response: it is not among %s", origin,
			strings.Join(c.Origins, ", "))
	}
	return true
}

func (*corsPolicy) Status() Status { return Status{} }
