package policy

import (
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

// serviceLimitsPolicy holds the calls of a service to the service's own rates, whatever route or
// transaction they come from.
type serviceLimitsPolicy struct {
	ofService
	*limits
}

func newServiceLimits(env *Env) Policy { return &serviceLimitsPolicy{limits: limitsOf(env)} }

func (p *serviceLimitsPolicy) Name() string { return "service-limits" }

func (p *serviceLimitsPolicy) Applies(s Scope) bool {
	return s.ServiceConfig != nil && len(s.ServiceConfig.Limits) > 0
}

// serviceLimitsKey names the filter that all chains of a build to one service share.
type serviceLimitsKey struct{ service string }

func (p *serviceLimitsPolicy) Filter(b *Build, s Scope) (filters.Filter, error) {
	return once(b, serviceLimitsKey{s.Service}, func() (filters.Filter, error) {
		rules, err := p.rules(b, s.ServiceConfig.Limits)
		if err != nil {
			return nil, err
		}
		return ratelimit.NewService(s.Service, rules, p), nil
	})
}

func (p *serviceLimitsPolicy) Explain(e *Explainer, s Scope) bool {
	return explainLimits(e, " of service "+s.Service, s.ServiceConfig.Limits)
}

func (p *serviceLimitsPolicy) Status() Status { return Status{} }
