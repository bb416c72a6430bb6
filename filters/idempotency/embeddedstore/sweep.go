package embeddedstore

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// sweepRound is how many expired records are removed before the sweep looks whether it is to stop.
const sweepRound = 512

// sweeper removes expired records until Close stops it or the store fails.
func (s *Store) sweeper(ctx context.Context) {
	defer close(s.swept)
	tick := time.NewTicker(s.sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.guard.failed:
			return
		case <-ctx.Done():
			return
		}
		for more := true; more && ctx.Err() == nil && s.guard.failure() == nil; {
			more = s.sweep(ctx)
		}
	}
}

// sweep removes one round of expired records and reports whether more may be due.
func (s *Store) sweep(ctx context.Context) (more bool) {
	now := s.now()
	due, err := s.due(now)
	if err != nil {
		s.guard.Errorf("looking for expired records: %v", err)
		return false
	}
	for _, id := range due {
		if s.expire(ctx, id, now) != nil { // stopping, or failed
			return false
		}
	}
	if len(due) < sweepRound {
		s.sweptUntil = now
		return false
	}
	return true
}

// dueRecord is one entry of the expiry index.
type dueRecord struct {
	id  string
	key []byte
}

func (s *Store) due(now time.Time) ([]dueRecord, error) {
	from := []byte{prefixExpiry}
	if now.After(s.sweptUntil) && !s.sweptUntil.IsZero() { // what lies before is gone; do not step over its tombstones
		from = expiryKey(s.sweptUntil, "")
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: expiryKey(now.Add(1), "")})
	if err != nil {
		return nil, err
	}
	var due []dueRecord
	for valid := it.First(); valid && len(due) < sweepRound; valid = it.Next() {
		key := append([]byte(nil), it.Key()...)
		if id, ok := cutExpiryKey(key); ok {
			due = append(due, dueRecord{id, key})
		}
	}
	return due, it.Close()
}

// expire removes one entry of the index, with its record if that is still the one that expired. Losing the step is harmless: the
// next sweep takes it again.
func (s *Store) expire(ctx context.Context, d dueRecord, now time.Time) error {
	stripe, err := s.lock(ctx, d.id)
	if err != nil {
		return err
	}
	rec, err := s.load(d.id)
	if err != nil {
		unlock(stripe)
		return err
	}
	c := &step{remove: [][]byte{d.key}}
	if rec == nil || !now.Before(rec.Expires) {
		c.remove = append(c.remove, recordKey(d.id)) // nil: one that opening settled as gone
	}
	return s.submit(ctx, stripe, c) // not waiting for it: a round then shares a few groups
}
