package config

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Route leads a request to a service, a transaction, a static response or elsewhere: exactly one of Service,
// Transaction, Respond and Redirect.
type Route struct {
	Name        string          `json:"name" jsonschema:"required,pattern=^[a-z0-9._-]+$"`
	Match       Match           `json:"match" jsonschema:"required"`
	Service     RouteService    `json:"service"`
	Transaction string          `json:"transaction"`
	Respond     *StaticResponse `json:"respond"`
	Redirect    *Redirect       `json:"redirect"`
	Status      string          `json:"status"` // the path of the transaction's status resource, with {id}
	// Timeout is in place of the service's; 0 is that.
	Timeout Duration     `json:"timeout" config:"omitzero"`
	Rewrite *Rewrite     `json:"rewrite"`
	Headers *HeaderEdits `json:"headers"`
	// MaxBody is in place of the listener's; 0 is that.
	MaxBody Size `json:"maxBody" config:"omitzero"`
	RouteSections

	// Sale is the name of the sale that lists the route; empty: none does.
	Sale string `json:"-"`
}

func (Route) describe() descriptions {
	return descriptions{
		"":            "Leads to a service, a transaction, a static response or elsewhere.",
		"Name":        "Unique; it stands in metrics, logs and keys.",
		"Match":       "What the route takes.",
		"Service":     "The service that requests go to, or several with their weights: {order: 95, order-canary: 5}.",
		"Transaction": "The transaction that requests start.",
		"Respond":     "A static response.",
		"Status":      "The path of the transaction's status resource, with one {id}.",
		"Timeout":     "In place of the service's timeout.",
		"MaxBody":     "The longest body of a request, at most listen.maxBody; beyond it 413.",
	}
}

// enter tells the sections of a route what it is, and which parameters its path has.
func (r *Route) enter(s site) site {
	s.route, s.params = r, nil
	if p := s.at("match", "path"); s.written(p) && s.sound(p) {
		if params, err := checkPattern(r.Match.Path); err == nil {
			s.params = append([]string{}, params...) // not nil: known to be none
		}
	}
	return s
}

func (r *Route) check(s site) {
	r.checkLists(s)
	if _, err := checkPattern(r.Match.Path); err != nil && s.written(s.at("match", "path")) {
		s.fault(s.at("match", "path"), "%q %v", r.Match.Path, err)
	}
	members := s.targets()
	static := slices.Contains(members, "respond") || slices.Contains(members, "redirect")
	if static && s.has("idempotency") {
		s.fault(s.at("idempotency"), "has nothing to protect: the route's response is written here")
	}
	if slices.Contains(members, "service") {
		r.checkService(s)
	}
	if slices.Contains(members, "transaction") {
		s.exists("transactions", "transaction", r.Transaction, s.at("transaction"))
		if !s.has("idempotency") {
			s.fault(s.at("transaction"), "needs idempotency on the route: its record is the transaction's record")
		}
		if !s.written(at("coordinator")) {
			s.fault(s.at("transaction"), "needs a coordinator, and none is configured")
		}
	}
	if !slices.Contains(members, "service") && s.has("timeout") {
		s.fault(s.at("timeout"), "%s is in place of a service's, and the route leads to none", r.Timeout)
	}
	if most := s.config.Listen.MaxBody; r.MaxBody > most && s.sound(at("listen", "maxBody")) {
		s.fault(s.at("maxBody"), "%s is more than listen.maxBody, which is %s", r.MaxBody, most)
	}
	if s.has("status") {
		r.checkStatus(s, slices.Contains(members, "transaction"))
	}
}

func (r *Route) warn(s site) {
	if looksLikeRegexp(r.Match.Path) {
		s.warn(s.at("match", "path"), "%q looks like a regular expression, and is compared as it is written: "+
			"{name} stands for one segment, /** at the end for the rest", r.Match.Path)
	}
}

// targets checks that a route leads to one place, and returns the keys by which it does.
func (s site) targets() []string {
	members := s.exactlyOne("a route leads to", false, "service", "transaction", "respond", "redirect")
	if len(members) == 0 {
		s.fault(s.path, "leads nowhere: exactly one of service, transaction, respond and redirect is wanted")
	}
	return members
}

func (r *Route) checkStatus(s site, transaction bool) {
	p := s.at("status")
	if !transaction {
		s.fault(p, "%q belongs to a transaction, and this route leads to none", r.Status)
		return
	}
	params, err := checkPattern(r.Status)
	switch {
	case err != nil:
		s.fault(p, "%q %v", r.Status, err)
	case len(params) != 1 || params[0] != "id" || strings.HasSuffix(r.Status, "/**"):
		s.fault(p, "%q has to have one segment {id} and no other parameter", r.Status)
	}
}

// checkRouteNames checks that no two routes have one name.
func (s site) checkRouteNames(c *Config) {
	names := map[string]int{}
	for i, r := range c.Routes {
		if r == nil {
			continue
		}
		if first, taken := names[r.Name]; taken && r.Name != "" {
			s.fault(at("routes").item(i).to("name"), "%q is the name of routes[%d] too", r.Name, first)
		} else {
			names[r.Name] = i
		}
	}
}

// Match is what a route takes. No methods: all.
type Match struct {
	Methods []string `json:"methods" jsonschema:"minItems=1,uniqueItems=true,pattern=^[A-Z][A-Z-]*$"`
	Path    string   `json:"path" jsonschema:"required"`

	Host    string            `json:"host"` // in lower case; empty: any
	Headers map[string]string `json:"headers"`
}

