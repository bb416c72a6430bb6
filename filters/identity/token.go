package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	leeway         = 30 * time.Second
	secretBytesMin = 32 // RFC 7518 §3.2: at least as long as the hash of HS256
)

// verifier checks tokens against one key set. It is safe for concurrent use.
type verifier struct {
	parser *jwt.Parser
	keys   keyfunc.Keyfunc
	all    []jwkset.JWK
	claim  string
}

func newVerifier(j JWT) (*verifier, error) {
	raw := j.KeySet
	if raw == nil {
		var err error
		if raw, err = os.ReadFile(j.KeyFile); err != nil {
			return nil, fmt.Errorf("identity: jwt.keys: %w", err)
		}
	}
	all, err := parseKeys(raw)
	if err != nil {
		return nil, err
	}
	storage := jwkset.NewMemoryStorage()
	for _, k := range all {
		if err := storage.KeyWrite(context.Background(), k); err != nil {
			return nil, fmt.Errorf("identity: jwt.keys: %w", err)
		}
	}
	keys, err := keyfunc.New(keyfunc.Options{Storage: storage})
	if err != nil {
		return nil, fmt.Errorf("identity: jwt.keys: %w", err)
	}
	options := []jwt.ParserOption{jwt.WithValidMethods(methods(all)), jwt.WithLeeway(leeway), jwt.WithStrictDecoding()}
	if j.Issuer != "" {
		options = append(options, jwt.WithIssuer(j.Issuer))
	}
	if j.Now != nil {
		options = append(options, jwt.WithTimeFunc(j.Now))
	}
	v := &verifier{parser: jwt.NewParser(options...), keys: keys, all: all, claim: j.Claim}
	if v.claim == "" {
		v.claim = "sub"
	}
	return v, nil
}

// parseKeys returns the keys of a JWK set that can verify signatures. Those of a kind that is not known and those for encryption are
// passed over (RFC 7517 §5); one that is malformed is an error, as is a set with nothing to use.
func parseKeys(raw []byte) ([]jwkset.JWK, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("identity: jwt.keys is not a JWK set: %w", err)
	}
	var keys []jwkset.JWK
	var errs []error
	for i, raw := range set.Keys {
		if foreign(raw) {
			continue
		}
		// SkipAll: the library's further checks would follow a key's x5u over the network.
		k, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{Private: true}, jwkset.JWKValidateOptions{SkipAll: true})
		switch {
		case errors.Is(err, jwkset.ErrUnsupportedKey), err == nil && !verifies(k):
		case err != nil:
			errs = append(errs, fmt.Errorf("identity: jwt.keys: key %d: %w", i, err))
		default:
			if err := sound(k); err != nil {
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

// foreign reports whether a key is on a curve that is not known here, which the library would call malformed.
func foreign(raw json.RawMessage) bool {
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

// sound looks at what the library does not.
func sound(k jwkset.JWK) error {
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

// methods returns the algorithms that tokens may use with this set.
func methods(keys []jwkset.JWK) []string {
	list := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	for _, k := range keys {
		if family(k) == "HS" {
			return append(list, "HS256", "HS384", "HS512")
		}
	}
	return list
}

// principal returns the claim of a good token.
func (v *verifier) principal(token string) (string, error) {
	claims := jwt.MapClaims{}
	if _, err := v.parser.ParseWithClaims(token, claims, v.key); err != nil {
		return "", err
	}
	s, ok := claims[v.claim].(string)
	if !ok {
		return "", fmt.Errorf("identity: claim %q is missing or no string", v.claim)
	}
	return s, nil
}

// key finds what a token is to be verified with.
func (v *verifier) key(t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok { // RFC 7515 §4.1.11: who does not understand it must refuse, and we understand none
		return nil, errors.New("identity: critical header parameters")
	}
	if _, ok := t.Header["kid"]; ok {
		return v.keys.Keyfunc(t)
	}
	alg := t.Method.Alg()
	want := alg
	switch {
	case strings.HasPrefix(alg, "PS"):
		want = "RS"
	case alg != "EdDSA":
		want = alg[:2]
	}
	var set jwt.VerificationKeySet
	for _, k := range v.all {
		if own := k.Marshal().ALG.String(); family(k) == want && (own == "" || own == alg) {
			set.Keys = append(set.Keys, public(k))
		}
	}
	return set, nil // an empty set is refused by the parser
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
