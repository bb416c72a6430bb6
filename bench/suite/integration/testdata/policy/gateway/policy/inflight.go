package policy

import (
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/inflight"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// inflightPolicy bounds the requests that a service has to work on at once.
type inflightPolicy struct {
	limiters *Pool[string, *inflight.Limiter] // by service
	refused  *metric.CounterVec               // service
}

func newInflight(env *Env) Policy {
	return &inflightPolicy{
		limiters: NewPool[string, *inflight.Limiter](env, nil),
		refused:  env.Metrics.Counter("inflight_refused_total", "Requests for which there was no place.", "service"),
	}
}

func (p *inflightPolicy) Name() string { return "inflight" }

func (p *inflightPolicy) Applies(s Scope) bool {
	return s.ServiceConfig != nil && s.ServiceConfig.Inflight != nil
}

func (p *inflightPolicy) Filter(b *Build, s Scope) (filters.Filter, error) {
	settings := inflight.Settings{Max: s.ServiceConfig.Inflight.Max}
	l, err := Use(b, p.limiters, s.Service,
		func() (*inflight.Limiter, error) { return inflight.New(settings), nil },
		func(l *inflight.Limiter) { l.Configure(settings) })
	if err != nil {
		return nil, err
	}
	return inflight.NewFilter(s.Service, l, p.refused.WithLabelValues(s.Service)), nil
}

func (p *inflightPolicy) Explain(e *Explainer, s Scope) bool {
	e.Line("inflight", "%s: at most %d requests at once", s.Service, s.ServiceConfig.Inflight.Max)
	return true
}

// InflightStatus is how many requests each service works on.
type InflightStatus map[string]int

func (p *inflightPolicy) Status() Status {
	current := InflightStatus{}
	for service, l := range p.limiters.All() {
		current[service] = l.Current()
	}
	return Status{Member: "inflight", Value: current}
}
