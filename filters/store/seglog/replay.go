package seglog

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Damaged is an entry that is not as it was written, but for its kind, key and expiry.
type Damaged struct {
	Kind    byte
	Key     string
	Expires time.Time
	At      Ref
}

// recovery reads the segments of earlier openings.
type recovery struct {
	log     *Log
	found   []oldSegment
	damaged map[string][]Damaged // by key, those that no sound entry follows
}

// oldSegment is a segment of an earlier opening.
type oldSegment struct {
	segmentHeader
	seg *segment
	bad bool // its header is damaged
}

// open opens the segments of the folder, the oldest first.
func (r *recovery) open() error {
	names, err := r.log.disk.List(r.log.dir)
	if err != nil {
		return err
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := numberOf(name); ok {
			numbers = append(numbers, n)
		} else if name != lockName {
			r.log.otherFiles = append(r.log.otherFiles, name)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		r.log.writer.number = n
		if err := r.openSegment(n, i == len(numbers)-1); err != nil {
			return fmt.Errorf("file %s: %w", r.log.Path(n), err)
		}
	}
	return nil
}

// openSegment opens one file. A file without a segment in it was being made when the process died, and
// is removed.
func (r *recovery) openSegment(n uint32, last bool) error {
	f, err := r.log.disk.Open(r.log.Path(n))
	if err != nil {
		return err
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
		return err
	}
	o := oldSegment{seg: &segment{number: n, file: f, size: size}}
	h, both, err := decodeSegmentHeader(b, n)
	switch {
	case errors.Is(err, errHeader) && size <= dataStart && last:
		_ = f.Close()
		return r.log.disk.Remove(r.log.Path(n))
	case errors.Is(err, errHeader):
		r.damage(n, 0, size, err.Error()+"; all of the file is lost")
		o.bad = true
	case err != nil:
		_ = f.Close()
		return err
	case !both:
		r.damage(n, 0, headerSize, "one of the two copies of the segment's header is damaged")
	}
	r.log.writer.epoch = max(r.log.writer.epoch, h.epoch)
	o.segmentHeader = h
	o.seg.salt = h.salt
	r.log.segments.add(o.seg)
	r.found = append(r.found, o)
	return nil
}

// damage reports a part of the log that cannot be read.
func (r *recovery) damage(segment uint32, off, n int64, what string) {
	r.log.counters.damagedBytes.Add(n)
	r.log.counters.damagedParts.Add(1)
	r.log.logger.Error("a part of the log is damaged, its entries are lost",
		"file", r.log.Path(segment), "offset", off, "bytes", n, "what", what)
}

// replay reads all segments, the oldest first, and returns the damaged entries that no sound entry of
// the same key follows.
func (r *recovery) replay(visit func(Entry, Ref) error) ([]Damaged, error) {
	r.damaged = map[string][]Damaged{}
	for i := range r.found {
		if r.found[i].bad {
			continue
		}
		if err := r.replaySegment(i, visit); err != nil {
			return nil, fmt.Errorf("file %s: %w", r.log.Path(r.found[i].seg.number), err)
		}
	}
	var list []Damaged
	for _, of := range r.damaged {
		list = append(list, of...)
	}
	slices.SortFunc(list, func(a, b Damaged) int { return a.At.compare(b.At) })
	return list, nil
}

// trim cuts a segment to the length that the segment behind it says.
func (r *recovery) trim(i int) {
	o := r.found[i]
	if i > 0 && o.before != 0 && !r.log.segments.has(o.before) {
		r.damage(o.before, 0, o.beforeLen, "the file is missing")
	}
	for _, later := range r.found[i+1:] {
		if later.bad || later.before != o.number {
			continue
		}
		if o.seg.size < later.beforeLen {
			r.damage(o.number, o.seg.size, later.beforeLen-o.seg.size, "the file is too short")
		}
		o.seg.size = min(o.seg.size, later.beforeLen)
	}
}

// part is a damaged part of a segment.
type part struct{ off, n int64 }

func (r *recovery) replaySegment(i int, visit func(Entry, Ref) error) error {
	r.trim(i)
	seg, last := r.found[i].seg, i == len(r.found)-1
	in := newReader(seg, seg.size)
	var bad []part
	synced := int64(0) // all before it was, in the last segment
	end := int64(dataStart)
	for {
		e, at, skipped, err := in.next()
		if skipped > 0 {
			off := int64(at.Offset)
			if err != nil {
				off = in.end
			}
			bad = append(bad, part{off - skipped, skipped})
			r.note(in)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if e.Flags&FlagFirst != 0 {
			synced = int64(at.Offset)
		}
		if e.Kind == KindClosed { // which says nothing any more when a segment follows
			continue
		}
		end = int64(at.Offset) + int64(at.Len)
		if len(r.damaged) > 0 {
			delete(r.damaged, string(e.Key))
		}
		if err := visit(e, at); err != nil {
			return err
		}
	}
	if !last {
		for _, p := range bad {
			r.damage(seg.number, p.off, p.n, "checksum")
		}
		return nil
	}
	r.tail(seg, bad, synced)
	// Of a killed process, the end may have been written and not synced; from here on it counts.
	seg.size = end
	return seg.file.Sync()
}

// note remembers the damaged entries that the reader has met.
func (r *recovery) note(in *reader) {
	for _, d := range in.damaged {
		r.damaged[d.Key] = append(r.damaged[d.Key], d)
	}
	in.damaged = in.damaged[:0]
}

// tail tells damage in the last segment from a tail that was not synced, and so never acknowledged.
func (r *recovery) tail(seg *segment, bad []part, synced int64) {
	for key, list := range r.damaged {
		list = slices.DeleteFunc(list, func(d Damaged) bool {
			return d.At.Segment == seg.number && int64(d.At.Offset) >= synced
		})
		if r.damaged[key] = list; len(list) == 0 {
			delete(r.damaged, key)
		}
	}
	for _, p := range bad {
		if p.off < synced {
			r.damage(seg.number, p.off, p.n, "checksum")
			continue
		}
		r.log.logger.Warn("the log was not closed: its end was not written whole, and was never acknowledged",
			"file", r.log.Path(seg.number), "offset", p.off, "bytes", p.n)
		r.log.counters.tornBytes.Add(p.n)
	}
}
