package identity

import (
	"context"
	"crypto"
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

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
)

var t0 = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

const issuer = "https://id.shop.example"

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

func tokens(t testing.TB, names ...string) JWT {
	return JWT{Keys: keys(t, set(t, names...)), Issuer: issuer, Claim: "sub", Now: func() time.Time { return t0 }}
}

func newFilter(t testing.TB, s ...Source) *Filter {
	t.Helper()
	f, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	inside   = netip.MustParseAddr("127.0.0.1")
	outside  = netip.MustParseAddr("192.0.2.7")
)

// ask runs one request with these fields from that peer and returns the principal or the refusal.
func ask(f *Filter, peer netip.Addr, fields ...string) (*filters.Exchange, *filters.Reply) {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Peer, x.Client = peer, peer
	for i := 0; i < len(fields); i += 2 {
		x.Header.Add(fields[i], fields[i+1])
	}
	var s filters.Slot
	return x, f.Request(x, &s)
}

func wantPrincipal(t *testing.T, x *filters.Exchange, r *filters.Reply, want string) {
	t.Helper()
	if r != nil {
		t.Errorf("refused: %s, want %q", r.Body, want)
	} else if x.Principal != want {
		t.Errorf("principal is %q, want %q", x.Principal, want)
	}
}

func want401(t *testing.T, x *filters.Exchange, r *filters.Reply, challenge string) {
	t.Helper()
	if r == nil {
		t.Errorf("passed as %q, want 401", x.Principal)
		return
	}
	if r.Status != 401 || r.Reason != filters.Unauthenticated || r.Header.Get("WWW-Authenticate") != challenge ||
		x.Principal != "" {
		t.Errorf("%d %s, WWW-Authenticate %q, principal %q", r.Status, r.Reason, r.Header.Get("WWW-Authenticate"),
			x.Principal)
	}
}

const invalidToken = `Bearer error="invalid_token"`

func TestConform(t *testing.T) {
	all := func(t *testing.T) *Filter {
		return newFilter(t, tokens(t, "ed"), Header{"X-User", []netip.Prefix{loopback}}, ClientIP{})
	}
	good := token(t, jwt.SigningMethodEdDSA, keyRing().ed, "ed", nil)
	for name, fill := range map[string]func(*filters.Exchange){
		"token":         func(x *filters.Exchange) { x.Header.Add("Authorization", "Bearer "+good) },
		"invalid token": func(x *filters.Exchange) { x.Header.Add("Authorization", "Bearer x") },
		"header":        func(x *filters.Exchange) { x.Peer = inside; x.Header.Add("X-User", "anna") },
		"two headers": func(x *filters.Exchange) {
			x.Peer = inside
			x.Header.Add("X-User", "a")
			x.Header.Add("X-User",
				"b")
		},
		"address": func(*filters.Exchange) {},
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Conform(t, func(t *testing.T) (filters.Filter, func(*filters.Exchange)) { return all(t), fill })
		})
	}
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

