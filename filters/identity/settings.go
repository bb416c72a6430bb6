package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Settings are what a filter is made of.
type Settings struct {
	// Sources in the order in which they are tried. None: the client's address.
	Sources []Source
	// Rests says what of the route rests on the client's address: see [Rests].
	Rests Rests
}

// Rests says what of a route rests on the client's address. A request whose address cannot be read
// is refused there, and passes elsewhere: else all such requests would be one client's.
type Rests uint8

// What may rest on the address.
const (
	OnPrincipal Rests = 1 << iota // keys, limits or transactions by the principal, which may be the address
	OnClient                      // keys or limits by the address itself, whoever asks
)

// Source is [JWT], [Header] or [ClientIP].
type Source interface{ check() error }

// JWT takes the principal from a claim of a bearer token. There is at most one, since a token that
// is not valid is never looked at again by another source.
type JWT struct {
	Keys     Keys             // what tokens are verified with
	Issuer   string           // what the token's iss must be; empty: it is not looked at
	Audience string           // what must be among the token's aud; empty: it is not looked at
	Claim    string           // a top-level claim; empty: sub
	Required bool             // no token is refused, where the source is asked
	Cookie   string           // a cookie that GET and HEAD may bring a token in; empty: none
	Now      func() time.Time // the clock; nil: time.Now
}

// Header takes the principal from a header field of a trusted peer.
type Header struct {
	Name    string
	Trusted []netip.Prefix
}

// ClientIP takes the client's address.
type ClientIP struct{}

func (j JWT) check() error {
	var errs []error
	if j.Keys == nil {
		errs = append(errs, errors.New("identity: jwt has no keys"))
	}
	if strings.Trim(j.Cookie, tokenChars) != "" {
		errs = append(errs, fmt.Errorf("identity: jwt.cookie %q is not the name of a cookie", j.Cookie))
	}
	return errors.Join(errs...)
}

func (h Header) check() error {
	var errs []error
	switch {
	case h.Name == "" || strings.Trim(h.Name, tokenChars) != "":
		errs = append(errs, fmt.Errorf("identity: header.name %q is not a field name", h.Name))
	case filters.HasNamePrefix(h.Name, "Sluice-"), filters.HasNamePrefix(h.Name, "Sluice_"):
		errs = append(errs, fmt.Errorf("identity: header.name %q: Sluice- fields are taken out of every request",
			h.Name))
	}
	if len(h.Trusted) == 0 {
		errs = append(errs, fmt.Errorf("identity: header %q has no trusted peers, so no request could use it", h.Name))
	}
	for _, p := range h.Trusted {
		if !p.IsValid() {
			errs = append(errs, fmt.Errorf("identity: header %q: trusted prefix %v is not valid", h.Name, p))
		}
	}
	return errors.Join(errs...)
}

func (ClientIP) check() error { return nil }

// tokenChars are those of a field name (RFC 9110 §5.6.2).
const tokenChars = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// check returns every violation at once.
func (s Settings) check() error {
	var errs []error
	tokens := 0
	for _, source := range s.Sources {
		errs = append(errs, source.check())
		if _, ok := source.(JWT); ok {
			tokens++
		}
	}
	if tokens > 1 {
		errs = append(errs, fmt.Errorf("identity: %d jwt sources, at most 1: the first decides on every token", tokens))
	}
	return errors.Join(errs...)
}
