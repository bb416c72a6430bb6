package transaction

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

const (
	// coordinatorFailures is how many calls in a row must fail for the breaker to open. A request that the
	// coordinator cannot take does not open it: between two of those the gateway asks for the gid, in vain or not.
	coordinatorFailures = 5
	// coordinatorFailing is how long they must have failed. What is under way when one of several endpoints is lost fails
	// at one moment; the next calls go to another.
	coordinatorFailing = 250 * time.Millisecond
	coordinatorProbe   = time.Second // between two probes of an open one
)

// CoordinatorBreaker keeps requests from waiting for a coordinator that does not answer: after five failures
// in a row over a quarter of a second, by all requests together, calls to it are refused at once, until a probe that the bridge makes every second
// is answered. No client's request is a probe. A failure is a call without a response, but one that its caller gave up,
// and a response of 5xx. The zero value is closed; it is safe for concurrent use.
type CoordinatorBreaker struct {
	mu       sync.Mutex
	failures int
	first    time.Time // when the first of these failed
	open     bool
	since    time.Time
	cause    error
	refused  uint64
	probed   time.Time // when the last probe began
	probing  bool
}

var _ sagaclient.Breaker = (*CoordinatorBreaker)(nil)

// Allow implements [sagaclient.Breaker].
func (c *CoordinatorBreaker) Allow() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open {
		return nil
	}
	c.refused++
	return fmt.Errorf("its breaker has been open since %s: %w", c.since.UTC().Format(time.RFC3339), c.cause)
}

// Done implements [sagaclient.Breaker].
func (c *CoordinatorBreaker) Done(status int, err error) { c.done(status, err, time.Now()) }

func (c *CoordinatorBreaker) done(status int, err error, now time.Time) {
	if err == nil && status >= http.StatusInternalServerError {
		err = fmt.Errorf("it responds with status %d", status)
	}
	if errors.Is(err, context.Canceled) { // by the caller, which says nothing of the coordinator
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.failures, c.open, c.cause = 0, false, nil
		return
	}
	if c.failures == 0 {
		c.first = now
	}
	c.failures++
	c.cause = err
	if c.failures >= coordinatorFailures && now.Sub(c.first) >= coordinatorFailing && !c.open {
		c.open, c.since, c.refused = true, now, 0
	}
}

// Open reports whether calls are refused, since when, and why.
func (c *CoordinatorBreaker) Open() (open bool, since time.Time, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.since, c.cause
}

// beginProbe reports whether a probe is due, which then counts as begun.
func (c *CoordinatorBreaker) beginProbe(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open || c.probing || now.Sub(c.probed) < coordinatorProbe {
		return false
	}
	c.probing, c.probed = true, now
	return true
}

// endProbe ends a probe, and returns how many calls have been refused.
func (c *CoordinatorBreaker) endProbe(err error) (refused uint64) {
	c.done(0, err, time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probing = false
	return c.refused
}

// coordinatorWatch says once that the coordinator does not answer, and once that it does again.
type coordinatorWatch struct {
	breaker *CoordinatorBreaker
	probe   *sagaclient.Client // without the breaker
	told    bool
}

// watchCoordinator probes a coordinator whose breaker is open. It is called by one goroutine.
func (b *Bridge) watchCoordinator(ctx context.Context, now time.Time) {
	w := &b.coordinator
	if w.breaker == nil {
		return
	}
	open, since, cause := w.breaker.Open()
	switch {
	case open && !w.told:
		w.told = true
		b.logger.Error("transaction: the coordinator does not answer; requests for transactions are refused until it does",
			"failures", coordinatorFailures, "error", cause)
	case !open && w.told:
		w.told = false
		b.logger.Warn("transaction: the coordinator answers again")
	}
	if !w.breaker.beginProbe(now) {
		return
	}
	b.background.Go(func() { b.probeCoordinator(ctx, since) })
}

// probeCoordinator asks for a gid that nobody has, which the coordinator looks up in its store.
func (b *Bridge) probeCoordinator(ctx context.Context, since time.Time) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	_, err := b.coordinator.probe.Query(ctx, "probe")
	if errors.Is(err, sagaclient.ErrNotFound) {
		err = nil
	}
	refused := b.coordinator.breaker.endProbe(err)
	b.logger.Log(ctx, slog.LevelDebug, "transaction: the coordinator was probed", "open_since", since, "refused", refused,
		"error", err)
	if err == nil {
		b.pollAll()
	}
}

// pollAll asks for all that is followed soon.
func (b *Bridge) pollAll() {
	b.mu.Lock()
	gids := make([]string, 0, len(b.followed))
	for gid := range b.followed {
		gids = append(gids, gid)
	}
	b.mu.Unlock()
	for _, gid := range gids {
		b.pollSoon(gid)
	}
}

// CoordinatorUp reports whether calls to the coordinator are made.
func (b *Bridge) CoordinatorUp() bool {
	if b.coordinator.breaker == nil {
		return true
	}
	open, _, _ := b.coordinator.breaker.Open()
	return !open
}
