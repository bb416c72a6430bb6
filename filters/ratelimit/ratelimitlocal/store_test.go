package ratelimitlocal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

var t0 = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

func allow(t testing.TB, s *Store, key string, now time.Time) ratelimit.Decision {
	t.Helper()
	d, err := s.Allow(context.Background(), key, now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSequences(t *testing.T) {
	type step struct {
		key  string
		at   float64
		want ratelimit.Decision
	}
	yes := func(remaining int, reset time.Duration) ratelimit.Decision {
		return ratelimit.Decision{Allowed: true, Remaining: remaining, Reset: reset}
	}
	no := func(retry, reset time.Duration) ratelimit.Decision {
		return ratelimit.Decision{RetryAfter: retry, Reset: reset}
	}
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		limit ratelimit.Limit
		steps []step
	}{
		{"burst, refusal, refill", ratelimit.Limit{Count: 10, Period: time.Second, Burst: 3}, []step{
			{"a", 0, yes(2, 100*ms)}, {"a", 0, yes(1, 200*ms)}, {"a", 0, yes(0, 300*ms)}, {"a", 0, no(100*ms, 300*ms)},
			{"a", 0.05, no(50*ms, 250*ms)}, {"a", 0.1, yes(0, 300*ms)}, {"a", 10, yes(2, 100*ms)},
		}},
		{"keys do not share", ratelimit.Limit{Count: 1, Period: time.Second, Burst: 1}, []step{
			{"a", 0, yes(0, 1000*ms)}, {"b", 0, yes(0, 1000*ms)}, {"", 0, yes(0, 1000*ms)},
			{"a", 0, no(1000*ms, 1000*ms)},
		}},
		{"slow rate", ratelimit.Limit{Count: 1, Period: time.Hour, Burst: 1}, []step{
			{"a", 0, yes(0, time.Hour)}, {"a", 3599, no(time.Second, time.Second)}, {"a", 3600, yes(0, time.Hour)},
		}},
		{"a clock that steps back and forward allows nothing extra",
			ratelimit.Limit{Count: 1, Period: time.Second, Burst: 2}, []step{
				{"a", 100, yes(1, 1000*ms)}, {"a", 100, yes(0, 2000*ms)}, {"a", 50, no(1000*ms, 2000*ms)},
				{"a", 100, no(1000*ms, 2000*ms)},
				{"a", 101, yes(0, 2000*ms)}, {"a", 0, no(1000*ms, 2000*ms)}, {"a", 101, no(1000*ms, 2000*ms)},
				{"b", 0, yes(1, 1000*ms)},
			}},
		{"a step back right after an allowed one", ratelimit.Limit{Count: 1, Period: time.Second, Burst: 2}, []step{
			{"a", 100, yes(1, 1000*ms)}, {"a", 0, yes(0, 2000*ms)}, {"a", 100, no(1000*ms, 2000*ms)},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(c.limit, 1000)
			for i, st := range c.steps {
				got := allow(t, s, st.key, at(st.at))
				if near(got.Reset, st.want.Reset) {
					got.Reset = st.want.Reset
				}
				if near(got.RetryAfter, st.want.RetryAfter) {
					got.RetryAfter = st.want.RetryAfter
				}
				if got != st.want {
					t.Fatalf("step %d: %+v, want %+v", i, got, st.want)
				}
			}
		})
	}
}

// near allows for the fractions that tokens are counted in.
func near(a, b time.Duration) bool { return (a - b).Abs() < 10*time.Microsecond }

// TestNeverMoreThanTheLimit is the promise itself, over random times that also go back, and random
// keys.
func TestNeverMoreThanTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := ratelimit.Limit{
			Count: rapid.IntRange(1, 50).Draw(t, "count"), Burst: rapid.IntRange(1, 20).Draw(t, "burst"),
			Period: rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "period"),
		}
		s := New(l, 1000)
		now := t0
		latest := now
		first := map[string]time.Time{}
		allowed := map[string]int{}
		refused := map[string]time.Time{} // key: when it may come again
		for range 200 {
			if len(allowed) > 0 {
				step := rapid.Int64Range(-int64(l.Period)/4, int64(l.Period)/2).Draw(t, "step")
				now = now.Add(time.Duration(step))
			}
			if now.After(latest) {
				latest = now
			}
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			if _, ok := first[key]; !ok {
				first[key] = now
			}
			d, _ := s.Allow(context.Background(), key, now)
			if until, ok := refused[key]; ok && !now.Before(until) && !d.Allowed {
				t.Fatalf("%s was told to come back by now and is refused", key)
			}
			delete(refused, key)
			if d.Allowed {
				allowed[key]++
			} else {
				refused[key] = latest.Add(d.RetryAfter)
			}
			most := float64(l.Burst) + float64(l.Count)*latest.Sub(first[key]).Seconds()/l.Period.Seconds() + 1e-6
			if float64(allowed[key]) > most {
				t.Fatalf("%d requests of %s allowed, at most %v", allowed[key], key, most)
			}
		}
	})
}

func TestShare(t *testing.T) {
	limit := ratelimit.Limit{Count: 100, Period: time.Second, Burst: 20}
	count := func(s *Store, key string, from, seconds float64) int {
		n := 0
		for i := range int(seconds * 1000) {
			if allow(t, s, key, at(from+float64(i)/1000)).Allowed {
				n++
			}
		}
		return n
	}
	s := New(limit, 100)
	s.SetShare(0.25)
	if n := count(s, "a", 0, 10); n < 253 || n > 256 {
		t.Errorf("a quarter allowed %d in 10 s, want 250 and a burst of 5", n)
	}
	s.SetShare(1)
	if n := count(s, "a", 10, 10); n < 995 || n > 1021 {
		t.Errorf("the whole allowed %d in 10 s", n)
	}
	s.SetShare(0.001) // less than one token of burst
	if n := count(s, "a", 20, 20); n < 2 || n > 4 {
		t.Errorf("a thousandth allowed %d in 20 s", n)
	}
	for _, wrong := range []float64{0, -1, 2} {
		s := New(limit, 100)
		s.SetShare(wrong)
		if d := allow(t, s, "a", t0); d.Remaining != 19 {
			t.Errorf("SetShare(%v): %+v", wrong, d)
		}
	}
}

