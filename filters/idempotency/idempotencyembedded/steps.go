package idempotencyembedded

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// What an entry of the log says. The values are on disk.
const (
	kindInFlight byte = iota + 1 // a record in flight: when it is found at opening, its holder is dead
	kindRecord                   // a record in another state
	kindRemoved                  // there is no record any more
	kindSecret
)

// flagCounted is set of a record that is among the open keys of its owner.
const flagCounted = 1 << 1

// stepLocked takes one step of a record that is there; a nil next removes it. Without a batch it is done.
func (s *Store) stepLocked(f *lookup, next *idempotency.Record) (*seglog.Batch, error) {
	e := s.records.acquire(f, f.record().ID)
	if next == nil && e.at.Len == 0 { // was never on disk
		s.recountLocked(e.rec.ID, e.record(), nil)
		id := e.rec.ID
		s.records.forget(e)
		s.waiting.Wake(id)
		return nil, nil
	}
	return s.appendLocked(e, next)
}

// appendLocked appends a record's step to the log: next, or nil for its removal.
func (s *Store) appendLocked(e *entry, next *idempotency.Record) (b *seglog.Batch, err error) {
	s.recountLocked(e.rec.ID, e.record(), next)
	if next == nil {
		e.next = idempotency.Record{}
		h := seglog.Header{Kind: kindRemoved, Key: e.rec.ID, Expires: e.rec.Expires, Tombstone: true}
		b, err = s.log.AppendLocked(h, e)
	} else {
		e.next = *next
		h := seglog.Header{Kind: kindRecord, Key: next.ID, Expires: next.Expires}
		if next.State == idempotency.InFlight {
			h.Kind = kindInFlight
		}
		if next.Counted {
			h.Flags = flagCounted
		}
		b, err = s.log.AppendLocked(h, e)
		e.next.Response, e.next.GID = nil, "" // lie in the caller's buffers; a record in flight has none
	}
	if err != nil {
		s.undoLocked(e)
		return nil, notTaken(err)
	}
	e.batch = b
	return b, nil
}

// recountLocked follows a record in the open keys. A new one was counted by countLocked already.
func (s *Store) recountLocked(id string, old, next *idempotency.Record) {
	was, is := old != nil && old.Counted, next != nil && next.Counted
	owner := idempotency.Owner(id)
	switch {
	case was && is:
		s.openKeys.Move(owner, old.Expires, next.Expires)
	case was:
		s.openKeys.Remove(owner, old.Expires)
	}
}

// countLocked counts a claimed record that has to be; false: its owner has too many.
func (s *Store) countLocked(old, next *idempotency.Record, most int, now time.Time) bool {
	if !next.Counted {
		return true
	}
	owner := idempotency.Owner(next.ID)
	_, live := idempotency.View(old, now)
	switch {
	case live && old.Counted: // a further attempt: recountLocked moves it
		return true
	case live:
		s.openKeys.Keep(owner, next.Expires)
		return true
	case old != nil && old.Counted: // over, and not swept yet; recountLocked shall not move it
		s.openKeys.Remove(owner, old.Expires)
		old.Counted = false
	}
	return s.openKeys.Add(owner, next.Expires, now, most)
}

// undoLocked takes back a step that will not become durable.
func (s *Store) undoLocked(e *entry) {
	e.batch = nil
	switch old := e.record(); {
	case !e.next.Counted:
		if old != nil && old.Counted {
			s.openKeys.Keep(idempotency.Owner(e.rec.ID), old.Expires)
		}
	case old != nil && old.Counted:
		s.openKeys.Move(idempotency.Owner(e.rec.ID), e.next.Expires, old.Expires)
	default:
		s.openKeys.Remove(idempotency.Owner(e.rec.ID), e.next.Expires)
	}
	e.next = idempotency.Record{}
	s.records.putBack(e)
}

// logOwner is the store as the log sees it.
type logOwner Store

var _ seglog.Owner = (*logOwner)(nil)

// Committed implements [seglog.Owner].
func (o *logOwner) Committed(list []seglog.Write) {
	s := (*Store)(o)
	wake, dead := s.wake[:0], s.dead[:0]
	s.mu.Lock()
	for i := range list {
		w := &list[i]
		switch item := w.Item.(type) {
		case *entry:
			wake = append(wake, item.rec.ID)
			dead = append(dead, item.at)
			s.committedLocked(item, w.At)
		case *secret:
			dead = append(dead, s.secrets.put(item, w.At))
		case nil:
			dead = append(dead, s.movedLocked(w))
		}
	}
	s.log.Discard(dead...)
	s.mu.Unlock()
	for i, id := range wake {
		s.waiting.Wake(id)
		wake[i] = ""
	}
	s.wake, s.dead = wake, dead
}

// committedLocked makes a durable step visible.
func (s *Store) committedLocked(e *entry, at seglog.Ref) {
	e.batch = nil
	switch e.next.State {
	case 0:
		delete(s.unknown, e.at)
		s.records.forget(e)
	case idempotency.InFlight:
		delete(s.unknown, e.at)
		e.rec, e.exists, e.at = e.next, true, at
	default:
		s.records.index.add(e.hash, at, seconds(e.next.Expires))
		s.unknown.note(e.at, at, e.hash, &e.next)
		s.records.forget(e)
	}
}

// movedLocked takes over a copy that compaction made, unless the record or secret has gone on since. It returns
// which of the two places does not count any more.
func (s *Store) movedLocked(w *seglog.Write) seglog.Ref {
	moved := false
	if id := filters.Alias(w.Key); w.Kind == kindSecret {
		moved = s.secrets.move(id, w.From, w.At)
	} else {
		moved = s.records.move(id, s.hash(id), w.From, w.At)
	}
	if moved {
		s.unknown.move(w.From, w.At)
		return w.From
	}
	return w.At
}

// Failed implements [seglog.Owner].
func (o *logOwner) Failed(list []seglog.Write) {
	s := (*Store)(o)
	s.mu.Lock()
	for i := range list {
		switch item := list[i].Item.(type) {
		case *entry:
			s.undoLocked(item)
		case *secret:
			s.secrets.failed(item)
		}
	}
	s.mu.Unlock()
	s.waiting.WakeAll()
}

// Relocate implements [seglog.Owner]. It does not wait for a step of the record that is being written:
// should that fail, the next round copies the entry.
func (o *logOwner) Relocate(v seglog.Entry, at seglog.Ref) (*seglog.Batch, error) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	live := false
	switch id := filters.Alias(v.Key); v.Kind {
	case kindRemoved:
	case kindSecret:
		live = s.secrets.standsAt(id, at)
	default:
		live = s.records.standsAt(id, s.hash(id), at)
	}
	if !live {
		return nil, nil
	}
	return s.log.CopyLocked(v, at)
}

// Rescue implements [seglog.Owner]: it writes the secrets whose entries are not readable again, from
// memory. They never expire, so that the segment would stay for good and nothing behind it be freed, and
// the next opening would draw others.
func (o *logOwner) Rescue(segment uint32) (b *seglog.Batch, err error) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, sec := range s.secrets.values {
		if sec.at.Segment != segment {
			continue
		}
		if b, err = s.appendSecretLocked(&secret{name: name, value: sec.value}); err != nil {
			return nil, err
		}
	}
	return b, nil
}
