package docs

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

// TestConfigurationReference: the page is what the schema says.
func TestConfigurationReference(t *testing.T) {
	got, want := strings.Split(read(t, "docs/configuration.md"), "\n"), strings.Split(config.Reference(), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("docs/configuration.md is out of date from line %d on: make reference writes it anew", i+1)
		}
	}
}

// TestReferenceSaysWhatEverySettingMeans: no entry is a name and nothing else.
func TestReferenceSaysWhatEverySettingMeans(t *testing.T) {
	for _, entry := range strings.Split(config.Reference(), "\n- **`")[1:] {
		if name, rest, _ := strings.Cut(entry, "`** ("); !strings.Contains(rest, "): ") {
			t.Errorf("%s has no description: the section's describe gives it one", name)
		}
	}
}
