package saleembedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// What an entry of the log says. The values are on disk.
const (
	kindUnit    byte = 1
	kindRemoved byte = 2
)

// forGood is when what never expires does.
var forGood = time.Unix(math.MaxInt64/int64(time.Second)-1, 0)

// keyOf is the key of a unit's entry: sale, item and ID, each but the last with its length before it.
func keyOf(item sale.Item, id string) string {
	b := binary.AppendUvarint(nil, uint64(len(item.Sale)))
	b = append(b, item.Sale...)
	b = binary.AppendUvarint(b, uint64(len(item.Name)))
	return string(append(append(b, item.Name...), id...))
}

// step is an entry on its way to the log.
type step struct {
	key     string
	unit    sale.Unit
	expires time.Time
	removed bool
}

// AppendBody implements [seglog.Item].
func (p *step) AppendBody(b []byte) []byte {
	if p.removed {
		return b
	}
	u := &p.unit
	b = append(b, byte(u.State))
	for _, v := range []uint64{u.Token, uint64(u.Created), uint64(u.Quantity), uint64(u.Past),
		uint64(u.Taken.UnixMicro()), uint64(u.TTL)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return append(b, u.Principal...)
}

var errEntry = errors.New("an entry of the log is none of a unit")

const bodyLength = 1 + 6*8

// decode reads an entry into memory of its own.
func decode(e seglog.Entry) (item sale.Item, u sale.Unit, err error) {
	if e.Kind != kindUnit || len(e.Body) < bodyLength {
		return item, u, fmt.Errorf("%w: kind %d, %d bytes", errEntry, e.Kind, len(e.Body))
	}
	key := string(e.Key)
	for _, part := range []*string{&item.Sale, &item.Name} {
		n, size := binary.Uvarint([]byte(key))
		if size <= 0 || n > uint64(len(key)-size) {
			return item, u, fmt.Errorf("%w: its key is %.40q", errEntry, e.Key)
		}
		*part, key = key[size:size+int(n)], key[size+int(n):]
	}
	field := func(i int) uint64 { return binary.BigEndian.Uint64(e.Body[1+8*i:]) }
	u = sale.Unit{
		ID: key, State: sale.State(e.Body[0]), Token: field(0), Created: int64(field(1)), Quantity: int(field(2)),
		Past: int(field(3)), Taken: time.UnixMicro(int64(field(4))), TTL: time.Duration(field(5)),
		Principal: string(e.Body[bodyLength:]),
	}
	return item, u, nil
}

// appendLocked appends a unit as it is now, or that it is gone.
func (s *Store) appendLocked(item sale.Item, u *sale.Unit, expires time.Time, removed bool) (*seglog.Batch, error) {
	p := &step{key: keyOf(item, u.ID), unit: *u, expires: expires, removed: removed}
	h := seglog.Header{Kind: kindUnit, Key: p.key, Expires: expires}
	if removed {
		h.Kind, h.Tombstone = kindRemoved, true
	}
	return s.log.AppendLocked(h, p)
}

// logOwner is the store as the log sees it.
type logOwner Store

var _ seglog.Owner = (*logOwner)(nil)

// Committed implements [seglog.Owner].
func (o *logOwner) Committed(list []seglog.Write) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		w := &list[i]
		p, own := w.Item.(*step)
		switch {
		case own && p.removed:
			s.log.Discard(s.places[p.key].at)
			delete(s.places, p.key)
		case own:
			s.log.Discard(s.places[p.key].at)
			s.places[p.key] = place{w.At, p.expires}
		default: // a copy by compaction
			if at, ok := s.places[string(w.Key)]; ok && at.at == w.From {
				s.places[string(w.Key)] = place{w.At, at.expires}
				s.log.Discard(w.From)
			} else {
				s.log.Discard(w.At)
			}
		}
	}
}

// Failed implements [seglog.Owner]: what was decided stays in memory, see the package's invariants.
func (o *logOwner) Failed([]seglog.Write) {}

// Relocate implements [seglog.Owner].
func (o *logOwner) Relocate(e seglog.Entry, at seglog.Ref) (*seglog.Batch, error) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places[string(e.Key)].at != at {
		return nil, nil
	}
	return s.log.CopyLocked(e, at)
}

// Rescue implements [seglog.Owner]: a damaged entry is written again, from memory.
func (o *logOwner) Rescue(segment uint32) (b *seglog.Batch, err error) {
	s := (*Store)(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, p := range s.places {
		if p.at.Segment != segment {
			continue
		}
		item, _, err := decode(seglog.Entry{Kind: kindUnit, Key: []byte(key), Body: make([]byte, bodyLength)})
		if err != nil {
			continue
		}
		id := key[len(keyOf(item, "")):]
		if e := s.book.Find(item, id); e != nil {
			if b, err = s.appendLocked(item, &e.Unit, p.expires, false); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}
