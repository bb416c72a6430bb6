package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const secretBytesMin = 32 // RFC 7518 §3.2: at least as long as the hash of HS256

// Keys gives the keys that tokens are verified with. A [*KeySet] gives itself. It is safe for
// concurrent use.
type Keys interface {
	// Current returns the keys in force, nil while there are none yet. It does not wait.
	Current() *KeySet
	// Renew is called for a token that names a key which the current ones lack. It may look for
	// newer keys and wait for them, for a bounded time, and returns those in force then.
	Renew(ctx context.Context) *KeySet
	// Symmetric reports whether a secret may be among the keys, now or later.
	Symmetric() bool
}

// KeySet is the keys of one JWK set. Make it with [ParseKeys] or [ParsePublished]. It is immutable.
type KeySet struct {
	all       []key
	byID      map[string][]key
	symmetric bool
}

var _ Keys = (*KeySet)(nil)

// key is one key of a set.
type key struct {
	family string // what the names of its algorithms begin with; PS goes with RS
	alg    string // the one algorithm that it is for; empty: any of its family
	public any
}

// ParseKeys makes a key set of a JWK set (RFC 7517 §5), as JSON. Keys of a kind that is not known
// and keys for encryption are passed over. The error names every key that is malformed; a set
// without a usable key is an error too.
func ParseKeys(raw []byte) (*KeySet, error) {
	all, n, err := parseJWKs(raw)
	if err == nil && len(all) == 0 {
		err = noneUsable(n)
	}
	if err != nil {
		return nil, err
	}
	return newKeySet(all), nil
}

// ParsePublished makes a key set of a JWK set that anybody can read: a secret in it is none and is
// passed over, so no token can be signed with one. A malformed key is passed over too, since the
// others are good without it (RFC 7517 §5): the error beside a set names those. Without a set the
// error says why there is none.
func ParsePublished(raw []byte) (*KeySet, error) {
	all, n, err := parseJWKs(raw)
	all = slices.DeleteFunc(all, func(k jwkset.JWK) bool { return family(k) == "HS" })
	if len(all) == 0 {
		if err == nil {
			err = noneUsable(n)
		}
		return nil, err
	}
	return newKeySet(all), err
}

func noneUsable(n int) error {
	return fmt.Errorf("identity: jwt.keys: none of %d keys can verify a signature", n)
}

func newKeySet(all []jwkset.JWK) *KeySet {
	s := &KeySet{byID: map[string][]key{}}
	for _, k := range all {
		m := k.Marshal()
		one := key{family: family(k), alg: m.ALG.String(), public: public(k)}
		s.all = append(s.all, one)
		s.byID[m.KID] = append(s.byID[m.KID], one)
		s.symmetric = s.symmetric || one.family == "HS"
	}
	return s
}

// Len returns how many keys the set has.
func (s *KeySet) Len() int { return len(s.all) }

// Current implements [Keys].
func (s *KeySet) Current() *KeySet { return s }

// Renew implements [Keys]: the set never changes.
func (s *KeySet) Renew(context.Context) *KeySet { return s }

// Symmetric implements [Keys].
func (s *KeySet) Symmetric() bool { return s.symmetric }

// parseJWKs returns the keys of a set that can verify signatures, and how many keys the set has. The
// error names the malformed ones.
func parseJWKs(raw []byte) (keys []jwkset.JWK, n int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, 0, fmt.Errorf("identity: jwt.keys is not a JWK set: %w", err)
	}
	var errs []error
	for i, raw := range set.Keys {
		if unknownCurve(raw) {
			continue
		}
		// SkipAll: the library's further checks would follow a key's x5u over the network.
		k, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{Private: true},
			jwkset.JWKValidateOptions{SkipAll: true})
		switch {
		case errors.Is(err, jwkset.ErrUnsupportedKey), err == nil && !verifies(k):
		case err != nil:
			errs = append(errs, fmt.Errorf("identity: jwt.keys: key %d: %w", i, err))
		default:
			if err := checkKey(k); err != nil {
				errs = append(errs, fmt.Errorf("identity: jwt.keys: key %d: %w", i, err))
				continue
			}
			keys = append(keys, k)
		}
	}
	return keys, len(set.Keys), errors.Join(errs...)
}

