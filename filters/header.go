package filters

import "strings"

// Field is one header field line.
type Field struct {
	Name  string
	Value string
}

// Header is the list of field lines of a message in the order in which they came. Names compare
// without regard to case (RFC 9110 §5.1). The zero value is an empty header ready for use. It is
// not safe for concurrent use.
//
// A list, and not a map, because a message has some twenty fields at most as a rule: a walk is
// cheaper than hashing, the order and the spelling survive, and a pooled list allocates nothing.
type Header []Field

// Get returns the value of the first field with that name, or "" without one.
func (h Header) Get(name string) string {
	v, _ := h.Lookup(name)
	return v
}

// Lookup returns the value of the first field with that name and whether there is one.
func (h Header) Lookup(name string) (string, bool) {
	for i := range h {
		if EqualName(h[i].Name, name) {
			return h[i].Value, true
		}
	}
	return "", false
}

// Count returns the number of field lines with that name.
func (h Header) Count(name string) int {
	n := 0
	for i := range h {
		if EqualName(h[i].Name, name) {
			n++
		}
	}
	return n
}

// Joined returns the values of all fields with that name joined by ", " (RFC 9110 §5.3), or ""
// without one.
func (h Header) Joined(name string) string {
	if h.Count(name) < 2 {
		return h.Get(name)
	}
	var b strings.Builder
	for i := range h {
		if EqualName(h[i].Name, name) {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			b.WriteString(h[i].Value)
		}
	}
	return b.String()
}

// Add appends a field line.
func (h *Header) Add(name, value string) { *h = append(*h, Field{name, value}) }

// Set replaces all fields of that name by one, at the place of the first; without one it appends.
func (h *Header) Set(name, value string) {
	for i := range *h {
		if EqualName((*h)[i].Name, name) {
			(*h)[i].Value = value
			rest := (*h)[i+1:]
			rest.Del(name)
			*h = (*h)[:i+1+len(rest)]
			return
		}
	}
	h.Add(name, value)
}

// Del removes all fields of that name.
func (h *Header) Del(name string) {
	*h = without(*h, func(n string) bool { return EqualName(n, name) })
}

// DelFunc removes all fields whose name the function holds for.
func (h *Header) DelFunc(drop func(name string) bool) { *h = without(*h, drop) }

// Clone returns a copy that shares no list with the original.
func (h Header) Clone() Header { return append(Header(nil), h...) }

func without(h Header, drop func(string) bool) Header {
	n := 0
	for n < len(h) && !drop(h[n].Name) { // as a rule nothing is dropped, and then nothing is moved
		n++
	}
	if n == len(h) {
		return h
	}
	kept := h[:n]
	for _, f := range h[n+1:] {
		if !drop(f.Name) {
			kept = append(kept, f)
		}
	}
	clear(h[len(kept):])
	return kept
}

// EqualName reports whether two field names are the same one, ASCII case aside.
func EqualName(a, b string) bool {
	if len(a) != len(b) { // decides nearly always, and is cheap enough to be inlined
		return false
	}
	return equalFold(a, b)
}

func equalFold(a, b string) bool {
	for i := 0; i < len(a) && i < len(b); i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x |= 0x20; x != y|0x20 || x < 'a' || x > 'z' {
			return false
		}
	}
	return true
}

// HasNamePrefix reports whether a field name begins with prefix, ASCII case aside.
func HasNamePrefix(name, prefix string) bool {
	return len(name) >= len(prefix) && equalFold(name[:len(prefix)], prefix)
}
