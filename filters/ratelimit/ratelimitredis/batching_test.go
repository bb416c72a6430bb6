package ratelimitredis

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// TestDecisionsShareRoundTrips: many decisions at once take far fewer round trips than decisions,
// and are as exact as one by one: each key is let through its burst and no more.
func TestDecisionsShareRoundTrips(t *testing.T) {
	t.Parallel()
	sent := new(redistest.Counted)
	c := redisx.Open(redisx.Options{Addresses: []string{redistest.Start(t)}, Timeout: waitLimit, Dial: sent.Dial})
	t.Cleanup(func() { _ = c.Close() })
	const burst, callers, each = 7, 64, 20
	one := New(c, "s:", ratelimit.Limit{Name: "one", Count: 1, Period: 24 * time.Hour, Burst: burst})
	other := New(c, "s:", ratelimit.Limit{Name: "other", Count: 1, Period: 24 * time.Hour, Burst: 2 * burst})
	allow(t, one, "warm") // Redis has the script
	before := sent.Writes()
	var allowed [2]atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for n := range each {
				for i, l := range []*Limiter{one, other} {
					d, err := l.Allow(context.Background(), fmt.Sprint("k", n), time.Time{})
					if err != nil {
						t.Error(err)
					}
					if d.Allowed {
						allowed[i].Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	if a, b := allowed[0].Load(), allowed[1].Load(); a != burst*each || b != 2*burst*each {
		t.Errorf("%d and %d were let through, want %d and %d", a, b, burst*each, 2*burst*each)
	}
	if n := sent.Writes() - before; n < 1 || n > callers*each*2/2 {
		t.Errorf("%d round trips for %d decisions", n, callers*each*2)
	}
}

// TestManyFailInTime: with many decisions under way, each is an error at its own deadline when
// Redis hangs, and all are errors well before it when the connections are lost.
func TestManyFailInTime(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	server := redistest.Run(t, redistest.Options{})
	l := New(dial(t, server.Addr(), timeout), "s:",
		ratelimit.Limit{Name: "l", Count: 1, Period: time.Hour, Burst: 1 << 20})
	works := func() {
		t.Helper()
		var err error
		for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
			if _, err = l.Allow(context.Background(), "k", time.Time{}); err == nil {
				return
			}
		}
		t.Fatal(err)
	}
	works()
	server.Pause()
	redistest.EachInTime(t, 64, func(n int) time.Duration {
		ctx, own := context.Background(), timeout
		if n%3 == 0 { // a caller with less time than the store
			own = timeout / 5
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, own)
			defer cancel()
		}
		began := time.Now()
		if d, err := l.Allow(ctx, fmt.Sprint("k", n), time.Time{}); err == nil || d.Allowed {
			t.Errorf("%+v, %v", d, err)
		}
		return time.Since(began) - own
	})
	server.Resume()
	works()
}

// lossy is a connection that is lost when the first reply to a batch is there, once over all
// connections.
type lossy struct {
	net.Conn
	lost *atomic.Int64 // decisions in that batch
	mine bool
}

func (c *lossy) Write(b []byte) (int, error) {
	if n := bytes.Count(b, []byte("evalsha")); n > 1 {
		c.mine = c.lost.CompareAndSwap(0, int64(n))
	}
	return c.Conn.Write(b)
}

func (c *lossy) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.mine {
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestConnectionIsLost: every decision of the batch is an error at once; none is made a second
// time, so no token is taken twice for one request.
func TestConnectionIsLost(t *testing.T) {
	t.Parallel()
	lost := new(atomic.Int64)
	c := redisx.Open(redisx.Options{
		Addresses: []string{redistest.Start(t)}, Timeout: waitLimit,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &lossy{Conn: conn, lost: lost}, err
		},
	})
	t.Cleanup(func() { _ = c.Close() })
	l := New(c, "s:", ratelimit.Limit{Name: "l", Count: 1, Period: 24 * time.Hour, Burst: 1000})
	allow(t, l, "k")
	var failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 50 {
		wg.Go(func() {
			if _, err := l.Allow(context.Background(), "k", time.Time{}); err != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > waitLimit/2 {
		t.Errorf("it took %v", took)
	}
	if n := lost.Load(); n < 2 || failed.Load() != n {
		t.Errorf("%d decisions failed, %d were in the batch whose connection was lost", failed.Load(), n)
	}
	if d := allow(t, l, "k"); d.Remaining != 1000-52 {
		t.Errorf("%d tokens are left after 52 requests, want %d", d.Remaining, 1000-52)
	}
}
