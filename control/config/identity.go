package config

import (
	"net/netip"
	"slices"
)

// Identities are the ways to establish the principal: the first that applies. Without any it is the client's address.
type Identities []Identity

func (Identities) describe() descriptions {
	return descriptions{"": "Who is asking: the first that applies. Without any it is the client's address."}
}

func (i *Identities) derive(*files) {
	if len(*i) == 0 {
		*i = Identities{{ClientIP: new(struct{})}}
	}
}

func (i *Identities) warn(s site) {
	first := slices.IndexFunc(*i, func(one Identity) bool { return one.ClientIP != nil })
	for n := first + 1; first >= 0 && n < len(*i); n++ {
		s.warn(s.path.item(n), "is never asked: clientIP in identity[%d] applies to every request", first)
	}
}

// Identity is one way to establish the principal: exactly one member is set.
type Identity struct {
	JWT      *JWT            `json:"jwt"`
	Header   *IdentityHeader `json:"header"`
	ClientIP *struct{}       `json:"clientIP"`
}

func (Identity) describe() descriptions {
	return descriptions{
		"JWT":      "The principal is a claim of a bearer token.",
		"Header":   "The principal is a header field of a trusted peer.",
		"ClientIP": "The principal is the client's address.",
	}
}

func (i *Identity) check(s site) { s.exactlyOne("an entry is", true, "jwt", "header", "clientIP") }

// JWT takes the principal from a claim of a bearer token. Keys is the absolute path of a JWK set after Load.
type JWT struct {
	Keys   string `json:"keys" jsonschema:"required,minLength=1" config:"file"`
	Issuer string `json:"issuer"`
	Claim  string `json:"claim" jsonschema:"minLength=1"`
}

func (JWT) describe() descriptions {
	return descriptions{
		"Keys":   "The file of the JWK set that tokens are verified with.",
		"Issuer": "The issuer that tokens must have; without it any.",
		"Claim":  "The claim that is the principal.",
	}
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
