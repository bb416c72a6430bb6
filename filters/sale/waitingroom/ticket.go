package waitingroom

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// kind is what a ticket says of its holder.
type kind byte

const (
	early kind = iota + 1 // came before the sale opened
	queued
	passed // was admitted
)

// ticket is what a client shows. Nothing of it is secret; it is good for one principal and one sale.
type ticket struct {
	kind    kind
	number  uint64 // of one who is queued
	served  uint64 // the number that was being served when it was signed
	expires int64  // in Unix seconds
}

const (
	ticketHead  = 1 + 8 + 8 + 8
	ticketMAC   = 16
	ticketBytes = ticketHead + ticketMAC
	// ticketText is how long a ticket is as it is written.
	ticketText = (ticketBytes*8 + 5) / 6
)

// signer signs and reads the tickets of one sale. It is safe for concurrent use.
type signer struct {
	sale  string
	opens int64 // in Unix nanoseconds; 0: none
	pool  sync.Pool
}

// mac is a keyed hash with the memory that a use of it takes.
type mac struct {
	hash hash.Hash
	buf  []byte
	sum  [sha256.Size]byte
}

func newSigner(secret []byte, sale string, opens time.Time) *signer {
	s := &signer{sale: sale}
	if !opens.IsZero() {
		s.opens = opens.UnixNano()
	}
	key := append([]byte(nil), secret...)
	s.pool.New = func() any { return &mac{hash: hmac.New(sha256.New, key)} }
	return s
}

// appendTicket appends the ticket as it is written: base64url of its members and the first 16 bytes of
// HMAC-SHA256.
func (s *signer) appendTicket(to []byte, t ticket, principal string) []byte {
	m := s.pool.Get().(*mac)
	defer s.pool.Put(m)
	var b [ticketBytes]byte
	t.encode(b[:ticketHead])
	s.sign(m, b[:ticketHead], principal)
	copy(b[ticketHead:], m.sum[:ticketMAC])
	return base64.RawURLEncoding.AppendEncode(to, b[:])
}

// read returns the ticket that the text is for that principal. False: it was not signed here for it, or has expired.
func (s *signer) read(text, principal string, now time.Time) (ticket, bool) {
	if len(text) != ticketText {
		return ticket{}, false
	}
	var b [ticketBytes]byte
	if n, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(text)); err != nil || n != ticketBytes {
		return ticket{}, false
	}
	m := s.pool.Get().(*mac)
	defer s.pool.Put(m)
	s.sign(m, b[:ticketHead], principal)
	if !hmac.Equal(m.sum[:ticketMAC], b[ticketHead:]) {
		return ticket{}, false
	}
	t := ticket{
		kind: kind(b[0]), number: binary.BigEndian.Uint64(b[1:]), served: binary.BigEndian.Uint64(b[9:]),
		expires: int64(binary.BigEndian.Uint64(b[17:])),
	}
	return t, t.kind >= early && t.kind <= passed && now.Unix() < t.expires
}

func (t ticket) encode(b []byte) {
	b[0] = byte(t.kind)
	binary.BigEndian.PutUint64(b[1:], t.number)
	binary.BigEndian.PutUint64(b[9:], t.served)
	binary.BigEndian.PutUint64(b[17:], uint64(t.expires))
}

// sign leaves the MAC of a ticket's head in m.sum. A place in the queue is one of this opening of the sale; one who
// waits for the opening may wait for it when it is put off.
func (s *signer) sign(m *mac, head []byte, principal string) {
	opens := s.opens
	if kind(head[0]) == early {
		opens = 0
	}
	m.buf = append(m.buf[:0], "sluice ticket\x00"...)
	m.buf = append(m.buf, head...)
	s.finish(m, opens, principal)
}

// finish hashes m.buf with what a ticket and a lot are bound to. Every part but the last has a length that is fixed or
// told.
func (s *signer) finish(m *mac, opens int64, principal string) {
	m.buf = binary.BigEndian.AppendUint64(m.buf, uint64(opens))
	m.buf = binary.BigEndian.AppendUint32(m.buf, uint32(len(s.sale)))
	m.buf = append(m.buf, s.sale...)
	m.buf = append(m.buf, principal...)
	m.hash.Reset()
	m.hash.Write(m.buf)
	m.hash.Sum(m.sum[:0])
}

// lot returns what a principal draws at the opening of the sale, from 0 to 1, and the hash by which it is counted. It
// is the same however often it is asked for, and nobody without the secret can tell it before.
func (s *signer) lot(principal string) (lot float64, hash uint64) {
	m := s.pool.Get().(*mac)
	defer s.pool.Put(m)
	m.buf = append(m.buf[:0], "sluice lot\x00"...)
	s.finish(m, s.opens, principal)
	const mantissa = 53
	lot = float64(binary.BigEndian.Uint64(m.sum[:])>>(64-mantissa)) / (1 << mantissa)
	return lot, binary.BigEndian.Uint64(m.sum[8:])
}

// cookies calls yield with the value of each cookie of that name until it returns false.
func cookies(h filters.Header, name string, yield func(value string) bool) {
	for i := range h {
		if !filters.EqualName(h[i].Name, "Cookie") {
			continue
		}
		for rest := h[i].Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			key, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if key == name && !yield(value) {
				return
			}
		}
	}
}
