package idempotencyredis

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// A record is one string, of which scripts read and write the head only (HEAD in scripts.go):
//
//	offset  bytes
//	0       1      layout: 1
//	1       1      state, the number of idempotency.State
//	2       1      flags
//	3       8      token
//	11      32     fingerprint
//	43      4      attempt
//	47      5 × 8  created, lease until, cap until, TTL, expires: whole microseconds
//	87      4      length of the claim's texts
//	91      4      length of the gid
//	95             the texts: lengths of route and principal (4 bytes each), route, principal, client key; where
//	               the service is known, a zero byte and its name are part of the route
//	               gid
//	               recorded response: the rest
//
// Numbers are big-endian.
const (
	layout   = 1
	headSize = 95

	flagNotDispatched = 1
	flagCounted       = 2
	flagAwaited       = 4 // there are waiters: the end is to be published
)

// appendTexts appends what a record keeps of its request for operators.
func appendTexts(b []byte, c *idempotency.ClaimRequest) []byte {
	route := len(c.Route)
	if c.Service != "" {
		route += 1 + len(c.Service)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(route))
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Principal)))
	b = append(b, c.Route...)
	if c.Service != "" {
		b = append(append(b, 0), c.Service...)
	}
	b = append(b, c.Principal...)
	return append(b, c.ClientKey...)
}

// parseRecord reads a record; its strings are parts of s. The error wraps [idempotency.ErrCorrupt].
func parseRecord(id, s string) (idempotency.Record, error) {
	if len(s) < headSize || s[0] != layout {
		return idempotency.Record{}, fmt.Errorf("%w: %d bytes, layout %q", idempotency.ErrCorrupt, len(s),
			s[:min(len(s), 1)])
	}
	rec := idempotency.Record{
		ID: id, State: idempotency.State(s[1]), NotDispatched: s[2]&flagNotDispatched != 0,
		Counted: s[2]&flagCounted != 0,
		Token:   number(s[3:]), Attempt: int(short(s[43:])),
		Created: moment(s[47:]), LeaseUntil: moment(s[55:]), CapUntil: moment(s[63:]),
		TTL: time.Duration(number(s[71:])) * time.Microsecond, Expires: moment(s[79:]),
	}
	copy(rec.Fingerprint[:], s[11:])
	if rec.State < idempotency.InFlight || rec.State > idempotency.Unknown {
		return idempotency.Record{}, fmt.Errorf("%w: state %d", idempotency.ErrCorrupt, rec.State)
	}
	texts, gid := uint64(short(s[87:])), uint64(short(s[91:]))
	s = s[headSize:]
	if texts < 8 || texts+gid > uint64(len(s)) {
		return idempotency.Record{}, fmt.Errorf("%w: %d and %d bytes of %d", idempotency.ErrCorrupt, texts, gid, len(s))
	}
	rec.GID = s[texts : texts+gid]
	if rec.State == idempotency.Answered {
		stored := s[texts+gid:] // of a reply that nobody else has, so it need not be copied
		rec.Response = unsafe.Slice(unsafe.StringData(stored), len(stored))
	}
	if err := parseTexts(&rec, s[:texts]); err != nil {
		return idempotency.Record{}, err
	}
	return rec, nil
}

// parseTexts reads the texts of a claim.
func parseTexts(rec *idempotency.Record, s string) error {
	if len(s) < 8 {
		return fmt.Errorf("%w: texts of %d bytes", idempotency.ErrCorrupt, len(s))
	}
	route, principal := uint64(short(s)), uint64(short(s[4:]))
	if s = s[8:]; route+principal > uint64(len(s)) {
		return fmt.Errorf("%w: texts of %d and %d bytes in %d", idempotency.ErrCorrupt, route, principal, len(s))
	}
	rec.Route, rec.Service, _ = strings.Cut(s[:route], "\x00")
	rec.Principal, rec.ClientKey = s[route:route+principal], s[route+principal:]
	return nil
}

func number(s string) uint64 {
	return uint64(short(s))<<32 | uint64(short(s[4:]))
}

func short(s string) uint32 {
	_ = s[3]
	return uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
}

func moment(s string) time.Time { return time.UnixMicro(int64(number(s))).UTC() }

func appendSpan(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(max(d, 0).Microseconds()))
}

// idOf returns the ID of a record's key.
func (s *Store) idOf(key string) string {
	id := strings.TrimPrefix(key, s.records)
	if n := idempotency.OwnerLength; len(id) > n && id[n] == '}' {
		return id[:n] + id[n+1:]
	}
	return strings.TrimSuffix(id, "}")
}
