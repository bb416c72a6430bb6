package gateway

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

// TestUnitsIn: a whole number is read, and nothing else taken for one.
func TestUnitsIn(t *testing.T) {
	for body, want := range map[string]int{
		`{"a": {"n": 5}}`: 5, `{"a": {"n": 0}, "b": 1}`: 0, `{"a": {"n": -3}}`: -3,
		`{"a": {"n": "5"}}`: -1, `{"a": {"n": 1.5}}`: -1, `{"a": {"n": 1e3}}`: -1, `{"a": {"n": null}}`: -1, `{"a": 5}`: -1,
		`{"a": {"n": 5, "n": 6}}`: -1, `{"a": {"n": 5}`: -1, ``: -1, `5`: -1, `{"a": {"n": 99999999999999999999}}`: -1,
	} {
		n, err := unitsIn([]byte(body), []string{"a", "n"})
		if failed := want == -1; failed != (err != nil) || !failed && n != want {
			t.Errorf("%s: %d, %v", body, n, err)
		}
	}
}

// TestUnitsPath: a path that would not lead where it seems to is refused when the configuration is built.
func TestUnitsPath(t *testing.T) {
	b := &builder{}
	for _, path := range []string{"/a/../{item}", "/a//{item}", "/%61/{item}"} {
		if _, err := b.unitsOf(&config.SaleStockFrom{Path: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
