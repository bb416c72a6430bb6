package config

import (
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Health is how each endpoint is asked whether it is well.
type Health struct {
	Path    string   `json:"path" jsonschema:"required"` // canonical, with or without a query
	Every   Duration `json:"every" config:"min=100ms"`
	Timeout Duration `json:"timeout"` // at most Every; default: 1s, or Every where that is less
}

func (Health) describe() descriptions {
	return descriptions{
		"":        "Each endpoint is asked whether it is well.",
		"Path":    "What is asked for, a path with or without a query; a response of 2xx is a success.",
		"Every":   "How often, 100ms at least.",
		"Timeout": "When a response is too late, at most every; 1s or every, whichever is less, unless written.",
	}
}

func (h *Health) setDefaults() { h.Every = duration(2 * time.Second) }

func (h *Health) derive(*files) {
	if h.Timeout == 0 {
		h.Timeout = min(duration(time.Second), h.Every)
	}
}

func (h *Health) check(s site) {
	if why := targetFault(h.Path); why != "" && s.has("path") {
		s.fault(s.at("path"), "%q %s", h.Path, why)
	}
	if h.Timeout > h.Every && s.sound(s.at("timeout"), s.at("every")) {
		s.fault(s.firstWritten(s.at("timeout"), s.at("every")), "timeout %s is more than every %s", h.Timeout, h.Every)
	}
}

var (
	targetForm = regexp.MustCompile(`^/([A-Za-z0-9._~!$&'()*+,=:@/-]|%[0-9A-F]{2})*$`)
	queryForm  = regexp.MustCompile(`^[!-~]*$`)
	escapeForm = regexp.MustCompile(`%[0-9A-F]{2}`)
)

// targetFault says why a path, with or without a query, cannot be requested just as it is written, or nothing. A
// path that two servers could read in two ways is refused, as the gateway's router does it.
func targetFault(target string) string {
	path, query, _ := strings.Cut(target, "?")
	switch {
	case !strings.HasPrefix(path, "/"):
		return "has to begin with /"
	case strings.Contains(target, "#"):
		return "has a fragment, and a request has none"
	case !targetForm.MatchString(path):
		return "has a character that a path has only escaped (%20, in capitals), or not at all (; and \\)"
	case !queryForm.MatchString(query):
		return "has a character in its query that has to be escaped"
	}
	for _, escape := range escapeForm.FindAllString(path, -1) {
		if c, _ := url.PathUnescape(escape); c < " " || c == "/" || c == `\` || c == "\x7f" {
			return "has " + escape + ", and no request's path has it"
		} else if hostForm.MatchString(c) || c == "~" {
			return "has " + escape + ": write the character itself"
		}
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		switch {
		case s == "" && i < len(segments)-1:
			return "has an empty segment, and no request's path has one"
		case s == "." || s == "..":
			return "has the segment " + s + ", and no request's path has one"
		}
	}
	return ""
}
