package overload

import (
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
)

// TestCallsWriteFewLines: beside its level and its principal, a call writes three lines of the caches, of which a
// fixed limit has two.
func TestCallsWriteFewLines(t *testing.T) {
	t.Parallel()
	l := New(Settings{Concurrency: 1}, time.Unix(1_800_000_000, 0), 1)
	const word = 8
	for what, at := range map[string][2]unsafe.Pointer{
		"what each call writes":    {unsafe.Pointer(&l.mu), unsafe.Pointer(&l.pace.ended.since)},
		"what the limit learns of": {unsafe.Pointer(&l.adaptive.window), unsafe.Pointer(&l.adaptive.prober.left)},
		"what is counted":          {unsafe.Pointer(&l.counters.admitted), unsafe.Pointer(&l.fairness.sums[1].many)},
	} {
		first, last := uintptr(at[0]), uintptr(at[1])+word-1
		if first/cores.Line != last/cores.Line {
			t.Errorf("%s is on two lines: from %d to %d of %d", what, first%cores.Line, last-first+first%cores.Line,
				cores.Line)
		}
	}
}
