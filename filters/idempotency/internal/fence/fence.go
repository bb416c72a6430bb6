// Package fence draws the tokens by which a store fences off late owners of a claim.
package fence

import (
	"crypto/rand"
	"encoding/binary"
)

// NewToken returns a random token, never 0.
func NewToken() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails, as crypto/rand says
		if token := binary.LittleEndian.Uint64(b[:]); token != 0 {
			return token
		}
	}
}
