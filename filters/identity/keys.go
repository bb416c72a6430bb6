package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const secretBytesMin = 32 // RFC 7518 §3.2: at least as long as the hash of HS256

// KeySet is the keys that tokens are verified with. Make it with [ParseKeys]. It is immutable.
type KeySet struct {
	all   []jwkset.JWK
	named keyfunc.Keyfunc // finds the key that a token names
}

// ParseKeys makes a key set of a JWK set (RFC 7517 §5), as JSON. Keys of a kind that is not known
// and keys for encryption are passed over. The error names every key that is malformed; a set
// without a usable key is an error too.
func ParseKeys(raw []byte) (*KeySet, error) {
	all, err := parseJWKs(raw)
	if err != nil {
		return nil, err
	}
	storage := jwkset.NewMemoryStorage()
	for _, k := range all {
		if err := storage.KeyWrite(context.Background(), k); err != nil {
			return nil, fmt.Errorf("identity: jwt.keys: %w", err)
		}
	}
	named, err := keyfunc.New(keyfunc.Options{Storage: storage})
	if err != nil {
		return nil, fmt.Errorf("identity: jwt.keys: %w", err)
	}
	return &KeySet{all: all, named: named}, nil
}

// parseJWKs returns the keys of a set that can verify signatures.
func parseJWKs(raw []byte) ([]jwkset.JWK, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("identity: jwt.keys is not a JWK set: %w", err)
	}
	var keys []jwkset.JWK
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
	if len(errs) == 0 && len(keys) == 0 {
		errs = append(errs, fmt.Errorf("identity: jwt.keys: none of %d keys can verify a signature", len(set.Keys)))
	}
	return keys, errors.Join(errs...)
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

// methods returns the algorithms that tokens may use with this set: those of a secret only if the
// set has one.
func (s *KeySet) methods() []string {
	list := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	for _, k := range s.all {
		if family(k) == "HS" {
			return append(list, "HS256", "HS384", "HS512")
		}
	}
	return list
}

// find returns what a token is to be verified with.
func (s *KeySet) find(t *jwt.Token) (any, error) {
	// RFC 7515 §4.1.11: what is not understood is refused, and no such parameter is understood
	// here.
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("identity: critical header parameters")
	}
	if _, ok := t.Header["kid"]; ok {
		return s.named.Keyfunc(t)
	}
	alg := t.Method.Alg()
	want := alg
	switch {
	case strings.HasPrefix(alg, "PS"):
		want = "RS"
	case alg != "EdDSA":
		want = alg[:2]
	}
	var suitable jwt.VerificationKeySet
	for _, k := range s.all {
		if own := k.Marshal().ALG.String(); family(k) == want && (own == "" || own == alg) {
			suitable.Keys = append(suitable.Keys, public(k))
		}
	}
	return suitable, nil // an empty set is refused by the parser
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
