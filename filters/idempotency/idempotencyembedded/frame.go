package idempotencyembedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// The format of a segment: two copies of its header, so that one flipped bit there does not cost the segment, and entries.
//
//	header  magic 8 | version 4 | number 4 | epoch 8 | salt 4 | number of the one before 4 | its length 8 | CRC-32C 4 | zeros, 64 in all
//	entry   magic 4 | length 4 | kind 1 | flags 1 | length of the ID 2 | expiry 8 | CRC of these and the ID 4 | CRC of all 4 | ID | body
//
// All numbers are little-endian. The two sums of an entry begin with the segment's salt, which is random: no client can have bytes stored, in an answer for
// instance, that are taken for an entry when the reader looks for the next one after damage.
const (
	segmentMagic   = "sluicelg"
	segmentVersion = 1
	headerSize     = 64
	dataStart      = 2 * headerSize

	entryMagic = "\xf5Sl\xe1"
	entrySize  = 28
	entryMax   = 1 << 30
)

// kind is what an entry says.
type kind uint8

const (
	kindInFlight kind = iota + 1 // a record in flight: when it is found at opening, its holder is dead
	kindRecord                   // a record in another state
	kindRemoved                  // there is no record any more
	kindSecret
	kindEnd // the store was closed: all that lies before was synced
)

const (
	flagFirst   = 1 << 0 // of its group: all that lies before was synced before this was written
	flagCounted = 1 << 1 // among the open keys of its owner
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is that of a segment.
type header struct {
	number, salt, before uint32 // before: the number of the segment before, 0 without one
	epoch                uint64
	beforeLen            int64 // where the one before ends, whatever lies behind it
}

func (h header) encode() []byte {
	b := make([]byte, 0, dataStart)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = binary.LittleEndian.AppendUint32(b, h.number)
	b = binary.LittleEndian.AppendUint64(b, h.epoch)
	b = binary.LittleEndian.AppendUint32(b, h.salt)
	b = binary.LittleEndian.AppendUint32(b, h.before)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.beforeLen))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	b = b[:headerSize]
	return append(b, b...)
}

// errHeader says that neither copy of a header is sound.
var errHeader = errors.New("the segment's header is damaged")

// decodeHeader also tells whether both copies are sound.
func decodeHeader(b []byte, number uint32) (h header, both bool, err error) {
	const sum = 40
	sound := 0
	for ; len(b) >= headerSize; b = b[headerSize:] {
		if string(b[:8]) != segmentMagic || crc32.Checksum(b[:sum], castagnoli) != binary.LittleEndian.Uint32(b[sum:]) || binary.LittleEndian.Uint32(b[12:]) != number {
			continue
		}
		if v := binary.LittleEndian.Uint32(b[8:]); v != segmentVersion {
			return header{}, false, fmt.Errorf("the segment has format %d, this program reads %d", v, segmentVersion)
		}
		if len(bytes.Trim(b[sum+4:headerSize], "\x00")) == 0 {
			sound++
		}
		h = header{
			number: number, epoch: binary.LittleEndian.Uint64(b[16:]), salt: binary.LittleEndian.Uint32(b[24:]),
			before: binary.LittleEndian.Uint32(b[28:]), beforeLen: int64(binary.LittleEndian.Uint64(b[32:])),
		}
	}
	if h.number == 0 {
		return header{}, false, errHeader
	}
	return h, sound == 2, nil
}

// beginEntry appends the header of an entry and its ID. The body follows, then endEntry.
func beginEntry(b []byte, k kind, flags byte, id string, expires time.Time) []byte {
	b = append(b, entryMagic...)
	b = append(b, 0, 0, 0, 0, byte(k), flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(id)))
	b = binary.LittleEndian.AppendUint64(b, uint64(nanoseconds(expires)))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	return append(b, id...)
}

// nanoseconds is the latest time that they can express for one behind it: it would else read as long ago.
func nanoseconds(t time.Time) int64 {
	if t.Unix() > math.MaxInt64/int64(time.Second)-1 {
		return math.MaxInt64
	}
	return t.UnixNano()
}

// endEntry fills in the length of an entry, which reaches to the end of b.
func endEntry(b []byte, from int) { binary.LittleEndian.PutUint32(b[from+4:], uint32(len(b)-from)) }

