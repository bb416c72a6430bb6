package sagaclient

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"regexp"
	"strings"
)

// GIDLength is the length of the gids that this package makes, and of those of the gateway: all
// gids of one coordinator should have one length, since DTM's bolt store loses branches when a gid
// is the beginning of another one.
const GIDLength = 40

const gidBytes = GIDLength * 5 / 8

var gidPattern = regexp.MustCompile(`^[0-9a-z]{8,60}$`)

var gidEncoding = base32.HexEncoding // in lower case: [0-9a-v]

// NewGID returns a random gid.
func NewGID() string {
	var b [gidBytes]byte
	rand.Read(b[:]) // never fails; see its documentation
	return strings.ToLower(gidEncoding.EncodeToString(b[:]))
}

// GIDFor returns the gid of a business key, the same for the same parts: GIDFor("order", "4711").
// With it a process that dies between the submit and the record of it queries, after its restart,
// the transaction that it may have submitted. Parts are told apart: ("ab", "c") is another key than
// ("a", "bc"). Two of 2^100 keys, in practice no two, have one gid.
//
// One key is one transaction for ever. What may be tried again after a roll-back needs the number
// of the try among its parts.
func GIDFor(parts ...string) string {
	h := sha256.New()
	var length [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return strings.ToLower(gidEncoding.EncodeToString(h.Sum(nil)[:gidBytes]))
}
