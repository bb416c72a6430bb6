package message

import (
	"net/netip"
	"strings"
)

// Classes of bytes (RFC 9110 §5.5 and §5.6.2).
const (
	isToken  = 1 << iota // of a method or a field name
	isValue              // of a field value: visible, space, tab, and what lies beyond ASCII
	isTarget             // of a request target: visible ASCII
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
		t[c] |= isToken
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] |= isToken
		t[c-0x20] |= isToken
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= isToken
	}
	return t
}()

// TokenByte reports whether c may stand in a token (RFC 9110 §5.6.2).
func TokenByte(c byte) bool { return class[c]&isToken != 0 }

// ValueByte reports whether c may stand in a field's value (RFC 9110 §5.5).
func ValueByte(c byte) bool { return class[c]&isValue != 0 }

// TargetByte reports whether c may stand in a request target: visible ASCII.
func TargetByte(c byte) bool { return class[c]&isTarget != 0 }

// Token reports whether s is a token (RFC 9110 §5.6.2), as a method and a field name have to be.
func Token(s string) bool {
	for i := range len(s) {
		if !TokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// Visible reports whether s has visible ASCII only, as a request target and a host have to.
func Visible(s string) bool {
	for i := range len(s) {
		if !TargetByte(s[i]) {
			return false
		}
	}
	return true
}

// FieldValue reports whether s can be a field's value: no control byte but the tab (RFC 9110 §5.5).
func FieldValue(s string) bool {
	for i := range len(s) {
		if !ValueByte(s[i]) {
			return false
		}
	}
	return true
}

// ValidHost reports whether s can be a host with a port (RFC 3986 §3.2): no user, no path, nothing
// that a server may read differently.
func ValidHost(s string) bool {
	colons := 0
	for i := range len(s) {
		switch c := s[i]; {
		case !TargetByte(c):
			return false
		case c == ':':
			colons++
		case strings.IndexByte("/\\?#@,;%\"<>^`{|}", c) >= 0: // an escape is read by some and left by others
			return false
		}
	}
	if s == "" {
		return true // RFC 9112 §3.2: the field of a target without an authority; an engine that needs one refuses it
	}
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		if a, err := netip.ParseAddr(s[1:end]); err != nil || !a.Is6() {
			return false
		}
		return s[end+1:] == "" || s[end+1] == ':' && port(s[end+2:])
	}
	if colons > 1 || strings.ContainsAny(s, "[]") {
		return false
	}
	name, digits, _ := strings.Cut(s, ":")
	return name != "" && port(digits)
}

func port(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) <= 5
}
