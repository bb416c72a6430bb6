// Package waiting lets goroutines wait until a record that lives in the same process has left its claim. A
// stored step wakes the waiters of that record; nothing polls.
//
// Invariant: a waiter joins before it looks at the record, and a step wakes after it can be read, so none is
// missed. Memory: about 200 bytes for each record that is waited for, however many waiters it has. It does
// not fail.
package waiting

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// List is the waiters of a store. The zero value is ready; it is safe for concurrent use.
type List struct {
	waited  atomic.Int64 // records that are waited for: mostly 0, and then Wake takes no lock
	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	waiters int
	woken   chan struct{}
}

// Wake wakes all waiters of the record. It is called after the step can be read.
func (l *List) Wake(id string) {
	if l.waited.Load() == 0 { // a waiter that joins from now on reads the step
		return
	}
	l.mu.Lock()
	e := l.entries[id]
	l.remove(id, e)
	l.mu.Unlock()
	if e != nil {
		close(e.woken)
	}
}

func (l *List) remove(id string, e *entry) {
	if e != nil && l.entries[id] == e {
		delete(l.entries, id)
		l.waited.Add(-1)
	}
}

// Len returns the number of records that are waited for.
func (l *List) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

func (l *List) join(id string) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	if e == nil {
		e = &entry{woken: make(chan struct{})}
		if l.entries == nil {
			l.entries = map[string]*entry{}
		}
		l.entries[strings.Clone(id)] = e // the entry may outlive the waiter that makes it, and the buffer of its ID
		l.waited.Add(1)
	}
	e.waiters++
	return e
}

func (l *List) leave(id string, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.waiters--; e.waiters == 0 {
		l.remove(id, e)
	}
}

// Store is what Wait reads from.
type Store interface {
	Get(ctx context.Context, id string) (idempotency.Record, bool, error)
}

// Wait implements [idempotency.Store.Wait] for a store that is in this process. broken, which may be nil, is
// closed when no step will ever be stored again; the next Get then returns the reason.
func (l *List) Wait(
	ctx context.Context, s Store, id string, token uint64, now func() time.Time, broken <-chan struct{},
) error {
	for {
		e := l.join(id) // before the record is read, so that no step slips in between
		rec, ok, err := s.Get(ctx, id)
		if err != nil || !ok || rec.Token != token ||
			(rec.State != idempotency.InFlight && rec.State != idempotency.Delegated) {
			l.leave(id, e)
			return err
		}
		until := rec.Expires
		if rec.State == idempotency.InFlight && rec.LeaseUntil.Before(until) {
			until = rec.LeaseUntil
		}
		timer := time.NewTimer(max(until.Sub(now()), time.Millisecond))
		select {
		case <-e.woken:
		case <-timer.C: // the lease is over, or was renewed
		case <-broken:
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		l.leave(id, e)
		if err != nil {
			return err
		}
	}
}
