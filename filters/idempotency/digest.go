package idempotency

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// name is a logical request's name as it is written.
type name [IDLength]byte

const nameDigits = "0123456789abcdefghijklmnopqrstuv"

// digester digests lists of parts, one after the other; each part is told apart from its neighbours by its length. It
// comes from a pool and goes back there.
type digester struct {
	hash     hash.Hash
	begun    bool   // the hash has been given something
	gathered []byte // short parts that the hash has not been given yet: one call for many of them
	sum      [sha256.Size]byte
}

const gatheredMax = 1 << 10

var digesters = sync.Pool{New: func() any {
	return &digester{hash: sha256.New(), gathered: make([]byte, 0, gatheredMax)}
}}

func newDigester() *digester { return digesters.Get().(*digester) }

func (d *digester) free() {
	if d.begun || len(d.gathered) > 0 { // a part could not be read
		d.end()
	}
	digesters.Put(d)
}

// parts takes what the references stand for; a missing one is told from an empty one.
func (d *digester) parts(refs []ref.Ref, x *filters.Exchange) error {
	for i := range refs {
		r := &refs[i]
		if r.Root == ref.Body && len(r.Path) == 0 { // not as a text, which would be a copy: it can be megabytes
			body, err := x.Body()
			if err != nil {
				return err
			}
			d.bytes(body)
			continue
		}
		v, ok, err := r.Text(x)
		switch {
		case err != nil:
			return err
		case !ok:
			d.length(0)
			continue
		}
		d.text(v)
	}
	return nil
}

func (d *digester) length(n int) {
	d.room(8)
	d.gathered = binary.BigEndian.AppendUint64(d.gathered, uint64(n))
}

func (d *digester) text(s string) {
	d.length(len(s) + 1)
	for len(s) > 0 {
		d.room(1)
		n := min(len(s), gatheredMax-len(d.gathered))
		d.gathered = append(d.gathered, s[:n]...)
		s = s[n:]
	}
}

func (d *digester) bytes(b []byte) {
	d.length(len(b) + 1)
	if len(b) <= gatheredMax-len(d.gathered) {
		d.gathered = append(d.gathered, b...)
		return
	}
	d.flush()
	d.hash.Write(b)
}

// room makes sure that so many bytes can be gathered.
func (d *digester) room(n int) {
	if gatheredMax-len(d.gathered) < n {
		d.flush()
	}
}

func (d *digester) flush() {
	d.hash.Write(d.gathered)
	d.begun, d.gathered = true, d.gathered[:0]
}

// end returns the digest, which is good until the next one or free.
func (d *digester) end() *[sha256.Size]byte {
	if !d.begun { // the rule
		d.sum = sha256.Sum256(d.gathered)
		d.gathered = d.gathered[:0]
		return &d.sum
	}
	d.flush()
	d.hash.Sum(d.sum[:0])
	d.hash.Reset()
	d.begun = false
	return &d.sum
}

// name returns 160 bits of the digest in characters: base32hex without padding (RFC 4648 §7), in small letters.
func (d *digester) name() (n name) {
	sum := d.end()
	for i := range IDLength / 8 {
		bits := binary.BigEndian.Uint64(sum[5*i:]) >> 24
		for j := range 8 {
			n[8*i+j] = nameDigits[bits>>(35-5*j)&31]
		}
	}
	return n
}
