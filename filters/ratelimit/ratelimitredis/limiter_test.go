package ratelimitredis

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit is a timeout that a busy machine does not reach.
const waitLimit = 20 * time.Second

func dial(t testing.TB, addr string, timeout time.Duration) *redisx.Client {
	t.Helper()
	c := redisx.Open(redisx.Options{Addresses: []string{addr}, Timeout: timeout})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func allow(t testing.TB, l *Limiter, key string) ratelimit.Decision {
	t.Helper()
	d, err := l.Allow(within(t, waitLimit), key, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func redisTime(t testing.TB, c *redisx.Client) time.Time {
	t.Helper()
	now, err := c.Universal().Time(within(t, waitLimit)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// TestRefund: a token that is given back is there again, and a full bucket stays full.
func TestRefund(t *testing.T) {
	t.Parallel()
	l := New(dial(t, redistest.Start(t), waitLimit), "s:",
		ratelimit.Limit{Name: "l", Count: 1, Period: time.Hour, Burst: 2})
	refund := func() {
		if _, err := l.Charge(within(t, waitLimit), ratelimit.Charge{Key: "k", Cost: -1}); err != nil {
			t.Fatal(err)
		}
	}
	tokens := func() (n int) {
		for allow(t, l, "k").Allowed {
			n++
		}
		return n
	}
	refund() // nothing was taken yet
	if n := tokens(); n != 2 {
		t.Errorf("%d tokens in a full bucket, want 2", n)
	}
	refund()
	if n := tokens(); n != 1 {
		t.Errorf("%d tokens, want the one that was given back", n)
	}
	for range 5 {
		refund()
	}
	if n := tokens(); n != 2 {
		t.Errorf("%d tokens, want no more than the bucket holds", n)
	}
}

// TestExact: several gateways that all ask for more than there is are let through what the limit
// says by Redis's own clock: never more, and hardly less.
func TestExact(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	// The burst is a second's worth, so that a machine that stands still for less loses no tokens.
	limit := ratelimit.Limit{Name: "l", Count: 400, Period: time.Second, Burst: 400}
	clock := dial(t, addr, waitLimit)
	var admitted atomic.Int64
	var wg, started sync.WaitGroup
	stop := make(chan struct{})
	before := redisTime(t, clock)
	for range 4 {
		l := New(dial(t, addr, waitLimit), "s:", limit)
		for range 3 {
			started.Add(1)
			wg.Go(func() {
				for i := 0; ; i++ {
					last := false
					select {
					case <-stop:
						last = true // once more after the end was read, so that nothing that was due by then is left
					default:
					}
					d, err := l.Allow(context.Background(), "k", time.Time{})
					if err != nil {
						t.Error(err)
					}
					if d.Allowed {
						admitted.Add(1)
					}
					if i == 0 {
						started.Done()
					}
					if err != nil || (last && !d.Allowed) {
						return
					}
				}
			})
		}
	}
	started.Wait()
	from := redisTime(t, clock)
	to := from
	for to.Sub(from) < time.Second {
		to = redisTime(t, clock)
	}
	close(stop)
	wg.Wait()
	after := redisTime(t, clock)
	rate := float64(limit.Count) / limit.Period.Seconds()
	most := float64(limit.Burst) + rate*after.Sub(before).Seconds()
	least := 0.99 * (float64(limit.Burst) + rate*to.Sub(from).Seconds())
	if got := float64(admitted.Load()); got > most || got < least {
		t.Errorf("%v admitted, want %.1f to %.1f", got, least, most)
	}
}

// TestBucketsApart: neither two limits with one key value, nor two values of one limit, nor odd
// names share a bucket.
func TestBucketsApart(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	type bucket struct{ prefix, name, key string }
	for _, b := range []bucket{
		{"s:", "a", "k"}, {"s:", "b", "k"}, {"s:", "a", "k2"}, {"s:", "a", ""}, {"s:", "a:k", ""}, {"s:", "a:", "k"},
		{"s:", "", "a:k"}, {"o:", "a", "k"},
		{"s:", "a", strings.Repeat("k", 1<<20)}, {"s:", "a", strings.Repeat("k", 1<<20) + "x"}, {"s:", "a", "\x00\r\n"},
	} {
		l := New(c, b.prefix, ratelimit.Limit{Name: b.name, Count: 1, Period: time.Hour, Burst: 2})
		for i, want := range []bool{true, true, false} {
			if d := allow(t, l, b.key); d.Allowed != want || d.Remaining != max(1-i, 0) {
				t.Errorf("%s %s %.8q: request %d: %+v, want allowed %v", b.prefix, b.name, b.key, i, d, want)
			}
		}
	}
	keys, err := c.Universal().Keys(within(t, waitLimit), "*").Result()
	if err != nil || len(keys) != 11 {
		t.Errorf("%d buckets, %v; want 11", len(keys), err)
	}
	for _, k := range keys {
		if len(k) > 64 {
			t.Errorf("a key of %d bytes", len(k))
		}
	}
}

// bucket returns the key of a bucket.
func (l *Limiter) bucket(key string) string { return string(l.appendKey(nil, key)) }

// shift moves a bucket's moment: a positive d is as if time had gone on, a negative one as if
// Redis's clock had stepped back.
func shift(t *testing.T, l *Limiter, key string, d time.Duration) {
	t.Helper()
	script := redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'at', string.format('%.0f', redis.call('HGET', KEYS[1], 'at') - tonumber(ARGV[1])))
local left = redis.call('PTTL', KEYS[1]) - tonumber(ARGV[1]) / 1000
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(left) + 0)) -- never -0
return 1
`)
	if err := script.Run(within(t, waitLimit), l.client.Universal(), []string{l.bucket(key)},
		d.Microseconds()).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestModel compares with a bucket in a few lines of Go. The rates are so low that the time of the
// test itself is nothing.
func TestModel(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		limit := ratelimit.Limit{Name: fmt.Sprint(n), Count: rapid.IntRange(1, 50).Draw(r, "count"),
			Period: 24 * time.Hour, Burst: rapid.IntRange(1, 20).Draw(r, "burst")}
		l := New(c, "m:", limit)
		perToken := limit.Period / time.Duration(limit.Count)
		tokens := float64(limit.Burst)
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			if pass := rapid.Float64Range(0, 6).Draw(r, "pass, in tokens"); rapid.Bool().Draw(r, "time passes") {
				shift(t, l, "k", time.Duration(pass*float64(perToken)))
				tokens = min(float64(limit.Burst), tokens+pass)
			}
			d := allow(t, l, "k")
			if math.Abs(tokens-1) > 0.01 && d.Allowed != (tokens >= 1) {
				r.Fatalf("%+v with %.3f tokens in the model", d, tokens)
			}
			if d.Allowed {
				tokens--
			}
			if math.Abs(tokens-math.Round(tokens)) > 0.01 && d.Remaining != int(tokens) {
				r.Fatalf("%+v with %.3f tokens left in the model", d, tokens)
			}
			near := func(got time.Duration, want float64) bool {
				return math.Abs(float64(got)/float64(perToken)-want) < 0.02
			}
			if !near(d.Reset, float64(limit.Burst)-tokens) || (!d.Allowed && !near(d.RetryAfter, 1-tokens)) ||
				(d.Allowed && d.RetryAfter != 0) {
				r.Fatalf("%+v with %.3f tokens left in the model, %v a token", d, tokens, perToken)
			}
		}
	})
}

// TestClockStepsBack: no token more than without the step, and the limit is not shut for longer
// than a bucket takes to fill.
func TestClockStepsBack(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	limit := ratelimit.Limit{Name: "l", Count: 6, Period: time.Hour, Burst: 3} // 10 min a token, 30 min to fill
	for _, back := range []time.Duration{time.Second, 20 * time.Minute, 29 * time.Minute, 5 * time.Hour,
		1000 * time.Hour} {
		l := New(c, fmt.Sprintf("%v:", back), limit)
		for i := range 5 {
			if d := allow(t, l, "k"); d.Allowed != (i < 3) {
				t.Fatalf("request %d: %+v", i, d)
			}
		}
		shift(t, l, "k", -back)
		closed := min(back, 30*time.Minute) + 10*time.Minute
		d := allow(t, l, "k")
		if d.Allowed || d.Remaining != 0 || d.RetryAfter > closed || d.RetryAfter < closed-time.Minute {
			t.Errorf("clock %v back: %+v, want a refusal for %v", back, d, closed)
		}
		shift(t, l, "k", closed-time.Minute)
		if d := allow(t, l, "k"); d.Allowed {
			t.Errorf("clock %v back, a minute before the end: %+v", back, d)
		}
		shift(t, l, "k", 2*time.Minute)
		if d := allow(t, l, "k"); !d.Allowed || d.Remaining != 0 {
			t.Errorf("clock %v back, a minute after the end: %+v, want the one token", back, d)
		}
	}
}

// TestBucketGoesWhenFull: a bucket that is full again is not kept, and not forgotten before.
func TestBucketGoesWhenFull(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	l := New(c, "s:", ratelimit.Limit{Name: "l", Count: 1, Period: time.Minute, Burst: 10})
	for range 4 {
		d := allow(t, l, "k")
		ttl, err := c.Universal().PTTL(within(t, waitLimit), l.bucket("k")).Result()
		if err != nil || ttl > d.Reset+5*time.Millisecond || ttl < d.Reset-waitLimit {
			t.Errorf("the bucket is full in %v and goes in %v, %v", d.Reset, ttl, err)
		}
	}
	fast := New(c, "s:", ratelimit.Limit{Name: "fast", Count: 1, Period: time.Millisecond, Burst: 5})
	allow(t, fast, "k")
	for deadline := time.Now().Add(waitLimit); ; time.Sleep(time.Millisecond) {
		n, err := c.Universal().Exists(within(t, waitLimit), fast.bucket("k")).Result()
		if err == nil && n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the full bucket is still there: %d, %v", n, err)
		}
	}
}

// TestNewNumbers: a reload that changes the numbers keeps the bucket and cuts it to the new size.
func TestNewNumbers(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	large := New(c, "s:", ratelimit.Limit{Name: "l", Count: 1, Period: time.Hour, Burst: 100})
	if d := allow(t, large, "k"); d.Remaining != 99 {
		t.Fatal(d)
	}
	small := New(c, "s:", ratelimit.Limit{Name: "l", Count: 1, Period: time.Hour, Burst: 5})
	if d := allow(t, small, "k"); d.Remaining != 4 {
		t.Errorf("cut to 5: %+v", d)
	}
	if d := allow(t, large, "k"); d.Remaining != 3 {
		t.Errorf("grown again: %+v, want no tokens for it", d)
	}
}

// TestGone: a dead or hanging Redis is an error within about twice the timeout; a Redis that forgot
// its scripts is not noticed.
func TestGone(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	server := redistest.Run(t, redistest.Options{})
	c := dial(t, server.Addr(), timeout)
	l := New(c, "s:", ratelimit.Limit{Name: "l", Count: 1, Period: time.Hour, Burst: 1 << 20})
	works := func(when string) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
			if _, err = l.Allow(context.Background(), "k", time.Time{}); err == nil {
				return
			}
		}
		t.Fatalf("%s: %v", when, err)
	}
	fails := func(when string) {
		t.Helper()
		for range 5 {
			redistest.EachInTime(t, 1, func(int) time.Duration {
				began := time.Now()
				if d, err := l.Allow(context.Background(), "k", time.Time{}); err == nil || d.Allowed {
					t.Errorf("%s: %+v, %v", when, d, err)
				}
				return time.Since(began) - 2*timeout
			})
		}
	}
	works("at first")
	if err := dial(t, server.Addr(), waitLimit).Universal().ScriptFlush(within(t, waitLimit)).Err(); err != nil {
		t.Fatal(err)
	}
	works("without its scripts")
	server.Pause()
	fails("stopped")
	server.Resume()
	works("continued")
	server.Kill()
	fails("killed")
	server.Restart()
	works("started again")
}

func BenchmarkAllow(b *testing.B) {
	l := New(dial(b, redistest.Start(b), waitLimit), "s:",
		ratelimit.Limit{Name: "l", Count: 1000, Period: time.Second, Burst: 1000})
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Allow(context.Background(), "k", time.Time{}); err != nil {
				b.Error(err)
			}
		}
	})
}
