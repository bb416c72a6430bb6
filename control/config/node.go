package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// position is a place in a document, counted from 1.
type position struct {
	file         string
	line, column int
}

// String returns line:column.
func (p position) String() string { return strconv.Itoa(p.line) + ":" + strconv.Itoa(p.column) }

type nodeKind uint8

const (
	scalarNode nodeKind = iota
	listNode
	mappingNode
)

// node is one value of a document with its place. Aliases share nodes, so a tree is never changed but for its marks.
type node struct {
	kind    nodeKind
	pos     position
	scalar  any                // string, json.Number, bool or nil
	literal string             // a string scalar as a template reads it: what was expanded has its braces doubled
	secret  bool               // something was expanded
	source  string             // a string scalar as it is written, where something was expanded
	items   []*node            // list
	members []*member          // mapping, in the order of the document
	byName  map[string]*member // of a mapping with more than fewMembers; see [node.member]
	broken  bool               // at fault as it is: nothing that builds on it is checked
	size    int                // nodes below and this one, aliases counted as often as they stand
	depth   int                // collections below this one, aliases written out
	known   *known             // what the configuration before has of it; its members: see [node.whole]
}

// member is one key of a mapping with its value.
type member struct {
	name  string
	pos   position
	value *node
}

// child returns the value under a key, or at an index of a list, and the key's place; nil without one.
func (n *node) child(step string) (*node, position) {
	switch n.kind {
	case mappingNode:
		if m := n.member(step); m != nil {
			return m.value, m.pos
		}
	case listNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.items) {
			return n.items[i].whole(), n.items[i].pos
		}
	}
	return nil, position{}
}

// add sets a member; false when the name is taken.
func (n *node) add(m *member) bool {
	if n.member(m.name) != nil {
		return false
	}
	n.members = append(n.members, m)
	switch {
	case n.byName != nil:
		n.byName[m.name] = m
	case len(n.members) > fewMembers:
		n.byName = make(map[string]*member, 2*len(n.members))
		for _, m := range n.members {
			n.byName[m.name] = m
		}
	}
	return true
}

// fewMembers are looked through as fast as they are looked up, and a map of them takes many times their memory: a
// configuration has thousands of small mappings.
const fewMembers = 8

// member returns the member with that name; nil without one.
func (n *node) member(name string) *member {
	if n.byName != nil {
		return n.byName[name]
	}
	for _, m := range n.members {
		if m.name == name {
			return m
		}
	}
	return nil
}

// dropFree takes out the keys that begin with x-, which are there for their anchors only.
func (n *node) dropFree() {
	n.members = slices.DeleteFunc(n.members, func(m *member) bool {
		free := strings.HasPrefix(m.name, freePrefix)
		if free {
			delete(n.byName, m.name)
		}
		return free
	})
}

// freePrefix begins the keys at the top that anybody may write.
const freePrefix = "x-"

// location is where a path leads in a tree.
type location struct {
	node *node    // the value; nil when it is not written
	key  position // its key, or the value itself where it has none
	// at is where a fault about the value is shown: a scalar itself, the key of anything else, the nearest parent of
	// what is missing.
	at     position
	broken bool // it or a parent is at fault already

	root *node
	path []string
}

// find follows a path of keys and indexes, which must not be changed afterwards.
func (n *node) find(path ...string) location {
	s := location{node: n, key: n.pos, at: n.pos, broken: n.broken, root: n, path: path}
	for _, step := range path {
		next, key := s.node.child(step)
		s.node = next
		if next == nil {
			break
		}
		s.key, s.at = key, key
		if next.kind == scalarNode && next.scalar != nil {
			s.at = next.pos
		}
		s.broken = s.broken || next.broken
	}
	return s
}

// name returns the path as it is shown: routes[2].match.
func (s location) name() string {
	var name strings.Builder
	n := s.root
	for _, step := range s.path {
		switch {
		case n != nil && n.kind == listNode:
			name.WriteString("[" + step + "]")
		case name.Len() > 0:
			name.WriteString("." + step)
		default:
			name.WriteString(step)
		}
		if n != nil {
			n, _ = n.child(step)
		}
	}
	return name.String()
}

// plain returns the tree as encoding/json with UseNumber would decode it.
func (n *node) plain() any {
	switch n.kind {
	case listNode:
		list := make([]any, 0, len(n.items))
		for _, item := range n.items {
			if item.known == nil { // which the schema has been asked for
				list = append(list, item.plain())
			}
		}
		return list
	case mappingNode:
		object := make(map[string]any, len(n.members))
		for _, m := range n.members {
			object[m.name] = m.value.plain()
		}
		return object
	}
	return n.scalar
}

// typographic are the quotes of texts for people, which YAML takes for letters.
const typographic = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb"

// hint returns what to add to a message about the value when it begins or ends with a typographic quote, or nothing.
func (n *node) hint() string {
	if n == nil || n.secret {
		return ""
	}
	text, _ := n.scalar.(string)
	return quoteHint(text)
}

func quoteHint(text string) string {
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	for _, c := range []rune{first, last} {
		if strings.ContainsRune(typographic, c) {
			return fmt.Sprintf(" (the %c is part of the text; the quotes of YAML are \" and ')", c)
		}
	}
	return ""
}

// redacted writes the value for a message; a secret is hidden.
func (n *node) redacted() string {
	switch {
	case n.kind == listNode:
		return "a list"
	case n.kind == mappingNode:
		return "a mapping"
	case n.secret:
		return hidden
	}
	switch v := n.scalar.(type) {
	case string:
		if len(v) > 80 {
			return strconv.Quote(strings.ToValidUTF8(v[:80], "")) + "…"
		}
		return strconv.Quote(v)
	case json.Number:
		return v.String()
	case nil:
		return "nothing"
	default:
		return fmt.Sprint(v)
	}
}

// text returns a scalar's text, as a number or a truth value is written; false for anything else.
func (n *node) text() (string, bool) {
	if n.kind != scalarNode || n.scalar == nil {
		return "", false
	}
	return fmt.Sprint(n.scalar), true
}
