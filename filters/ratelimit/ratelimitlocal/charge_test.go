package ratelimitlocal

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

func charge(t testing.TB, s *Store, c ratelimit.Charge) ratelimit.Decision {
	t.Helper()
	d, err := s.Charge(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCost: a charge takes all that it asks for or nothing, one of nothing tells how the key
// stands, and one below nothing gives back what was taken and no more.
func TestCost(t *testing.T) {
	s := New(ratelimit.Limit{Name: "l", Count: 10, Period: 10 * time.Second, Burst: 10}, 10)
	for i, c := range []struct {
		second    int
		cost      int64
		allowed   bool
		remaining int
		retry     time.Duration
	}{
		{0, 0, true, 10, 0},
		{0, 7, true, 3, 0},
		{0, 4, false, 3, time.Second},
		{0, 3, true, 0, 0},
		{0, 0, false, 0, time.Second},
		{2, 0, true, 2, 0},
		{2, 11, false, 2, 8 * time.Second}, // more than there ever is: when the bucket is full
		{2, -5, true, 7, 0},
		{2, -50, true, 10, 0},
		{2, 10, true, 0, 0},
		{2, ratelimit.CostMax, false, 0, 10 * time.Second},
	} {
		d := charge(t, s, ratelimit.Charge{Key: "k", Now: at(float64(c.second)), Cost: c.cost})
		if d.Allowed != c.allowed || d.RetryAfter != c.retry || c.cost >= 0 && d.Remaining != c.remaining {
			t.Errorf("charge %d of %d: %+v, want %v, %d left, retry after %v", i, c.cost, d, c.allowed, c.remaining,
				c.retry)
		}
	}
}

// TestOwnRate: the rate of a charge decides in place of the limit's, by a count apart, and follows
// the share.
func TestOwnRate(t *testing.T) {
	s := New(ratelimit.Limit{Name: "l", Count: 1, Period: time.Hour, Burst: 1}, 10)
	three := ratelimit.Charge{Key: "k", Now: at(0), Cost: 1, Rate: ratelimit.Rate{Count: 3, Period: time.Minute}}
	for i := range 4 {
		if d := charge(t, s, three); d.Allowed != (i < 3) || d.Remaining != max(2-i, 0) {
			t.Errorf("charge %d by a rate of its own: %+v", i, d)
		}
	}
	three.Now = at(20)
	if d := charge(t, s, three); !d.Allowed || d.Reset != time.Minute {
		t.Errorf("after a third of the minute: %+v", d)
	}
	if d := allow(t, s, "k", at(0)); !d.Allowed {
		t.Errorf("the limit's own bucket: %+v", d)
	}
	two := three
	two.Rate.Count = 2
	if d := charge(t, s, two); d.Remaining != 1 {
		t.Errorf("another rate: %+v", d)
	}
	s.SetShare(0.5)
	four := ratelimit.Charge{Key: "half", Now: at(20), Cost: 1, Rate: ratelimit.Rate{Count: 4, Period: time.Minute}}
	for i := range 3 {
		if d := charge(t, s, four); d.Allowed != (i < 2) {
			t.Errorf("charge %d of half a rate: %+v", i, d)
		}
	}
	if s.Len() != 4 {
		t.Errorf("%d keys, want 4", s.Len())
	}
}

// TestWindows: a window begins at a multiple of its period in Unix time, and what is refused counts
// in it.
func TestWindows(t *testing.T) {
	s := New(ratelimit.Limit{Name: "l", Count: 5, Period: time.Minute, FixedWindow: true}, 10)
	minute := time.Unix(1_800_000_000, 0).Truncate(time.Minute)
	for i, c := range []struct {
		second    float64
		cost      int64
		allowed   bool
		remaining int
		reset     time.Duration
	}{
		{50.25, 1, true, 4, 9750 * time.Millisecond},
		{51, 4, true, 0, 9 * time.Second},
		{51, 0, true, 0, 9 * time.Second},
		{52, 1, false, 0, 8 * time.Second},
		{52, 0, false, 0, 8 * time.Second},
		{52, -2, true, 1, 8 * time.Second},
		{40, 1, true, 0, 8 * time.Second}, // a clock that steps back
		{59, 3, false, 0, time.Second},
		{60, 6, false, 0, time.Minute}, // the next one, and more than it ever has: it counts all the same
		{61, 1, false, 0, 59 * time.Second},
		{120, -3, true, 5, time.Minute},
		{120, 1, true, 4, time.Minute},
	} {
		d := charge(t, s, ratelimit.Charge{Key: "k", Now: minute.Add(time.Duration(c.second * 1e9)), Cost: c.cost})
		want := ratelimit.Decision{Allowed: c.allowed, Remaining: c.remaining, Reset: c.reset, Window: d.Window}
		if !c.allowed {
			want.RetryAfter = c.reset
		}
		if d != want || d.Window%60 != 0 {
			t.Errorf("charge %d of %d: %+v, want %+v", i, c.cost, d, want)
		}
	}
}

// TestWindowOfARefund: what was taken in one window is not given back in the next.
func TestWindowOfARefund(t *testing.T) {
	s := New(ratelimit.Limit{Name: "l", Count: 2, Period: time.Minute, FixedWindow: true}, 10)
	minute := time.Unix(1_800_000_000, 0).Truncate(time.Minute)
	first := charge(t, s, ratelimit.Charge{Key: "k", Now: minute, Cost: 2})
	next := minute.Add(time.Minute)
	charge(t, s, ratelimit.Charge{Key: "k", Now: next, Cost: 2})
	charge(t, s, ratelimit.Charge{Key: "k", Now: next, Cost: -1, Window: first.Window})
	if d := charge(t, s, ratelimit.Charge{Key: "k", Now: next, Cost: 1}); d.Allowed {
		t.Error("the refund of a window that is over let a request pass in the next")
	}
	second := first.Window + 60
	charge(t, s, ratelimit.Charge{Key: "k", Now: next, Cost: -2, Window: second})
	if d := charge(t, s, ratelimit.Charge{Key: "k", Now: next, Cost: 1}); !d.Allowed {
		t.Errorf("the refund of the present window is not there: %+v", d)
	}
}

// TestWindowsOfOneRate: another number for the same period is asked of the same count, another
// period of its own.
func TestWindowsOfOneRate(t *testing.T) {
	s := New(ratelimit.Limit{Name: "l", Count: 2, Period: time.Minute, FixedWindow: true}, 10)
	now := time.Unix(1_800_000_000, 0).Truncate(24 * time.Hour)
	for i, c := range []struct {
		rate      ratelimit.Rate
		allowed   bool
		remaining int
	}{
		{ratelimit.Rate{}, true, 1},
		{ratelimit.Rate{Count: 42, Period: time.Minute}, true, 40},
		{ratelimit.Rate{}, false, 0},
		{ratelimit.Rate{Count: 42, Period: time.Hour}, true, 41},
		{ratelimit.Rate{Period: time.Second}, false, 0},
	} {
		d := charge(t, s, ratelimit.Charge{Key: "k", Now: now, Cost: 1, Rate: c.rate})
		if d.Allowed != c.allowed || d.Remaining != c.remaining {
			t.Errorf("charge %d by %v: %+v", i, c.rate, d)
		}
	}
}

// TestConfigure: numbers that change leave what the keys have.
func TestConfigure(t *testing.T) {
	limit := ratelimit.Limit{Name: "l", Count: 10, Period: time.Hour, Burst: 10}
	s := New(limit, 10)
	charge(t, s, ratelimit.Charge{Key: "k", Now: at(0), Cost: 8})
	limit.Count, limit.Burst = 20, 20
	s.Configure(limit)
	if d := allow(t, s, "k", at(0)); d.Remaining != 1 {
		t.Errorf("a larger bucket: %+v, want the two tokens less one", d)
	}
	window := ratelimit.Limit{Name: "w", Count: 10, Period: time.Hour, FixedWindow: true}
	w := New(window, 10)
	charge(t, w, ratelimit.Charge{Key: "k", Now: at(0), Cost: 8})
	window.Count = 9
	w.Configure(window)
	if d := allow(t, w, "k", at(0)); !d.Allowed || d.Remaining != 0 {
		t.Errorf("a smaller number: %+v, want the ninth to pass", d)
	}
}

// TestWindowsGo: windows that are over make room.
func TestWindowsGo(t *testing.T) {
	s := New(ratelimit.Limit{Name: "l", Count: 1, Period: time.Second, FixedWindow: true}, 1<<20)
	for i := range 20_000 {
		charge(t, s, ratelimit.Charge{Key: string(rune(i)), Now: at(float64(i / 100)), Cost: 1})
	}
	if n, most := s.Len(), shardsMax*keysPerShardKept+200; n > most {
		t.Errorf("%d windows are kept, want %d at most", n, most)
	}
}

// TestWindowModel compares with a count by window in a map.
func TestWindowModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limit := ratelimit.Limit{Name: "l", Count: rapid.IntRange(1, 9).Draw(r, "count"),
			Period: rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour,
				24 * time.Hour}).Draw(r, "period"),
			FixedWindow: true}
		s := New(limit, 1000)
		now := time.Unix(rapid.Int64Range(0, 4e9).Draw(r, "now"), 0)
		type window struct {
			key   string
			start int64
		}
		hits := map[window]int64{}
		for range 60 {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(limit.Period)/4).Draw(r, "pass")))
			w := window{rapid.SampledFrom([]string{"a", "b", ""}).Draw(r, "key"),
				now.Unix() / int64(limit.Period/time.Second)}
			cost := rapid.Int64Range(-2, 4).Draw(r, "cost")
			hits[w] = max(hits[w]+cost, 0)
			d := charge(t, s, ratelimit.Charge{Key: w.key, Now: now, Cost: cost})
			if cost < 0 {
				continue
			}
			if d.Allowed != (hits[w] <= int64(limit.Count)) || int64(d.Remaining) != max(int64(limit.Count)-hits[w],
				0) {
				r.Fatalf("%+v with %d hits in the model of at most %d", d, hits[w], limit.Count)
			}
			if end := now.Add(d.Reset).UnixNano(); end%int64(limit.Period) != 0 || d.Reset <= 0 ||
				d.Reset > limit.Period {
				r.Fatalf("a window of %v that ends in %v", limit.Period, d.Reset)
			}
		}
	})
}

func TestAChargeAllocatesNothing(t *testing.T) {
	for _, windows := range []bool{false, true} {
		s := New(ratelimit.Limit{Name: "l", Count: 1, Period: time.Hour, Burst: 1, FixedWindow: windows}, 10)
		c := ratelimit.Charge{Key: "k", Now: at(0), Cost: 3}
		if n := testing.AllocsPerRun(100, func() { charge(t, s, c) }); n != 0 {
			t.Errorf("windows %v: %v allocations", windows, n)
		}
	}
}