func TestFirstThatApplies(t *testing.T) {
	k := keyRing()
	good := "Bearer " + token(t, jwt.SigningMethodEdDSA, k.ed, "ed", nil)
	user := Header{"X-User", []netip.Prefix{loopback}}
	mapped := netip.MustParseAddr("::ffff:127.0.0.1")
	for _, c := range []struct {
		name   string
		set    []Source
		peer   netip.Addr
		fields []string
		want   string // "" is 401
	}{
		{"nothing configured", nil, outside, nil, "ip:192.0.2.7"},
		{"nothing configured: a token is not looked at", nil, outside, []string{"Authorization", "Bearer x"},
			"ip:192.0.2.7"},
		{"token first", []Source{tokens(t, "ed"), user, ClientIP{}}, inside,
			[]string{"X-User", "ben", "Authorization", good}, "anna"},
		{"header first", []Source{user, tokens(t, "ed"), ClientIP{}}, inside,
			[]string{"X-User", "ben", "Authorization", good}, "ben"},
		{"header first, not there", []Source{user, tokens(t, "ed")}, inside, []string{"Authorization", good}, "anna"},
		{"header first, not trusted", []Source{user, tokens(t, "ed")}, outside,
			[]string{"X-User", "ben", "Authorization", good}, "anna"},
		{"address first", []Source{ClientIP{}, tokens(t, "ed")}, outside, []string{"Authorization", "Bearer x"},
			"ip:192.0.2.7"},
		{"only tokens, none there", []Source{tokens(t, "ed")}, outside, nil, "ip:192.0.2.7"},
		{"only tokens, another scheme", []Source{tokens(t, "ed")}, outside, []string{"Authorization", "Basic YTpi"},
			"ip:192.0.2.7"},
		{"only tokens, a longer scheme", []Source{tokens(t, "ed")}, outside, []string{"Authorization", "BearerX YTpi"},
			"ip:192.0.2.7"},
		{"header of a mapped peer", []Source{user}, mapped, []string{"x-user", "ben"}, "ben"},
		{"header as it is", []Source{user}, inside, []string{"X-User", "Ben Ü. <b@x>, 2"}, "Ben Ü. <b@x>, 2"},
		{"empty header", []Source{user}, inside, []string{"X-User", ""}, "ip:127.0.0.1"},
		{"two headers", []Source{user}, inside, []string{"X-User", "a", "x-user", "a"}, ""},
		{"two headers, one empty", []Source{user}, inside, []string{"X-User", "", "x-user", "a"}, ""},
		{"two headers from a stranger", []Source{user}, outside, []string{"X-User", "a", "x-user", "a"},
			"ip:192.0.2.7"},
		{"header is an address", []Source{user}, inside, []string{"X-User", "ip:10.0.0.1"}, ""},
		{"header of 255 bytes", []Source{user}, inside, []string{"X-User", strings.Repeat("x", 255)},
			strings.Repeat("x", 255)},
		{"header of 256 bytes", []Source{user}, inside, []string{"X-User", strings.Repeat("x", 256)}, ""},
		{"header with a tab", []Source{user}, inside, []string{"X-User", "a\tb"}, ""},
		{"header with DEL", []Source{user}, inside, []string{"X-User", "a\x7fb"}, ""},
		{"mapped address", []Source{ClientIP{}}, netip.MustParseAddr("::ffff:192.0.2.7"), nil, "ip:192.0.2.7"},
		{"IPv6 with a zone", []Source{ClientIP{}}, netip.MustParseAddr("fe80::1%eth0"), nil, "ip:fe80::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, r := ask(newFilter(t, c.set...), c.peer, c.fields...)
			if c.want == "" {
				want401(t, x, r, "Bearer")
			} else {
				wantPrincipal(t, x, r, c.want)
			}
		})
	}
}

// TestTrustIsInThePeer: an address that is only reported earns no trust, and none is
// lost by it.
func TestTrustIsInThePeer(t *testing.T) {
	f := newFilter(t, Header{"X-User", []netip.Prefix{loopback}})
	for _, c := range []struct {
		peer, client netip.Addr
		want         string
	}{{outside, inside, "ip:127.0.0.1"}, {inside, outside, "ben"}} {
		x := new(filters.Exchange)
		x.Begin(context.Background(), nil)
		x.Peer, x.Client = c.peer, c.client
		x.Header.Add("X-User", "ben")
		var s filters.Slot
		wantPrincipal(t, x, f.Request(x, &s), c.want)
	}
	x, r := ask(f, netip.Addr{}, "X-User", "ben")
	if r != nil || x.Principal != "" || x.Header.Count("X-User") != 0 {
		t.Errorf("without any address: %v, principal %q, header %v", r, x.Principal, x.Header)
	}
}

