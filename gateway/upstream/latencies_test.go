package upstream

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestLatencyBuckets(t *testing.T) {
	last := time.Duration(0)
	for i := range latencyBuckets - 1 {
		end := latencyBound(i)
		if end <= last || latencyBucket(end-1) != i || latencyBucket(end) != i+1 {
			t.Fatalf("bucket %d ends at %v, and %v is in %d, %v in %d", i, end, end-1, latencyBucket(end-1), end,
				latencyBucket(end))
		}
		if last > time.Millisecond && float64(end-last) > 0.07*float64(last) {
			t.Fatalf("bucket %d is from %v to %v", i, last, end)
		}
		last = end
	}
	for _, d := range []time.Duration{-1, 0, 1} {
		if latencyBucket(d) != 0 {
			t.Errorf("%v is in %d", d, latencyBucket(d))
		}
	}
	if got := latencyBucket(1<<63 - 1); got != latencyBuckets-1 {
		t.Errorf("the longest is in %d of %d", got, latencyBuckets)
	}
}

// The percentile of latencies that are drawn at random, as they are added.
func TestPercentile(t *testing.T) {
	now := time.Now()
	for _, q := range []float64{0.5, 0.9, 0.95, 0.999} {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 1))
		l := newLatencies(q, now)
		var all []time.Duration
		for range 20_000 {
			d := time.Duration(r.ExpFloat64() * float64(20*time.Millisecond))
			all = append(all, d)
			l.add(now, d)
		}
		slices.Sort(all)
		exact := all[int(q*float64(len(all)))]
		got, ok := l.after()
		if !ok || float64(got) < 0.97*float64(exact) || float64(got) > 1.1*float64(exact) {
			t.Errorf("seed %d: p%v is %v, %v, want %v", seed, 100*q, got, ok, exact)
		}
	}
}

func TestPercentileWarmsUp(t *testing.T) {
	now := time.Now()
	l := newLatencies(0.95, now)
	for i := range 100 {
		if _, ok := l.after(); ok {
			t.Fatalf("it is known after %d latencies", i)
		}
		l.add(now, time.Millisecond)
	}
	if d, ok := l.after(); !ok || d < time.Millisecond || d > 1100*time.Microsecond {
		t.Errorf("after 100: %v, %v", d, ok)
	}
}

// A service that has become slower, or faster, is known as it is now; a quiet one stays known.
func TestPercentileForgets(t *testing.T) {
	now := time.Now()
	l := newLatencies(0.95, now)
	during := func(span time.Duration, every, latency time.Duration) {
		for end := now.Add(span); now.Before(end); now = now.Add(every) {
			l.add(now, latency)
		}
	}
	for _, c := range []struct{ span, every, latency time.Duration }{
		{30 * time.Second, 10 * time.Millisecond, 20 * time.Millisecond},
		{30 * time.Second, 10 * time.Millisecond, 200 * time.Millisecond},
		{30 * time.Second, 10 * time.Millisecond, 2 * time.Millisecond},
		{20 * time.Minute, 10 * time.Second, 50 * time.Millisecond},
	} {
		during(c.span, c.every, c.latency)
		if d, ok := l.after(); !ok || d < c.latency || d > c.latency+c.latency/8 {
			t.Errorf("%+v: %v, %v", c, d, ok)
		}
	}
}

func TestLatenciesOfManyAtOnce(t *testing.T) {
	l := newLatencies(0.95, time.Now())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 5000 {
				l.add(time.Now().Add(time.Duration(i)*20*time.Millisecond), 10*time.Millisecond)
				l.after()
			}
		})
	}
	all.Wait()
	if d, ok := l.after(); !ok || d < 10*time.Millisecond || d > 11*time.Millisecond {
		t.Errorf("%v, %v", d, ok)
	}
}

func TestLatenciesAllocateNothing(t *testing.T) {
	l, now := newLatencies(0.95, time.Now()), time.Now()
	if n := testing.AllocsPerRun(1000, func() { l.add(now, time.Millisecond); l.after() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
