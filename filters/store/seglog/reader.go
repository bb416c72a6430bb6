package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// readEntry reads one entry. The error wraps [ErrCorrupt] when it is not as it was written.
func readEntry(seg *segment, at Ref) (Entry, error) {
	e := make([]byte, at.Len)
	if n, err := seg.file.ReadAt(e, int64(at.Offset)); err != nil && n < len(e) {
		if !errors.Is(err, io.EOF) {
			return Entry{}, err
		}
		return Entry{}, fmt.Errorf("%w: entry cut short after %d of %d bytes", ErrCorrupt, n, len(e))
	}
	if n, ok := entryLen(e, seg.salt); !ok || n != int64(at.Len) || !sound(e) {
		return Entry{}, fmt.Errorf("%w: entry of %d bytes has a wrong checksum", ErrCorrupt, at.Len)
	}
	return entryOf(e), nil
}

// reader reads the entries of a segment in order, and finds the next sound one after damage.
type reader struct {
	file    File
	number  uint32
	salt    uint32
	off     int64 // of the next entry
	end     int64
	buf     []byte
	base    int64 // the offset that buf begins at
	damaged []Damaged
}

func newReader(seg *segment, end int64) *reader {
	return &reader{file: seg.file, number: seg.number, salt: seg.salt, off: dataStart, end: end}
}

const readAhead = 1 << 20

// next returns the next sound entry, where it lies, and how many damaged bytes lie before it. At the
// end it returns io.EOF, and how many damaged bytes lie there. The entry is valid until the next call.
func (r *reader) next() (e Entry, at Ref, skipped int64, err error) {
	from := r.off
	for r.off < r.end {
		b, err := r.window(r.off, headMax)
		if err != nil {
			return Entry{}, Ref{}, 0, err
		}
		n, ok := entryLen(b, r.salt)
		if !ok || n > r.end-r.off {
			if err := r.resynchronize(); err != nil {
				return Entry{}, Ref{}, 0, err
			}
			continue
		}
		if b, err = r.window(r.off, n); err != nil {
			return Entry{}, Ref{}, 0, err
		}
		at := Ref{r.number, uint32(r.off), uint32(n)}
		r.off += n
		if int64(len(b)) < n {
			continue
		}
		e := entryOf(b[:n])
		if sound(b[:n]) {
			return e, at, int64(at.Offset) - from, nil
		}
		r.damaged = append(r.damaged, Damaged{Kind: e.Kind, Key: string(e.Key), Expires: e.Expires, At: at})
	}
	return Entry{}, Ref{}, r.end - from, io.EOF
}

// resynchronize goes on to the next place that an entry may begin at.
func (r *reader) resynchronize() error {
	for r.off++; r.off < r.end; {
		b, err := r.window(r.off, int64(len(entryMagic)))
		if err != nil {
			return err
		}
		if i := bytes.Index(b, []byte(entryMagic)); i >= 0 {
			r.off += int64(i)
			return nil
		}
		r.off += max(int64(len(b)-len(entryMagic)+1), 1)
	}
	r.off = r.end
	return nil
}

// window returns what is in memory from an offset on: n bytes at least, unless the segment ends
// before. What a file that has been cut short lacks is zeros.
func (r *reader) window(off, n int64) ([]byte, error) {
	n = min(n, r.end-off)
	if off >= r.base && off+n <= r.base+int64(len(r.buf)) {
		return r.buf[off-r.base:], nil
	}
	want := min(max(n, readAhead), r.end-off)
	if want > math.MaxInt32 {
		return nil, fmt.Errorf("a window of %d bytes", want)
	}
	if int64(cap(r.buf)) < want {
		r.buf = make([]byte, want)
	}
	r.buf, r.base = r.buf[:want], off
	got, err := r.file.ReadAt(r.buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		r.buf = r.buf[:0]
		return nil, err
	}
	clear(r.buf[got:])
	return r.buf, nil
}
