package upstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What a budget gives over time: steps of so many requests and so many wishes for a repeat, each at
// its moment.
func TestRetryBudget(t *testing.T) {
	type step struct {
		at               time.Duration
		requests, wishes int
		want             int
	}
	for _, c := range []struct {
		name  string
		share float64
		steps []step
	}{
		{"a share of the requests", 0.2, []step{{0, 1000, 1000, 200}}},
		{"and not of them and the floor", 0.2, []step{{0, 100, 100, 20}, {500 * time.Millisecond, 0, 100, 0}}},
		{"the floor where the share is less", 0.2, []step{{0, 5, 100, 3}, {900 * time.Millisecond, 5, 100, 0},
			{time.Second, 1, 100, 3}}},
		{"the share of what is left when a part is drawn", 0.2, []step{{0, 100, 15, 15},
			{100 * time.Millisecond, 100, 100, 25}}},
		{"nothing is kept over a silence", 0.2, []step{{0, 10_000, 0, 0}, {time.Hour, 0, 100, 3}}},
		{"what is drawn comes back after a second", 0.2, []step{{0, 50, 50, 10}, {950 * time.Millisecond, 50, 50, 10},
			{1100 * time.Millisecond, 0, 50, 0}, {2 * time.Second, 50, 50, 10}}},
		{"a share of one", 1, []step{{0, 10, 20, 10}}},
		{"none", 0, []step{{0, 1000, 1000, 0}}},
		{"a clock that was set back", 0.2, []step{{time.Hour, 100, 20, 20}, {0, 10, 10, 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b retryBudget
			began := budgetBegan.Add(time.Hour)
			for i, s := range c.steps {
				now := began.Add(s.at)
				for range s.requests {
					b.request(now)
				}
				got := 0
				for range s.wishes {
					if b.take(now, c.share) {
						got++
					}
				}
				if got != s.want {
					t.Errorf("step %d: %d repeats, want %d", i, got, s.want)
				}
			}
		})
	}
}

func TestRetryBudgetIsExactForAll(t *testing.T) {
	var b retryBudget
	var got atomic.Int64
	var all sync.WaitGroup
	now := time.Now()
	for range 8 {
		all.Go(func() {
			for range 1000 {
				b.request(now)
			}
		})
	}
	all.Wait()
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if b.take(now, 0.2) {
					got.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got.Load() != 1600 {
		t.Errorf("%d repeats of 8000 requests, want 1600", got.Load())
	}
}

func TestRetryBudgetAllocatesNothing(t *testing.T) {
	var b retryBudget
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { b.request(now); b.take(now, 0.2) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
