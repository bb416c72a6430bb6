package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// The format of a segment: two copies of its header, so that one flipped bit there does not cost
// the segment, and entries.
//
//	header  magic 8 | version 4 | number 4 | epoch 8 | salt 4 | number of the one before 4 |
//	        its length 8 | CRC-32C 4 | zeros, 64 bytes in all
//	entry   magic 4 | length 4 | kind 1 | flags 1 | length of the key 2 | expiry 8 |
//	        CRC of these and the key 4 | CRC of all 4 | key | body
//
// All numbers are little-endian. The two checksums of an entry begin with the segment's salt, which
// is random: no client can have bytes stored, in a recorded response for instance, that are taken
// for an entry when the reader looks for the next one after damage.
const (
	segmentMagic   = "sluicelg"
	segmentVersion = 1
	headerSize     = 64
	dataStart      = 2 * headerSize

	entryMagic = "\xf5Sl\xe1"
	entrySize  = 28
	flagsAt    = 9
)

// Limits of an entry.
const (
	// KeyMax is how long a key can be, in bytes.
	KeyMax = 4 << 10
	// EntryMax is how long an entry can be, in bytes: its key, its body and [EntryOverhead].
	EntryMax = 1 << 30
	// EntryOverhead is what an entry has beside its key and its body, in bytes.
	EntryOverhead = entrySize
	// SegmentOverhead is the size of a segment without entries, in bytes.
	SegmentOverhead = dataStart
	// KindClosed is the kind of the log's own entry that says that the log was closed.
	KindClosed = 5
	// FlagFirst is the log's own flag: the entry is the first of its batch, so all that lies before
	// it was synced before it was written.
	FlagFirst = 1 << 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segmentHeader is the header of a segment.
type segmentHeader struct {
	number, salt, before uint32 // before: the number of the segment before, 0 without one
	epoch                uint64 // which opening of the folder made it
	beforeLen            int64  // where the one before ends, whatever lies behind that
}

func (h segmentHeader) encode() []byte {
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

// decodeSegmentHeader also reports whether both copies are sound.
func decodeSegmentHeader(b []byte, number uint32) (h segmentHeader, both bool, err error) {
	const sum = 40
	sound := 0
	for ; len(b) >= headerSize; b = b[headerSize:] {
		if string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[12:]) != number ||
			crc32.Checksum(b[:sum], castagnoli) != binary.LittleEndian.Uint32(b[sum:]) {
			continue
		}
		if v := binary.LittleEndian.Uint32(b[8:]); v != segmentVersion {
			return segmentHeader{}, false, fmt.Errorf("the segment has format %d, this program reads %d",
				v, segmentVersion)
		}
		if len(bytes.Trim(b[sum+4:headerSize], "\x00")) == 0 {
			sound++
		}
		h = segmentHeader{
			number: number, epoch: binary.LittleEndian.Uint64(b[16:]), salt: binary.LittleEndian.Uint32(b[24:]),
			before: binary.LittleEndian.Uint32(b[28:]), beforeLen: int64(binary.LittleEndian.Uint64(b[32:])),
		}
	}
	if h.number == 0 {
		return segmentHeader{}, false, errHeader
	}
	return h, sound == 2, nil
}

// Header is what an entry says beside its body.
type Header struct {
	Kind    byte      // the owner's word; not 0 and not [KindClosed]
	Flags   byte      // the owner's, without [FlagFirst]
	Key     string    // up to [KeyMax] bytes; copied
	Expires time.Time // the owner's; the log keeps it beside the key, where it survives damage to the body
	// Tombstone says that the entry counts for nothing once those before it are gone, as that of a
	// removal: compaction does not copy it.
	Tombstone bool
}

// Entry is a sound entry of a log.
type Entry struct {
	Kind    byte
	Flags   byte
	Key     []byte
	Expires time.Time
	Body    []byte
	raw     []byte
}

// beginEntry appends the header of an entry and its key. The body follows, then endEntry.
func beginEntry(b []byte, h *Header) []byte {
	b = append(b, entryMagic...)
	b = append(b, 0, 0, 0, 0, h.Kind, h.Flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Key)))
	b = binary.LittleEndian.AppendUint64(b, uint64(nanoseconds(h.Expires)))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	return append(b, h.Key...)
}

// nanoseconds returns the latest time that they can express for a later one, which would else wrap around.
func nanoseconds(t time.Time) int64 {
	if t.Unix() > math.MaxInt64/int64(time.Second)-1 {
		return math.MaxInt64
	}
	return t.UnixNano()
}

// endEntry sets the length of an entry, which reaches to the end of b.
func endEntry(b []byte, from int) { binary.LittleEndian.PutUint32(b[from+4:], uint32(len(b)-from)) }

// sumEntry sets the checksums, when it is known which segment the entry goes to.
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

// headMax is how many bytes tell whether a header is sound, at most.
const headMax = entrySize + KeyMax

// entryLen returns the length of the entry whose header b begins with; false when that is no sound header.
func entryLen(b []byte, salt uint32) (int64, bool) {
	if len(b) < entrySize || string(b[:4]) != entryMagic || len(b) < bodyStart(b) ||
		headSum(b, salt) != binary.LittleEndian.Uint32(b[20:]) {
		return 0, false
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	return n, n >= int64(bodyStart(b)) && n <= EntryMax
}

// sound reports whether a whole entry is as it was written.
func sound(e []byte) bool {
	head := binary.LittleEndian.Uint32(e[20:])
	return crc32.Update(head, castagnoli, e[bodyStart(e):]) == binary.LittleEndian.Uint32(e[24:])
}

// entryOf returns the parts of an entry. They lie in the memory of e.
func entryOf(e []byte) Entry {
	n := bodyStart(e)
	return Entry{
		raw: e, Kind: e[8], Flags: e[flagsAt], Key: e[entrySize:n], Body: e[n:],
		Expires: time.Unix(0, int64(binary.LittleEndian.Uint64(e[12:]))).UTC(),
	}
}
