package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Which routes no request reaches, since those before them take all that they would.
//
// A path is a list of segments, of which the last one may be empty, and a pattern is a list of literals and parameters,
// with or without a rest. A segment that no pattern has as a literal is taken by parameters and rests only, and what
// takes it takes any other segment but the empty one too. So one path with such segments for the parameters stands for
// all paths of a pattern without a rest; one with a rest needs one for each number of segments behind it, with an empty
// last one and without, up to the number beyond which only rests match. That is exact: a route is found unreachable if
// and only if each of its requests goes to a route before it.
//
// The patterns before a route are a trie, so the time is that of one search for each method of each route.

// noRoute stands for no route's index.
const noRoute = math.MaxInt32

// reachVisitsMax bounds the nodes that are looked at for one configuration; beyond it no more is found.
const reachVisitsMax = 10_000_000

// reach is the trie of the patterns so far. The zero value has none.
type reach struct {
	root    reachNode
	visited int
}

type reachNode struct {
	literals  map[string]*reachNode
	parameter *reachNode
	exact     reachEnd // of patterns that end here
	rest      reachEnd // of patterns that end here in /**
}

// reachEnd has the first route of one pattern by method.
type reachEnd struct {
	every    int // the first one that takes every method, counted from 1; 0: none
	byMethod map[string]int
}

// first returns the first route that takes a method, or noRoute. The method "" is one that no route names.
func (e *reachEnd) first(method string) int {
	best := noRoute
	if e.every > 0 {
		best = e.every - 1
	}
	if i, ok := e.byMethod[method]; ok {
		best = min(best, i)
	}
	return best
}

func (e *reachEnd) add(methods []string, route int) {
	if len(methods) == 0 && e.every == 0 {
		e.every = route + 1
	}
	for _, m := range methods {
		if e.byMethod == nil {
			e.byMethod = map[string]int{}
		}
		if _, ok := e.byMethod[m]; !ok {
			e.byMethod[m] = route
		}
	}
}

// segmentsOf splits a sound pattern. A parameter is a segment that begins with a brace.
func segmentsOf(pattern string) (segments []string, rest bool) {
	path, rest := strings.CutSuffix(pattern, "/**")
	if path == "" {
		return nil, rest
	}
	return strings.Split(path[1:], "/"), rest
}

func isParameter(segment string) bool { return strings.HasPrefix(segment, "{") }

// add adds the pattern of a route, whose index is higher than those before.
func (r *reach) add(pattern string, methods []string, route int) {
	segments, rest := segmentsOf(pattern)
	at := &r.root
	for _, s := range segments {
		at = at.child(s)
	}
	if rest {
		at.rest.add(methods, route)
	} else {
		at.exact.add(methods, route)
	}
}

func (n *reachNode) child(segment string) *reachNode {
	if isParameter(segment) {
		if n.parameter == nil {
			n.parameter = new(reachNode)
		}
		return n.parameter
	}
	next := n.literals[segment]
	if next == nil {
		if n.literals == nil {
			n.literals = map[string]*reachNode{}
		}
		next = new(reachNode)
		n.literals[segment] = next
	}
	return next
}

// taking returns the routes that together take every request that a pattern and methods would, or nothing when some
// request is left.
func (r *reach) taking(pattern string, methods []string) []int {
	if len(methods) == 0 {
		methods = []string{""}
	}
	var routes []int
	for _, m := range methods {
		s := reachSearch{reach: r, method: m, rest: noRoute}
		if !s.run(pattern) {
			return nil
		}
		routes = append(routes, s.found...)
	}
	slices.Sort(routes)
	return slices.Compact(routes)
}

// reachSearch looks whether all requests with one method and the paths of a pattern are taken.
type reachSearch struct {
	*reach
	method string
	nodes  []*reachNode // where the segments so far lead
	rest   int          // the first route whose rest takes whatever follows, or noRoute
	found  []int
}

func (s *reachSearch) run(pattern string) bool {
	segments, rest := segmentsOf(pattern)
	s.enter([]*reachNode{&s.root})
	for _, segment := range segments {
		s.enter(s.behind(segment))
	}
	if !rest {
		return s.ends(s.nodes)
	}
	if len(segments) > 0 && !s.ends(s.nodes) {
		return false
	}
	for s.rest == noRoute {
		// The path with a slash behind it, then the path with one more segment.
		if !s.ends(s.behind("")) {
			return false
		}
		s.enter(s.behind("{}"))
		if !s.ends(s.nodes) {
			return false
		}
	}
	s.found = append(s.found, s.rest)
	return true
}

// enter goes on to the nodes behind a segment.
func (s *reachSearch) enter(nodes []*reachNode) {
	s.nodes = nodes
	for _, n := range nodes {
		s.rest = min(s.rest, n.rest.first(s.method))
	}
	s.visited += len(nodes)
}

// behind returns the nodes behind a segment: one that a pattern has, or for a parameter one that no pattern has.
func (s *reachSearch) behind(segment string) []*reachNode {
	var next []*reachNode
	for _, n := range s.nodes {
		if n.parameter != nil && segment != "" {
			next = append(next, n.parameter)
		}
		if l := n.literals[segment]; l != nil && !isParameter(segment) {
			next = append(next, l)
		}
	}
	return next
}

// ends reports whether a path that ends at the nodes is taken, and notes by which route.
func (s *reachSearch) ends(nodes []*reachNode) bool {
	best := s.rest
	for _, n := range nodes {
		best = min(best, n.exact.first(s.method), n.rest.first(s.method))
	}
	if best == noRoute {
		return false
	}
	s.found = append(s.found, best)
	return true
}

// warnUnreached warns of the routes, and of the status resources, that no request reaches.
func (c *Config) warnUnreached(s site) {
	var before reach
	for i, r := range c.Routes {
		s.step()
		if before.visited > reachVisitsMax {
			return
		}
		p := at("routes").item(i)
		if r.Status != "" {
			status := r.StatusMatch()
			if by := before.taking(status.Path, status.Taken()); by != nil {
				s.warn(p.to("status"), "no request reaches it: %s", c.takes(by))
			}
			if !status.Conditional() {
				before.add(status.Path, status.Taken(), i)
			}
		}
		if by := before.taking(r.Match.Path, r.Match.Taken()); by != nil {
			without := ""
			unkeyed := func(i int) bool { return c.Routes[i].Idempotency == nil }
			if r.Idempotency != nil && slices.ContainsFunc(by, unkeyed) {
				without = ", without idempotency"
			}
			s.warn(p.to("match", "path"), "no request reaches route %q: %s%s", r.Name, c.takes(by), without)
		}
		if !r.conditional() { // one with a condition leaves requests to those behind it
			before.add(r.Match.Path, r.Match.Taken(), i)
		}
	}
}

// takes says that some routes take all requests.
func (c *Config) takes(routes []int) string {
	names := make([]string, len(routes))
	for i, route := range routes {
		names[i] = fmt.Sprintf("routes[%d] (%s)", route, c.Routes[route].Name)
	}
	if len(routes) == 1 {
		return names[0] + " before it takes all that it would"
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last] + " before it take all that it would"
}

// looksLikeRegexp reports whether a path has what only a regular expression would. A bracket, a bar, a caret and a
// backslash stand in no path without an escape, and each of the other forms matches more than itself there.
func looksLikeRegexp(path string) bool {
	return strings.ContainsAny(path, `[]|^\`) || strings.HasSuffix(path, "$") ||
		strings.Contains(path, ".+") || strings.Contains(path, "(?") || strings.Contains(path, ")+")
}
