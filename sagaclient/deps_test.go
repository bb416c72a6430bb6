package sagaclient

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A program that imports this package links the standard library and nothing else: no MongoDB, no
// Redis, no gRPC.
func TestLinksTheStandardLibraryOnly(t *testing.T) {
	t.Parallel()
	const own = "github.com/sluice-gateway/sluice/sagaclient"
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); len(got) != 1 || got[0] != own {
		t.Errorf("packages outside of the standard library: %v, want %s alone", got, own)
	}
}

// Nor does the module require anything: what others download is this folder.
func TestRequiresNothing(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		if line, _, _ = strings.Cut(line, "//"); strings.Contains(line, "require") ||
			strings.Contains(line, "replace") {
			t.Errorf("go.mod has %q, want a module and a go line only", line)
		}
	}
}
