package filters

import (
	"crypto/sha256"
	"encoding/hex"
)

// principalDigits is how many hexadecimal digits stand for a principal: 64 bits, so that two of a billion
// principals share a name with a chance of one in forty.
const principalDigits = 16

// AppendHashedPrincipal appends what logs have in place of a principal: the first 16 hexadecimal digits of its
// SHA-256, nothing for no principal. It tells lines of one principal from those of others, and an operator who
// knows a principal finds its lines:
//
//	printf %s alice | sha256sum | cut -c1-16
//
// It keeps names out of logs. It does not hide them from somebody who tries all the names that there are.
func AppendHashedPrincipal(dst []byte, principal string) []byte {
	if principal == "" {
		return dst
	}
	var b [256]byte // without it a long name would cost an allocation
	sum := sha256.Sum256(append(b[:0], principal...))
	return hex.AppendEncode(dst, sum[:principalDigits/2])
}

// HashedPrincipal is [AppendHashedPrincipal] as a string.
func HashedPrincipal(principal string) string {
	return string(AppendHashedPrincipal(nil, principal))
}
