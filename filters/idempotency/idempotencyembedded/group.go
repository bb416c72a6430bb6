package idempotencyembedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// groupBytes is how much one group takes; further steps wait for the next one.
const groupBytes = 1 << 20

// entry is a record that is in flight, or that a step is on its way of. The other records are in the index; a place on disk is named by one of the two.
type entry struct {
	hash  uint64
	rec   idempotency.Record // as it stands; its answer is not kept
	there bool               // false: no record yet
	at    location           // where it lies; nowhere when it is only in memory
	step  *group             // the group that the step on its way is in
	next  idempotency.Record // what the record is when that is durable
}

// step is one entry of a group. Of a record's step only e is set beside the first two.
type step struct {
	kind    kind
	from, n int // where in the group's bytes
	e       *entry
	id      string // of a copy or a secret
	hash    uint64
	old     location // of a copy
	secret  []byte
}

// group is the steps that share one write and one sync.
type group struct {
	buf   []byte
	steps []step
	begun time.Time     // when the first step came
	done  chan struct{} // closed when err is the outcome
	err   error
	late  bool // the outcome was given up on: err says so, and the steps may still be taken
}

func (s *Store) newGroup() *group {
	g := &group{done: make(chan struct{}), buf: s.spareBuf[:0], steps: s.spareSteps[:0]}
	s.spareBuf, s.spareSteps = nil, nil
	return g
}

// wait returns the outcome of a group. The caller's leaving changes nothing about it.
func (g *group) wait(ctx context.Context) error {
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("embeddedstore: waiting for the disk: %w", ctx.Err())
	}
}

// put adds an entry to the group that is gathered. The mutex is held.
func (s *Store) put(st step, expires time.Time, flags byte, id string, body func([]byte) []byte) *group {
	g := s.pending
	st.from = len(g.buf)
	g.buf = body(beginEntry(g.buf, st.kind, flags, id, expires))
	endEntry(g.buf, st.from)
	return s.enqueue(st)
}

