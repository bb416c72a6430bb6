package idempotencyembedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// List implements [idempotency.Store]. It reads all records and is for operators.
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	if err := s.waitReadable(ctx); err != nil {
		return nil, err
	}
	now := s.now()
	list := s.listOpen(q, limit, now)
	inMemory := map[string]bool{} // one that ends meanwhile is met again in the index
	for _, rec := range list {
		inMemory[strings.Clone(rec.ID)] = true
	}
	for shard := range indexShards {
		if err := s.waitReadable(ctx); err != nil {
			return nil, err
		}
		for _, sl := range s.slots(shard) {
			if len(list) >= limit {
				return list, nil
			}
			if sl.Len == 0 || int64(sl.expires) <= now.Unix() {
				continue
			}
			rec, there, err := s.recordAt(sl.hash, sl.Ref)
			if errors.Is(err, idempotency.ErrCorrupt) { // costs its key, and no other
				s.logger.Error("a damaged record of the embedded store is left out of a list", "error", err)
				continue
			}
			if err != nil {
				return nil, err
			}
			if !there {
				continue
			}
			if rec, ok := idempotency.View(&rec, now); ok && q.Matches(&rec) && !inMemory[rec.ID] {
				list = append(list, rec)
			}
		}
	}
	return list, nil
}

// listOpen returns those of the records in memory that match.
func (s *Store) listOpen(q idempotency.Query, limit int, now time.Time) []idempotency.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []idempotency.Record
	for _, e := range s.records.open {
		if rec, ok := idempotency.View(e.record(), now); ok && q.Matches(&rec) && len(list) < limit {
			list = append(list, rec)
		}
	}
	return list
}

// slots returns a copy of a shard of the index.
func (s *Store) slots(shard int) []slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records.index.shards[shard].slots)
}

// recordAt reads the record that was at a place, or where it has gone since; false when the index has it
// no more.
func (s *Store) recordAt(hash uint64, at seglog.Ref) (idempotency.Record, bool, error) {
	for {
		at, there := s.whereNow(hash, at)
		if !there {
			return idempotency.Record{}, false, nil
		}
		v, err := s.log.Read(at)
		if errors.Is(err, seglog.ErrGone) { // moved in between
			continue
		}
		if err != nil {
			return idempotency.Record{}, false, fmt.Errorf("idempotencyembedded: %w", asCorrupt(err))
		}
		rec, err := decode(v)
		if err != nil {
			return idempotency.Record{}, false, fmt.Errorf("idempotencyembedded: file %s, offset %d: %w",
				s.log.Path(at.Segment), at.Offset, err)
		}
		return rec, true, nil
	}
}

// whereNow returns where the record lies that was at a place. Of two records of one hash it is not known
// which of them that was.
func (s *Store) whereNow(hash uint64, at seglog.Ref) (seglog.Ref, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records.index.slot(hash, at) != nil {
		return at, true
	}
	var buf [4]seglog.Ref
	refs := s.records.index.find(hash, buf[:0])
	if len(refs) != 1 {
		return seglog.Ref{}, false
	}
	return refs[0], true
}
