package router

import (
	"fmt"
	"strings"
)

// pattern is a parsed path pattern.
type pattern struct {
	segments []segment
	rest     bool // ends in /**
}

// segment of a pattern. Its text is the canonical literal, or the name of the parameter.
type segment struct {
	text      string
	parameter bool
}

func parsePattern(text string) (pattern, error) {
	path, rest := strings.CutSuffix(text, "/**")
	p := pattern{rest: rest}
	if path == "" {
		return p, nil
	}
	if path[0] != '/' {
		return pattern{}, fmt.Errorf("router: pattern %q does not begin with a slash", text)
	}
	p.segments = make([]segment, 0, strings.Count(path, "/"))
	for path != "" {
		end := len(path)
		if i := strings.IndexByte(path[1:], '/'); i >= 0 {
			end = i + 1
		}
		s, err := parseSegment(path[:end])
		if err != nil {
			return pattern{}, fmt.Errorf("router: pattern %q: %w", text, err)
		}
		p.segments, path = append(p.segments, s), path[end:]
	}
	return p, nil
}

// parseSegment parses a segment with the slash before it.
func parseSegment(text string) (segment, error) {
	if n := len(text); n > 3 && text[1] == '{' && text[n-1] == '}' {
		return segment{text: text[2 : n-1], parameter: true}, nil
	}
	canonical, err := Canonical(text)
	if err != nil {
		return segment{}, err
	}
	return segment{text: canonical[1:]}, nil
}
