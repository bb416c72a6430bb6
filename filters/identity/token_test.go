package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ring is the keys of the tests, drawn once.
type ring struct {
	rsa, strange *rsa.PrivateKey
	ec           *ecdsa.PrivateKey
	ed           ed25519.PrivateKey
	secret       []byte
}

var keyRing = sync.OnceValue(func() ring {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var k ring
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.strange, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	k.secret = make([]byte, 64)
	_, err = rand.Read(k.secret)
	must(err)
	return k
})

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// set writes a JWK set of the keys with those names.
func set(t testing.TB, names ...string) []byte {
	t.Helper()
	k := keyRing()
	point, err := k.ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]any{
		"rsa": {"kty": "RSA", "kid": "rsa", "n": b64(k.rsa.N.Bytes()), "e": b64(big.NewInt(int64(k.rsa.E)).Bytes())},
		"ec":  {"kty": "EC", "kid": "ec", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		"ed": {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "alg": "EdDSA",
			"x": b64(k.ed.Public().(ed25519.PublicKey))},
		"oct":  {"kty": "oct", "kid": "oct", "k": b64(k.secret)},
		"odd":  {"kty": "AKP", "kid": "odd", "pub": "AA"},
		"k1":   {"kty": "EC", "kid": "k1", "crv": "secp256k1", "x": "AA", "y": "AA"},
		"enc":  {"kty": "RSA", "kid": "enc", "use": "enc", "n": b64(k.rsa.N.Bytes()), "e": "AQAB"},
		"off":  {"kty": "EC", "kid": "off", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[1:33])},
		"weak": {"kty": "oct", "kid": "weak", "k": b64([]byte("secret"))},
		"bad":  {"kty": "RSA", "kid": "bad", "e": "AQAB"},
	}
	doc := map[string][]any{"keys": {}}
	for _, n := range names {
		doc["keys"] = append(doc["keys"], all[n])
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// token signs claims that are valid but for the changes; a nil value removes a claim.
func token(t testing.TB, m jwt.SigningMethod, key any, kid string, change map[string]any) string {
	t.Helper()
	claims := jwt.MapClaims{"iss": issuer, "sub": "anna", "exp": t0.Add(time.Hour).Unix(),
		"nbf": t0.Add(-time.Hour).Unix()}
	header := map[string]any{}
	for k, v := range change {
		switch name, isHeader := strings.CutPrefix(k, "header."); {
		case isHeader:
			header[name] = v
		case v == nil:
			delete(claims, k)
		default:
			claims[k] = v
		}
	}
	tok := jwt.NewWithClaims(m, claims)
	if kid != "" {
		tok.Header["kid"] = kid
	}
	for k, v := range header {
		tok.Header[k] = v
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keys(t testing.TB, raw []byte) *KeySet {
	t.Helper()
	k, err := ParseKeys(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestValidTokens(t *testing.T) {
	k := keyRing()
	f := newFilter(t, tokens(t, "odd", "k1", "enc", "rsa", "ec", "ed", "oct"))
	for _, c := range []struct {
		name   string
		method jwt.SigningMethod
		key    any
		kid    string
		change map[string]any
	}{
		{"RS256", jwt.SigningMethodRS256, k.rsa, "rsa", nil},
		{"RS512", jwt.SigningMethodRS512, k.rsa, "rsa", nil},
		{"PS384", jwt.SigningMethodPS384, k.rsa, "rsa", nil},
		{"ES256", jwt.SigningMethodES256, k.ec, "ec", nil},
		{"EdDSA", jwt.SigningMethodEdDSA, k.ed, "ed", nil},
		{"HS256 where the set has a secret", jwt.SigningMethodHS256, k.secret, "oct", nil},
		{"HS512", jwt.SigningMethodHS512, k.secret, "oct", nil},
		{"no kid, RSA", jwt.SigningMethodPS256, k.rsa, "", nil},
		{"no kid, EC", jwt.SigningMethodES256, k.ec, "", nil},
		{"no kid, EdDSA", jwt.SigningMethodEdDSA, k.ed, "", nil},
		{"expired within the leeway", jwt.SigningMethodES256, k.ec, "ec",
			map[string]any{"exp": t0.Add(-29 * time.Second).Unix()}},
		{"not yet within the leeway", jwt.SigningMethodES256, k.ec, "ec",
			map[string]any{"nbf": t0.Add(29 * time.Second).Unix()}},
		{"without expiry", jwt.SigningMethodES256, k.ec, "ec", map[string]any{"exp": nil, "nbf": nil}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := token(t, c.method, c.key, c.kid, c.change)
			for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
				x, r := ask(f, outside, "Authorization", scheme+tok)
				wantPrincipal(t, x, r, "anna")
			}
		})
	}
}

func TestInvalidTokensNeverFallThrough(t *testing.T) {
	k := keyRing()
	f := newFilter(t, tokens(t, "rsa", "ec", "ed", "enc"), Header{"X-User", []netip.Prefix{loopback}}, ClientIP{})
	es := func(change map[string]any) string { return token(t, jwt.SigningMethodES256, k.ec, "ec", change) }
	good := es(nil)
	parts := strings.Split(good, ".")
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for name, tok := range map[string]string{
		"nothing":        "",
		"no token":       "abc",
		"two parts":      parts[0] + "." + parts[1],
		"four parts":     good + ".x",
		"signature gone": parts[0] + "." + parts[1] + ".",
		"other claims, old signature": parts[0] + "." + strings.Split(es(map[string]any{"sub": "ben"}), ".")[1] + "." +
			parts[2],
		"another issuer's key":        token(t, jwt.SigningMethodRS256, k.strange, "rsa", nil),
		"unknown kid":                 token(t, jwt.SigningMethodES256, k.ec, "unknown", nil),
		"kid of another key":          token(t, jwt.SigningMethodES256, k.ec, "rsa", nil),
		"kid is a number":             es(map[string]any{"header.kid": 7}),
		"key for encryption":          token(t, jwt.SigningMethodRS256, k.rsa, "enc", nil),
		"expired":                     es(map[string]any{"exp": t0.Add(-31 * time.Second).Unix()}),
		"expiry is text":              es(map[string]any{"exp": "tomorrow"}),
		"not yet":                     es(map[string]any{"nbf": t0.Add(31 * time.Second).Unix()}),
		"other issuer":                es(map[string]any{"iss": "https://evil.example"}),
		"no issuer":                   es(map[string]any{"iss": nil}),
		"no claim":                    es(map[string]any{"sub": nil}),
		"empty claim":                 es(map[string]any{"sub": ""}),
		"claim is a number":           es(map[string]any{"sub": 7}),
		"claim is a list":             es(map[string]any{"sub": []string{"anna"}}),
		"claim is an address":         es(map[string]any{"sub": "ip:192.0.2.7"}),
		"claim is too long":           es(map[string]any{"sub": strings.Repeat("x", 256)}),
		"claim has a line break":      es(map[string]any{"sub": "anna\r\nX-Admin: 1"}),
		"claim has a NUL":             es(map[string]any{"sub": "anna\x00"}),
		"claim has a C1 control":      es(map[string]any{"sub": "an\u0085na"}),
		"claim has a space at an end": es(map[string]any{"sub": " anna"}),
		"critical header":             es(map[string]any{"header.crit": []string{"b64"}, "header.b64": false}),
		"alg none":                    token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "ec", nil),
		"alg none, no kid":            token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", nil),
		"HS256 by the public key":     token(t, jwt.SigningMethodHS256, publicPEM, "rsa", nil),
		"HS256 by the modulus":        token(t, jwt.SigningMethodHS256, k.rsa.N.Bytes(), "", nil),
		"HS256 by an empty key":       token(t, jwt.SigningMethodHS256, []byte{}, "ec", nil),
		"two tokens in one field":     good + ", Bearer " + good,
	} {
		t.Run(name, func(t *testing.T) {
			x, r := ask(f, inside, "Authorization", "Bearer "+tok, "X-User", "ben")
			want401(t, x, r, invalidToken)
		})
	}
	t.Run("confused although the set has a secret", func(t *testing.T) {
		f := newFilter(t, tokens(t, "rsa", "oct"))
		for _, kid := range []string{"rsa", ""} {
			x, r := ask(f, outside, "Authorization", "Bearer "+token(t, jwt.SigningMethodHS256, publicPEM, kid, nil))
			want401(t, x, r, invalidToken)
		}
		x, r := ask(f, outside, "Authorization", "Bearer "+token(t, jwt.SigningMethodRS256, k.rsa, "oct", nil))
		want401(t, x, r, invalidToken)
	})
	t.Run("the key's own alg binds", func(t *testing.T) {
		raw := strings.Replace(string(set(t, "rsa")), `"kid"`, `"alg":"RS256","kid"`, 1)
		f := newFilter(t, JWT{Keys: keys(t, []byte(raw)), Now: func() time.Time { return t0 }})
		for _, kid := range []string{"rsa", ""} {
			x, r := ask(f, outside, "Authorization", "Bearer "+token(t, jwt.SigningMethodPS256, k.rsa, kid, nil))
			want401(t, x, r, invalidToken)
			x, r = ask(f, outside, "Authorization", "Bearer "+token(t, jwt.SigningMethodRS256, k.rsa, kid, nil))
			wantPrincipal(t, x, r, "anna")
		}
	})
	t.Run("several Authorization fields", func(t *testing.T) {
		for _, other := range []string{"Bearer " + good, "Basic YTpi", ""} {
			x, r := ask(f, outside, "Authorization", "Bearer "+good, "authorization", other)
			want401(t, x, r, invalidToken)
			x, r = ask(f, outside, "authorization", other, "Authorization", "Bearer "+good)
			want401(t, x, r, invalidToken)
		}
	})
	t.Run("Bearer without a token", func(t *testing.T) {
		for _, v := range []string{"Bearer", "bearer ", "Bearer\t"} {
			x, r := ask(f, outside, "Authorization", v)
			want401(t, x, r, invalidToken)
		}
	})
	t.Run("the client is not shown why", func(t *testing.T) {
		_, r := ask(f, outside, "Authorization", "Bearer "+es(map[string]any{"exp": 1}))
		if s := string(r.Body); strings.Contains(s, "expired") || strings.Contains(s, "exp") &&
			strings.Contains(s, "claims") {
			t.Errorf("body %s", s)
		}
	})
}
