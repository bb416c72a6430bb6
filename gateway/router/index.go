package router

import (
	"math"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// index finds the first entry that has a path and takes a method. An entry is the number of a route
// in the order of the configuration. The zero value is empty.
type index struct {
	nodes    []node         // of a trie whose edges are segments; the first is the root
	ends     []end          // the first is not used, so that 0 is none
	literals map[edge]int32 // node and literal segment: the node behind it, beyond each node's first
	methods  map[edge]int32 // end and method: the place in its byMethod, where there are many
}

// node is a prefix of patterns. 0 is none everywhere, since no edge leads to the root.
type node struct {
	first     int32 // the lowest entry at or below it
	parameter int32 // the node behind a parameter
	exact     int32 // the end of patterns that end here
	rest      int32 // the end of patterns that end here in /**
	literal   int32 // the node behind label: most nodes have one at most, and need no map
	more      bool  // literals has further ones
	label     string
}

// end has the entries of one pattern, whatever names its parameters have.
type end struct {
	first    int32
	all      []int32 // entries that take every method, in order
	byMethod []candidates
}

// candidates are the entries of an end that take a method, in order.
type candidates struct {
	method  string
	entries []int32
}

// edge is a key of both maps: one map for all nodes takes less memory than one for each.
type edge struct {
	from  int32
	label string
}

const (
	none    = math.MaxInt32 // no entry
	scanMax = 8             // methods of an end that are compared one by one
)

// add appends an entry, which is higher than those before it.
func (ix *index) add(p pattern, methods []string, entry int32) {
	if len(ix.nodes) == 0 {
		ix.nodes, ix.ends = []node{{first: entry}}, make([]end, 1)
		ix.literals, ix.methods = map[edge]int32{}, map[edge]int32{}
	}
	if len(p.segments) == 0 && !p.rest { // the empty pattern matches nothing
		return
	}
	at := int32(0)
	for _, s := range p.segments {
		at = ix.child(at, s, entry)
	}
	n := &ix.nodes[at]
	place := &n.exact
	if p.rest {
		place = &n.rest
	}
	if *place == 0 {
		*place = int32(len(ix.ends))
		ix.ends = append(ix.ends, end{first: entry})
	}
	ix.addTo(*place, methods, entry)
}

// child returns the node behind a segment, which it adds when there is none.
func (ix *index) child(at int32, s segment, entry int32) int32 {
	n := &ix.nodes[at]
	added := int32(len(ix.nodes))
	switch {
	case s.parameter && n.parameter != 0:
		return n.parameter
	case s.parameter:
		n.parameter = added
	case n.literal == 0:
		n.literal, n.label = added, s.text
	default:
		if next := ix.literalBehind(n, at, s.text); next != 0 {
			return next
		}
		n.more = true
		ix.literals[edge{at, s.text}] = added
	}
	ix.nodes = append(ix.nodes, node{first: entry})
	return added
}

func (ix *index) literalBehind(n *node, at int32, segment string) int32 {
	if n.literal != 0 && n.label == segment {
		return n.literal
	}
	if n.more {
		return ix.literals[edge{at, segment}]
	}
	return 0
}

func (ix *index) addTo(at int32, methods []string, entry int32) {
	e := &ix.ends[at]
	if len(methods) == 0 {
		e.all = append(e.all, entry)
		return
	}
	for _, m := range methods {
		if c := ix.taking(e, at, m); c != nil {
			c.entries = append(c.entries, entry)
			continue
		}
		e.byMethod = append(e.byMethod, candidates{m, []int32{entry}})
		if n := len(e.byMethod); n == scanMax+1 {
			for i := range e.byMethod {
				ix.methods[edge{at, e.byMethod[i].method}] = int32(i)
			}
		} else if n > scanMax {
			ix.methods[edge{at, m}] = int32(n - 1)
		}
	}
}

// taking returns the candidates of an end for a method, or nil.
func (ix *index) taking(e *end, at int32, method string) *candidates {
	if len(e.byMethod) > scanMax {
		if i, ok := ix.methods[edge{at, method}]; ok {
			return &e.byMethod[i]
		}
		return nil
	}
	for i := range e.byMethod {
		if e.byMethod[i].method == method {
			return &e.byMethod[i]
		}
	}
	return nil
}

// find returns the lowest entry that takes the request, or none, and whether some entry would if its
// method were another one.
func (ix *index) find(q query) (entry int32, matched bool) {
	s := search{index: ix, query: q, best: none}
	s.run(q.path)
	return s.best, s.matched
}

// methodsAt returns the methods that entries take which would take the request but for its method, sorted.
func (ix *index) methodsAt(q query) []string {
	s := search{index: ix, query: q, best: none, collect: true}
	s.run(q.path)
	slices.Sort(s.collected)
	return slices.Compact(s.collected)
}

// query is what is looked for.
type query struct {
	method, path string
	// conditions are those of the entries; nil: none has any.
	conditions []Condition
	scheme     string
	host       string // without a port
	header     filters.Header
}

// takes reports whether the condition of an entry holds.
func (q *query) takes(entry int32) bool {
	return q.conditions == nil || q.conditions[entry].holds(q.scheme, q.host, q.header)
}

// first returns the first of some entries whose condition holds, or none.
func (q *query) first(entries []int32) int32 {
	for _, entry := range entries {
		if q.takes(entry) {
			return entry
		}
	}
	return none
}

// search is one search of the index.
type search struct {
	*index
	query
	best    int32 // the lowest entry so far, or none
	matched bool  // some entry has the path
	visited int   // nodes, each at most once

	collect   bool // methods of all entries that have the path, in place of an entry
	collected []string
}

func (s *search) run(path string) {
	if len(s.nodes) > 0 {
		s.visit(0, path[1:], true)
	}
}

// visit searches at and below a node. path is what follows, without the slash before it; more says
// whether anything does: an empty segment may.
func (s *search) visit(at int32, path string, more bool) {
	for {
		s.visited++
		n := &s.nodes[at]
		if n.rest != 0 {
			s.consider(n.rest)
		}
		if !more {
			if n.exact != 0 {
				s.consider(n.exact)
			}
			return
		}
		var segment string
		segment, path, more = strings.Cut(path, "/")
		next, other := s.children(n, at, segment)
		if next != 0 && other != 0 {
			s.visit(next, path, more)
			next = other
		}
		if next == 0 || s.nodes[next].first >= s.best {
			return
		}
		at = next
	}
}

// children returns the nodes behind a segment, the one with the lower entry first: it may make the
// other one needless.
func (s *search) children(n *node, at int32, segment string) (next, other int32) {
	next = s.literalBehind(n, at, segment)
	if segment != "" {
		other = n.parameter
	}
	switch {
	case next == 0:
		return other, 0
	case other == 0:
		return next, 0
	case s.nodes[other].first < s.nodes[next].first:
		next, other = other, next
	}
	if s.nodes[next].first >= s.best {
		return 0, 0
	}
	return next, other
}

// consider takes the lowest entry of an end that takes the request, when it is lower than the best so far. Candidates
// are in order, and their conditions are looked at one after the other until one holds.
func (s *search) consider(at int32) {
	e := &s.ends[at]
	if s.collect {
		for i := range e.byMethod {
			if s.first(e.byMethod[i].entries) != none {
				s.collected = append(s.collected, e.byMethod[i].method)
			}
		}
		return
	}
	s.matched = s.matched || s.conditions == nil || s.takenBySome(e)
	if e.first >= s.best {
		return
	}
	if len(e.all) > 0 {
		s.best = min(s.best, s.first(e.all))
	}
	if c := s.taking(e, at, s.method); c != nil {
		s.best = min(s.best, s.first(c.entries))
	}
}

// takenBySome reports whether an entry of an end would take the request, were its method another one.
func (s *search) takenBySome(e *end) bool {
	if s.first(e.all) != none {
		return true
	}
	for i := range e.byMethod {
		if s.first(e.byMethod[i].entries) != none {
			return true
		}
	}
	return false
}
