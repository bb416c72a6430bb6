package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Identities are the ways to establish the principal: the first that applies. Without any it is the client's address.
type Identities []Identity

func (Identities) describe() descriptions {
	return descriptions{"": "Who is asking: the first that applies. Without any it is the client's address."}
}

func (i *Identities) derive(*files) {
	if len(*i) == 0 {
		c := new(ClientIP)
		c.setDefaults()
		*i = Identities{{ClientIP: c}}
	}
}

// Prefix6 is how many bits of an IPv6 address are one client's, whatever establishes the principal.
func (i Identities) Prefix6() uint8 {
	for _, one := range i {
		if one.ClientIP != nil {
			return uint8(one.ClientIP.Prefix6)
		}
	}
	return clientPrefix6
}

// HasJWT reports whether a token may establish the principal.
func (i Identities) HasJWT() bool {
	return slices.ContainsFunc(i, func(one Identity) bool { return one.JWT != nil })
}

func (i *Identities) warn(s site) {
	last, why := len(*i), ""
	for n, one := range *i {
		switch {
		case n > last:
			s.warn(s.path.item(n), "is never asked: %s", why)
		case one.ClientIP != nil:
			last, why = n, fmt.Sprintf("clientIP in identity[%d] applies to every request", n)
		case one.JWT != nil && one.JWT.Required:
			last, why = n, fmt.Sprintf("jwt in identity[%d] is required, so it has the last word on every request", n)
		}
		if one.JWT != nil && one.JWT.Audience == "" {
			s.warn(s.path.item(n).to("jwt"),
				"has no audience: a token that was made for another service is taken here too")
		}
	}
}

// warnNobodyAsks says that keys are kept apart by addresses alone, at the first route that has keys: with a balancer
// that is not among listen.trustedProxies all its clients are one, and a client behind another address is another one.
func (s site) warnNobodyAsks(c *Config) {
	if s.written(at("identity")) {
		return
	}
	for n, r := range c.Routes {
		if r != nil && r.Idempotency != nil {
			s.warn(at("routes").item(n).to("idempotency"), "no identity is written, so keys are kept apart by the "+
				"client's address alone: write how clients are told apart, or identity: [{clientIP: {}}] to say that "+
				"this is meant")
			return
		}
	}
}

// Identity is one way to establish the principal: exactly one member is set.
type Identity struct {
	JWT      *JWT            `json:"jwt"`
	Header   *IdentityHeader `json:"header"`
	ClientIP *ClientIP       `json:"clientIP"`
}

func (Identity) describe() descriptions {
	return descriptions{
		"JWT":      "The principal is a claim of a bearer token.",
		"Header":   "The principal is a header field of a trusted peer.",
		"ClientIP": "The principal is the client's address.",
	}
}

func (i *Identity) check(s site) { s.exactlyOne("an entry is", true, "jwt", "header", "clientIP") }

// ClientIP takes the client's address as the principal.
type ClientIP struct {
	Prefix6 int `json:"prefix6" jsonschema:"minimum=32,maximum=128"`
}

// clientPrefix6 is what one site has of IPv6, and as many addresses in it as it likes.
const clientPrefix6 = 64

func (ClientIP) describe() descriptions {
	return descriptions{
		"Prefix6": "How many bits of an IPv6 address are one client's, 32 to 128: as principal " +
			"(ip:2001:db8:1:2::/64) and as client.ip.",
	}
}

func (c *ClientIP) setDefaults() { c.Prefix6 = clientPrefix6 }

// JWT takes the principal from a claim of a bearer token. Keys is the absolute path of a JWK set after Load, or its
// URL.
type JWT struct {
	Keys     string `json:"keys" jsonschema:"required,minLength=1" config:"file,https"`
	Issuer   string `json:"issuer"`
	Audience string `json:"audience"`
	Claim    string `json:"claim" jsonschema:"minLength=1"`
	Required bool   `json:"required"`
	Cookie   string `json:"cookie" jsonschema:"pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]*$" config:"cookie"`
}

func (JWT) describe() descriptions {
	return descriptions{
		"Keys": "The JWK set that tokens are verified with: a file, or an https URL. What is at a URL is fetched by " +
			"run, again every 10 minutes and, for a key that is not known, at most once a minute; no secret is " +
			"taken from it.",
		"Issuer":   "The issuer that tokens must have; without it any.",
		"Audience": "The audience that tokens must be for; without it any, those for other services too.",
		"Claim":    "The claim that is the principal.",
		"Required": "A request without a token is refused with 401.",
		"Cookie":   "The cookie that a token is read from too, on GET and HEAD only.",
	}
}

// Published reports whether the keys are at a URL.
func (j *JWT) Published() bool { return strings.Contains(j.Keys, "://") }

var errCredentials = errors.New("has credentials before its host: leave them out")

// checkHTTPS checks an https URL. The error goes on from the value.
func checkHTTPS(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is not a URL such as https://id.shop.example/jwks.json")
	case u.Scheme != "https":
		return errors.New("is fetched over https only: what comes in cleartext may be anybody's")
	case u.User != nil:
		return errCredentials
	case strings.Contains(s, "#"):
		return errors.New("is a URL that is fetched, so it has no #")
	case u.Hostname() == "" || strings.HasSuffix(u.Host, ":"),
		!soundHost(u.Hostname(), strings.HasPrefix(u.Host, "[")):
		return errors.New("is a URL without a sound host: a name, an IPv4 address, or an IPv6 address in brackets")
	case u.Port() != "" && (!soundPort(u.Port()) || u.Port() == "0"):
		return errors.New("is a URL whose port is not 1 to 65535")
	}
	return nil
}

func (j *JWT) setDefaults() { j.Claim = "sub" }

// IdentityHeader takes the principal from a header field, believed from trusted peers only.
type IdentityHeader struct {
	Name    string         `json:"name" jsonschema:"required,pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]+$"`
	Trusted []netip.Prefix `json:"trusted"`
}

func (IdentityHeader) describe() descriptions {
	return descriptions{
		"Name":    "The header field.",
		"Trusted": "From which peers it is believed; from any other it is taken out.",
	}
}

func (h *IdentityHeader) setDefaults() {
	h.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}
