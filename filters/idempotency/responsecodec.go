package idempotency

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/s2"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sluice-gateway/sluice/filters"
)

// The stored form of a response begins with a byte that says which one it is:
//
//	2  plain: the fields, and a CRC-32C over all before it
//	3  sealed: key (4 bytes of its SHA-256), nonce (24), the fields encrypted;
//	   all before the nonce, and the record's ID, are authenticated too
//
// The fields are flags, status, header, trailer, body; the body is one S2 block where that is
// shorter. (1 is the plain form without trailers of an earlier version.)
const (
	responsePlain  = 2
	responseSealed = 3

	responseReplayable = 1 << 0
	responseCompressed = 1 << 1

	keyMarkLen    = 4
	compressedMin = 512 // bytes of a body that is worth a try
	// bytes of a compressed body, so that a forged length cannot take the memory; longer ones are
	// not compressed
	inflatedMax = 64 << 20
)

// EncryptionKeyLength is how many bytes an encryption key has.
const EncryptionKeyLength = chacha20poly1305.KeySize

// ErrForged says that a response is sealed by none of the keys, or was not sealed for this record,
// or is not sealed at all where it has to be.
var ErrForged = errors.New("idempotency: stored response does not open under any key")

// ResponseCodec turns responses into what stores keep and back. Where it has keys it seals them
// (XChaCha20-Poly1305, draft-irtf-cfrg-xchacha, whose nonces can be drawn at random without end),
// bound to the record's ID: whoever can write to the store can neither make up a response, nor
// change one, nor move it to another record. The zero value has no keys. It is safe for concurrent
// use.
type ResponseCodec struct {
	ring atomic.Pointer[[]sealingKey] // the first one seals, all open; nil: none
}

type sealingKey struct {
	mark [keyMarkLen]byte // finds the key
	aead cipher.AEAD
}

// NewResponseCodec returns a codec with these keys of [EncryptionKeyLength] bytes; without any it
// does not encrypt. The error names the key by its place, from 0.
func NewResponseCodec(keys ...[]byte) (*ResponseCodec, error) {
	c := new(ResponseCodec)
	if err := c.SetKeys(keys...); err != nil {
		return nil, err
	}
	return c, nil
}

// SetKeys replaces the keys. With an error they stay what they were.
func (c *ResponseCodec) SetKeys(keys ...[]byte) error {
	var ring []sealingKey
	for i, key := range keys {
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return fmt.Errorf("idempotency: encryption key %d has %d bytes, it needs %d", i, len(key),
				EncryptionKeyLength)
		}
		k := sealingKey{aead: aead}
		sum := sha256.Sum256(key)
		copy(k.mark[:], sum[:])
		ring = append(ring, k)
	}
	c.ring.Store(&ring)
	return nil
}

func (c *ResponseCodec) keys() []sealingKey {
	if ring := c.ring.Load(); ring != nil {
		return *ring
	}
	return nil
}

// scratch holds buffers for the plain text and the compressed body of a response.
var scratch = sync.Pool{New: func() any { return new([2][]byte) }}

const scratchMax = 1 << 20 // bytes of a buffer that is kept

// Append appends the stored form of the response of the record with that ID.
func (c *ResponseCodec) Append(dst []byte, id string, a *Response) []byte {
	buffers := scratch.Get().(*[2][]byte)
	defer func() {
		if cap(buffers[0])+cap(buffers[1]) <= scratchMax {
			scratch.Put(buffers)
		}
	}()
	body, flags := a.Body, byte(0)
	if a.Replayable {
		flags = responseReplayable
	}
	if worthCompressing(a) {
		if most := s2.MaxEncodedLen(len(body)); cap(buffers[1]) < most {
			buffers[1] = make([]byte, most)
		}
		if short := s2.Encode(buffers[1][:cap(buffers[1])], body); len(short) < len(body)-len(body)/8 {
			body, flags = short, flags|responseCompressed
		}
	}
	keys := c.keys()
	if len(keys) == 0 {
		from := len(dst)
		return appendCRC(appendResponseFields(append(dst, responsePlain), flags, a, body), from)
	}
	buffers[0] = appendResponseFields(buffers[0][:0], flags, a, body)
	return keys[0].seal(dst, id, buffers[0])
}

func (k *sealingKey) seal(dst []byte, id string, fields []byte) []byte {
	head := len(dst)
	dst = append(append(dst, responseSealed), k.mark[:]...)
	bound := append(bytes.Clone(dst[head:]), id...)
	nonce := len(dst)
	var random [chacha20poly1305.NonceSizeX]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	dst = append(dst, random[:]...)
	return k.aead.Seal(dst, dst[nonce:nonce+len(random)], fields, bound)
}

