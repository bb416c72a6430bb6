package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadKeySet: a key file is read by the gateway and not by the filter; its faults name the
// setting, and the file if it is missing.
func TestReadKeySet(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ content, want string }{
		"secret.json": {`{"keys":[{"kty":"oct","kid":"a","k":"` + strings.Repeat("QUJD", 16) + `"}]}`, ""},
		"broken.json": {`-----BEGIN`, "identity: jwt.keys is not a JWK set"},
		"empty.json":  {`{"keys":[]}`, "identity: jwt.keys: none of 0 keys"},
		"none.json":   {"", "identity: jwt.keys: open " + filepath.Join(dir, "none.json") + ": no such file"},
	} {
		path := filepath.Join(dir, name)
		if c.content != "" {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		keys, err := readKeySet(path)
		if c.want == "" && (err != nil || keys == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
