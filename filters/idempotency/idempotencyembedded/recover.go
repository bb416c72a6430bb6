package idempotencyembedded

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// old is a segment of an earlier opening.
type old struct {
	header
	seg *segment
	bad bool // its header is
}

// load reads the log of the folder.
func (s *Store) load() error {
	names, err := s.disk.List(s.dir)
	if err != nil {
		return err
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := numberOf(name); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	if len(numbers) == 0 && slices.ContainsFunc(names, func(name string) bool {
		return name == "CURRENT" || strings.HasPrefix(name, "MANIFEST-") || strings.HasSuffix(name, ".sst")
	}) {
		return errors.New("it was made by an earlier version of the gateway, which this one cannot read: move it away to start without any records (keys used before can then be executed again)")
	}
	var found []old
	for _, n := range numbers {
		s.number = n
		o, err := s.openSegment(n, n == numbers[len(numbers)-1])
		if err != nil {
			return fmt.Errorf("file %s: %w", s.path(n), err)
		}
		if o.seg != nil {
			found = append(found, o)
		}
	}
	l := loader{s: s, held: map[string]held{}, hurt: map[string]held{}, now: s.now()}
	for i := range found {
		if err := l.segment(found, i); err != nil {
			return fmt.Errorf("file %s: %w", s.path(found[i].seg.number), err)
		}
	}
	if err := l.holdHurt(); err != nil {
		return err
	}
	for id, h := range l.held { // in flight in a process that is dead
		s.index.add(s.hash(id), h.at, h.expires)
	}
	s.epoch++
	return nil
}

// openSegment opens one file. Without a segment in it, it was being made when the process died, and goes.
func (s *Store) openSegment(n uint32, last bool) (o old, err error) {
	f, err := s.disk.Open(s.path(n))
	if err != nil {
		return old{}, err
	}
	size, err := f.Size()
	b := make([]byte, dataStart)
	if err == nil {
		if _, err = f.ReadAt(b, 0); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		_ = f.Close()
		return old{}, err
	}
	h, both, err := decodeHeader(b, n)
	switch {
	case errors.Is(err, errHeader) && size <= dataStart && last:
		_ = f.Close()
		return old{}, s.disk.Remove(s.path(n))
	case errors.Is(err, errHeader):
		s.damage(n, 0, size, err.Error()+"; all of the file is lost")
		o.bad = true
	case err != nil:
		_ = f.Close()
		return old{}, err
	case !both:
		s.damage(n, 0, headerSize, "one of the two copies of the segment's header is damaged")
	}
	s.epoch = max(s.epoch, h.epoch)
	o.header = h
	o.seg = &segment{number: n, salt: h.salt, file: f, size: size, refs: 1}
	s.segments = append(s.segments, o.seg)
	s.byNumber[n] = o.seg
	return o, nil
}

// damage reports a part of the log that cannot be read.
func (s *Store) damage(segment uint32, off, n int64, what string) {
	s.stats.DamagedBytes += n
	s.stats.DamagedParts++
	s.log.Error("a part of the embedded store is damaged; keys whose records were there, and are not named beside this, can be executed again", "file", s.path(segment), "offset", off, "bytes", n, "what", what)
}

// loader reads the segments, the oldest first: the newest entry of a record is the record.
type loader struct {
	s    *Store
	held map[string]held // in flight as far as was read
	hurt map[string]held // by a damaged entry that none follows
	now  time.Time
}

type held struct {
	at      location
	expires uint32
	entry   time.Time
	counted bool
}

// part is a damaged part of a segment.
type part struct{ off, n int64 }

func (l *loader) segment(all []old, i int) error {
	s, o := l.s, all[i]
	if o.bad {
		return nil
	}
	if i > 0 && o.before != 0 && s.byNumber[o.before] == nil {
		s.damage(o.before, 0, o.beforeLen, "the file is missing")
	}
	last := i == len(all)-1
	for _, later := range all[i+1:] {
		if !later.bad && later.before == o.number {
			if o.seg.size < later.beforeLen {
				s.damage(o.number, o.seg.size, later.beforeLen-o.seg.size, "the file is too short")
			}
			o.seg.size = min(o.seg.size, later.beforeLen)
		}
	}
	r := &reader{file: o.seg.file, salt: o.salt, off: dataStart, end: o.seg.size}
	var bad []part
	synced := int64(0) // all before it was, in the last segment
	end := int64(dataStart)
	for {
		v, at, damaged, err := r.next()
		if damaged > 0 {
			bad = append(bad, part{at - damaged, damaged})
			l.note(r.hurt, o.number)
			r.hurt = r.hurt[:0]
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if v.flags&flagFirst != 0 {
			synced = at
		}
		if v.kind != kindEnd { // which tells nothing any more when the next segment is there
			end = at + int64(len(v.raw))
		}
		if err := l.entry(v, location{o.number, uint32(at), uint32(len(v.raw))}); err != nil {
			return err
		}
	}
	if last { // a tail that was not synced was never acknowledged
		maps.DeleteFunc(l.hurt, func(_ string, h held) bool { return h.at.seg == o.number && int64(h.at.off) >= synced })
	}
	for _, p := range bad {
		if last && p.off >= synced {
			s.log.Warn("the embedded store was not closed: the end of its log was not written whole, which no caller was told otherwise",
				"file", s.path(o.number), "offset", p.off, "bytes", p.n)
			s.stats.TornBytes += p.n
			continue
		}
		s.damage(o.number, p.off, p.n, "checksum")
	}
	if last { // of a killed process, the end may have been written and not synced; from here on it counts
		o.seg.size = end
		return o.seg.file.Sync()
	}
	return nil
}

func (l *loader) entry(v view, at location) error {
	s := l.s
	switch v.kind {
	case kindEnd:
		return nil
	case kindSecret:
		s.live(s.secrets[string(v.id)].at, -1)
		s.secrets[string(v.id)] = secret{bytes.Clone(v.body), at}
		s.live(at, 1)
		return nil
	case kindInFlight, kindRecord, kindRemoved:
	default:
		return fmt.Errorf("%w: entry of kind %d at %d, which this version does not know", idempotency.ErrCorrupt, v.kind, at.off)
	}
	hash := s.hash(filters.Alias(v.id))
	if len(l.hurt) > 0 {
		delete(l.hurt, string(v.id))
	}
	if err := l.replace(v, hash); err != nil {
		return err
	}
	if v.kind == kindRemoved || !l.now.Before(v.expires) {
		return nil
	}
	s.live(at, 1)
	counted := v.flags&flagCounted != 0
	if counted {
		s.book.Keep(idempotency.Owner(filters.Alias(v.id)), v.expires)
	}
	if v.kind == kindInFlight {
		l.held[string(v.id)] = held{at, seconds(v.expires), v.expires, counted}
		return nil
	}
	s.index.add(hash, at, seconds(v.expires))
	return nil
}

// note keeps in mind the damaged entries of records.
func (l *loader) note(list []hurt, segment uint32) {
	for _, h := range list {
		if (h.kind == kindRecord || h.kind == kindInFlight) && l.now.Before(h.expires) {
			l.hurt[h.id] = held{at: location{segment, uint32(h.at), h.n}, expires: seconds(h.expires)}
		}
	}
}

// holdHurt puts the damaged entries that were the newest of their records into the index: who finds one there cannot read it, so that the key is refused and not free. Only where a claim
// stands before it, that is what counts: it reads as unknown.
func (l *loader) holdHurt() error {
	s := l.s
	for id, h := range l.hurt {
		if _, ok := l.held[id]; ok {
			continue
		}
		hash := s.hash(id)
		if err := l.replace(view{id: []byte(id)}, hash); err != nil {
			return err
		}
		s.index.add(hash, h.at, h.expires)
		s.live(h.at, 1)
		s.log.Error("a record of the embedded store is damaged: its key is refused until it expires", "record", id, "file", s.path(h.at.seg), "offset", h.at.off)
	}
	return nil
}

// replace takes away what stood of the record before.
func (l *loader) replace(v view, hash uint64) error {
	s := l.s
	if h, ok := l.held[string(v.id)]; ok {
		delete(l.held, string(v.id))
		s.live(h.at, -1)
		if h.counted {
			s.book.Remove(idempotency.Owner(filters.Alias(v.id)), h.entry)
		}
		return nil
	}
	var buf [4]location
	for _, at := range s.index.find(hash, buf[:0]) {
		before, err := readEntry(s.byNumber[at.seg], at)
		if err != nil {
			return err
		}
		if !bytes.Equal(before.id, v.id) {
			continue
		}
		s.index.remove(hash, at)
		s.live(at, -1)
		if before.flags&flagCounted != 0 {
			s.book.Remove(idempotency.Owner(filters.Alias(v.id)), before.expires)
		}
		return nil
	}
	return nil
}
