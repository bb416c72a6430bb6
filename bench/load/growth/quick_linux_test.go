//go:build linux && !race

package growth

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

func TestMain(m *testing.M) { build.Main(m) }

// TestQuick: every axis can be measured, without an error in any request, and a reload with its route takes effect.
// Under the race detector a dozen gateways and their loads would take most of a minute.
func TestQuick(t *testing.T) {
	t.Parallel()
	found, err := Run(t.Context(), Options{
		Program: build.Sluice(t), Duration: 50 * time.Millisecond, Rounds: 1, Connections: 8, Quick: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if lines := found.remarks(); len(lines) > 0 {
		t.Error(strings.Join(lines, "\n"))
	}
	var text, page bytes.Buffer
	if err := found.WriteTable(&text); err != nil {
		t.Fatal(err)
	}
	if err := found.WriteHTML(&page); err != nil || strings.Count(page.String(), "<polyline") < len(found.Axes) {
		t.Errorf("%v, %d lines in the plot", err, strings.Count(page.String(), "<polyline"))
	}
	for _, a := range found.Axes {
		if len(a.Points) != 2 || len(a.Points[1].Loads) == 0 || a.Points[1].StartMillis <= 0 {
			t.Errorf("%s: %d points:\n%s", a.Name, len(a.Points), text.String())
		}
		if a.start && (a.Points[1].Reload == nil || len(a.Points[1].Reload.TookMillis) == 0) {
			t.Errorf("%s: no reload", a.Name)
		}
	}
}
