package router

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// linear is the model of [Router]: it tries one route after the other.
type linear struct{ rules []linearRule }

type linearRule struct {
	segments []linearSegment
	rest     bool // ends in /**
	methods  []string
	target   int
}

type linearSegment struct {
	literal string
	name    string // set: a captured segment
}

func (r *linear) Add(pattern string, methods []string, target int) error {
	rest := pattern == "/**" || strings.HasSuffix(pattern, "/**")
	path := pattern
	if rest {
		path = strings.TrimSuffix(path, "/**")
	}
	ru := linearRule{rest: rest, methods: methods, target: target}
	if path != "" {
		if path[0] != '/' {
			return fmt.Errorf("router: pattern %q does not begin with a slash", pattern)
		}
		for _, s := range strings.Split(path[1:], "/") {
			if len(s) > 2 && s[0] == '{' && s[len(s)-1] == '}' {
				ru.segments = append(ru.segments, linearSegment{name: s[1 : len(s)-1]})
				continue
			}
			canonical, err := Canonical("/" + s)
			if err != nil {
				return fmt.Errorf("router: pattern %q: %w", pattern, err)
			}
			ru.segments = append(ru.segments, linearSegment{literal: canonical[1:]})
		}
	}
	r.rules = append(r.rules, ru)
	return nil
}

func (r *linear) Find(
	method, path string, params []filters.Param,
) (target int, captured []filters.Param, result Result) {
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

func (r *linear) Allow(path string) []string {
	var methods []string
	for i := range r.rules {
		if _, ok := r.rules[i].match(path, nil); ok {
			methods = append(methods, r.rules[i].methods...)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

func (ru *linearRule) match(path string, params []filters.Param) ([]filters.Param, bool) {
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
