package ratelimit

import (
	"context"

	"github.com/sluice-gateway/sluice/filters"
)

// Meter applies one rule: it charges, follows OnStoreFailure and counts what was decided. It is
// safe for concurrent use.
type Meter struct {
	Rule
	counters Counters
}

// NewMeter makes the meter of a rule. m may be nil.
func NewMeter(r Rule, m Metrics) *Meter {
	meter := makeMeter(r, m)
	return &meter
}

func makeMeter(r Rule, m Metrics) Meter {
	var counters Counters
	if m != nil {
		counters = m.Limit(r.Limit.Name)
	}
	return Meter{Rule: r, counters: counters.expand()}
}

// expand puts a counter that discards in the place of each that is not kept.
func (c Counters) expand() Counters {
	for _, p := range []*filters.Counter{&c.Allowed, &c.Refused, &c.ShadowRefused, &c.StoreFailures} {
		if *p == nil {
			*p = filters.Discard
		}
	}
	return c
}

// Verdict is the decision of a rule.
type Verdict struct {
	Decision
	// From is the limiter that decided; nil: the decision follows from OnStoreFailure alone and has
	// no numbers.
	From Limiter
	// Failed says that the store failed, and the limit is set to refuse then.
	Failed bool
}

// Charge asks the limiter, and follows OnStoreFailure where its store fails.
func (m *Meter) Charge(ctx context.Context, c Charge) Verdict {
	c.Cost = min(max(c.Cost, -CostMax), CostMax)
	if c.Rate.Period > 0 && c.Rate.Count <= 0 && !m.Limit.FixedWindow {
		// A bucket that is always empty; a limiter would divide by its rate.
		return Verdict{Decision: Decision{Allowed: c.Cost < 0, RetryAfter: c.Rate.Period, Reset: c.Rate.Period},
			From: m.Limiter}
	}
	d, err := m.Limiter.Charge(ctx, c)
	if err == nil {
		return Verdict{Decision: d, From: m.Limiter}
	}
	m.counters.StoreFailures.Inc()
	switch {
	case m.OnStoreFailure == Open:
		return Verdict{Decision: Decision{Allowed: true}}
	case m.OnStoreFailure == Local && m.Fallback != nil:
		if d, err = m.Fallback.Charge(ctx, c); err == nil {
			return Verdict{Decision: d, From: m.Fallback}
		}
	}
	return Verdict{Failed: true}
}

// Count counts a verdict and returns whether it refuses. exempt is never refused, as if the limit
// were in shadow mode.
func (m *Meter) Count(v *Verdict, exempt bool) (refuses bool) {
	switch {
	case v.Allowed:
		m.counters.Allowed.Inc()
	case m.Shadow || exempt:
		m.counters.ShadowRefused.Inc()
	default:
		m.counters.Refused.Inc()
		return true
	}
	return false
}
