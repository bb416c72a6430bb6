package policy

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/breaker"
)

// breakerPolicy stops calls to a service that fails or is slow. All chains that lead to a service
// share its breaker.
type breakerPolicy struct {
	env      *Env
	breakers *Pool[string, *breaker.Breaker] // by service
	state    *prometheus.GaugeVec            // service
	moves    *prometheus.CounterVec          // service, to
}

func newBreaker(env *Env) Policy {
	return &breakerPolicy{
		env:      env,
		breakers: NewPool[string, *breaker.Breaker](env, nil),
		state:    env.Metrics.Gauge("breaker_state", "0 closed, 1 half-open, 2 open.", "service"),
		moves:    env.Metrics.Counter("breaker_transitions_total", "Changes of a breaker's state.", "service", "to"),
	}
}

func (p *breakerPolicy) Name() string { return "breaker" }

func (p *breakerPolicy) Applies(s Scope) bool {
	return s.ServiceConfig != nil && s.ServiceConfig.Breaker != nil
}

func (p *breakerPolicy) Filter(b *Build, s Scope) (filters.Filter, error) {
	begun := s.Kind == BranchChain
	return once(b, breakerFilterKey{s.Service, begun}, func() (filters.Filter, error) {
		br, err := p.breaker(b, s)
		if err != nil {
			return nil, err
		}
		if begun {
			return breaker.NewBegunFilter(s.Service, br, p.env.Now), nil
		}
		return breaker.NewFilter(s.Service, br, p.env.Now), nil
	})
}

// Breaker returns the breaker of a service, for those of the build who ask it before they begin
// something ([breaker.Breaker.Ready]); nil for a service that has none.
func (b *Build) Breaker(service string) (*breaker.Breaker, error) {
	scope := BranchScopeOf(b.Config, service)
	for _, p := range b.set.list {
		if p, ok := p.(*breakerPolicy); ok && p.Applies(scope) {
			return p.breaker(b, scope)
		}
	}
	return nil, nil
}

// breaker returns that of the service.
func (p *breakerPolicy) breaker(b *Build, s Scope) (*breaker.Breaker, error) {
	settings := breakerSettings(b.Config, s)
	if err := settings.Check(); err != nil {
		return nil, err
	}
	return Use(b, p.breakers, s.Service,
		func() (*breaker.Breaker, error) { return p.make(s.Service, settings) },
		func(br *breaker.Breaker) {
			if err := br.Configure(settings); err != nil { // checked above; it would be a bug
				p.env.Logger.Error("policy: the settings of a breaker were not taken over", "service", s.Service,
					"error", err)
			}
		})
}

// breakerFilterKey names the filter that the chains of a build to one service share: those of routes,
// and those of what has begun.
type breakerFilterKey struct {
	service string
	begun   bool
}

func (p *breakerPolicy) make(service string, s breaker.Settings) (*breaker.Breaker, error) {
	state := p.state.WithLabelValues(service)
	br, err := breaker.New(s, func(from, to breaker.State) {
		state.Set(float64(to))
		p.moves.WithLabelValues(service, to.String()).Inc()
		p.env.Logger.Warn("a breaker changed its state", "service", service, "from", from.String(), "to", to.String())
	})
	if err == nil {
		state.Set(float64(br.State()))
	}
	return br, err
}

func breakerSettings(cfg *config.Config, scope Scope) breaker.Settings {
	c := scope.ServiceConfig
	s := breaker.Settings{
		Errors: c.Breaker.Errors.Share(), Window: time.Duration(c.Breaker.Window), MinRequests: c.Breaker.MinRequests,
		OpenFor: time.Duration(c.Breaker.OpenFor), OpenMax: time.Duration(c.Breaker.OpenMax), Jitter: openJitter,
		Probes: c.Breaker.Probes, Ramp: time.Duration(c.Breaker.Ramp),
		Lease: longest(c, longestTimeout(cfg, scope.Service, c.Timeout)),
	}
	if slow := c.Breaker.Slow; slow != nil {
		s.Slow = &breaker.Slow{Over: time.Duration(slow.Over), Share: slow.Share.Share()}
	}
	return s
}

// openJitter keeps the gateways of a fleet, and the breakers of services that failed together, from
// probing all at once.
const openJitter = .2

// longestTimeout is the longest of a service's timeout and those of the routes that lead to it.
func longestTimeout(cfg *config.Config, service string, timeout config.Duration) config.Duration {
	for _, r := range cfg.Routes {
		if r.Service == service {
			timeout = max(timeout, r.Timeout)
		}
	}
	return timeout
}

// LongestCall is how long the gateway gives a call of its own to a service, a branch's or a probe's,
// with its retries and one second for the gateway itself. It bounds the whole of it: a body that
// trickles is cut off then.
func LongestCall(c *config.Service) time.Duration { return longest(c, c.Timeout) }

// longest is how long the head of a response can take, with retries.
func longest(c *config.Service, timeout config.Duration) time.Duration {
	return time.Duration(c.Retries.Attempts+1)*time.Duration(timeout+c.ConnectTimeout) + time.Second
}

func (p *breakerPolicy) Explain(e *Explainer, s Scope) bool {
	c := s.ServiceConfig.Breaker
	slow := ""
	if c.Slow != nil {
		slow = fmt.Sprintf(" or %s slower than %s", c.Slow.Share, c.Slow.Over)
	}
	e.Line("breaker", "%s: open at %s errors%s of at least %d responses, each by its head, in %s, for %s, %d probes",
		s.Service, c.Errors, slow, c.MinRequests, c.Window, c.OpenFor, c.Probes)
	e.Line("", "%s when it opens again and again; once closed, calls come back over %s", c.OpenMax, c.Ramp)
	return true
}

// Breakers is the state of each breaker, by service: closed, half-open or open.
type Breakers map[string]string

func (p *breakerPolicy) Status() Status {
	states := Breakers{}
	for service, br := range p.breakers.All() {
		states[service] = br.State().String()
	}
	return Status{Member: "breakers", Value: states}
}
