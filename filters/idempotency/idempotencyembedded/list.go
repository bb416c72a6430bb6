package idempotencyembedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// List implements [idempotency.Store]. It reads all records and is for operators.
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	var list []idempotency.Record
	now := s.now()
	for _, e := range s.open {
		if rec, ok := idempotency.View(e.record(), now); ok && q.Matches(&rec) && len(list) < limit {
			list = append(list, rec)
		}
	}
	s.mu.Unlock()
	inMemory := map[string]bool{} // one that ends meanwhile is met again
	for _, rec := range list {
		inMemory[strings.Clone(rec.ID)] = true
	}
	for shard := range indexShards {
		if err := s.begin(ctx); err != nil {
			return nil, err
		}
		slots := slices.Clone(s.index.shards[shard].slots)
		s.mu.Unlock()
		for _, sl := range slots {
			if len(list) >= limit {
				return list, nil
			}
			if sl.n == 0 || int64(sl.expires) <= now.Unix() {
				continue
			}
			rec, there, err := s.recordAt(sl.hash, sl.location)
			if errors.Is(err, idempotency.ErrCorrupt) { // costs its key, and no other
				s.log.Error("a damaged record of the embedded store is left out of a list", "error", err)
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

// recordAt reads the record that was at a place, or where it has gone since; false when it is in the index no more.
func (s *Store) recordAt(hash uint64, at location) (idempotency.Record, bool, error) {
	s.mu.Lock()
	if s.index.slot(hash, at) == nil {
		var buf [4]location
		now := s.index.find(hash, buf[:0])
		if len(now) != 1 {
			s.mu.Unlock()
			return idempotency.Record{}, false, nil
		}
		at = now[0]
	}
	seg := s.byNumber[at.seg]
	seg.refs++
	s.mu.Unlock()
	v, err := readEntry(seg, at)
	s.mu.Lock()
	s.release(seg)
	s.mu.Unlock()
	if err == nil {
		var rec idempotency.Record
		if rec, err = decode(v); err == nil {
			return rec, true, nil
		}
	}
	return idempotency.Record{}, false, fmt.Errorf("embeddedstore: file %s, offset %d: %w", s.path(at.seg), at.off, err)
}
