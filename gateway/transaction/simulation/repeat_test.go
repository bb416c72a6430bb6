//go:build !race

// The race detector has goroutines run in a random order.

package simulation

import (
	"runtime"
	"strings"
	"testing"
)

// TestRepeats: a seed is a history, to the nanosecond.
func TestRepeats(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // two at once could draw in either order
	for seed := uint64(1); seed <= 6; seed++ {
		one, two := runSeed(t, seed, *simMode, true), runSeed(t, seed, *simMode, true)
		a, b := strings.Split(one.history(0), "\n"), strings.Split(two.history(0), "\n")
		if len(a) < 20 {
			t.Errorf("seed %d: %d events only", seed, len(a))
		}
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("seed %d: event %d of the first run is\n%s\nand of the second\n%s", seed, i, a[i], b[i])
			}
		}
		if len(a) != len(b) {
			t.Errorf("seed %d: %d events and %d", seed, len(a), len(b))
		}
	}
}