// Taken returns the methods that are taken, none for all: who takes GET takes HEAD (RFC 9110 §9.3.2).
func (m Match) Taken() []string {
	if !slices.Contains(m.Methods, http.MethodGet) || slices.Contains(m.Methods, http.MethodHead) {
		return m.Methods
	}
	return append(slices.Clone(m.Methods), http.MethodHead)
}

// StatusMatch is what the status of a route's transactions takes.
func (r *Route) StatusMatch() Match {
	return Match{Methods: []string{http.MethodGet}, Path: r.Status, Host: r.Match.Host} // EventSource sends no fields
}

// Conditional reports whether the match asks more of a request than path and method.
func (m *Match) Conditional() bool { return m.Host != "" || len(m.Headers) > 0 }

func (m *Match) derive(*files) { m.Host = strings.ToLower(m.Host) }

func (m *Match) check(s site) {
	host := strings.TrimPrefix(m.Host, "*.")
	switch {
	case !s.has("host"):
	case !soundHost(host, false) || strings.ContainsAny(host, ":*") || strings.HasSuffix(host, "."):
		s.fault(s.at("host"), "%q is not a name such as shop.example or *.shop.example, without a port", m.Host)
	}
	for _, name := range sortedKeys(m.Headers) {
		at := s.at("headers", name)
		if !ref.IsFieldName(name) {
			s.fault(at, "%q is not %s", name, wantFieldName)
		} else if why := headerFault(name); why != "" {
			s.fault(at, "%s", why)
		} else if fault := fieldValueFault(m.Headers[name]); fault != "" {
			s.fault(at, "%s", fault)
		}
	}
}

func (Match) describe() descriptions {
	return descriptions{
		"Methods": "The methods; without any all. HEAD is taken where GET is.",
		"Path":    "/v1/orders exactly; /v1/stock/{sku} one segment; /static/** the rest.",
		"Host":    "The name that is asked for: shop.example, or *.shop.example for every name below it. No port.",
		"Headers": "Header fields that a request has, each with that very value.",
	}
}

// StaticResponse is what the gateway answers itself.
type StaticResponse struct {
	Status  int               `json:"status" jsonschema:"required,minimum=200,maximum=599"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func (StaticResponse) describe() descriptions {
	return descriptions{
		"Status":  "200 to 599.",
		"Headers": "Header fields.",
		"Body":    "The body as it is.",
	}
}

// framing are the fields that the gateway itself sets for a response.
var framing = []string{
	"Connection", "Content-Length", "Date", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func (r *StaticResponse) check(s site) {
	if r.Body != "" && (r.Status == 204 || r.Status == 304) {
		s.fault(s.at("body"), "a response with status %d has no body", r.Status)
	}
	for _, name := range sortedKeys(r.Headers) {
		field := s.at("headers", name)
		switch {
		case !ref.IsFieldName(name):
			s.fault(field, "%q is not %s", name, wantFieldName)
		case slices.Contains(framing, textproto.CanonicalMIMEHeaderKey(name)):
			s.fault(field, "the gateway sets this field itself")
		case strings.ContainsFunc(r.Headers[name], func(c rune) bool { return c < 0x20 && c != '\t' || c == 0x7f }):
			s.fault(field, "has a control character")
		}
	}
}

// checkPattern checks the path of a route and returns the names of its {segments}.
func checkPattern(pattern string) (params []string, err error) {
	if !strings.HasPrefix(pattern, "/") {
		return nil, fmt.Errorf("has to begin with /")
	}
	notInPath := func(r rune) bool { return r == '?' || r == '#' || r <= 0x20 || r == 0x7f }
	if i := strings.IndexFunc(pattern, notInPath); i >= 0 {
		return nil, fmt.Errorf("has %s, a path has none", strconv.QuoteRune(rune(pattern[i])))
	}
	segments := strings.Split(pattern[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch {
		case s == "" && !last:
			return nil, fmt.Errorf("has an empty segment, and no request's path has one")
		case s == "." || s == "..":
			return nil, fmt.Errorf("has the segment %s, and no request's path has one", s)
		case s == "**" && last:
		case strings.Contains(s, "*"):
			return nil, fmt.Errorf("has %s: only a last segment ** stands for the rest", s)
		case strings.ContainsAny(s, "{}"):
			name, ok := strings.CutPrefix(s, "{")
			name, closed := strings.CutSuffix(name, "}")
			if !ok || !closed || !ref.IsParam(name) {
				return nil, fmt.Errorf("has %s: a parameter is a whole segment {name}", s)
			}
			if slices.Contains(params, name) {
				return nil, fmt.Errorf("has {%s} twice", name)
			}
			params = append(params, name)
		case escaped(s):
			return nil, fmt.Errorf("has %s: write the characters themselves, paths are matched decoded", s)
		case strings.ContainsFunc(s, inNoPath):
			return nil, fmt.Errorf("has %s: a request with a backslash or a semicolon in its path is refused, "+
				"and a percent sign or a letter beyond ASCII is matched by a {name} only", s)
		}
	}
	return params, nil
}

// inNoPath reports whether no pattern that has the character as it is could be matched.
func inNoPath(r rune) bool { return r == '\\' || r == ';' || r == '%' || r >= 0x80 }

// escaped reports whether a segment holds a percent-encoding.
func escaped(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if _, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
			return true
		}
	}
	return false
}
