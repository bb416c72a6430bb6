package router

import (
	"errors"
	"strings"
)

// Errors of [Canonical]; each names what a client has to change.
var (
	ErrPathForm      = errors.New("router: the path does not begin with a slash")
	ErrPathEscape    = errors.New("router: the path has a malformed percent escape")
	ErrPathByte      = errors.New("router: the path has a control byte, a space, a backslash or a byte beyond ASCII")
	ErrPathSlash     = errors.New("router: the path has an encoded slash")
	ErrPathParameter = errors.New("router: the path has a parameter (;), or an encoded semicolon")
	ErrPathAbove     = errors.New("router: the path leads above the root")
)

// Canonical returns the canonical form of a request's path, without the query. A path that is
// canonical already is returned as it is, without an allocation. The error is one of the package's.
func Canonical(path string) (string, error) {
	if path == "" || path[0] != '/' {
		return "", ErrPathForm
	}
	if plain(path) {
		return path, nil
	}
	decoded, err := normalizeEscapes(path)
	if err != nil {
		return "", err
	}
	return resolveSegments(decoded)
}

// plain reports whether there is nothing in the path to change or refuse.
func plain(path string) bool {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.') {
			return false
		}
		if !unreserved(c) && c != '/' && !subDelimiter(c) {
			return false
		}
	}
	return true
}

func normalizeEscapes(path string) (string, error) {
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '%':
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return "", ErrPathEscape
			}
			d := unhex(path[i+1])<<4 | unhex(path[i+2])
			i += 2
			switch {
			case d == '/':
				return "", ErrPathSlash
			case d < 0x20 || d == 0x7f || d == '\\':
				return "", ErrPathByte
			case d == ';': // some servers decode first and then cut parameters off
				return "", ErrPathParameter
			case unreserved(d):
				b.WriteByte(d)
			default:
				b.WriteByte('%')
				b.WriteByte(upperHex[d>>4])
				b.WriteByte(upperHex[d&15])
			}
		case c == ';':
			return "", ErrPathParameter
		case c == '/' || unreserved(c) || subDelimiter(c):
			b.WriteByte(c)
		case c <= 0x20 || c >= 0x7f || c == '\\':
			return "", ErrPathByte
		default: // RFC 3986 wants it escaped, and some clients send it bare
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String(), nil
}

func resolveSegments(path string) (string, error) {
	var kept []string
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case "", ".":
			if last {
				kept = append(kept, "")
			}
		case "..":
			if len(kept) == 0 {
				return "", ErrPathAbove
			}
			kept = kept[:len(kept)-1]
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	return "/" + strings.Join(kept, "/"), nil
}

// unescape decodes a segment of a canonical path.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

// EscapeSegment writes any text as one segment of a canonical path, which [Router.Find] gives back
// decoded.
func EscapeSegment(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if unreserved(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

const upperHex = "0123456789ABCDEF"

func unreserved(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '-' || c == '.' || c == '_' || c == '~'
}

// subDelimiter reports whether RFC 3986 §3.3 lets c stand bare in a segment, beside unreserved
// characters. The semicolon is left out: see [ErrPathParameter].
func subDelimiter(c byte) bool {
	switch c {
	case '!', '$', '&', '\'', '(', ')', '*', '+', ',', '=', ':', '@':
		return true
	}
	return false
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
