package dtmembedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// The kinds of entries.
const (
	kindTransaction byte = 1
	kindKV          byte = 2
	kindRemoved     byte = 3
)

// The key of an entry, and of a cell: a letter, and the gid; or the letter and category and key of a pair.
const (
	prefixTransaction = "t"
	prefixKV          = "k"
)

// cell is a transaction that has not ended or is about to change, or a key-value pair. It is guarded by the
// mutex of its store.
type cell struct {
	key  string
	at   seglog.Ref    // of the newest durable entry; nowhere: there is none yet
	rec  *record       // what that says; nil: it is in the log only
	busy *seglog.Batch // with the entry that is being written

	due      int64 // nanoseconds since 1970
	position int   // in the dues; -1: not there
	status   string
	kind     string // DTM's trans_type
	sequence uint64 // in the order of creation
	damaged  bool   // its entry cannot be read
}

// write is an entry that is being written.
type write struct {
	cell *cell
	next *record // nil: the removal
	json []byte  // of the global part, or of the pair
}

// errUnread says that a record has to be read from the log first.
type errUnread struct{ at seglog.Ref }

func (errUnread) Error() string { return "dtmembedded: the record is not in memory" }

// errBusy says that something has to be waited for first.
type errBusy struct{ batch *seglog.Batch }

func (errBusy) Error() string { return "dtmembedded: the record is being written" }

// decision is what becomes of a record: old is the newest durable one, nil for none, and next what replaces
// it, nil for its removal. When next is old, nothing is written.
type decision func(old *record) (next *record, err error)

// change writes what is decided and returns when that is durable. A removal of nothing is nothing.
func (s *Store) change(key string, decide decision) error {
	b, err := s.begin(key, decide)
	if err != nil {
		return err
	}
	return wait(b)
}

// begin writes what is decided and does not wait until that is durable. A record has one entry at most that
// is not durable, so a decision rests on nothing that can still be lost.
func (s *Store) begin(key string, decide decision) (*seglog.Batch, error) {
	var read readRecord
	for {
		b, err := s.tryBegin(key, decide, &read)
		var unread errUnread
		var busy errBusy
		switch {
		case errors.As(err, &unread):
			err = s.read(key, unread.at, &read)
		case errors.As(err, &busy):
			if err = wait(busy.batch); errors.Is(err, seglog.ErrFailed) {
				err = nil // that entry is not there: look again
			}
		default:
			return b, err
		}
		if err != nil {
			return nil, err
		}
	}
}

// readRecord is a record that was read from the log, which counts as long as it is what stands there.
type readRecord struct {
	at  seglog.Ref
	key string // the entry's
	rec *record
}

func (s *Store) read(key string, at seglog.Ref, into *readRecord) error {
	e, err := s.log.Read(at)
	if errors.Is(err, seglog.ErrGone) {
		return nil // it has been moved meanwhile
	}
	if err != nil {
		return fmt.Errorf("dtmembedded: reading %s: %w", key[1:], err)
	}
	*into = readRecord{at: at, key: string(e.Key)}
	if into.key != key { // another one of the same hash
		return nil
	}
	if into.rec, err = decodeRecord(e.Kind, e.Body); err != nil {
		return fmt.Errorf("dtmembedded: file %s, offset %d: %w", s.log.Path(at.Segment), at.Offset, err)
	}
	return nil
}

// locateLocked returns the newest durable record, nil for none, and its place. The error says what is to be
// done first.
func (s *Store) locateLocked(key string, read *readRecord) (*record, seglog.Ref, error) {
	if c := s.cells[key]; c != nil {
		switch {
		case c.rec != nil || c.at == (seglog.Ref{}):
			return c.rec, c.at, nil
		case read.at == c.at && read.rec != nil:
			return read.rec, c.at, nil
		}
		return nil, c.at, errUnread{c.at}
	}
	at, _, ok := s.ended.find(key, s.hash(key))
	switch {
	case !ok:
		return nil, seglog.Ref{}, nil
	case read.at != at:
		return nil, at, errUnread{at}
	case read.key != key:
		return nil, seglog.Ref{}, nil
	}
	return read.rec, at, nil
}

func (s *Store) tryBegin(key string, decide decision, read *readRecord) (*seglog.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.cells[key]; c != nil && c.busy != nil {
		return nil, errBusy{c.busy}
	}
	old, at, err := s.locateLocked(key, read)
	if err != nil {
		return nil, err
	}
	next, err := decide(old)
	if err != nil || next == old {
		return nil, err
	}
	if err := s.roomLocked(key, old, next); err != nil {
		return nil, err
	}
	c := s.cells[key]
	lifted := c == nil
	if lifted {
		c = &cell{key: key, at: at, rec: old, position: -1}
	}
	if c.busy, err = s.appendLocked(c, next); err != nil {
		return nil, fmt.Errorf("dtmembedded: not stored: %w", err)
	}
	if lifted {
		s.cells[key] = c
		s.sequence++
		c.sequence = s.sequence
		if old != nil { // it had ended
			s.ended.remove(key, s.hash(key), at)
			s.bytes += old.size()
		}
		if key[:1] == prefixKV {
			s.pairs++
		}
	}
	s.dues.remove(c)
	return c.busy, nil
}

