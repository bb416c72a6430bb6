package config

import (
	"net/url"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// CORS is what scripts of other origins may do on a route.
type CORS struct {
	Origins     []string `json:"origins" jsonschema:"required,minItems=1,uniqueItems=true"`
	Credentials bool     `json:"credentials"`
	Expose      []string `json:"expose" jsonschema:"uniqueItems=true"`
	MaxAge      Duration `json:"maxAge" config:"min=0s,max=24h"`
}

func (CORS) describe() descriptions {
	return descriptions{
		"": "What scripts of other origins may do. The gateway answers their preflights, without a key and at no " +
			"cost of a limit, and every response of the route tells the browser what they may read.",
		"Origins": "https://shop.example, http://localhost:3000, https://*.shop.example for every name below it, or " +
			"* alone for all.",
		"Credentials": "Scripts may send cookies. Not with *.",
		"Expose":      "Fields of responses that they may read, beside those that the gateway itself sets.",
		"MaxAge":      "How long a browser keeps the answer to a preflight, at most 24h.",
	}
}

func (c *CORS) setDefaults() { c.MaxAge = duration(10 * time.Minute) }

func (c *CORS) check(s site) {
	for i, origin := range c.Origins {
		at := s.at("origins").item(i)
		switch why := originFault(origin); {
		case why != "":
			s.fault(at, "%q %s", origin, why)
		case origin == "*" && len(c.Origins) > 1:
			s.fault(at, "is every origin: leave the others out")
		case origin == "*" && c.Credentials:
			s.fault(at, "is every origin, and with credentials no browser takes that: name those that may")
		}
	}
	for i, name := range c.Expose {
		if !ref.IsFieldName(name) {
			s.fault(s.at("expose").item(i), "%q is not %s", name, wantFieldName)
		}
	}
	if r := s.route; r != nil && len(r.Match.Methods) == 1 && r.Match.Methods[0] == "OPTIONS" {
		s.fault(s.path, "answers preflights for the methods of the route, and it takes OPTIONS alone")
	}
}

// originFault says why a text is no origin as a browser writes it (RFC 6454 §6.2), "" when it is one.
func originFault(origin string) string {
	if origin == "*" || origin == "null" {
		return ""
	}
	host := origin
	if scheme, rest, ok := strings.Cut(origin, "://*."); ok {
		host = scheme + "://" + rest
	}
	u, err := url.Parse(host)
	switch {
	case err != nil || u.Scheme == "" || u.Host == "":
		return "is not an origin such as https://shop.example"
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(origin, "#"):
		return "has more than an origin: browsers send scheme, host and port alone"
	case origin != strings.ToLower(origin):
		return "is compared as browsers write it: in lower case"
	case strings.Contains(u.Host, "*"):
		return "has a * where none can be: https://*.shop.example is every name below shop.example"
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		return "has the scheme's own port, which browsers leave out"
	case !soundHost(u.Hostname(), strings.HasPrefix(u.Host, "[")),
		strings.HasSuffix(u.Host, ":"), u.Port() != "" && !soundPort(u.Port()):
		return "has a host or a port that is none"
	}
	return ""
}
