package identity

import (
	"strings"
	"testing"
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
