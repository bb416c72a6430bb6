package ratelimitlocal

import (
	"math"
	"time"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

// terms are how fast a bucket is filled, and how far. They do not change: a bucket is given others.
type terms struct {
	perNano float64 // tokens
	nanos   float64 // for one token
	burst   int
	share   float64
	own     bool // they are those of the bucket's charges, and not the limit's
}

func newTerms(r ratelimit.Rate, burst int, share float64) *terms {
	perNano := float64(r.Count) / float64(r.Period) * share
	return &terms{perNano: perNano, nanos: 1 / perNano, burst: part(burst, share), share: share}
}

// part is the share of a number, at least 1 of what is not 0.
func part(n int, share float64) int {
	if n == 0 {
		return 0
	}
	return max(int(float64(n)*share+1e-9), 1)
}

// bucket is what a key has: tokens, or the hits of a window. It fits a line of the caches.
type bucket struct {
	prev, next *bucket
	key        string
	terms      *terms
	amount     float64 // tokens at that time; hits, which a double counts exactly up to hitsMax
	at         int64   // in nanoseconds since the base; the end of the window, in Unix seconds
}

// tokens is what is in the bucket at a time that is not before the last one.
func (b *bucket) tokens(at int64) float64 {
	return min(b.amount+float64(at-b.at)*b.terms.perNano, float64(b.terms.burst))
}

// change gives the bucket other terms, of which it keeps what it has.
func (b *bucket) change(t *terms, at int64) {
	b.amount, b.at, b.terms = b.tokens(at), at, t
}

// take takes so many tokens from the bucket, or gives them back. A token that is less than a nanosecond away is there.
func (b *bucket) take(cost, at int64) ratelimit.Decision {
	tokens, wanted := b.tokens(at), float64(max(cost, 1))
	burst := float64(b.terms.burst)
	allowed := cost < 0 || tokens >= wanted || wanted <= burst && (wanted-tokens)*b.terms.nanos < 1
	if allowed && cost != 0 {
		tokens = min(tokens-float64(cost), burst)
		b.amount, b.at = tokens, at
	}
	return b.terms.decision(allowed, tokens, wanted)
}

// decision makes the decision of a charge that wanted so many tokens, behind which those are left.
func (t *terms) decision(allowed bool, tokens, wanted float64) ratelimit.Decision {
	burst := float64(t.burst)
	d := ratelimit.Decision{Allowed: allowed, Remaining: max(int(tokens+1e-9), 0), Reset: t.refill(burst - tokens)}
	if !allowed {
		d.RetryAfter = t.refill(min(wanted, burst) - tokens)
	}
	return d
}

// refill returns how long it takes to gain so many tokens, rounded up.
func (t *terms) refill(tokens float64) time.Duration {
	if tokens <= 0 {
		return 0
	}
	ns := math.Ceil(tokens * t.nanos)
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}