func TestForgedFieldsAreRemoved(t *testing.T) {
	k := keyRing()
	good := "Bearer " + token(t, jwt.SigningMethodEdDSA, k.ed, "ed", nil)
	other := netip.MustParsePrefix("192.0.2.0/24")
	sources := map[string][]Source{
		"header only":               {Header{"X-User", []netip.Prefix{loopback}}},
		"an earlier source applies": {tokens(t, "ed"), Header{"X-User", []netip.Prefix{loopback}}},
		"an earlier address":        {ClientIP{}, Header{"X-User", []netip.Prefix{loopback}}},
	}
	for name, s := range sources {
		t.Run(name, func(t *testing.T) {
			x, r := ask(newFilter(t, s...), outside, "X-User", "ben", "Accept", "*/*", "x-uSER", "ben", "X_User", "ben",
				"Authorization", good)
			if r != nil {
				t.Fatalf("refused: %s", r.Body)
			}
			if got := len(x.Header); got != 2 || x.Header.Get("Accept") != "*/*" ||
				x.Header.Get("Authorization") != good {
				t.Errorf("header is %v", x.Header)
			}
			x, r = ask(newFilter(t, s...), inside, "X-User", "ben", "X_User", "mallory", "Authorization", good)
			if r != nil || x.Header.Get("X-User") != "ben" || x.Header.Count("X_User") != 0 {
				t.Errorf("from a trusted peer the header is %v", x.Header)
			}
		})
	}
	t.Run("a refused token", func(t *testing.T) {
		x, _ := ask(newFilter(t, sources["an earlier source applies"]...), outside, "X-User", "ben", "Authorization",
			"Bearer x")
		if x.Header.Count("X-User") != 0 {
			t.Errorf("header is %v", x.Header)
		}
	})
	t.Run("two sources read one field", func(t *testing.T) {
		f := newFilter(t, Header{"X-User", []netip.Prefix{loopback}}, Header{"x-user", []netip.Prefix{other}})
		x, r := ask(f, outside, "X-User", "ben")
		wantPrincipal(t, x, r, "ben")
		x, r = ask(f, netip.MustParseAddr("198.51.100.1"), "X-User", "ben")
		wantPrincipal(t, x, r, "ip:198.51.100.1")
		if len(x.Header) != 0 {
			t.Errorf("header is %v", x.Header)
		}
	})
}

// TestDefaults: any issuer, and the claim sub.
func TestDefaults(t *testing.T) {
	ed, k := keys(t, set(t, "ed")), keyRing().ed
	f := newFilter(t, JWT{Keys: ed, Now: func() time.Time { return t0 }})
	x, r := ask(f, outside, "Authorization", "Bearer "+token(t, jwt.SigningMethodEdDSA, k, "ed",
		map[string]any{"iss": "x"}))
	wantPrincipal(t, x, r, "anna")
	f = newFilter(t, JWT{Keys: ed, Claim: "email", Now: func() time.Time { return t0 }})
	tok := token(t, jwt.SigningMethodEdDSA, k, "ed", map[string]any{"email": "a@shop.example"})
	x, r = ask(f, outside, "Authorization", "Bearer "+tok)
	wantPrincipal(t, x, r, "a@shop.example")
}

// TestPrivateKeysInTheSet: a set may be written with the private parts; they verify all the same.
func TestPrivateKeysInTheSet(t *testing.T) {
	k := keyRing()
	raw := strings.Replace(string(set(t, "ed")), `"kid"`, `"d":"`+b64(k.ed.Seed())+`","kid"`, 1)
	f := newFilter(t, JWT{Keys: keys(t, []byte(raw)), Now: func() time.Time { return t0 }})
	for _, kid := range []string{"ed", ""} {
		x, r := ask(f, outside, "Authorization",
			"Bearer "+token(t, jwt.SigningMethodEdDSA, crypto.Signer(k.ed), kid, nil))
		wantPrincipal(t, x, r, "anna")
	}
}

func TestFaultySettings(t *testing.T) {
	for _, c := range []struct {
		name string
		set  Settings
		want []string
	}{
		{"everything at once", Settings{JWT{}, Header{Name: "X User"},
			Header{Name: "sluice-user", Trusted: []netip.Prefix{{}}}},
			[]string{"no keys", `"X User" is not a field name`, "has no trusted peers", "sluice-user", "not valid"}},
		{"two sets", Settings{tokens(t, "ed"), tokens(t, "ec")}, []string{"2 jwt sources"}},
	} {
		_, err := New(c.set)
		wantError(t, c.name, err, c.want)
	}
}

func wantError(t *testing.T, name string, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", name)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q is not in %q", name, w, err)
		}
	}
}

func TestAddressAllocatesNothing(t *testing.T) {
	f := newFilter(t, Header{"X-User", []netip.Prefix{loopback}}, ClientIP{})
	var x filters.Exchange
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		x.Begin(ctx, nil)
		x.Peer, x.Client = outside, outside
		x.Header.Add("Accept", "*/*")
		x.Header.Add("X-User", "ben")
		var s filters.Slot
		f.Request(&x, &s)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
