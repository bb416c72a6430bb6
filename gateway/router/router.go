package router

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// Router finds routes. It is immutable and safe for concurrent use.
type Router[T any] struct {
	rules []rule[T]
}

type rule[T any] struct {
	segments []segment
	rest     bool // ends in /**
	methods  []string
	target   T
}

type segment struct {
	literal string
	name    string // set: a captured segment
}

// Result says how a search ended.
type Result uint8

// The results of [Router.Find].
const (
	Found Result = iota
	NoPath
	NoMethod // some route has the path, none the method
)

// Add appends a route: a path pattern (exact; {name} is one segment; /** at the end is the rest) and the methods it takes, none for all.
func (r *Router[T]) Add(pattern string, methods []string, target T) error {
	rest := pattern == "/**" || strings.HasSuffix(pattern, "/**")
	path := pattern
	if rest {
		path = strings.TrimSuffix(path, "/**")
	}
	ru := rule[T]{rest: rest, methods: methods, target: target}
	if path != "" {
		if path[0] != '/' {
			return fmt.Errorf("router: pattern %q does not begin with a slash", pattern)
		}
		for _, s := range strings.Split(path[1:], "/") {
			if len(s) > 2 && s[0] == '{' && s[len(s)-1] == '}' {
				ru.segments = append(ru.segments, segment{name: s[1 : len(s)-1]})
				continue
			}
			canonical, err := Canonical("/" + s)
			if err != nil {
				return fmt.Errorf("router: pattern %q: %w", pattern, err)
			}
			ru.segments = append(ru.segments, segment{literal: canonical[1:]})
		}
	}
	r.rules = append(r.rules, ru)
	return nil
}

// Find returns the first route that takes the method and the canonical path, with the captured segments, decoded, appended to params.
func (r *Router[T]) Find(method, path string, params []filters.Param) (target T, captured []filters.Param, result Result) {
	result = NoPath
	for i := range r.rules {
		ru := &r.rules[i]
		captured, ok := ru.match(path, params)
		if !ok {
			continue
		}
		if len(ru.methods) > 0 && !slices.Contains(ru.methods, method) {
			result = NoMethod
			continue
		}
		return ru.target, captured, Found
	}
	return target, params, result
}

// Allow returns the methods that some route takes at the path, for the Allow field (RFC 9110 §10.2.1).
func (r *Router[T]) Allow(path string) []string {
	var methods []string
	for i := range r.rules {
		if _, ok := r.rules[i].match(path, nil); ok {
			methods = append(methods, r.rules[i].methods...)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

func (ru *rule[T]) match(path string, params []filters.Param) ([]filters.Param, bool) {
	at := path[1:]
	if len(ru.segments) == 0 {
		return params, ru.rest
	}
	before := len(params)
	for i := range ru.segments {
		s := &ru.segments[i]
		part, rest, more := strings.Cut(at, "/")
		if s.name != "" {
			if part == "" {
				return params[:before], false
			}
			params = append(params, filters.Param{Name: s.name, Value: unescape(part)})
		} else if part != s.literal {
			return params[:before], false
		}
		last := i == len(ru.segments)-1
		if last {
			return params, !more || ru.rest
		}
		if !more {
			return params[:before], false
		}
		at = rest
	}
	return params, true
}
