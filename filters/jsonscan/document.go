package jsonscan

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Fault says why a text, or a member of it, has no one meaning. Error returns what is wrong, to stand behind a subject.
type Fault uint8

// The faults. Those of a text come first.
const (
	Malformed Fault = iota + 1 // it begins as JSON and breaks the grammar
	Several                    // something follows the document
	TooDeep                    // it is nested beyond the bound
	NotUTF8                    // it is not UTF-8, as JSON between systems is
	Ambiguous                  // of a member: its name, or one on the way to it, comes twice with different values
	Surrogate                  // of a member: its string has half of a surrogate pair
)

func (f Fault) Error() string {
	switch f {
	case Malformed:
		return "is not well-formed JSON"
	case Several:
		return "holds more than one JSON document"
	case TooDeep:
		return "is nested deeper than " + strconv.Itoa(depthMax) + " levels"
	case NotUTF8:
		return "is not UTF-8"
	case Ambiguous:
		return "comes twice with different values"
	case Surrogate:
		return "has half of a surrogate pair"
	}
	return "has an unknown fault"
}

// OfMember reports whether the fault is that of one member and not of the whole text.
func (f Fault) OfMember() bool { return f == Ambiguous || f == Surrogate }

// Members is a set of members of a document. It is immutable and safe for concurrent use.
type Members struct {
	nodes []node // the first one is the document itself
}

// node is a member of the set, or one on the way to it.
type node struct{ children []edge }

type edge struct {
	name  string
	index int // the name as an index of a list; -1: it is none
	node  int
}

// NewMembers makes a set of the members with those paths. An empty path is the document.
func NewMembers(paths ...[]string) *Members {
	m := &Members{nodes: make([]node, 1)}
	for _, path := range paths {
		at := 0
		for _, name := range path {
			next := m.nodes[at].child(name)
			if next < 0 {
				next = len(m.nodes)
				m.nodes = append(m.nodes, node{})
				m.nodes[at].children = append(m.nodes[at].children, edge{name, indexOf(name), next})
			}
			at = next
		}
	}
	return m
}

func (n *node) child(name string) int {
	for i := range n.children {
		if n.children[i].name == name {
			return n.children[i].node
		}
	}
	return -1
}

func indexOf(name string) int {
	i, err := strconv.Atoi(name)
	if err != nil || strconv.Itoa(i) != name {
		return -1
	}
	return i
}

// Document is a text in which the members of a set were looked up. The zero value is one without members. It may be
// used again and again; it is not safe for concurrent use.
type Document struct {
	text    []byte
	members *Members
	places  []place // by node
	fault   Fault   // of the text; 0: none
	none    bool    // the text is no document
}

// place is where a node stands in the text.
type place struct {
	there      bool
	ambiguous  bool
	start, end int
	last       Value // the latest value of the name, where it came again
}

// Scan goes over a text for the members of a set. The text must not change as long as the document is used.
func (d *Document) Scan(text []byte, m *Members) {
	d.Reset()
	d.text, d.members = text, m
	d.places = slices.Grow(d.places[:0], len(m.nodes))[:len(m.nodes)]
	clear(d.places)
	s := scanner{text: text, members: m, places: d.places}
	switch {
	case otherEncoding(text):
		d.fault = NotUTF8
		return
	case bytes.HasPrefix(text, utf8Mark):
		s.at = len(utf8Mark)
	}
	d.fault, d.none = s.document()
	if !d.none && !utf8.Valid(text) {
		d.fault = NotUTF8
	}
}

// Reset forgets the text and keeps the room for places.
func (d *Document) Reset() { *d = Document{places: d.places[:0]} }

// Scanned reports whether there was a Scan since the last Reset.
func (d *Document) Scanned() bool { return d.members != nil }

// Member returns the member with that path; an empty path is the document. False: there is none. A path that is not in
// the set costs a pass of its own. The error is a [Fault].
func (d *Document) Member(path []string) (Value, bool, error) {
	switch {
	case d.members == nil || d.none:
		return nil, false, nil
	case d.fault != 0:
		return nil, false, d.fault
	}
	at := 0
	for _, name := range path {
		if at = d.members.nodes[at].child(name); at < 0 {
			var own Document
			own.Scan(d.text, NewMembers(path))
			return own.Member(path)
		}
		switch {
		case d.places[at].ambiguous:
			return nil, false, Ambiguous
		case !d.places[at].there:
			return nil, false, nil
		}
	}
	p := &d.places[at]
	return Value(d.text[p.start:p.end]), true, nil
}

var utf8Mark = []byte("\xef\xbb\xbf")

// otherEncoding reports whether a text is JSON in UTF-16 or UTF-32, by its mark or by the NULs of its first character.
func otherEncoding(text []byte) bool {
	for _, p := range [...]string{
		"\xfe\xff", "\xff\xfe", "\x00\x00\xfe\xff", "\x00{", "\x00[", "\x00\x00\x00{\x00", "\x00\x00\x00[\x00",
	} {
		if len(text) >= len(p) && string(text[:len(p)]) == p {
			return true
		}
	}
	return false // little endian begins as JSON does, and breaks its grammar
}

// beginsValue reports whether a byte can be the first one of a value.
func beginsValue(c byte) bool {
	switch c {
	case '{', '[', '"', '-', 't', 'f', 'n':
		return true
	}
	return '0' <= c && c <= '9'
}