func TestFullBucketsAreDropped(t *testing.T) {
	s := New(ratelimit.Limit{Count: 10, Period: time.Second, Burst: 10}, 1_000_000)
	for i := range 100_000 {
		allow(t, s, fmt.Sprint("key-", i), at(float64(i)/100)) // each is full again a tenth of a second later
	}
	if n := s.Len(); n > shardsMax*keysPerShardKept+500 {
		t.Errorf("%d buckets for some ten that are not full", n)
	}
}

func TestBound(t *testing.T) {
	for _, bound := range []int{1, 10, 100, 5000} {
		s := New(ratelimit.Limit{Count: 1, Period: time.Hour, Burst: 2}, bound)
		for i := range 3 * bound {
			allow(t, s, fmt.Sprint("key-", i), t0)
			if n := s.Len(); n > bound {
				t.Fatalf("%d buckets, at most %d", n, bound)
			}
		}
		if n := s.Len(); n < bound*3/4 {
			t.Errorf("%d buckets where %d may be", n, bound)
		}
	}
	// The oldest goes, what is in use stays.
	s := New(ratelimit.Limit{Count: 1, Period: time.Hour, Burst: 100}, 10)
	for i := range 50 {
		allow(t, s, "busy", t0)
		allow(t, s, fmt.Sprint("passing-", i), t0)
	}
	if d := allow(t, s, "busy", t0); d.Remaining != 49 {
		t.Errorf("the busy key was dropped: %+v", d)
	}
}

func TestKeyIsCopied(t *testing.T) {
	s := New(ratelimit.Limit{Count: 1, Period: time.Hour, Burst: 1}, 10)
	line := "X-User: anna and a very long rest of a header"
	allow(t, s, line[8:12], t0)
	for key := range s.shards[0].keys {
		if key != "anna" {
			t.Errorf("key %q", key)
		}
	}
	if d := allow(t, s, "anna", t0); d.Allowed {
		t.Error("the same key has another bucket")
	}
}

func TestManyAtOnce(t *testing.T) {
	s := New(ratelimit.Limit{Count: 1, Period: time.Hour, Burst: 100}, 1000)
	var allowed atomic.Int64
	var all sync.WaitGroup
	for w := range 32 {
		all.Go(func() {
			for i := range 200 {
				if allow(t, s, "hot", t0).Allowed {
					allowed.Add(1)
				}
				allow(t, s, fmt.Sprint(w, "-", i), t0)
				if i == 100 {
					s.SetShare(1)
				}
			}
		})
	}
	all.Wait()
	if n := allowed.Load(); n != 100 {
		t.Errorf("%d of a burst of 100 were allowed", n)
	}
}

func TestKnownKeyAllocatesNothing(t *testing.T) {
	s := New(ratelimit.Limit{Count: 1_000_000, Period: time.Second, Burst: 1_000_000}, 10_000)
	now := time.Now()
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		if d, _ := s.Allow(ctx, "anna", now); !d.Allowed {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestKeysAreCopied: a key lies in a request's buffer, which is used again.
func TestKeysAreCopied(t *testing.T) {
	s := New(ratelimit.Limit{Name: "one", Count: 1, Period: time.Hour, Burst: 1}, 4)
	now := time.Unix(1_790_000_000, 0)
	buffer := []byte("anna")
	if d, _ := s.Allow(t.Context(), filters.Alias(buffer), now); !d.Allowed {
		t.Fatal("the first request is refused")
	}
	copy(buffer, "####")
	if d, _ := s.Allow(t.Context(), "anna", now); d.Allowed {
		t.Error("the key is forgotten")
	}
	if d, _ := s.Allow(t.Context(), "####", now); !d.Allowed {
		t.Error("the next request's key is taken for the last one's")
	}
	later := now.Add(3 * time.Hour)
	for i := range 3 { // the full buckets go
		if d, _ := s.Allow(t.Context(), string(rune('a'+i)), later); !d.Allowed {
			t.Error("a new key is refused")
		}
	}
	if n := s.Len(); n > 4 {
		t.Errorf("%d keys are kept, want 4 at most", n)
	}
}

func TestRefund(t *testing.T) {
	s := New(ratelimit.Limit{Name: "l", Count: 1, Period: time.Hour, Burst: 2}, 10)
	refund := func(key string, now time.Time) {
		if _, err := s.Charge(context.Background(), ratelimit.Charge{Key: key, Now: now, Cost: -1}); err != nil {
			t.Fatal(err)
		}
	}
	refund("nobody", at(0))
	if s.Len() != 0 {
		t.Error("a key without a bucket has one by a refund")
	}
	allow(t, s, "k", at(0))
	allow(t, s, "k", at(0))
	refund("k", at(0))
	if d := allow(t, s, "k", at(0)); !d.Allowed {
		t.Error("the token that was given back is not there")
	}
	for range 5 {
		refund("k", at(0))
	}
	for i, want := range []bool{true, true, false} {
		if d := allow(t, s, "k", at(0)); d.Allowed != want {
			t.Errorf("request %d of a bucket that was given back more than it holds: %v", i, d.Allowed)
		}
	}
}