// enqueue takes up the step whose entry was appended last.
func (s *Store) enqueue(st step) *group {
	g := s.pending
	st.n = len(g.buf) - st.from
	g.steps = append(g.steps, st)
	if len(g.steps) == 1 {
		g.begun = time.Now()
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
	return g
}

func noBody(b []byte) []byte { return b }

// submit puts a record's step into the group that is gathered: next, or nil for its removal. The mutex is held.
func (s *Store) submit(e *entry, next *idempotency.Record) *group {
	s.recount(e.rec.ID, e.record(), next)
	if next == nil {
		e.next = idempotency.Record{} // undo goes by it
		e.step = s.put(step{kind: kindRemoved, e: e}, e.rec.Expires, 0, e.rec.ID, noBody)
		return e.step
	}
	k, flags := kindRecord, byte(0)
	if next.State == idempotency.InFlight {
		k = kindInFlight
	}
	if next.Counted {
		flags = flagCounted
	}
	g := s.pending
	st := step{kind: k, e: e, from: len(g.buf)}
	g.buf = idempotency.AppendRecord(beginEntry(g.buf, k, flags, next.ID, next.Expires), next)
	endEntry(g.buf, st.from)
	e.next = *next
	e.next.Response = nil
	if k != kindInFlight { // goes to the index: no more of it is needed, and the rest may lie in the caller's buffers
		e.next = idempotency.Record{State: next.State, Expires: next.Expires, Counted: next.Counted}
	}
	e.step = g
	return s.enqueue(st)
}

func (e *entry) record() *idempotency.Record {
	if e == nil || !e.there {
		return nil
	}
	return &e.rec
}

// recount follows a record in the book of open keys. A new one was counted by count already.
func (s *Store) recount(id string, old, next *idempotency.Record) {
	was, is := old != nil && old.Counted, next != nil && next.Counted
	owner := idempotency.Owner(id)
	switch {
	case was && is:
		s.book.Move(owner, old.Expires, next.Expires)
	case was:
		s.book.Remove(owner, old.Expires)
	}
}

// count counts a claimed record that has to be; false: its owner has too many.
func (s *Store) count(old, next *idempotency.Record, most int, now time.Time) bool {
	if !next.Counted {
		return true
	}
	owner := idempotency.Owner(next.ID)
	_, live := idempotency.View(old, now)
	switch {
	case live && old.Counted: // a further attempt: submit moves it
		return true
	case live:
		s.book.Keep(owner, next.Expires)
		return true
	case old != nil && old.Counted: // over, and not swept yet; submit shall not move it
		s.book.Remove(owner, old.Expires)
		old.Counted = false
	}
	return s.book.Add(owner, next.Expires, now, most)
}

// apply makes a durable group visible.
func (s *Store) apply(g *group, seg *segment) {
	s.mu.Lock()
	base := uint32(seg.size)
	seg.size += int64(len(g.buf))
	s.stats.Groups++
	s.stats.Steps += uint64(len(g.steps))
	wake := s.wake[:0]
	for i := range g.steps {
		st := &g.steps[i]
		at := location{seg.number, base + uint32(st.from), uint32(st.n)}
		switch {
		case st.e != nil:
			wake = append(wake, st.e.rec.ID)
			s.applyStep(st, at)
		case st.kind == kindSecret:
			s.live(s.secrets[st.id].at, -1)
			s.secrets[st.id] = secret{st.secret, at}
			s.live(at, 1)
			delete(s.drawn, st.id)
		case st.kind == kindRecord || st.kind == kindInFlight:
			s.applyCopy(st, at)
		}
	}
	s.writing = nil
	settled := s.settle(g, nil)
	s.mu.Unlock()
	for i, id := range wake {
		s.waiting.Wake(id)
		wake[i] = ""
	}
	s.wake = wake
	if settled {
		close(g.done)
	}
}

func (s *Store) applyStep(st *step, at location) {
	e := st.e
	e.step = nil
	s.live(e.at, -1)
	e.at = location{}
	if st.kind == kindRemoved {
		s.forget(e)
		return
	}
	e.at = at
	s.live(at, 1)
	if st.kind == kindInFlight {
		e.rec, e.there = e.next, true
		return
	}
	s.index.add(e.hash, at, seconds(e.next.Expires))
	s.forget(e)
}

// applyCopy moves a record to its copy unless it has gone on since.
func (s *Store) applyCopy(st *step, at location) {
	if e := s.open[st.id]; e != nil && e.at == st.old {
		s.live(e.at, -1)
		e.at = at
		s.live(at, 1)
	} else if slot := s.index.slot(st.hash, st.old); slot != nil {
		s.live(st.old, -1)
		slot.location = at
		s.live(at, 1)
	}
}

// forget drops an entry from memory. The mutex is held.
func (s *Store) forget(e *entry) {
	delete(s.open, e.rec.ID)
	*e = entry{}
	if len(s.spare) < cap(s.spare) {
		s.spare = append(s.spare, e)
	}
}

// undo takes the steps of a group back that will not become durable. The mutex is held.
func (s *Store) undo(g *group) {
	for i := range g.steps {
		st := &g.steps[i]
		e := st.e
		if st.kind == kindSecret {
			delete(s.drawn, st.id)
		}
		if e == nil {
			continue
		}
		e.step = nil
		switch old := e.record(); {
		case !e.next.Counted:
			if old != nil && old.Counted {
				s.book.Keep(idempotency.Owner(e.rec.ID), old.Expires)
			}
		case old != nil && old.Counted:
			s.book.Move(idempotency.Owner(e.rec.ID), e.next.Expires, old.Expires)
		default:
			s.book.Remove(idempotency.Owner(e.rec.ID), e.next.Expires)
		}
		e.next = idempotency.Record{}
		s.shelve(e)
	}
}

// shelve puts an entry without a step back to where it belongs: the index, unless it is in flight.
func (s *Store) shelve(e *entry) {
	switch {
	case !e.there:
		s.forget(e)
	case e.rec.State != idempotency.InFlight:
		s.index.add(e.hash, e.at, seconds(e.rec.Expires))
		s.forget(e)
	}
}

// settle sets the outcome of a group and reports whether its channel is to be closed. The mutex is held.
func (s *Store) settle(g *group, err error) bool {
	if !g.late {
		g.err = err
		return true
	}
	return false
}

// giveUp tells those who have waited too long for the disk. Their steps stay where they are: a record whose step is on its way is read by nobody.
func (s *Store) giveUp(limit time.Duration) {
	s.mu.Lock()
	var late []*group
	for _, g := range []*group{s.writing, s.pending} {
		if g != nil && !g.late && len(g.steps) > 0 && time.Since(g.begun) > limit {
			g.late, g.err = true, fmt.Errorf("embeddedstore: folder %s: the disk has not answered for %v; the step may or may not have been taken", s.dir, limit)
			late = append(late, g)
			s.stats.Timeouts++
		}
	}
	s.mu.Unlock()
	for _, g := range late {
		close(g.done)
	}
}

// failed says why the store is down.
func (s *Store) failed(cause error) error {
	hint := ""
	if errors.Is(cause, errNoRoom) {
		hint = "; free some room, the store then goes on by itself"
	}
	return fmt.Errorf("%w: %w: folder %s: %w%s", idempotency.ErrNotTaken, ErrFailed, s.dir, cause, hint)
}
