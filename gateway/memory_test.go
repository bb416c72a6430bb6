package gateway

import "testing"

// TestMemoryLimit: what is buffered counts as it is, and everything else with room for garbage, as
// much as it is where that is much, so that a large store does not have the collector run more often.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, tt := range []struct{ buffered, used, live, beside, want int64 }{
		{32 * mib, 0, 6 * mib, 5 * mib, (32 + 12 + 5 + 4) * mib},         // idle
		{32 * mib, 32 * mib, 50 * mib, 5 * mib, (32 + 27 + 5 + 4) * mib}, // full: 18 are not counted
		{256 * mib, 0, 2048 * mib, 20 * mib, (256 + 4080 + 20 + 4) * mib},
		{256 * mib, 100 * mib, 2148 * mib, 20 * mib, (256 + 4080 + 20 + 4) * mib},
		{256 * mib, 100 * mib, 40 * mib, 20 * mib, (256 + 12 + 20 + 4) * mib}, // the collector has not seen it yet
	} {
		if got := memoryLimit(tt.buffered, tt.used, tt.live, tt.beside); got != tt.want {
			t.Errorf("%+v: %d MiB, want %d", tt, got/mib, tt.want/mib)
		}
	}
}
