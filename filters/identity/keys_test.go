package identity

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestFaultyKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  []byte
		want []string
	}{
		{"nothing", nil, []string{"jwt.keys is not a JWK set"}},
		{"no JSON", []byte("-----BEGIN"), []string{"jwt.keys is not a JWK set"}},
		{"no keys", set(t), []string{"jwt.keys: none of 0 keys"}},
		{"nothing to use", set(t, "odd", "k1", "enc"), []string{"none of 3 keys"}},
		{"malformed keys", set(t, "rsa", "bad", "weak", "off"),
			[]string{"key 1", "key 2: a secret of 6 bytes", "key 3: the point"}},
	} {
		_, err := ParseKeys(c.raw)
		wantError(t, c.name, err, c.want)
	}
}

// TestMethods: which algorithms a token may name at all, before any key is looked at.
func TestMethods(t *testing.T) {
	for names, symmetric := range map[string]bool{"rsa ec ed": false, "rsa oct": true} {
		keys, err := ParseKeys(set(t, strings.Fields(names)...))
		if err != nil {
			t.Fatal(err)
		}
		list := strings.Join(methodsOf(keys), " ")
		if strings.Contains(list, "HS") != symmetric || strings.Contains(strings.ToLower(list), "none") ||
			!strings.Contains(list, "ES256") {
			t.Errorf("%s: %s", names, list)
		}
	}
}

// TestKeysOfOneName: keys of different kinds may have the same kid (RFC 7517 §4.5), and each is good
// for its own tokens alone. A kid that is known is not tried with the others.
func TestKeysOfOneName(t *testing.T) {
	k := keyRing()
	raw := strings.ReplaceAll(string(set(t, "rsa", "ed", "ec")), `"kid":"rsa"`, `"kid":"ed"`)
	f := newFilter(t, JWT{Keys: keys(t, []byte(raw)), Issuer: issuer, Now: func() time.Time { return t0 }})
	for name, c := range map[string]struct {
		method jwt.SigningMethod
		key    any
		kid    string
		good   bool
	}{
		"RSA": {jwt.SigningMethodRS256, k.rsa, "ed", true}, "Ed25519": {jwt.SigningMethodEdDSA, k.ed, "ed", true},
		"EC by another's name": {jwt.SigningMethodES256, k.ec, "ed", false},
		"EC":                   {jwt.SigningMethodES256, k.ec, "ec", true},
		"RSA by EC's name":     {jwt.SigningMethodRS256, k.rsa, "ec", false},
		"a name that is none":  {jwt.SigningMethodES256, k.ec, "none", false},
	} {
		x, r := ask(f, outside, "Authorization", "Bearer "+token(t, c.method, c.key, c.kid, nil))
		if good := r == nil && x.Principal == "anna"; good != c.good {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestPublishedSets: what anybody can read has no secrets, and one malformed key costs the others
// nothing.
func TestPublishedSets(t *testing.T) {
	for names, c := range map[string]struct {
		keys int
		want string
	}{
		"rsa ec ed": {3, ""}, "rsa oct": {1, ""}, "rsa bad off": {1, "key 1"}, "odd enc rsa": {1, ""},
		"oct": {0, "none of 1 keys"}, "bad": {0, "key 0"}, "": {0, "none of 0 keys"}, "weak ed": {1, "key 0"},
	} {
		k, err := ParsePublished(set(t, strings.Fields(names)...))
		n := 0
		if k != nil {
			n = k.Len()
		}
		if n != c.keys || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %d keys, %v", names, n, err)
		}
		if k != nil && k.Symmetric() {
			t.Errorf("%q has a secret", names)
		}
	}
}
