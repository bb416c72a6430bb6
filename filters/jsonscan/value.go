package jsonscan

import (
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// Value is a well-formed JSON value as it stands in a text: a part of it, without white space around it.
type Value []byte

// Kind is the type of a value.
type Kind uint8

// The types of values.
const (
	Object Kind = iota + 1
	List
	String
	Number
	True
	False
	Null
)

// Kind returns the type of the value.
func (v Value) Kind() Kind {
	switch v[0] {
	case '{':
		return Object
	case '[':
		return List
	case '"':
		return String
	case 't':
		return True
	case 'f':
		return False
	case 'n':
		return Null
	}
	return Number
}

// Text returns the characters of a string, a number or a word as it is written, and an object or a list as
// [Value.Compact] has it. It is a part of the value's own text where that is the same. The error is [Surrogate].
func (v Value) Text() (string, error) {
	if v.Kind() != String {
		return alias(v.Compact()), nil
	}
	content, n, plain := v[1:len(v)-1], 0, true
	for i := 0; i < len(content); {
		if content[i] != '\\' {
			i++
			n++
			continue
		}
		plain = false
		r, size := character(content[i:])
		if utf16.IsSurrogate(r) {
			return "", Surrogate
		}
		i += size
		n += utf8.RuneLen(r)
	}
	if plain {
		return alias(content), nil
	}
	out := make([]byte, 0, n)
	for i := 0; i < len(content); {
		if content[i] != '\\' {
			out = append(out, content[i])
			i++
			continue
		}
		r, size := character(content[i:])
		i += size
		out = utf8.AppendRune(out, r)
	}
	return alias(out), nil
}

// Compact returns the value without white space between its tokens, and else as it is written: its members in their
// order, its strings with their escapes. It is the value itself where there is none.
func (v Value) Compact() Value {
	n := v.CompactLen()
	if n == len(v) {
		return v
	}
	out := make([]byte, 0, n)
	v.eachToken(func(token []byte) { out = append(out, token...) })
	return out
}

// CompactLen returns the length of [Value.Compact].
func (v Value) CompactLen() (n int) {
	v.eachToken(func(token []byte) { n += len(token) })
	return n
}

// eachToken calls f with the parts of the value between which there is white space, or with parts of those.
func (v Value) eachToken(f func(token []byte)) {
	for i := 0; i < len(v); {
		start := i
		switch v[i] {
		case ' ', '\t', '\r', '\n':
			i++
			continue
		case '"':
			i = stringEnd(v, i)
		default:
			for i < len(v) && v[i] > ' ' && v[i] != '"' {
				i++
			}
		}
		f(v[start:i])
	}
}

// stringEnd returns the position behind the string that begins at i.
func stringEnd(v []byte, i int) int {
	for i++; v[i] != '"'; i++ {
		if v[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// equal reports whether two values are the same but for white space and escapes.
func (v Value) equal(o Value) bool {
	i, j := 0, 0
	for {
		i, j = skipSpace(v, i), skipSpace(o, j)
		if i == len(v) || j == len(o) {
			return i == len(v) && j == len(o)
		}
		if v[i] != o[j] {
			return false
		}
		if v[i] != '"' {
			i++
			j++
			continue
		}
		endI, endJ := stringEnd(v, i), stringEnd(o, j)
		if !sameCharacters(v[i+1:endI-1], o[j+1:endJ-1]) {
			return false
		}
		i, j = endI, endJ
	}
}

func skipSpace(v []byte, i int) int {
	for i < len(v) && (v[i] == ' ' || v[i] == '\t' || v[i] == '\r' || v[i] == '\n') {
		i++
	}
	return i
}

// sameCharacters reports whether the contents of two strings are the same characters. Halves of surrogate pairs are
// characters here.
func sameCharacters(a, b []byte) bool {
	for len(a) > 0 && len(b) > 0 {
		if a[0] != '\\' && b[0] != '\\' {
			if a[0] != b[0] {
				return false
			}
			a, b = a[1:], b[1:]
			continue
		}
		r, n := character(a)
		q, m := character(b)
		if r != q {
			return false
		}
		a, b = a[n:], b[m:]
	}
	return len(a) == len(b)
}

// spells reports whether the content of a string is a name.
func spells(content []byte, name string) bool {
	for i := 0; i < len(content); {
		if name == "" {
			return false
		}
		if content[i] != '\\' {
			if content[i] != name[0] {
				return false
			}
			i++
			name = name[1:]
			continue
		}
		r, size := character(content[i:])
		q, n := utf8.DecodeRuneInString(name)
		if r != q || n == 1 && q == utf8.RuneError {
			return false
		}
		i += size
		name = name[n:]
	}
	return name == ""
}

// character reads one character of a string's content, escaped or not, and returns how many bytes it has. Half of a
// surrogate pair is returned as it is.
func character(content []byte) (r rune, size int) {
	if content[0] != '\\' {
		return utf8.DecodeRune(content)
	}
	switch c := content[1]; c {
	case 'u':
		r = hex4(content[2:6])
		if utf16.IsSurrogate(r) && len(content) >= 12 && content[6] == '\\' && content[7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(content[8:12])); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return r, 6
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	default: // " \ /
		return rune(c), 2
	}
}

func hex4(digits []byte) (r rune) {
	for _, c := range digits {
		r = r<<4 | rune(hexDigit(c))
	}
	return r
}

// hexDigit returns the value of a hexadecimal digit, -1 for another byte.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// alias returns a string over the bytes themselves.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