func worthCompressing(a *Response) bool {
	return len(a.Body) >= compressedMin && len(a.Body) <= inflatedMax && a.Header.Get("Content-Encoding") == ""
}

// OpenedResponse is a response that was read, with the memory for the next one.
type OpenedResponse struct {
	Response
	plain    []byte // of a sealed one
	inflated []byte // a body that was compressed
}

// reset lets go of what was read. Memory of more than that many bytes is not kept.
func (o *OpenedResponse) reset(most int) {
	clear(o.Header)
	clear(o.Trailer)
	o.Response = Response{Header: o.Header[:0], Trailer: o.Trailer[:0]}
	if cap(o.plain) > most {
		o.plain = nil
	}
	if cap(o.inflated) > most {
		o.inflated = nil
	}
}

// Open reads the stored form of the response of the record with that ID; the response may lie in
// the memory of b, which must not change. The error wraps [ErrForged] or [ErrCorrupt].
func (c *ResponseCodec) Open(id string, b []byte) (Response, error) {
	var o OpenedResponse
	if err := c.OpenInto(&o, id, b); err != nil {
		return Response{}, err
	}
	return o.Response, nil
}

// OpenInto is Open for a response that takes the place of the one that o has.
func (c *ResponseCodec) OpenInto(o *OpenedResponse, id string, b []byte) error {
	keys := c.keys()
	if len(keys) == 0 && len(b) > 0 && b[0] == responseSealed {
		return fmt.Errorf("%w: there are no keys, and it is sealed", ErrForged)
	}
	if len(keys) == 0 {
		fields, err := checked(b, responsePlain, "response")
		if err != nil {
			return err
		}
		return o.decode(fields)
	}
	const nonce = 1 + keyMarkLen
	const sealed = nonce + chacha20poly1305.NonceSizeX
	if len(b) < sealed+chacha20poly1305.Overhead || b[0] != responseSealed {
		return fmt.Errorf("%w: it is not sealed, or cut short", ErrForged)
	}
	bound := append(bytes.Clone(b[:nonce]), id...)
	for i := range keys {
		if k := &keys[i]; bytes.Equal(k.mark[:], b[1:nonce]) {
			if fields, err := k.aead.Open(o.plain[:0], b[nonce:sealed], b[sealed:], bound); err == nil {
				o.plain = fields
				return o.decode(fields)
			}
		}
	}
	return ErrForged
}

func appendResponseFields(dst []byte, flags byte, a *Response, body []byte) []byte {
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, int64(a.Status))
	dst = appendFields(dst, a.Header)
	dst = appendFields(dst, a.Trailer)
	return appendBytes(dst, body)
}

func appendFields(dst []byte, h filters.Header) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(h)))
	for i := range h {
		dst = appendString(appendString(dst, h[i].Name), h[i].Value)
	}
	return dst
}

// decode reads the fields; the response lies in their memory, but for a body that was compressed.
func (o *OpenedResponse) decode(fields []byte) error {
	d := decoder{b: fields, share: true}
	flags := d.byte()
	if flags&^(responseReplayable|responseCompressed) != 0 {
		d.fail()
	}
	o.Replayable = flags&responseReplayable != 0
	o.Status = d.int()
	o.Header = d.fields(o.Header[:0])
	o.Trailer = d.fields(o.Trailer[:0])
	body := d.bytes(d.uvarint())
	if err := d.end(); err != nil {
		return err
	}
	o.Body = nil
	if len(body) > 0 {
		o.Body = body[:len(body):len(body)] // an append must not write behind it
	}
	if flags&responseCompressed == 0 {
		return nil
	}
	n, err := s2.DecodedLen(body)
	if err != nil || n > inflatedMax {
		return fmt.Errorf("%w: compressed body of %d bytes, at most %d: %v", ErrCorrupt, n, inflatedMax, err)
	}
	if o.inflated, err = s2.Decode(o.inflated[:cap(o.inflated)], body); err != nil {
		return fmt.Errorf("%w: compressed body: %w", ErrCorrupt, err)
	}
	o.Body = o.inflated
	return nil
}

// fields reads a list of fields into the memory of another one.
func (d *decoder) fields(h filters.Header) filters.Header {
	n := d.uvarint()
	if n > uint64(len(d.b))/2 { // a field takes two bytes at least; a wild count must not allocate
		d.fail()
		return nil
	}
	if uint64(cap(h)) < n {
		h = make(filters.Header, 0, n)
	}
	for range n {
		h = append(h, filters.Field{Name: d.string(), Value: d.string()})
	}
	return h
}
