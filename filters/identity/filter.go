package identity

import (
	"errors"
	"slices"

	"github.com/sluice-gateway/sluice/filters"
)

// Filter establishes the principal. It is safe for concurrent use.
type Filter struct {
	sources []source
	fields  []field
	rests   Rests
}

// source is one of the settings, made ready: exactly one member is set.
type source struct {
	tokens  *verifier
	header  *Header
	address bool
}

// field is a header field that sources read.
type field struct {
	name    string
	readers []Header // the sources, each with the peers that it trusts
}

var _ filters.Filter = (*Filter)(nil)

// New makes the filter. The error names every fault of the settings.
func New(cfg Settings) (*Filter, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	f := &Filter{rests: cfg.Rests}
	for _, s := range cfg.Sources {
		switch s := s.(type) {
		case JWT:
			f.sources = append(f.sources, source{tokens: newVerifier(s)})
		case Header:
			s.Trusted = slices.Clone(s.Trusted)
			f.sources = append(f.sources, source{header: &s})
			f.reads(s)
		case ClientIP:
			f.sources = append(f.sources, source{address: true})
		}
	}
	return f, nil
}

// reads notes that a source reads that field.
func (f *Filter) reads(h Header) {
	for i := range f.fields {
		if filters.EqualName(f.fields[i].name, h.Name) {
			f.fields[i].readers = append(f.fields[i].readers, h)
			return
		}
	}
	f.fields = append(f.fields, field{name: h.Name, readers: []Header{h}})
}

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "identity" }

// Needs implements [filters.Filter]: heads only.
func (f *Filter) Needs() filters.Needs { return filters.Needs{} }

// Request sets the exchange's principal, or refuses with unauthenticated; with bad-request where
// something rests on an address that could not be read.
func (f *Filter) Request(x *filters.Exchange, _ *filters.Slot) *filters.Reply {
	f.strip(x)
	if f.rests&OnClient != 0 && !x.Client.IsValid() {
		return unreadable()
	}
	for i := range f.sources {
		s := &f.sources[i]
		var applies bool
		var refusal *filters.Reply
		switch {
		case s.tokens != nil:
			applies, refusal = byToken(x, s.tokens)
		case s.header != nil:
			applies, refusal = byHeader(x, s.header)
		default:
			return f.byAddress(x)
		}
		if applies {
			return refusal
		}
	}
	return f.byAddress(x)
}

// byAddress establishes the principal by the client's address.
func (f *Filter) byAddress(x *filters.Exchange) *filters.Reply {
	x.Principal = addressPrincipal(x)
	if x.Principal == "" && f.rests&OnPrincipal != 0 {
		return unreadable()
	}
	return nil
}

// unreadable refuses a request that nobody can be told to have sent.
func unreadable() *filters.Reply {
	return filters.Refuse(filters.BadRequest, filters.Problem{
		Detail: "The client's address cannot be told: X-Forwarded-For has an entry that is no address."})
}

// strip removes the fields that the peer is not trusted with, before any source is asked.
func (f *Filter) strip(x *filters.Exchange) {
	for i := range f.fields {
		fd := &f.fields[i]
		trusted := false
		for _, h := range fd.readers {
			trusted = trusted || trusts(h.Trusted, x.Peer)
		}
		drop := func(name string) bool {
			return !trusted && filters.EqualName(name, fd.name) || sameButUnderscores(name, fd.name)
		}
		for j := range x.Header { // as a rule no other field is as long
			if name := x.Header[j].Name; len(name) == len(fd.name) && drop(name) {
				x.Header.DelFunc(drop)
				break
			}
		}
	}
}

// byToken establishes the principal by a bearer token; it applies when there is one in any
// Authorization field or, on GET and HEAD, in the cookie, and always where one is required.
func byToken(x *filters.Exchange, v *verifier) (applies bool, refusal *filters.Reply) {
	var token string
	fields := 0
	for i := range x.Header {
		h := &x.Header[i]
		if !filters.EqualName(h.Name, "Authorization") {
			continue
		}
		fields++
		if t, ok := bearer(h.Value); ok {
			token, applies = t, true
		}
	}
	const challenge = `Bearer error="invalid_token"`
	// Other methods change something, and a page of anybody's can have a browser send them with its
	// cookies.
	if v.cookie != "" && !applies && (x.Method == "GET" || x.Method == "HEAD") {
		t, found, several := cookie(x.Header, v.cookie)
		if several {
			return true, refuse(challenge, "There are several cookies "+v.cookie+".")
		}
		if found && t != "" { // how a browser's session ends
			token, applies, fields = t, true, 1
		}
	}
	if !applies {
		if v.required {
			return true, refuse("Bearer", "A bearer token is required.")
		}
		return false, nil
	}
	if fields > 1 {
		return true, refuse(challenge, "There are several Authorization fields.")
	}
	principal, err := v.principal(x.Context(), token)
	if errors.Is(err, errNoKeys) { // no word on the token
		return true, refuse("Bearer", "The keys that tokens are verified with have not been fetched yet.")
	}
	if err != nil { // the library's error is not for the client
		return true, refuse(challenge, "The bearer token is not valid.")
	}
	if reason, ok := usable(principal); !ok {
		return true, refuse(challenge, "The bearer token's claim cannot be a principal: "+reason+".")
	}
	x.Principal = principal
	return true, nil
}

// byHeader establishes the principal by a field of a trusted peer; it applies when there is one
// with a value.
func byHeader(x *filters.Exchange, h *Header) (applies bool, refusal *filters.Reply) {
	if !trusts(h.Trusted, x.Peer) {
		return false, nil
	}
	var value string
	fields := 0
	for i := range x.Header {
		if filters.EqualName(x.Header[i].Name, h.Name) {
			value = x.Header[i].Value
			fields++
		}
	}
	switch fields {
	case 0:
		return false, nil
	case 1:
	default:
		return true, refuse("Bearer", "There are several "+h.Name+" fields.")
	}
	if value == "" { // how a proxy says that it knows no principal
		return false, nil
	}
	if reason, ok := usable(value); !ok {
		return true, refuse("Bearer", "The value of "+h.Name+" cannot be a principal: "+reason+".")
	}
	x.Principal = value
	return true, nil
}

// refuse answers 401 with the challenge that RFC 9110 §15.5.2 demands.
func refuse(challenge, detail string) *filters.Reply {
	r := filters.Refuse(filters.Unauthenticated, filters.Problem{Detail: detail})
	r.Header.Add("WWW-Authenticate", challenge)
	return r
}

// Response implements [filters.Filter]; there is nothing to do.
func (f *Filter) Response(*filters.Exchange, *filters.Slot) {}

// Done implements [filters.Filter]; there is nothing to give back.
func (f *Filter) Done(*filters.Exchange, *filters.Slot, filters.Outcome) {}
