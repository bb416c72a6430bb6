package router

import (
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// Router finds routes. The zero value has none. It is safe for concurrent use once no route is
// added any more.
type Router[T any] struct {
	index  index
	routes []route[T] // in the order of the configuration
	// conditions are those of the routes, by their numbers; nil: none has any.
	conditions []Condition
}

type route[T any] struct {
	target     T
	parameters []parameter
}

// parameter is a captured segment.
type parameter struct {
	name    string
	segment int
}

// Result says how a search ended.
type Result uint8

// The results of [Router.Find].
const (
	Found Result = iota
	NoPath
	NoMethod // some route has the path, none the method
)

// Add appends a route: a path pattern (exact; {name} is one segment, not an empty one; /** at the
// end is the rest) and the methods it takes, none for all. The error names the pattern and what is
// wrong with it.
func (r *Router[T]) Add(pattern string, methods []string, target T) error {
	return r.AddWhere(pattern, methods, Condition{}, target)
}

// AddWhere is Add for a route that takes a request only where a condition holds.
func (r *Router[T]) AddWhere(pattern string, methods []string, where Condition, target T) error {
	p, err := parsePattern(pattern)
	if err != nil {
		return err
	}
	var parameters []parameter
	for i, s := range p.segments {
		if s.parameter {
			parameters = append(parameters, parameter{s.text, i})
		}
	}
	r.index.add(p, methods, int32(len(r.routes)))
	if r.conditions == nil && !where.empty() {
		r.conditions = make([]Condition, len(r.routes))
	}
	if r.conditions != nil {
		r.conditions = append(r.conditions, where)
	}
	r.routes = append(r.routes, route[T]{target, slices.Clip(parameters)})
	return nil
}

// Find returns the first route that takes the method and the canonical path, with the captured
// segments, decoded, appended to params. It allocates nothing when params has room and no captured
// segment has an escape. A route with a condition takes no such request.
func (r *Router[T]) Find(
	method, path string, params []filters.Param,
) (target T, captured []filters.Param, result Result) {
	return r.find(query{method: method, path: path, conditions: r.conditions}, params)
}

// FindFor is Find for an exchange, whose host and header conditions look at. The method is given, for what a preflight
// asks about is not its own.
func (r *Router[T]) FindFor(
	x *filters.Exchange, method string, params []filters.Param,
) (target T, captured []filters.Param, result Result) {
	return r.find(r.queryOf(x, method), params)
}

func (r *Router[T]) queryOf(x *filters.Exchange, method string) query {
	q := query{method: method, path: x.Path, conditions: r.conditions}
	if r.conditions != nil {
		q.scheme, q.host, q.header = x.Scheme, bareHost(x.Host), x.Header
	}
	return q
}

func (r *Router[T]) find(q query, params []filters.Param) (target T, captured []filters.Param, result Result) {
	entry, matched := r.index.find(q)
	if entry == none {
		if matched {
			return target, params, NoMethod
		}
		return target, params, NoPath
	}
	rt := &r.routes[entry]
	return rt.target, capture(rt.parameters, q.path, params), Found
}

// Allow returns the methods that some route takes at the path, sorted, for the Allow field (RFC
// 9110 §10.2.1).
func (r *Router[T]) Allow(path string) []string {
	return r.index.methodsAt(query{path: path, conditions: r.conditions})
}

// AllowFor is Allow for an exchange.
func (r *Router[T]) AllowFor(x *filters.Exchange) []string {
	return r.index.methodsAt(r.queryOf(x, ""))
}

// capture appends the segments of a path that match the parameters, which are in the path's order.
func capture(parameters []parameter, path string, params []filters.Param) []filters.Param {
	rest, next := path[1:], 0
	for i := range parameters {
		p := &parameters[i]
		var value string
		for ; next <= p.segment; next++ {
			value, rest, _ = strings.Cut(rest, "/")
		}
		params = append(params, filters.Param{Name: p.name, Value: unescape(value)})
	}
	return params
}
