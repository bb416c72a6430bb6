package policy

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitlocal"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// ratelimitPolicy holds requests to the rates of their route.
type ratelimitPolicy struct{ *limits }

// limits are those of a process. Routes and services that name one share it.
type limits struct {
	stores    Stores
	limiters  *Pool[limiterKey, ratelimit.Limiter]
	decisions *metric.CounterVec // limit, decision
	failures  *metric.CounterVec // limit
}

// limiterKey is what makes a limiter another one. Two names with the same rate are two limits. Of one in this
// process the limit has no numbers here: they may change, and what was counted stays.
type limiterKey struct {
	kind  limiterKind
	scope string
	limit ratelimit.Limit
}

type limiterKind uint8

const (
	localLimiter  limiterKind = iota // in this process
	sharedLimiter                    // in the fleet's store
	shareLimiter                     // this gateway's part of a shared one
)

// limitKeysMax bounds the buckets of one limit that are not full.
const limitKeysMax = 200_000

func newRatelimit(env *Env) Policy { return &ratelimitPolicy{limitsOf(env)} }

// limitsOf returns the limits of the process, made once.
func limitsOf(env *Env) *limits {
	if env.limits != nil {
		return env.limits
	}
	env.limits = &limits{
		stores:   env.Stores,
		limiters: NewPool[limiterKey, ratelimit.Limiter](env, nil),
		decisions: env.Metrics.Counter("limit_decisions_total",
			"Decisions of a limit on requests: allowed, refused, shadow-refused (its mode is shadow, so the request "+
				"went on).", "limit", "decision"),
		failures: env.Metrics.Counter("limit_store_failures_total", "Decisions of a limit for which the store did not "+
			"answer: made as its onStoreFailure says.",
			"limit"),
	}
	return env.limits
}

func (p *ratelimitPolicy) Name() string { return "ratelimit" }

func (p *ratelimitPolicy) Applies(s Scope) bool {
	return s.Kind == RouteChain && len(s.Route.Limits) > 0
}

func (p *ratelimitPolicy) Filter(b *Build, s Scope) (filters.Filter, error) {
	rules, err := p.rules(b, s.Route.Limits)
	if err != nil {
		return nil, err
	}
	return ratelimit.New(rules, p), nil
}

// rules returns the limits of those names.
func (p *limits) rules(b *Build, names []string) ([]ratelimit.Rule, error) {
	var rules []ratelimit.Rule
	for _, name := range names {
		rule, err := p.rule(b, name, b.Config.Limits[name])
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func (p *limits) rule(b *Build, name string, c *config.Limit) (ratelimit.Rule, error) {
	limit := ratelimit.Limit{Name: name, Count: c.Rate.Count, Period: c.Rate.Period, Burst: c.Burst,
		FixedWindow: c.FixedWindow()}
	r := ratelimit.Rule{Limit: limit, Per: c.Per, Shadow: c.Mode == "shadow"}
	switch c.OnStoreFailure {
	case "open":
		r.OnStoreFailure = ratelimit.Open
	case "closed":
		r.OnStoreFailure = ratelimit.Closed
	}
	return r, p.setLimiters(b, &r, c.Scope)
}

// setLimiters gives a rule its limiters.
func (p *limits) setLimiters(b *Build, r *ratelimit.Rule, scope string) (err error) {
	limit := r.Limit
	if scope == "global" && p.stores.SharedLimiter != nil {
		r.Limiter, err = Use(b, p.limiters, limiterKey{sharedLimiter, scope, limit},
			func() (ratelimit.Limiter, error) { return p.stores.SharedLimiter(limit), nil }, nil)
		if err != nil {
			return err
		}
		r.Fallback, err = p.inProcess(b, shareLimiter, scope, limit, func(s *ratelimitlocal.Store) limiterInProcess {
			return &share{Store: s, live: p.stores.LiveGateways}
		})
		return err
	}
	// With an embedded or memory store this gateway is the only one.
	r.Limiter, err = p.inProcess(b, localLimiter, scope, limit,
		func(s *ratelimitlocal.Store) limiterInProcess { return s })
	return err
}

// limiterInProcess is a limiter that takes other numbers.
type limiterInProcess interface {
	ratelimit.Limiter
	Configure(limit ratelimit.Limit)
}

func (p *limits) inProcess(b *Build, kind limiterKind, scope string, limit ratelimit.Limit,
	wrap func(*ratelimitlocal.Store) limiterInProcess) (ratelimit.Limiter, error) {
	key := limiterKey{kind, scope, ratelimit.Limit{Name: limit.Name, FixedWindow: limit.FixedWindow}}
	return Use(b, p.limiters, key,
		func() (ratelimit.Limiter, error) { return wrap(ratelimitlocal.New(limit, limitKeysMax)), nil },
		func(l ratelimit.Limiter) { l.(limiterInProcess).Configure(limit) })
}

// share is this gateway's part of a global limit, for the time in which the store does not answer.
type share struct {
	*ratelimitlocal.Store
	live func() int
}

func (s *share) Charge(ctx context.Context, c ratelimit.Charge) (ratelimit.Decision, error) {
	s.SetShare(1 / float64(max(s.live(), 1)))
	return s.Store.Charge(ctx, c)
}

// Limit implements [ratelimit.Metrics].
func (p *limits) Limit(name string) ratelimit.Counters {
	return ratelimit.Counters{
		Allowed:       p.decisions.WithLabelValues(name, "allowed"),
		Refused:       p.decisions.WithLabelValues(name, "refused"),
		ShadowRefused: p.decisions.WithLabelValues(name, "shadow-refused"),
		StoreFailures: p.failures.WithLabelValues(name),
	}
}

// Decisions are those of a limit since the start of the process.
type Decisions struct{ Allowed, Refused, ShadowRefused, StoreFailures int64 }

// Decisions returns the decisions of a limit of the configuration in force.
func (s *Set) Decisions(limit string) Decisions {
	p := limitsOf(s.env)
	of := func(v *metric.CounterVec, labels ...string) int64 {
		return int64(v.WithLabelValues(labels...).Value())
	}
	return Decisions{
		Allowed: of(p.decisions, limit, "allowed"), Refused: of(p.decisions, limit, "refused"),
		ShadowRefused: of(p.decisions, limit, "shadow-refused"), StoreFailures: of(p.failures, limit),
	}
}

func (p *ratelimitPolicy) Explain(e *Explainer, s Scope) bool {
	return explainLimits(e, "", s.Route.Limits)
}

// explainLimits writes the limits of those names; of says whose they are, unless they are the route's.
func explainLimits(e *Explainer, of string, names []string) bool {
	for _, name := range names {
		c := e.Config.Limits[name]
		var keys []string
		for _, ref := range c.Per {
			v, _, err := ref.Text(e.Exchange)
			if err != nil {
				e.Refusal(filters.RefuseUnreadable(err))
				return false
			}
			keys = append(keys, fmt.Sprintf("%s = %q", ref, v))
		}
		by := "all requests together"
		if len(keys) > 0 {
			by = "per " + strings.Join(keys, ", ")
		}
		burst := fmt.Sprintf("burst %d", c.Burst)
		if c.FixedWindow() {
			burst = "fixed windows"
		}
		e.Line("limit", "%s%s: %s, %s, %s, %s, %s, store gone: %s", name, of, c.Rate, burst, c.Scope, c.Mode, by,
			c.OnStoreFailure)
	}
	return true
}

func (p *ratelimitPolicy) Status() Status { return Status{} }
