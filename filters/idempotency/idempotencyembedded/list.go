package idempotencyembedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// List implements [idempotency.Store]. It reads all records and is for operators.
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	return idempotency.ListByPages(ctx, s, q, limit)
}

// Page implements [idempotency.Store]. Records come in the order of their hashes, those in memory and those in the
// index alike; so a record that goes from one to the other is met once. A cursor is the hash that is next; as the
// hash is another one when the store is opened anew, it has a mark of this opening before it.
func (s *Store) Page(
	ctx context.Context, q idempotency.Query, cursor string, limit int,
) (list []idempotency.Record, next string, err error) {
	from, err := s.hashOf(cursor)
	if err != nil {
		return nil, "", err
	}
	g, now := idempotency.NewGathering(q, limit), s.now()
	var last uint64
	for shard := int(from >> 56); shard < indexShards; shard++ {
		if err := s.waitReadable(ctx); err != nil {
			return nil, "", err
		}
		for _, p := range s.places(shard, from, now) {
			if g.Full() && p.hash != last { // those of one hash stay together
				return g.Records, s.cursorOf(p.hash), nil
			}
			last = p.hash
			if err := s.gather(g, p, now); err != nil {
				return nil, "", err
			}
		}
	}
	return g.Records, "", nil
}

func (s *Store) cursorOf(hash uint64) string { return fmt.Sprintf("%016x%016x", s.hash(""), hash) }

func (s *Store) hashOf(cursor string) (hash uint64, err error) {
	if cursor == "" {
		return 0, nil
	}
	if len(cursor) == 32 {
		hash, err = strconv.ParseUint(cursor[16:], 16, 64)
	}
	if err != nil || s.cursorOf(hash) != cursor {
		return 0, idempotency.ErrCursor
	}
	return hash, nil
}

// placed is where a record is: in memory, or in the log.
type placed struct {
	hash uint64
	open *idempotency.Record // nil: in the log
	at   seglog.Ref
}

// places returns where the records of a shard are whose hashes are from one on, in the order of the hashes.
func (s *Store) places(shard int, from uint64, now time.Time) []placed {
	list := s.placesUnordered(shard, from, now)
	slices.SortFunc(list, func(a, b placed) int { return cmp.Compare(a.hash, b.hash) })
	return list
}

func (s *Store) placesUnordered(shard int, from uint64, now time.Time) (list []placed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.records.index.shards[shard].slots {
		if sl.Len != 0 && sl.hash >= from && int64(sl.expires) > now.Unix() {
			list = append(list, placed{hash: sl.hash, at: sl.Ref})
		}
	}
	for _, e := range s.records.open {
		if int(e.hash>>56) != shard || e.hash < from {
			continue
		}
		if rec, ok := idempotency.View(e.record(), now); ok {
			rec.ID = strings.Clone(rec.ID)
			list = append(list, placed{hash: e.hash, open: &rec})
		}
	}
	return list
}

// gather looks at the record of a place.
func (s *Store) gather(g *idempotency.Gathering, p placed, now time.Time) error {
	if p.open != nil {
		g.Look(p.open)
		return nil
	}
	rec, there, err := s.recordAt(p.hash, p.at)
	if errors.Is(err, idempotency.ErrCorrupt) { // costs its key, and no other
		s.logger.Error("a damaged record of the embedded store is left out of a list", "error", err)
		g.Skip()
		return nil
	}
	if err != nil {
		return err
	}
	if !there { // it has ended, or a step of it began since
		s.gatherOpen(g, p.hash, now)
		return nil
	}
	if rec, ok := idempotency.View(&rec, now); ok {
		g.Look(&rec)
	} else {
		g.Skip()
	}
	return nil
}

// gatherOpen looks at the records of a hash that are in memory.
func (s *Store) gatherOpen(g *idempotency.Gathering, hash uint64, now time.Time) {
	var list []idempotency.Record
	s.mu.Lock()
	for _, e := range s.records.open {
		if rec, ok := idempotency.View(e.record(), now); ok && e.hash == hash {
			rec.ID = strings.Clone(rec.ID)
			list = append(list, rec)
		}
	}
	s.mu.Unlock()
	g.Skip()
	for i := range list {
		g.Look(&list[i])
	}
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