// sumEntry fills in the sums, when it is known which segment the entry goes to.
func sumEntry(e []byte, salt uint32) {
	head := headSum(e, salt)
	binary.LittleEndian.PutUint32(e[20:], head)
	binary.LittleEndian.PutUint32(e[24:], crc32.Update(head, castagnoli, e[bodyStart(e):]))
}

// bodyStart is where the body of an entry begins.
func bodyStart(e []byte) int { return entrySize + int(binary.LittleEndian.Uint16(e[10:])) }

func headSum(e []byte, salt uint32) uint32 {
	return crc32.Update(crc32.Update(salt, castagnoli, e[:20]), castagnoli, e[entrySize:bodyStart(e)])
}

// headMax is how many bytes it takes at the most to tell whether a header is sound.
const headMax = entrySize + idMax

// entryLen returns the length of the entry whose header b begins with; false: that is no sound header.
func entryLen(b []byte, salt uint32) (int64, bool) {
	if len(b) < entrySize || string(b[:4]) != entryMagic || len(b) < bodyStart(b) || headSum(b, salt) != binary.LittleEndian.Uint32(b[20:]) {
		return 0, false
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	return n, n >= int64(bodyStart(b)) && n <= entryMax
}

// sound reports whether a whole entry is as it was written.
func sound(e []byte) bool {
	return crc32.Update(binary.LittleEndian.Uint32(e[20:]), castagnoli, e[bodyStart(e):]) == binary.LittleEndian.Uint32(e[24:])
}

// view is a sound entry. Its parts lie in the reader's memory.
type view struct {
	raw     []byte
	kind    kind
	flags   byte
	id      []byte
	expires time.Time
	body    []byte
}

func viewOf(e []byte) view {
	n := bodyStart(e)
	return view{raw: e, kind: kind(e[8]), flags: e[9], id: e[entrySize:n], body: e[n:], expires: time.Unix(0, int64(binary.LittleEndian.Uint64(e[12:]))).UTC()}
}

// readEntry reads one entry. The error wraps [idempotency.ErrCorrupt] when it is not as it was written.
func readEntry(seg *segment, at location) (view, error) {
	e := make([]byte, at.n)
	if n, err := seg.file.ReadAt(e, int64(at.off)); err != nil && n < len(e) {
		if !errors.Is(err, io.EOF) {
			return view{}, err
		}
		return view{}, fmt.Errorf("%w: entry cut short after %d of %d bytes", idempotency.ErrCorrupt, n, len(e))
	}
	if n, ok := entryLen(e, seg.salt); !ok || n != int64(at.n) || !sound(e) {
		return view{}, fmt.Errorf("%w: entry of %d bytes has a wrong checksum", idempotency.ErrCorrupt, at.n)
	}
	return viewOf(e), nil
}

// reader reads the entries of a segment one after the other, and finds the next sound one after damage.
type reader struct {
	file file
	salt uint32
	off  int64 // of the next entry
	end  int64
	buf  []byte
	base int64 // what offset buf begins at
	hurt []hurt
}

// hurt is an entry whose header and ID are sound and the rest is not.
type hurt struct {
	kind    kind
	id      string
	expires time.Time
	at      int64
	n       uint32
}

const readAhead = 1 << 20

// next returns the next sound entry, where it lies, and how many damaged bytes lie before it. At the end it returns io.EOF, and the damaged bytes there.
func (r *reader) next() (v view, at int64, damaged int64, err error) {
	from := r.off
	for r.off < r.end {
		b, err := r.window(r.off, headMax)
		if err != nil {
			return view{}, 0, 0, err
		}
		n, ok := entryLen(b, r.salt)
		if !ok || n > r.end-r.off {
			if err := r.skip(); err != nil {
				return view{}, 0, 0, err
			}
			continue
		}
		if b, err = r.window(r.off, n); err != nil {
			return view{}, 0, 0, err
		}
		at := r.off
		r.off += n
		if int64(len(b)) >= n && sound(b[:n]) {
			return viewOf(b[:n]), at, at - from, nil
		}
		if int64(len(b)) >= n {
			v := viewOf(b[:n])
			r.hurt = append(r.hurt, hurt{v.kind, string(v.id), v.expires, at, uint32(n)})
		}
	}
	return view{}, r.end, r.end - from, io.EOF
}

// skip goes on to the next place that an entry may begin at.
func (r *reader) skip() error {
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

// window returns what is in memory from an offset on: n bytes at least, unless the segment ends before. What a file that has been cut short lacks is zeros.
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
