package policy

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/breaker"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// breakerPolicy stops calls to a service that fails or is slow. All chains that lead to a service
// share its breaker.
type breakerPolicy struct {
	ofService
	env      *Env
	breakers *Pool[string, *serviceBreaker] // by service
	state    *prometheus.GaugeVec           // service
	forced   *prometheus.GaugeVec           // service
	moves    *metric.CounterVec             // service, to
}

// serviceBreaker is the breaker of a service.
type serviceBreaker struct {
	*breaker.Breaker
	service string
}

func newBreaker(env *Env) Policy {
	p := &breakerPolicy{
		env: env,
		state: env.Metrics.Gauge("breaker_state", "State of the breaker of a service: 0 closed, its requests pass; 1 "+
			"half-open, a few probe whether it works again; 2 open, they are refused with breaker-open.", "service"),
		forced: env.Metrics.Gauge("breaker_forced", "1 while an operator has forced the breaker of a service open or "+
			"closed (sluice_breaker_state says which), 0 while it decides by itself.", "service"),
		moves: env.Metrics.Counter("breaker_transitions_total", "Times that the breaker of a service went to a "+
			"state: closed, half-open, open.", "service", "to"),
	}
	p.breakers = NewPool[string](env, p.closed)
	return p
}

// closed tells of a breaker that no configuration uses any more.
func (p *breakerPolicy) closed(br *serviceBreaker) {
	p.state.DeleteLabelValues(br.service)
	p.forced.DeleteLabelValues(br.service)
	if s := br.Snapshot(p.env.Now()); s.Mode != breaker.Auto {
		p.env.Logger.Warn("a breaker that an operator had forced has left the configuration", "service", br.service,
			"forced", s.Mode.String())
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
	if p := b.set.breaker(); p.Applies(scope) {
		return p.breaker(b, scope)
	}
	return nil, nil
}

// breaker returns that of the service.
func (p *breakerPolicy) breaker(b *Build, s Scope) (*breaker.Breaker, error) {
	settings := breakerSettings(b.Config, s)
	if err := settings.Check(); err != nil {
		return nil, err
	}
	br, err := Use(b, p.breakers, s.Service,
		func() (*serviceBreaker, error) { return p.make(s.Service, settings) },
		func(br *serviceBreaker) {
			if err := br.Configure(settings); err != nil { // checked above; it would be a bug
				p.env.Logger.Error("policy: the settings of a breaker were not taken over", "service", s.Service,
					"error", err)
			}
		})
	if err != nil {
		return nil, err
	}
	return br.Breaker, nil
}

// breakerFilterKey names the filter that the chains of a build to one service share: those of routes,
// and those of what has begun.
type breakerFilterKey struct {
	service string
	begun   bool
}

func (p *breakerPolicy) make(service string, s breaker.Settings) (*serviceBreaker, error) {
	state := p.state.WithLabelValues(service)
	br, err := breaker.New(s, func(c breaker.Change) {
		state.Set(float64(c.To))
		p.moves.WithLabelValues(service, c.To.String()).Inc()
		args := []any{"service", service, "from", c.From.String(), "to", c.To.String()}
		if c.From == breaker.Closed {
			args = append(args, "calls", c.Calls, "errors", c.Errors, "slow", c.Slow)
		}
		p.env.Logger.Warn("a breaker changed its state", args...)
	})
	if err != nil {
		return nil, err
	}
	state.Set(float64(br.State()))
	p.forced.WithLabelValues(service).Set(0)
	return &serviceBreaker{br, service}, nil
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
		if r.Service.Has(service) {
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
	if c.OpenMax > c.OpenFor {
		e.Line("", "up to %s when it opens again and again", c.OpenMax)
	}
	e.Line("", "once closed, calls come back over %s", c.Ramp)
	return true
}

// Breakers is how each breaker stands, by service.
type Breakers map[string]BreakerStatus

// BreakerStatus is how a breaker stands.
type BreakerStatus struct {
	State  string `json:"state"`  // closed, half-open or open
	Forced bool   `json:"forced"` // an operator has decided on the state
	// Of the window of the closed state:
	Calls  int `json:"calls"`
	Errors int `json:"errors"`
	Slow   int `json:"slow"`
	// How it comes back:
	OpenFor config.Duration `json:"open_for,omitzero"` // how long it still stays open
	Probes  int             `json:"probes,omitzero"`   // that are under way
	Ramp    config.Duration `json:"ramp,omitzero"`     // until all calls pass
}

func (p *breakerPolicy) Status() Status { return Status{Member: "breakers", Value: p.all()} }

func (p *breakerPolicy) all() Breakers {
	list := Breakers{}
	for service, br := range p.breakers.All() {
		list[service] = p.status(br)
	}
	return list
}

func (p *breakerPolicy) status(br *serviceBreaker) BreakerStatus {
	s := br.Snapshot(p.env.Now())
	whole := func(d time.Duration) config.Duration { return config.Duration(d.Round(time.Millisecond)) }
	return BreakerStatus{
		State: s.State.String(), Forced: s.Mode != breaker.Auto, Calls: s.Calls, Errors: s.Errors, Slow: s.Slow,
		OpenFor: whole(s.OpenFor), Probes: s.Probes, Ramp: whole(s.Ramp),
	}
}

// force has the breaker of a service in a mode; false for a service without one.
func (p *breakerPolicy) force(service string, m breaker.Mode) (s BreakerStatus, ok bool) {
	br, ok := p.breakers.get(service)
	if !ok {
		return BreakerStatus{}, false
	}
	before := br.Force(p.env.Now(), m)
	value := 1.0
	if m == breaker.Auto {
		value = 0
	}
	p.forced.WithLabelValues(service).Set(value)
	p.env.Logger.Warn("an operator has decided on a breaker", "service", service, "forced", m.String(),
		"before", before.String())
	return p.status(br), true
}

// Breakers returns how each breaker in force stands.
func (s *Set) Breakers() Breakers { return s.breaker().all() }

// ForceBreaker has the breaker of a service open or closed, or has it decide by itself again, until
// somebody says otherwise, across reloads that keep the breaker. False: the service has none.
func (s *Set) ForceBreaker(service string, m breaker.Mode) (BreakerStatus, bool) {
	return s.breaker().force(service, m)
}

func (s *Set) breaker() *breakerPolicy {
	for _, p := range s.list {
		if p, ok := p.(*breakerPolicy); ok {
			return p
		}
	}
	panic("policy: there is no breaker among the policies") // it is one of a list that is not changed
}
