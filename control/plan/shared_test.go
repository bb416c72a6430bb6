package plan

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

// TestComparisonOfSharedRoutes compares configurations that share routes with ones of the same text that share none.
func TestComparisonOfSharedRoutes(t *testing.T) {
	const head = "version: 1\nservices: {up: {endpoints: [\"http://127.0.0.1:1\"]}}\n" +
		"identity: [{header: {name: X-User, trusted: [127.0.0.0/8]}}]\nroutes:\n"
	const a = "  - {name: a, match: {path: /a}, service: up, idempotency: {required: true}}\n"
	const b, c = "  - {name: b, match: {path: /b}, service: up}\n", "  - {name: c, match: {path: /c}, service: up}\n"
	for _, test := range [][2]string{
		{a + b + c, a + b + c}, {a + b, a + c + b}, {a + b + c, c + a}, {a + b + c, b + c},
		{a + b + c, c + b + strings.Replace(a, "true", "false", 1)},
	} {
		file := filepath.Join(t.TempDir(), "sluice.yaml")
		load := func(text string, before *config.Config) *config.Config {
			t.Helper()
			if err := os.WriteFile(file, []byte(head+text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Reload(file, before, func() {})
			if err != nil {
				t.Fatal(err)
			}
			return cfg
		}
		old := load(test[0], nil)
		shared, err := Compare(old, load(test[1], old))
		if err != nil {
			t.Fatal(err)
		}
		whole, err := Compare(old, load(test[1], nil))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(shared, whole) {
			t.Errorf("%q: %v, and without shared routes %v", test, shared, whole)
		}
	}
}
