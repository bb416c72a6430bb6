package idempotency

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// The stored form of a record: a version byte, the fields in a fixed order (numbers as varints,
// strings behind their length), and a CRC-32C over all of that at the end. CRC-32C detects every
// error burst of up to 32 bits, so a flipped bit or a torn write is an error and never a wrong
// record.
const (
	recordVersion = 2

	flagNotDispatched = 1 << 0
	flagCounted       = 1 << 1
	flagService       = 1 << 2 // the service follows the gid; records of earlier versions have none

	crcLen = 4
)

// ErrCorrupt says that stored bytes are not a whole record or response as this program writes them.
var ErrCorrupt = errors.New("idempotency: stored record is corrupt")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendRecord appends the stored form of r to dst. Times keep their nanoseconds and lose their
// zone.
func AppendRecord(dst []byte, r *Record) []byte {
	from := len(dst)
	var flags byte
	if r.NotDispatched {
		flags |= flagNotDispatched
	}
	if r.Counted {
		flags |= flagCounted
	}
	if r.Service != "" {
		flags |= flagService
	}
	dst = append(dst, recordVersion, byte(r.State), flags)
	dst = append(dst, r.Fingerprint[:]...)
	dst = binary.AppendUvarint(dst, r.Token)
	dst = binary.AppendVarint(dst, int64(r.Attempt))
	dst = appendString(dst, r.ID)
	dst = appendString(dst, r.Route)
	dst = appendString(dst, r.Principal)
	dst = appendString(dst, r.ClientKey)
	dst = appendString(dst, r.GID)
	if r.Service != "" {
		dst = appendString(dst, r.Service)
	}
	dst = appendTime(dst, r.Created)
	dst = appendTime(dst, r.LeaseUntil)
	dst = appendTime(dst, r.CapUntil)
	dst = appendTime(dst, r.Expires)
	dst = binary.AppendVarint(dst, int64(r.TTL))
	dst = appendBytes(dst, r.Response)
	return appendCRC(dst, from)
}

// DecodeRecord reads what [AppendRecord] wrote; the record shares no memory with b. The error wraps
// [ErrCorrupt].
func DecodeRecord(b []byte) (Record, error) { return decodeRecord(b, false) }

// StateIn returns the state of a record in its stored form, without a look at the rest; 0 of what is none.
func StateIn(b []byte) State {
	if len(b) < 2 || b[0] != recordVersion {
		return 0
	}
	return State(b[1])
}

// RecordIn is [DecodeRecord] for bytes that never change: the record's strings and its response lie
// in them.
func RecordIn(b []byte) (Record, error) { return decodeRecord(b, true) }

func decodeRecord(b []byte, share bool) (Record, error) {
	body, err := checked(b, recordVersion, "record")
	if err != nil {
		return Record{}, err
	}
	d := decoder{b: body, share: share}
	var r Record
	r.State = State(d.byte())
	flags := d.byte()
	copy(r.Fingerprint[:], d.bytes(uint64(len(r.Fingerprint))))
	r.Token = d.uvarint()
	r.Attempt = d.int()
	r.ID = d.string()
	r.Route = d.string()
	r.Principal = d.string()
	r.ClientKey = d.string()
	r.GID = d.string()
	if flags&flagService != 0 {
		r.Service = d.string()
	}
	r.Created = d.time()
	r.LeaseUntil = d.time()
	r.CapUntil = d.time()
	r.Expires = d.time()
	r.TTL = time.Duration(d.varint())
	r.NotDispatched = flags&flagNotDispatched != 0
	r.Counted = flags&flagCounted != 0
	if response := d.bytes(d.uvarint()); len(response) > 0 && share {
		r.Response = response[:len(response):len(response)] // an append must not write behind it
	} else if len(response) > 0 {
		r.Response = append([]byte(nil), response...)
	}
	if err := d.end(); err != nil {
		return Record{}, err
	}
	if r.State < InFlight || r.State > Unknown || flags&^(flagNotDispatched|flagCounted|flagService) != 0 ||
		r.Service == "" && flags&flagService != 0 {
		return Record{}, fmt.Errorf("%w: state %d, flags %#x", ErrCorrupt, r.State, flags)
	}
	return r, nil
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// appendTime writes seconds and nanoseconds apart: the zero time is outside what UnixNano can hold.
func appendTime(dst []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(dst, t.Unix()), uint64(t.Nanosecond()))
}

func appendCRC(dst []byte, from int) []byte {
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli))
}

// checked verifies checksum and version and returns what stands between them.
func checked(b []byte, version byte, what string) ([]byte, error) {
	if len(b) < 1+crcLen {
		return nil, fmt.Errorf("%w: %s of %d bytes", ErrCorrupt, what, len(b))
	}
	body, sum := b[:len(b)-crcLen], binary.LittleEndian.Uint32(b[len(b)-crcLen:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("%w: %s has checksum %08x, want %08x", ErrCorrupt, what, got, sum)
	}
	if body[0] != version {
		return nil, fmt.Errorf("%w: %s has version %d, this program reads %d", ErrCorrupt, what, body[0], version)
	}
	return body[1:], nil
}

// decoder reads fields one after the other. After the first fault every read gives zero and end
// returns the error.
type decoder struct {
	b      []byte
	share  bool // the memory of b, which does not change
	failed bool
}

func (d *decoder) fail() { d.failed, d.b = true, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int {
	v := d.varint()
	if v < math.MinInt || v > math.MaxInt {
		d.fail()
		return 0
	}
	return int(v)
}

func (d *decoder) string() string {
	b := d.bytes(d.uvarint())
	if d.share {
		return filters.Alias(b)
	}
	return string(b)
}

func (d *decoder) time() time.Time {
	sec, nsec := d.varint(), d.uvarint()
	if nsec >= uint64(time.Second) {
		d.fail()
	}
	if d.failed {
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

func (d *decoder) end() error {
	if d.failed {
		return fmt.Errorf("%w: a field is cut short or out of range", ErrCorrupt)
	}
	if len(d.b) != 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrCorrupt, len(d.b))
	}
	return nil
}
