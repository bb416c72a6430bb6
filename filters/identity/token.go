package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// leeway is how far the clocks of an issuer and of the gateway may be apart.
const leeway = 30 * time.Second

// verifier checks tokens against the keys in force. It is safe for concurrent use.
type verifier struct {
	parser   *jwt.Parser
	claims   *jwt.Validator // of what the parser looks at when the signature is good
	keys     Keys
	claim    string
	required bool
	cookie   string
}

func newVerifier(j JWT) *verifier {
	options := []jwt.ParserOption{jwt.WithValidMethods(methodsOf(j.Keys)), jwt.WithLeeway(leeway),
		jwt.WithStrictDecoding()}
	if j.Issuer != "" {
		options = append(options, jwt.WithIssuer(j.Issuer))
	}
	if j.Audience != "" {
		options = append(options, jwt.WithAudience(j.Audience))
	}
	if j.Now != nil {
		options = append(options, jwt.WithTimeFunc(j.Now))
	}
	v := &verifier{parser: jwt.NewParser(options...), claims: jwt.NewValidator(options...), keys: j.Keys,
		claim: j.Claim, required: j.Required, cookie: j.Cookie}
	if v.claim == "" {
		v.claim = "sub"
	}
	return v
}

// errNoKeys says that there are no keys yet, so no token can be judged.
var errNoKeys = errors.New("identity: the keys of tokens have not been fetched yet")

// principal returns the claim of a valid token. It may wait for newer keys where the token names one
// that is not known; ctx ends that.
func (v *verifier) principal(ctx context.Context, token string) (string, error) {
	set := v.keys.Current()
	claims, err := v.parse(token, set)
	if errors.Is(err, errUnknownKey) {
		// What is refused with any key has nobody look for one.
		if invalid := v.check(claims); invalid != nil {
			return "", invalid
		}
		newer := v.keys.Renew(ctx)
		switch {
		case newer == nil:
			return "", errNoKeys
		case newer != set:
			claims, err = v.parse(token, newer)
		}
	}
	if err == nil {
		err = expiresAtZero(claims)
	}
	if err != nil {
		return "", err
	}
	s, ok := claims[v.claim].(string)
	if !ok {
		return "", fmt.Errorf("identity: claim %q is missing or no string", v.claim)
	}
	if strings.ContainsRune(s, utf8.RuneError) {
		// JSON decodes all that is not UTF-8 to this one: different claims would be one principal
		return "", fmt.Errorf("identity: claim %q is not UTF-8", v.claim)
	}
	return s, nil
}

// parse returns the claims of a token, which are those of the issuer only without an error.
func (v *verifier) parse(token string, set *KeySet) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(token, claims, set.find)
	return claims, err
}

// check checks claims whose signature is not verified.
func (v *verifier) check(claims jwt.MapClaims) error {
	if err := v.claims.Validate(claims); err != nil {
		return err
	}
	return expiresAtZero(claims)
}

// expiresAtZero refuses an exp of 0. The library takes it for no time at all: a token that has expired in
// 1970 would never expire.
func expiresAtZero(claims jwt.MapClaims) error {
	if exp, ok := claims["exp"].(float64); ok && exp == 0 {
		return jwt.ErrTokenExpired
	}
	return nil
}
