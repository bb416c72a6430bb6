package ratelimitredis

import (
	"context"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

func charge(t testing.TB, l *Limiter, c ratelimit.Charge) ratelimit.Decision {
	t.Helper()
	d, err := l.Charge(within(t, waitLimit), c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type step struct {
	rate      ratelimit.Rate
	cost      int64
	allowed   bool
	remaining int
}

func (s step) check(t *testing.T, l *Limiter, i int) ratelimit.Decision {
	t.Helper()
	d := charge(t, l, ratelimit.Charge{Key: "k", Cost: s.cost, Rate: s.rate})
	if d.Allowed != s.allowed || d.Remaining != s.remaining {
		t.Errorf("step %d, %d by %v: %+v, want %v and %d left", i, s.cost, s.rate, d, s.allowed, s.remaining)
	}
	return d
}

// TestCost: a charge takes all that it asks for or nothing, one of nothing tells how the key
// stands, one below nothing gives back what was taken and no more, and one by a rate of its own has
// a bucket of its own.
func TestCost(t *testing.T) {
	t.Parallel()
	const slow = 1000 * time.Hour
	c := dial(t, redistest.Start(t), waitLimit)
	l := New(c, "s:", ratelimit.Limit{Name: "l", Count: 10, Period: slow, Burst: 10})
	four := ratelimit.Rate{Count: 4, Period: slow}
	for i, s := range []step{
		{cost: 0, allowed: true, remaining: 10},
		{cost: -1, allowed: true, remaining: 10},
	} {
		s.check(t, l, i)
	}
	if n := c.Universal().DBSize(within(t, waitLimit)).Val(); n != 0 {
		t.Errorf("%d keys after charges that took nothing", n)
	}
	for i, s := range []step{
		{cost: 7, allowed: true, remaining: 3},
		{cost: 4, remaining: 3},
		{cost: 3, allowed: true},
		{cost: 0},
		{cost: -5, allowed: true, remaining: 5},
		{cost: -50, allowed: true, remaining: 10},
		{rate: four, cost: 3, allowed: true, remaining: 1},
		{rate: four, cost: 2, remaining: 1},
		{cost: 10, allowed: true},
		{rate: four, cost: 1, allowed: true},
	} {
		s.check(t, l, i)
	}
	d := charge(t, l, ratelimit.Charge{Key: "k", Cost: 11})
	if d.Allowed || d.RetryAfter != d.Reset || d.Reset < slow-time.Hour {
		t.Errorf("more than there ever is: %+v", d)
	}
}

// age moves the window of a key so many seconds back: as if it were an earlier one.
func age(t *testing.T, l *Limiter, key string, seconds float64) {
	t.Helper()
	ctx := within(t, waitLimit)
	name := string(l.appendKey(nil, key)) + l.suffix
	v, err := l.client.Universal().Get(ctx, name).Bytes()
	if err != nil || len(v) != 16 {
		t.Fatalf("a value of %d bytes: %v", len(v), err)
	}
	start := math.Float64frombits(binary.BigEndian.Uint64(v)) - seconds
	binary.BigEndian.PutUint64(v, math.Float64bits(start))
	if err := l.client.Universal().SetArgs(ctx, name, v, redis.SetArgs{KeepTTL: true}).Err(); err != nil {
		t.Fatal(err)
	}
}

// century is a period of which no test sees the end: the window begins in 1970.
const century = 100 * 365 * 24 * time.Hour

func TestWindows(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	l := New(c, "s:", ratelimit.Limit{Name: "l", Count: 5, Period: century, FixedWindow: true})
	year := ratelimit.Rate{Count: 3, Period: century / 2}
	for i, s := range []step{
		{cost: 0, allowed: true, remaining: 5},
		{cost: -1, allowed: true, remaining: 5},
		{cost: 4, allowed: true, remaining: 1},
		{cost: 1, allowed: true},
		{cost: 0, allowed: true},
		{cost: 2},
		{cost: 0},
		{rate: ratelimit.Rate{Count: 42, Period: century}, cost: 1, allowed: true, remaining: 34},
		{rate: ratelimit.Rate{Period: century}, cost: 0},
		{rate: year, cost: 1, allowed: true, remaining: 2},
		{cost: -4, allowed: true, remaining: 1},
		{cost: -400, allowed: true, remaining: 5},
		{cost: 6},
		{cost: 1},
		{cost: ratelimit.CostMax},
	} {
		d := s.check(t, l, i)
		end := redisTime(t, c).Add(d.Reset)
		if d.Window != 0 && s.rate != year || end.Sub(time.Unix(d.Window, 0).Add(century)).Abs() > waitLimit &&
			s.rate != year {
			t.Errorf("step %d: %+v, the window ends at %v", i, d, end)
		}
		if !d.Allowed && d.RetryAfter != d.Reset {
			t.Errorf("step %d: %+v", i, d)
		}
	}
	age(t, l, "k", century.Seconds()) // the next window
	step{cost: 1, allowed: true, remaining: 4}.check(t, l, 100)
	// A refund of a window that is over changes nothing, one of the present window does.
	charge(t, l, ratelimit.Charge{Key: "k", Cost: -1, Window: 60})
	step{cost: 0, allowed: true, remaining: 4}.check(t, l, 101)
	// A clock that steps back grants nothing.
	age(t, l, "k", -century.Seconds())
	step{cost: 4, allowed: true, remaining: 0}.check(t, l, 102)
	ttl, err := c.Universal().PTTL(within(t, waitLimit), string(l.appendKey(nil, "k"))+l.suffix).Result()
	if err != nil || ttl <= 0 || ttl > century {
		t.Errorf("the window goes in %v, %v", ttl, err)
	}
}

// TestWindowsApart: a limit that turns from buckets to windows, and back, does not meet its old
// keys.
func TestWindowsApart(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	limit := ratelimit.Limit{Name: "l", Count: 2, Period: century, Burst: 2}
	window := limit
	window.FixedWindow = true
	for i, l := range []*Limiter{New(c, "s:", limit), New(c, "s:", window), New(c, "s:", limit), New(c, "s:", window)} {
		step{cost: 1, allowed: true, remaining: 1 - i/2}.check(t, l, i)
	}
	minute := window
	minute.Period = century / 2
	step{cost: 1, allowed: true, remaining: 1}.check(t, New(c, "s:", minute), 4)
}

// TestWindowsAreExact: gateways that count together let through what the limit says, and no hit is
// lost.
func TestWindowsAreExact(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	limit := ratelimit.Limit{Name: "l", Count: 500, Period: century, FixedWindow: true}
	results := make(chan int)
	for range 4 {
		l := New(dial(t, addr, waitLimit), "s:", limit)
		go func() {
			admitted := 0
			for range 200 {
				if d, err := l.Allow(context.Background(), "k", time.Time{}); err == nil && d.Allowed {
					admitted++
				}
			}
			results <- admitted
		}()
	}
	total := 0
	for range 4 {
		total += <-results
	}
	if total != limit.Count {
		t.Errorf("%d admitted, want %d", total, limit.Count)
	}
}

func BenchmarkWindow(b *testing.B) {
	l := New(dial(b, redistest.Start(b), waitLimit), "s:",
		ratelimit.Limit{Name: "l", Count: 1000, Period: time.Second, FixedWindow: true})
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Allow(context.Background(), "k", time.Time{}); err != nil {
				b.Error(err)
			}
		}
	})
}
