package envoydialect

import (
	"fmt"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// pattern is the path of a route: /v1/orders exactly, /v1/stock/{sku} one segment, /static/** the rest.
type pattern struct {
	segments []segment
	rest     bool
}

type segment struct {
	text      string // the literal, or the parameter's name
	parameter bool
}

func parsePattern(text string) pattern {
	path, rest := strings.CutSuffix(text, "/**")
	p := pattern{rest: rest}
	if path == "" {
		return p
	}
	for _, s := range strings.Split(path[1:], "/") {
		name, ok := strings.CutPrefix(s, "{")
		name, closed := strings.CutSuffix(name, "}")
		if ok && closed {
			p.segments = append(p.segments, segment{name, true})
		} else {
			p.segments = append(p.segments, segment{s, false})
		}
	}
	return p
}

// match returns what matches the pattern: a path, a prefix of segments, or a regular expression where
// neither will do.
func (p pattern) match() *routev3.RouteMatch {
	plain := true
	var path strings.Builder
	for _, s := range p.segments {
		plain = plain && !s.parameter && escapable(s.text) == ""
		path.WriteString("/" + s.text)
	}
	m := new(routev3.RouteMatch)
	switch {
	case p.rest && len(p.segments) == 0:
		m.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	case plain && p.rest:
		m.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: path.String()}
	case plain:
		m.PathSpecifier = &routev3.RouteMatch_Path{Path: path.String()}
	default:
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: expression(p.expression(""))}
	}
	return m
}

// expression is a regular expression for the whole path without the query. The named parameter is its
// group.
func (p pattern) expression(capture string) string {
	var b strings.Builder
	for _, s := range p.segments {
		b.WriteByte('/')
		switch {
		case s.parameter && s.text == capture:
			b.WriteString("([^/?]+)")
		case s.parameter:
			b.WriteString("[^/?]+")
		default:
			b.WriteString(literal(s.text))
		}
	}
	if p.rest {
		b.WriteString("(?:/[^?]*)?")
	}
	return b.String()
}

// plainInPath are the characters that stand as they are in a canonical path, beside letters and digits:
// those that are not reserved, and the delimiters within a segment (RFC 3986 §2.2, §2.3, §3.3).
const plainInPath = "-._~!$&'()*+,=:@"

// escapable returns the characters of a literal that a canonical path has only escaped, and a client may
// send either way.
func escapable(text string) string {
	return strings.Map(func(c rune) rune {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if letter || '0' <= c && c <= '9' || strings.ContainsRune(plainInPath, c) {
			return -1
		}
		return c
	}, text)
}

// literal matches a literal segment, also where such characters are escaped.
func literal(text string) string {
	var b strings.Builder
	for _, c := range text {
		if escapable(string(c)) == "" {
			b.WriteString(regexp.QuoteMeta(string(c)))
			continue
		}
		fmt.Fprintf(&b, "(?:%s|%%(?i:%02X))", regexp.QuoteMeta(string(c)), c)
	}
	return b.String()
}

func expression(text string) *matcherv3.RegexMatcher { return &matcherv3.RegexMatcher{Regex: text} }

// covers reports whether every path of q is one of p.
func (p pattern) covers(q pattern) bool {
	switch {
	case q.rest && !p.rest, len(q.segments) < len(p.segments), !p.rest && len(q.segments) > len(p.segments):
		return false
	}
	for i, s := range p.segments {
		other := q.segments[i]
		switch {
		case s.parameter && (other.parameter || other.text != ""):
		case s.parameter != other.parameter || s.text != other.text:
			return false
		}
	}
	return true
}

// overlaps reports whether some path is one of both.
func (p pattern) overlaps(q pattern) bool {
	if len(q.segments) < len(p.segments) {
		p, q = q, p
	}
	if len(q.segments) > len(p.segments) && !p.rest {
		return false
	}
	for i, s := range p.segments {
		other := q.segments[i]
		switch {
		case s.parameter && other.parameter:
		case s.parameter && other.text == "", other.parameter && s.text == "":
			return false
		case !s.parameter && !other.parameter && s.text != other.text:
			return false
		}
	}
	return true
}

// literals is how many segments of the pattern are literal: of two where one covers the other, the
// narrower has more of them, or is longer.
func (p pattern) literals() (n int) {
	for _, s := range p.segments {
		if !s.parameter {
			n++
		}
	}
	return n
}

// shape writes the pattern without the names of its parameters.
func (p pattern) shape() string {
	var b strings.Builder
	for _, s := range p.segments {
		if s.parameter {
			b.WriteString("/{}")
		} else {
			b.WriteString("/" + s.text)
		}
	}
	if p.rest {
		b.WriteString("/**")
	}
	return b.String()
}
