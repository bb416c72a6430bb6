package ratelimitlocal

import (
	"testing"
	"time"
	"unsafe"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

// TestABucketFitsALine: else a charge would have two of them come from another processor.
func TestABucketFitsALine(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(bucket{}); size > cores.Line {
		t.Errorf("a bucket has %d bytes, a line %d", size, cores.Line)
	}
}

// TestBucketModel compares the bucket with golang.org/x/time/rate, whose arithmetic it has.
func TestBucketModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		draw := func() (ratelimit.Rate, int) {
			return ratelimit.Rate{
				Count: rapid.SampledFrom([]int{1, 3, 7, 100, 12345, 1_000_000}).Draw(r, "count"),
				Period: rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour,
					24 * time.Hour}).Draw(r, "period"),
			}, rapid.IntRange(1, 1000).Draw(r, "burst")
		}
		limit, burst := draw()
		perSecond := func() rate.Limit { return rate.Limit(float64(limit.Count) / limit.Period.Seconds()) }
		model := rate.NewLimiter(perSecond(), burst)
		b := &bucket{terms: newTerms(limit, burst, 1), amount: float64(burst)}
		var now time.Duration
		for range 100 {
			token := float64(limit.Period) / float64(limit.Count)
			now += time.Duration(token * rapid.Float64Range(0, 3).Draw(r, "pass"))
			when := t0.Add(now)
			if rapid.IntRange(0, 19).Draw(r, "configure") == 0 {
				limit, burst = draw()
				model.SetLimitAt(when, perSecond())
				model.SetBurstAt(when, burst)
				b.change(newTerms(limit, burst, 1), int64(now))
			}
			cost := rapid.IntRange(-2, 5).Draw(r, "cost")
			before := model.TokensAt(when)
			want := cost == 0 && before >= 1 || cost != 0 && model.AllowN(when, cost)
			d := b.take(int64(cost), int64(now))
			if wanted := float64(max(cost, 1)); d.Allowed != want && (before-wanted < -1e-6 || before-wanted > 1e-6) {
				r.Fatalf("a charge of %d with %v tokens: %v, the model says %v", cost, before, d.Allowed, want)
			}
			if left, should := b.tokens(int64(now)), model.TokensAt(when); left-should > 1e-6 || should-left > 1e-6 {
				if d.Allowed == want {
					r.Fatalf("%v tokens are left of a charge of %d, the model says %v", left, cost, should)
				}
				return // the two differ by a rounding, and from here on by a token
			}
		}
	})
}
