package idempotency

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// KeyLengthMax is how many bytes a client's key may have.
const KeyLengthMax = 255

// IDLength is the length of a logical request's opaque value, all of [0-9a-v].
const IDLength = 32

// errKey says that a key is malformed; the text is for the client.
type errKey string

func (e errKey) Error() string { return string(e) }

// ParseKey reads the value of an Idempotency-Key field: a Structured Field string with its
// parameters ignored (RFC 9651 §3.3.3, as draft-ietf-httpapi-idempotency-key-header has it), or the
// bare token that Stripe's clients send.
func ParseKey(field string) (string, error) {
	field = strings.Trim(field, " \t")
	if !strings.HasPrefix(field, `"`) {
		return checkKey(field)
	}
	if strings.IndexByte(field, '\\') < 0 { // the rule: then the key is a part of the field and no copy
		key, rest, closed := strings.Cut(field[1:], `"`)
		if !closed {
			return "", errKey("the quoted key does not end")
		}
		if err := checkParameters(rest); err != nil {
			return "", err
		}
		return checkKey(key)
	}
	var b strings.Builder
	for i := 1; i < len(field); i++ {
		switch c := field[i]; c {
		case '"':
			if err := checkParameters(field[i+1:]); err != nil {
				return "", err
			}
			return checkKey(b.String())
		case '\\':
			i++
			if i == len(field) || field[i] != '"' && field[i] != '\\' {
				return "", errKey("a backslash in a quoted key stands before a quote or a backslash only")
			}
			b.WriteByte(field[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", errKey("the quoted key does not end")
}

// checkParameters takes what may follow a string item: nothing, or parameters.
func checkParameters(rest string) error {
	rest = strings.TrimLeft(rest, " \t")
	if rest == "" || rest[0] == ';' && strings.TrimLeft(rest[1:], " ;\t") != "" {
		return nil
	}
	return errKey("something other than parameters follows the quoted key")
}

func checkKey(key string) (string, error) {
	switch {
	case key == "":
		return "", errKey("the key is empty")
	case len(key) > KeyLengthMax:
		return "", errKey("the key is longer than 255 characters")
	}
	for i := 0; i < len(key); i++ {
		if key[i] <= 0x20 || key[i] >= 0x7f {
			return "", errKey("the key has a character that is not visible ASCII")
		}
	}
	return key, nil
}

// clientKey finds the key of a request: "" without one. The error is an errKey, or one of reading
// the body.
func (s *Settings) clientKey(x *filters.Exchange) (string, error) {
	switch {
	case len(s.Derived) > 0:
		h := newDigester()
		defer h.free()
		if err := h.parts(s.Derived, x); err != nil {
			return "", err
		}
		name := h.name()
		return x.Text(append(append(x.Scratch(), "derived:"...), name[:]...)), nil
	case s.Body != nil:
		return s.bodyKey(x)
	}
	switch n := x.Header.Count(s.Header); {
	case n == 0:
		return "", nil
	case n > 1:
		return "", errKey("there are several " + s.Header + " fields")
	}
	return ParseKey(x.Header.Get(s.Header))
}

func (s *Settings) bodyKey(x *filters.Exchange) (string, error) {
	v, ok, err := s.Body.Value(x)
	var fault *ref.FaultError
	switch {
	case errors.As(err, &fault) && fault.OfPart():
		return "", errKey("the key in the body " + fault.Err.Error())
	case err != nil:
		return "", err
	case !ok || v == nil:
		return "", nil
	}
	switch v := v.(type) {
	case string:
		if v == "" || len(v) > KeyLengthMax {
			return "", errKey("the key in the body is empty or longer than 255 bytes")
		}
		return v, nil
	case json.Number:
		if len(v) > KeyLengthMax {
			return "", errKey("the key in the body is longer than 255 bytes")
		}
		return v.String(), nil
	}
	return "", errKey("the key in the body is neither a string nor a number")
}

// nameOf names a logical request: 160 bits over its scope and key, written as [IDLength] characters
// of [0-9a-v]. It is the record's name, the injected Idempotency-Key and the beginning of the
// transaction's gid, so it is fixed in length (the coordinator's boltdb store confuses gids of
// which one is the beginning of another) and in an alphabet that every store takes.
//
// The first [OwnerLength] characters are a digest of route and principal: see [Owner]. They are so
// whether open keys are counted or not, since a name must not change with a setting that says
// nothing of the request: an outstanding key would be a new one after the reload, and be executed
// again.
func (s *Settings) nameOf(x *filters.Exchange, key string) (name, error) {
	d := newDigester()
	defer d.free()
	return s.nameFor(x, key, digestOwner(x.Route, x.Principal), d)
}

// nameFor is nameOf where the owner's digest is known.
func (s *Settings) nameFor(x *filters.Exchange, key string, owner ownerName, h *digester) (name, error) {
	h.text("client key") // apart from what DigestOf makes
	if err := h.parts(s.Scope, x); err != nil {
		return name{}, err
	}
	h.text(key)
	id := h.name()
	copy(id[:], owner[:])
	return id, nil
}

// IDOf returns the ID of the record of a client's key; false where the route's scope has more to it
// than the route and the principal.
func (s *Settings) IDOf(route, principal, key string) (id string, ok bool) {
	for _, r := range s.Scope {
		if r.Root != ref.Principal && r.Root != ref.Route {
			return "", false
		}
	}
	x := &filters.Exchange{Route: route, Principal: principal}
	n, err := s.nameOf(x, key)
	return string(n[:]), err == nil
}

// OwnerLength is how many characters of an ID say whose it is: 50 bits, by which the principals of
// a route are told apart when their open keys are counted. (Of ten million principals, two share a
// count with a chance of 4 %.) The other 110 bits tell the keys of one principal apart.
const OwnerLength = 10

// Owner returns the part of the ID by which open keys are counted. A store can keep all that an
// owner has in one place by it. Of a record that does not come from a client's key it is as random
// as the rest.
func Owner(id string) string { return id[:min(OwnerLength, len(id))] }

// DigestOf names a record by plain parts, for records that do not come from a client's key.
func DigestOf(parts ...string) string {
	h := newDigester()
	defer h.free()
	h.text("parts")
	for _, p := range parts {
		h.text(p)
	}
	id := h.name()
	return string(id[:])
}

// fingerprint digests the chosen parts of the request.
func (s *Settings) fingerprint(x *filters.Exchange, h *digester) (sum [32]byte, err error) {
	if err := h.parts(s.Fingerprint, x); err != nil {
		return sum, err
	}
	return *h.end(), nil
}

// refuseKey turns an error of clientKey, fingerprint or nameOf into the reply for the client.
func refuseKey(err error) *filters.Reply {
	var malformed errKey
	if errors.As(err, &malformed) {
		return filters.Refuse(filters.KeyInvalid,
			filters.Problem{Detail: "The idempotency key was refused: " + string(malformed) + "."})
	}
	return filters.RefuseUnreadable(err)
}

// Inspect returns the client's key, the record's name and the fingerprint that a request would
// have, without a look at any store; a reply says why it would be refused. No key: the first two
// are empty.
func (s *Settings) Inspect(x *filters.Exchange) (key, id string, fingerprint [32]byte, refused *filters.Reply) {
	key, err := s.clientKey(x)
	if err == nil && key != "" {
		var n name
		n, err = s.nameOf(x, key)
		id = string(n[:])
	}
	if err == nil {
		d := newDigester()
		defer d.free()
		fingerprint, err = s.fingerprint(x, d)
	}
	switch {
	case err != nil:
		return "", "", fingerprint, refuseKey(err)
	case key == "" && s.Required:
		return "", "", fingerprint, filters.Refuse(filters.KeyMissing, filters.Problem{})
	}
	return key, id, fingerprint, nil
}