// unknownCurve reports whether a key is on a curve that is not known here. The library would call
// it malformed.
func unknownCurve(raw json.RawMessage) bool {
	var k struct{ Kty, Crv string }
	if json.Unmarshal(raw, &k) != nil {
		return false
	}
	switch k.Kty {
	case "EC":
		return k.Crv != "P-256" && k.Crv != "P-384" && k.Crv != "P-521"
	case "OKP":
		return k.Crv != "Ed25519"
	}
	return false
}

// checkKey checks what the library does not.
func checkKey(k jwkset.JWK) error {
	switch key := public(k).(type) {
	case []byte:
		if len(key) < secretBytesMin {
			return fmt.Errorf("a secret of %d bytes, at least %d", len(key), secretBytesMin)
		}
	case *ecdsa.PublicKey:
		if _, err := key.ECDH(); err != nil {
			return errors.New("the point is not on its curve")
		}
	}
	return nil
}

// verifies reports whether the key is one for signatures.
func verifies(k jwkset.JWK) bool {
	return k.Marshal().USE != jwkset.UseEnc && family(k) != ""
}

// family returns what the names of the key's algorithms begin with; PS goes with RS.
func family(k jwkset.JWK) string {
	switch k.Key().(type) {
	case *rsa.PublicKey, *rsa.PrivateKey:
		return "RS"
	case *ecdsa.PublicKey, *ecdsa.PrivateKey:
		return "ES"
	case ed25519.PublicKey, ed25519.PrivateKey:
		return "EdDSA"
	case []byte:
		return "HS"
	}
	return ""
}

// methodsOf returns the algorithms that tokens may use: those of a secret only where the keys may
// have one.
func methodsOf(k Keys) []string {
	list := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	if k.Symmetric() {
		return append(list, "HS256", "HS384", "HS512")
	}
	return list
}

// errUnknownKey says that a set lacks the key of a token. A newer set may have it.
var errUnknownKey = errors.New("identity: no key of the set is the token's")

// find returns what a token is to be verified with. A nil set has no keys.
func (s *KeySet) find(t *jwt.Token) (any, error) {
	// RFC 7515 §4.1.11: what is not understood is refused, and no such parameter is understood
	// here.
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("identity: critical header parameters")
	}
	named, isNamed := t.Header["kid"]
	id, isText := named.(string)
	if isNamed && !isText {
		return nil, errors.New("identity: the kid is no string")
	}
	if s == nil {
		return nil, errUnknownKey
	}
	candidates := s.all
	if isNamed {
		candidates = s.byID[id]
		if len(candidates) == 0 {
			return nil, errUnknownKey
		}
	}
	var suitable jwt.VerificationKeySet
	for _, k := range candidates {
		if k.suits(t.Method.Alg()) {
			suitable.Keys = append(suitable.Keys, k.public)
		}
	}
	return suitable, nil // an empty set is refused by the parser
}

// suits reports whether tokens with that algorithm can be the key's: its own type and alg bind it.
func (k key) suits(alg string) bool {
	want := alg
	switch {
	case strings.HasPrefix(alg, "PS"):
		want = "RS"
	case alg != "EdDSA":
		want = alg[:2]
	}
	return k.family == want && (k.alg == "" || k.alg == alg)
}

// public returns the part of a key that verifies.
func public(k jwkset.JWK) any {
	switch key := k.Key().(type) {
	case *rsa.PrivateKey:
		return &key.PublicKey
	case *ecdsa.PrivateKey:
		return &key.PublicKey
	case ed25519.PrivateKey:
		return key.Public()
	default:
		return key
	}
}
