package idempotencyembedded

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// refusal says why no step is taken now. The mutex is held.
func (s *Store) refusal() error {
	if s.down != nil {
		return s.down
	}
	return s.unread()
}

// unread says why not even what is there is told. A disk that takes no writes can be read all the same. The mutex is held.
func (s *Store) unread() error {
	switch {
	case s.closing:
		return notTaken(ErrClosed)
	case s.pending.late:
		return notTaken(s.pending.err)
	case s.writing != nil && s.writing.late:
		return notTaken(s.writing.err)
	}
	return nil
}

func notTaken(why error) error { return fmt.Errorf("%w: %w", idempotency.ErrNotTaken, why) }

// beginStep takes the mutex when a step can be taken.
func (s *Store) beginStep(ctx context.Context) error {
	err := s.begin(ctx)
	if err == nil && s.down != nil {
		err = s.down
		s.mu.Unlock()
	}
	return err
}

// begin takes the mutex when the group that is gathered has room. The store may be down, so that there is nothing to do but to look.
func (s *Store) begin(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("embeddedstore: %w", err)
		}
		s.mu.Lock()
		if err := s.unread(); err != nil {
			s.mu.Unlock()
			return err
		}
		g := s.pending
		if len(g.buf) < groupBytes {
			return nil
		}
		s.mu.Unlock()
		if err := g.wait(ctx); err != nil {
			return err
		}
	}
}

// found is what stands for an ID.
type found struct {
	hash uint64
	e    *entry             // of one that is in flight
	rec  idempotency.Record // of one in the index
	at   location
}

func (f *found) record() *idempotency.Record {
	switch {
	case f.e != nil:
		return f.e.record()
	case f.at.n != 0:
		return &f.rec
	}
	return nil
}

// find returns what stands for an ID when no step of it is on its way; without an error the mutex is held then.
func (s *Store) find(ctx context.Context, id string, f *found) error {
	if len(id) > idMax {
		return fmt.Errorf("embeddedstore: an ID of %d bytes, at most %d", len(id), idMax)
	}
	f.hash = s.hash(id)
	var was, is [4]location
	for {
		if err := s.begin(ctx); err != nil {
			return err
		}
		f.e = s.open[id]
		if f.e != nil {
			g := f.e.step
			if g == nil {
				return nil
			}
			s.mu.Unlock()
			if err := g.wait(ctx); err != nil && !errors.Is(err, ErrFailed) { // the step's failure is not this call's
				return err
			}
			continue
		}
		candidates := s.index.find(f.hash, was[:0])
		if len(candidates) == 0 {
			return nil
		}
		err := s.read(id, candidates, f) // without the mutex
		if now := s.index.find(f.hash, is[:0]); s.open[id] == nil && slices.Equal(now, candidates) {
			if err == nil {
				err = s.unread()
			}
			if err != nil {
				s.mu.Unlock()
			}
			return err
		}
		f.at = location{}
		s.mu.Unlock() // it has gone on: look again
	}
}

// read reads the candidates until one is of that ID. It gives the mutex up for that.
func (s *Store) read(id string, candidates []location, f *found) error {
	var segs [4]*segment
	held := segs[:0]
	for _, at := range candidates {
		seg := s.byNumber[at.seg]
		seg.refs++
		held = append(held, seg)
	}
	s.mu.Unlock()
	f.at = location{}
	var err error
	for i, at := range candidates {
		var v view
		if v, err = readEntry(held[i], at); err == nil && string(v.id) == id {
			f.rec, err = decode(v)
			f.at = at
		}
		if err != nil {
			s.log.Error("a record of the embedded store cannot be read", "file", s.path(at.seg), "offset", at.off, "bytes", at.n, "error", err)
			err = fmt.Errorf("%w: embeddedstore: file %s, offset %d: %w", idempotency.ErrNotTaken, s.path(at.seg), at.off, err)
			break
		}
		if f.at.n != 0 {
			break
		}
	}
	s.mu.Lock()
	for _, seg := range held {
		s.release(seg)
	}
	if err != nil {
		s.stats.BadReads++
	}
	return err
}

// decode reads the record of an entry. One in flight is of a dead process: those of this one are in memory.
func decode(v view) (idempotency.Record, error) {
	rec, err := idempotency.RecordIn(v.body) // of memory that was read for this alone
	if rec.State == idempotency.InFlight {
		rec.State, rec.NotDispatched = idempotency.Unknown, false
	}
	return rec, err
}

// hold makes an entry of what was found. The record's ID is to be the entry's to keep.
func (s *Store) hold(f *found, id string) *entry {
	if f.e != nil {
		return f.e
	}
	var e *entry
	if n := len(s.spare); n > 0 {
		e = s.spare[n-1]
		s.spare = s.spare[:n-1]
	} else {
		e = new(entry)
	}
	e.hash = f.hash
	if f.at.n != 0 {
		s.index.remove(f.hash, f.at)
		e.rec, e.there, e.at = f.rec, true, f.at
		e.rec.Response = nil
	}
	e.rec.ID = id
	s.open[id] = e
	return e
}
