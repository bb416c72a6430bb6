package idempotency

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Census is how many keys a store has, and how many of them wait for somebody.
type Census struct {
	Open    int       // keys that are not free: in flight, answered, delegated, unknown
	Unknown int       // of them: the outcome is not known; without those of an [Internal] route
	Oldest  time.Time // when the one became unknown that has been so longest; zero without one
}

// ErrCounting says that another gateway counts the keys at the moment, and has not left a result yet.
var ErrCounting = errors.New("idempotency: another gateway counts the keys")

// Counter is a store that can count its keys. The error may be [ErrCounting]; a census of before is good enough for who
// cannot have a new one. In a store that several gateways share the count may be some seconds old, some minutes where
// it has millions of keys.
type Counter interface {
	Census(ctx context.Context) (Census, error)
}

// Add counts a record as it reads at that moment.
func (c *Census) Add(rec *Record, now time.Time) {
	view, ok := View(rec, now)
	if !ok {
		return
	}
	c.Open++
	if view.State == Unknown && !Internal(rec.Route) {
		c.AddUnknown(UnknownSince(rec))
	}
}

// Internal reports whether the records of a route are the gateway's own: of steps, and of notices. Such a one of
// unknown outcome waits for no decision: it is called again, or its transaction was rolled back. No route that is
// configured has a slash in its name.
func Internal(route string) bool { return strings.Contains(route, "/") }

// AddUnknown counts an unknown outcome that has been one since then, and is counted as open already.
func (c *Census) AddUnknown(since time.Time) {
	c.Unknown++
	if c.Oldest.IsZero() || since.Before(c.Oldest) {
		c.Oldest = since
	}
}

// UnknownSince returns when the outcome of a record became unknown that is: it was marked so, or its lease was over.
func UnknownSince(rec *Record) time.Time {
	if rec.State == InFlight {
		return rec.LeaseUntil
	}
	return rec.Expires.Add(-rec.TTL)
}
