package dtmembedded

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/storage"
)

// record is the whole state of a transaction, or of a key-value pair. It is not changed once made: what
// changes it makes another one.
type record struct {
	global   storage.TransGlobalStore
	branches []storage.TransBranchStore
	kv       *storage.KVStore
}

// newRecord copies what DTM goes on changing. Steps and payloads are in the branches, so DTM's SQL
// stores leave them out too.
func newRecord(g *storage.TransGlobalStore, branches []storage.TransBranchStore) *record {
	r := &record{global: *g, branches: slices.Clone(branches)}
	r.global.Steps, r.global.Payloads, r.global.BinPayloads = nil, nil, nil
	r.global.BranchHeaders = maps.Clone(g.BranchHeaders) // DTM decodes into it
	return r
}

// newGlobal is a copy that DTM may change.
func (r *record) newGlobal() *storage.TransGlobalStore {
	g := r.global
	g.BranchHeaders = maps.Clone(g.BranchHeaders)
	return &g
}

func (r *record) ended() bool { return r.kv == nil && r.global.IsFinished() }

// due is when the transaction is to be processed again.
func (r *record) due() time.Time {
	if r.global.NextCronTime == nil {
		return time.Time{}
	}
	return *r.global.NextCronTime
}

// size is roughly what the record takes in memory.
func (r *record) size() int {
	n := 1024 + len(r.global.Options) + len(r.global.CustomData) + len(r.global.ExtData)
	for i := range r.branches {
		n += 250 + len(r.branches[i].URL) + len(r.branches[i].BinData)
	}
	return n
}

// The format of the body of an entry: a version, the transaction as DTM's JSON, the number of its branches,
// and each of them with the fields in the order of appendBranch. Numbers are varints, a text has its length
// before it. A saga's do and undo have the same data, which is there once.
const (
	bodyVersion = 1

	dataAsBefore = 1 << 0 // the branch has the data of the one before it
	hasCreated   = 1 << 1
	hasUpdated   = 1 << 2
	hasFinished  = 1 << 3
	hasRolled    = 1 << 4
)

var errBody = errors.New("dtmembedded: the entry is not as this program writes it")

// AppendBody implements [seglog.Item] for a write.
func (w *write) AppendBody(dst []byte) []byte {
	if w.next == nil {
		return dst
	}
	dst = append(dst, bodyVersion)
	if w.next.kv != nil {
		return append(dst, w.json...)
	}
	dst = appendBytes(dst, w.json)
	dst = binary.AppendUvarint(dst, uint64(len(w.next.branches)))
	var before []byte
	for i := range w.next.branches {
		dst = appendBranch(dst, &w.next.branches[i], i > 0, before)
		before = w.next.branches[i].BinData
	}
	return dst
}

func appendBranch(dst []byte, b *storage.TransBranchStore, follows bool, before []byte) []byte {
	times := [...]*time.Time{b.CreateTime, b.UpdateTime, b.FinishTime, b.RollbackTime}
	var flags byte
	if follows && string(b.BinData) == string(before) {
		flags |= dataAsBefore
	}
	for i, t := range times {
		if t != nil {
			flags |= hasCreated << i
		}
	}
	dst = append(dst, flags)
	for _, s := range [...]string{b.BranchID, b.Op, b.Status, b.URL} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	if flags&dataAsBefore == 0 {
		dst = appendBytes(dst, b.BinData)
	}
	for _, t := range times {
		if t != nil {
			dst = binary.AppendVarint(dst, t.UnixNano())
		}
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// decodeRecord reads a body. The record has memory of its own.
func decodeRecord(kind byte, body []byte) (*record, error) {
	if len(body) == 0 || body[0] != bodyVersion {
		return nil, errBody
	}
	r := new(record)
	if kind == kindKV {
		r.kv = new(storage.KVStore)
		if err := json.Unmarshal(body[1:], r.kv); err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		return r, nil
	}
	d := decoder{rest: body[1:]}
	err := json.Unmarshal(d.bytes(), &r.global)
	if err != nil || d.bad {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	n := d.uvarint()
	if n > uint64(len(d.rest)) { // each has a byte of flags at least
		return nil, errBody
	}
	r.branches = make([]storage.TransBranchStore, n)
	for i := range r.branches {
		b := &r.branches[i]
		b.Gid = r.global.Gid
		flags := d.byte()
		b.BranchID, b.Op, b.Status, b.URL = d.text(), d.text(), d.text(), d.text()
		switch {
		case flags&dataAsBefore == 0:
			b.BinData = slices.Clone(d.bytes())
		case i > 0:
			b.BinData = r.branches[i-1].BinData
		default:
			d.bad = true
		}
		for bit, t := range [...]**time.Time{&b.CreateTime, &b.UpdateTime, &b.FinishTime, &b.RollbackTime} {
			if flags&(hasCreated<<bit) != 0 {
				at := time.Unix(0, d.varint())
				*t = &at
			}
		}
	}
	if d.bad || len(d.rest) > 0 {
		return nil, errBody
	}
	return r, nil
}

// decoder reads a body; after the first fault it returns zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) fail() {
	d.bad, d.rest = true, nil
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) text() string { return string(d.bytes()) }