// roomLocked says why no entry can be appended.
func (s *Store) roomLocked(key string, old, next *record) error {
	c := s.log.ConditionLocked()
	switch {
	case c.Down != nil || c.Stalled != nil:
		return fmt.Errorf("dtmembedded: not stored: %w", errors.Join(c.Down, c.Stalled))
	case c.Full != nil:
		return errBusy{c.Full}
	case len(key) > seglog.KeyMax:
		return fmt.Errorf("dtmembedded: a gid of %d bytes, at most %d", len(key)-1, seglog.KeyMax-1)
	case old != nil || next == nil:
		return nil
	case len(s.cells) >= s.opts.open:
		return fmt.Errorf("%w: %d have not ended, which is the most that this store takes", ErrFull, len(s.cells))
	case s.ended.count() >= s.opts.KeepMax+s.opts.KeepMax/8:
		return fmt.Errorf("%w: %d that have ended within %v, keep-max is %d", ErrFull, s.ended.count(), s.opts.floor,
			s.opts.KeepMax)
	}
	return nil
}

func (s *Store) appendLocked(c *cell, next *record) (*seglog.Batch, error) {
	w := &write{cell: c, next: next}
	h := seglog.Header{Kind: kindTransaction, Key: c.key, Expires: time.Unix(0, 0)}
	var err error
	switch {
	case next == nil:
		h.Kind, h.Tombstone = kindRemoved, true
	case next.kv != nil:
		h.Kind = kindKV
		w.json, err = json.Marshal(next.kv)
	default:
		w.json, err = json.Marshal(&next.global)
		if next.ended() {
			h.Expires = s.forgetAt(next)
		}
	}
	if err != nil {
		return nil, err
	}
	return s.log.AppendLocked(h, w)
}

// settleLocked puts a cell where it belongs when nothing of it is being written.
func (s *Store) settleLocked(c *cell) {
	c.busy = nil
	switch {
	case c.at == (seglog.Ref{}):
		s.dropLocked(c)
	case c.key[:1] == prefixKV || c.damaged:
	case c.rec == nil: // in the log only
		s.dues.add(c)
	case c.rec.ended():
		s.addEnded(c.key, c.at, c.rec)
		s.dropLocked(c)
	default:
		s.describeLocked(c)
		s.dues.add(c)
		if s.bytes > s.opts.cache {
			s.bytes -= c.rec.size()
			c.rec = nil
		}
	}
}

func (s *Store) describeLocked(c *cell) {
	g := &c.rec.global
	c.status, c.kind, c.due = g.Status, g.TransType, c.rec.due().UnixNano()
}

func (s *Store) dropLocked(c *cell) {
	delete(s.cells, c.key)
	if c.rec != nil {
		s.bytes -= c.rec.size()
	}
	if c.key[:1] == prefixKV {
		s.pairs--
	}
}

// owner is the store as the log sees it.
type owner Store

// Committed implements [seglog.Owner].
func (o *owner) Committed(list []seglog.Write) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		w, own := list[i].Item.(*write)
		if !own {
			s.movedLocked(&list[i])
			continue
		}
		c := w.cell
		s.log.Discard(c.at)
		if c.rec != nil {
			s.bytes -= c.rec.size()
		}
		c.at, c.rec, c.damaged = list[i].At, w.next, false
		if w.next == nil {
			c.at = seglog.Ref{}
		} else {
			s.bytes += w.next.size()
		}
		s.settleLocked(c)
	}
}

// movedLocked takes over the new place of an entry that was copied.
func (s *Store) movedLocked(w *seglog.Write) {
	key := string(w.Key)
	if c := s.cells[key]; c != nil && c.at == w.From {
		c.at = w.At
	} else if !s.ended.move(key, s.hash(key), w.From, w.At) {
		s.log.Discard(w.At)
		return
	}
	s.log.Discard(w.From)
}

// Failed implements [seglog.Owner].
func (o *owner) Failed(list []seglog.Write) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		if w, own := list[i].Item.(*write); own {
			s.settleLocked(w.cell)
		}
	}
}

// Relocate implements [seglog.Owner].
func (o *owner) Relocate(e seglog.Entry, at seglog.Ref) (*seglog.Batch, error) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.cells[string(e.Key)]; c != nil {
		if c.at != at || c.busy != nil {
			return nil, nil
		}
		return s.log.CopyLocked(e, at)
	}
	key := string(e.Key)
	if have, _, ok := s.ended.find(key, s.hash(key)); !ok || have != at {
		return nil, nil
	}
	return s.log.CopyLocked(e, at)
}

// Rescue implements [seglog.Owner]: what is in memory of a damaged segment is written again.
func (o *owner) Rescue(segment uint32) (*seglog.Batch, error) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	var last *seglog.Batch
	for _, c := range s.cells {
		if c.at.Segment != segment || c.rec == nil || c.busy != nil || c.damaged {
			continue
		}
		b, err := s.appendLocked(c, c.rec)
		if err != nil {
			return last, err
		}
		c.busy, last = b, b
		s.dues.remove(c)
	}
	return last, nil
}

// find returns the newest durable record, nil for none.
func (s *Store) find(key string) (*record, error) {
	var read readRecord
	for {
		rec, at, err := s.tryFind(key, &read)
		if err == nil {
			return rec, nil
		}
		if err := s.read(key, at, &read); err != nil {
			return nil, err
		}
	}
}

func (s *Store) tryFind(key string, read *readRecord) (*record, seglog.Ref, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locateLocked(key, read)
}

// pairKey is the key of a key-value pair; DTM's categories have no zero byte.
func pairKey(category, key string) string { return prefixKV + category + "\x00" + key }

// pairsOf returns the durable pairs of a category, all for none, sorted by key.
func (s *Store) pairsOf(category string) []*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*record
	for key, c := range s.cells {
		if key[:1] == prefixKV && c.rec != nil && (category == "" || c.rec.kv.Cat == category) {
			list = append(list, c.rec)
		}
	}
	slices.SortFunc(list, func(a, b *record) int {
		return strings.Compare(pairKey(a.kv.Cat, a.kv.K), pairKey(b.kv.Cat, b.kv.K))
	})
	return list
}
