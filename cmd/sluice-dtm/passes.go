package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr"
)

// cronWorkers is how many due transactions are processed at once. DTM's main has one, so that after
// a restart each hanging branch delays all the others; taking one from the store is atomic, so
// several are safe, as several DTM processes on one store are.
const cronWorkers = 4

// startCron looks for due transactions until ctx ends; the channel closes when the passes it
// started are over.
func startCron(ctx context.Context, every time.Duration) <-chan struct{} {
	var workers sync.WaitGroup
	for range cronWorkers {
		workers.Go(func() {
			for ctx.Err() == nil {
				if dtmsvr.CronTransOnce() != "" {
					continue
				}
				select { // half of it is jitter, so that the workers spread
				case <-ctx.Done():
				case <-time.After(every/2 + rand.N(every/2)):
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { workers.Wait(); close(done) }()
	return done
}

// quietFor is how long no branch call must have run for the passes to count as over. A pass that
// was submitted without waiting is a goroutine that DTM does not expose; between two calls it
// only writes to the store.
const quietFor = 200 * time.Millisecond

// calls is the transport of the branch calls; it knows how many run. DTM's own keeps three idle
// connections a host, and leaves tens of thousands in TIME_WAIT under load.
type calls struct {
	base http.RoundTripper

	mu      sync.Mutex
	running int
	last    time.Time // when the last one ended
}

func newCalls() *calls {
	return &calls{base: &http.Transport{
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
	}}
}

// RoundTrip makes the call.
func (c *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.running++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running--
		c.last = time.Now()
		c.mu.Unlock()
	}()
	return c.base.RoundTrip(r)
}

// quiet reports whether no call has run since the given time, nor in the last while.
func (c *calls) quiet(since, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last.After(since) {
		since = c.last
	}
	return c.running == 0 && now.Sub(since) >= quietFor
}

// waitQuiet returns nil when no call runs any more, or the error of ctx.
func (c *calls) waitQuiet(ctx context.Context) error {
	for began := time.Now(); !c.quiet(began, time.Now()); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
