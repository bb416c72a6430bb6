package idempotencyembedded

import (
	"bytes"
	"context"
	"runtime"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

var _ idempotency.Counter = (*Store)(nil)

// unknown has the records on disk whose outcome is unknown and counts, by their places in the log. It costs some 50
// bytes for each, until it is settled or swept. The store's mutex guards it.
type unknown map[seglog.Ref]unknownSince

type unknownSince struct {
	hash  uint64 // of the ID
	since uint32 // Unix seconds
}

// note follows a record from a place to another, where it is what it is now.
func (u unknown) note(from, to seglog.Ref, hash uint64, rec *idempotency.Record) {
	delete(u, from)
	if rec.State == idempotency.Unknown && !idempotency.Internal(rec.Route) {
		u[to] = unknownSince{hash, uint32(max(idempotency.UnknownSince(rec).Unix(), 0))}
	}
}

// move follows a copy of a record.
func (u unknown) move(from, to seglog.Ref) {
	if v, ok := u[from]; ok {
		delete(u, from)
		u[to] = v
	}
}

// censusStep is how many records a census looks at before it lets steps of keys go on: after an outage there may be
// millions.
const censusStep = 1 << 11

// Census implements [idempotency.Counter]. It looks at the records in memory and at those that are known to be unknown.
// Expired records that were not swept yet are counted as open. Where there are many unknown ones, of those that change
// or move meanwhile some may be counted twice or not at all.
func (s *Store) Census(ctx context.Context) (idempotency.Census, error) {
	if err := ctx.Err(); err != nil {
		return idempotency.Census{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var c idempotency.Census
	for _, e := range s.records.open {
		c.Add(e.record(), now)
	}
	c.Open += s.records.index.n
	looked := 0
	for at, v := range s.unknown {
		if looked++; looked%censusStep == 0 {
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
		}
		slot := s.records.index.slot(v.hash, at) // nil: it is in memory, and was counted there as it stands
		if slot != nil && int64(slot.expires) > now.Unix() {
			c.AddUnknown(time.Unix(int64(v.since), 0))
		}
	}
	return c, nil
}

// noteLoaded notes an entry of the log that is the record of a key, when the log is read.
func (s *Store) noteLoaded(v *seglog.Entry, at seglog.Ref, hash uint64) {
	if idempotency.StateIn(v.Body) != idempotency.Unknown {
		return
	}
	if rec, err := idempotency.DecodeRecord(bytes.Clone(v.Body)); err == nil { // else whoever needs it is told
		s.unknown.note(at, at, hash, &rec)
	}
}

// noteLeft notes a record that a dead process left in flight: its outcome is unknown from now on.
func (s *Store) noteLeft(at seglog.Ref, hash uint64, now time.Time) {
	if v, err := s.log.Read(at); err == nil {
		if rec, err := idempotency.DecodeRecord(v.Body); err == nil && idempotency.Internal(rec.Route) {
			return
		}
	}
	s.unknown[at] = unknownSince{hash, uint32(max(now.Unix(), 0))}
}
