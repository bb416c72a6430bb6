package config

import (
	"strings"
	"testing"
)

func TestKeepForIsAnHourAtLeast(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"1h": "", "168h": "", "0s": "", "59m": "less than 1h", "87601h": "more than 87600h", "soon": "keepFor",
	} {
		list := faultsOf(t, "version: 1\nservices: {a: {endpoints: [http://h]}}\n"+undoingWith("", "keepFor: "+value)+"\n")
		got := strings.Join(list, "\n")
		if strings.Contains(got, "keepFor") != (want != "") || !strings.Contains(got, want) {
			t.Errorf("keepFor %s: %q, want %q in it", value, got, want)
		}
	}
}
