package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

// TestReadKeySet: a key file is read by the gateway and not by the filter; its faults name the
// setting, and the file if it is missing.
func TestReadKeySet(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ content, want string }{
		"secret.json": {`{"keys":[{"kty":"oct","kid":"a","k":"` + strings.Repeat("QUJD", 16) + `"}]}`, ""},
		"broken.json": {`-----BEGIN`, "identity[0].jwt.keys: jwt.keys is not a JWK set"},
		"empty.json":  {`{"keys":[]}`, "identity[0].jwt.keys: jwt.keys: none of 0 keys"},
		"none.json":   {"", "identity[0].jwt.keys: cannot read " + filepath.Join(dir, "none.json") + ": no such file"},
	} {
		path := filepath.Join(dir, name)
		if c.content != "" {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg := new(config.Config)
		cfg.Identity = config.Identities{{JWT: &config.JWT{Keys: path}}}
		m, err := readMaterial(cfg)
		if c.want == "" && (err != nil || m.KeySets[path] == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
