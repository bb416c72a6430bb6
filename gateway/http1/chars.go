package http1

import "unsafe"

// Classes of bytes (RFC 9110 §5.5 and §5.6.2).
const (
	isToken  = 1 << iota // of a method or a field name
	isValue              // of a field value: visible, space, tab, and what lies beyond ASCII
	isTarget             // of a request target: visible ASCII
	isHex
)

var class = func() (t [256]uint8) {
	for c := 0x21; c < 0x7f; c++ {
		t[c] |= isValue | isTarget
	}
	for c := 0x80; c < 0x100; c++ {
		t[c] |= isValue
	}
	t[' '] |= isValue
	t['\t'] |= isValue
	for c := '0'; c <= '9'; c++ {
		t[c] |= isToken | isHex
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] |= isToken
		t[c-0x20] |= isToken
	}
	for c := 'a'; c <= 'f'; c++ {
		t[c] |= isHex
		t[c-0x20] |= isHex
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= isToken
	}
	return t
}()

// Token reports whether s is a token (RFC 9110 §5.6.2), as a method and a field name have to be.
func Token(s string) bool {
	for i := range len(s) {
		if class[s[i]]&isToken == 0 {
			return false
		}
	}
	return s != ""
}

// Visible reports whether s has visible ASCII only, as a request target and a host have to.
func Visible(s string) bool {
	for i := range len(s) {
		if class[s[i]]&isTarget == 0 {
			return false
		}
	}
	return true
}

// FieldValue reports whether s can be a field's value: no control byte but the tab (RFC 9110 §5.5).
func FieldValue(s string) bool {
	for i := range len(s) {
		if class[s[i]]&isValue == 0 {
			return false
		}
	}
	return true
}

// text makes a string of bytes without a copy. It is good for as long as the buffer is not used again.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
