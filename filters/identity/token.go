package identity

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// leeway is how far the clocks of an issuer and of the gateway may be apart.
const leeway = 30 * time.Second

// verifier checks tokens against one key set. It is safe for concurrent use.
type verifier struct {
	parser   *jwt.Parser
	keys     *KeySet
	claim    string
	required bool
	cookie   string
}

func newVerifier(j JWT) *verifier {
	options := []jwt.ParserOption{jwt.WithValidMethods(j.Keys.methods()), jwt.WithLeeway(leeway),
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
	v := &verifier{parser: jwt.NewParser(options...), keys: j.Keys, claim: j.Claim,
		required: j.Required, cookie: j.Cookie}
	if v.claim == "" {
		v.claim = "sub"
	}
	return v
}

// principal returns the claim of a valid token.
func (v *verifier) principal(token string) (string, error) {
	claims := jwt.MapClaims{}
	if _, err := v.parser.ParseWithClaims(token, claims, v.keys.find); err != nil {
		return "", err
	}
	// The library takes 0 for no time at all: a token that has expired in 1970 would never expire.
	if exp, ok := claims["exp"].(float64); ok && exp == 0 {
		return "", jwt.ErrTokenExpired
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
