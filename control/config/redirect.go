package config

import (
	"slices"
	"strings"
)

// Redirect is where a route sends its clients: elsewhere, with what it says, and else to what they asked for.
type Redirect struct {
	To     string `json:"to"`
	Scheme string `json:"scheme" jsonschema:"enum=http,enum=https"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	Status int    `json:"status" jsonschema:"enum=301,enum=302,enum=307,enum=308"`
}

func (Redirect) describe() descriptions {
	return descriptions{
		"": "Sends clients elsewhere. What is not said stays as it was asked for, and the query always. A request " +
			"that is there already is not the route's: it goes to those behind.",
		"To": "All in one: https://shop.example/v2/{id}, https://shop.example or /v2/{id}. {id} is what the segment " +
			"{id} of match.path captured.",
		"Scheme": "http or https.",
		"Host": "A name, with a port where one is wanted. Without it a change of the scheme takes the name that was " +
			"asked for, and no port.",
		"Path": "In place of the path; {id} as in to.",
		"Status": "307 and 308 have clients keep method and body, 301 and 302 make of a POST a GET; 301 and 308 are " +
			"remembered.",
	}
}

func (r *Redirect) setDefaults() { r.Status = 307 }

// Target returns what of a request is changed; what is empty stays.
func (r *Redirect) Target() (scheme, host, path string) {
	if r.To == "" {
		return r.Scheme, r.Host, r.Path
	}
	scheme, rest, whole := strings.Cut(r.To, "://")
	if !whole {
		return "", "", r.To
	}
	host, path, found := strings.Cut(rest, "/")
	if found {
		path = "/" + path
	}
	return scheme, host, path
}

// Except returns the scheme and the host of requests that are where the route redirects to, so that it leaves them to
// the routes behind it. Both are empty where it leaves none.
func (r *Route) Except() (scheme, host string) {
	if r.Redirect == nil {
		return "", ""
	}
	scheme, host, path := r.Redirect.Target()
	if path != "" && (host == "" || !r.takes(path)) {
		return "", ""
	}
	return scheme, strings.ToLower(hostOf(host))
}

// takes reports whether the route's path takes each that a pattern stands for.
func (r *Route) takes(pattern string) bool {
	if _, err := checkPattern(r.Match.Path); err != nil {
		return false
	}
	var of reach
	of.add(r.Match.Path, nil, 0)
	return of.taking(pattern, nil) != nil
}

// hostOf returns a host that may have a port without it.
func hostOf(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		return authority[:i]
	}
	return authority
}

func (r *Redirect) check(s site) {
	if s.route == nil {
		return
	}
	if s.has("to") {
		for _, member := range []string{"scheme", "host", "path"} {
			if s.written(s.at(member)) {
				s.fault(s.at(member), "and to are two answers to one question")
			}
		}
	} else if !s.has("scheme") && !s.has("host") && !s.has("path") {
		s.fault(s.path, "says nothing: one of to, scheme, host and path is wanted")
		return
	}
	of := func(member string) path {
		if r.To != "" {
			return s.at("to")
		}
		return s.at(member)
	}
	scheme, host, path := r.Target()
	switch {
	case r.To != "" && scheme != "" && scheme != "http" && scheme != "https",
		r.To != "" && scheme == "" && !strings.HasPrefix(path, "/"), r.To != "" && scheme != "" && host == "":
		s.fault(s.at("to"), "%q is not such as https://shop.example/v2/{id}, https://shop.example or /v2/{id}", r.To)
		return
	case host != "" && !soundAuthority(host):
		s.fault(of("host"), "%q is not a host such as shop.example or shop.example:8443", host)
		return
	}
	if path != "" {
		at := of("path")
		s.checkSegments(at, path)
		if (host == "" || strings.EqualFold(hostOf(host), s.route.Match.Host)) && s.route.takes(path) {
			s.fault(at, "%q is a path that this route takes: clients would go round in circles", path)
		}
	}
}

// checkSegments checks a path that takes the place of another one: its {segments} are those of match.path.
func (s site) checkSegments(at path, text string) {
	params, err := checkPattern(text)
	switch {
	case err != nil:
		s.fault(at, "%q %v", text, err)
		return
	case strings.HasSuffix(text, "/**"):
		s.fault(at, "%q has no end: /** is for match.path", text)
	}
	for _, name := range params {
		if s.params != nil && !slices.Contains(s.params, name) {
			s.fault(at, "%q has {%s}, and match.path captures no such segment", text, name)
		}
	}
}

// Static reports whether the gateway itself responds, and calls nobody.
func (r *Route) Static() bool { return r.Respond != nil || r.Redirect != nil }

// conditional reports whether the route leaves requests of its path and methods to the routes behind it.
func (r *Route) conditional() bool {
	if r.Match.Conditional() {
		return true
	}
	scheme, host := r.Except()
	return scheme != "" || host != ""
}
