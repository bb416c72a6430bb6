package overload_test

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/filters/overload"
)

func TestShedMemory(t *testing.T) {
	m := overload.NewShedMemory(16, start)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	m.Remember(at(0), 1, at(time.Second))
	m.Remember(at(0), 0, at(time.Second))
	for _, c := range []struct {
		after time.Duration
		hash  uint64
		want  bool
	}{
		{0, 1, true}, {999 * ms, 1, true}, {time.Second, 1, false}, {0, 2, false}, {0, 0, false},
		{-time.Hour, 1, true}, // a clock that stepped back
	} {
		if got := m.Shed(at(c.after), c.hash); got != c.want {
			t.Errorf("%d after %v: %v", c.hash, c.after, got)
		}
	}
	m.Remember(at(2*time.Second), 1, at(4*time.Second))
	if !m.Shed(at(3*time.Second), 1) {
		t.Error("a second time is forgotten")
	}
}

func TestShedMemoryKeepsOneEntryAHash(t *testing.T) {
	m := overload.NewShedMemory(4, start) // one set
	for i := range uint64(4) {
		m.Remember(start, i+1, start.Add(time.Duration(i+1)*time.Second))
	}
	for range 10 {
		m.Remember(start, 4, start.Add(10*time.Second))
	}
	for i := range uint64(4) {
		if !m.Shed(start, i+1) {
			t.Errorf("%d is forgotten", i+1)
		}
	}
	m.Remember(start, 5, start.Add(5*time.Second)) // what ends soonest makes room
	if m.Shed(start, 1) || !m.Shed(start, 2) || !m.Shed(start, 5) {
		t.Error("the wrong one made room")
	}
}

// TestShedMemoryIsBounded: whatever is remembered, the memory stays as it was made, and most of what fits
// is kept.
func TestShedMemoryIsBounded(t *testing.T) {
	const entries = 1 << 12
	m := overload.NewShedMemory(entries, start)
	random := rand.New(rand.NewPCG(1, 2))
	hashes := make([]uint64, entries/2)
	if n := testing.AllocsPerRun(1, func() {
		for range 10 * entries {
			m.Remember(start, random.Uint64(), start.Add(time.Second))
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	late := start.Add(2 * time.Second)
	for i := range hashes {
		hashes[i] = random.Uint64()
		m.Remember(late, hashes[i], late.Add(time.Second))
	}
	kept := 0
	for _, h := range hashes {
		if m.Shed(late, h) {
			kept++
		}
	}
	if kept < len(hashes)*9/10 {
		t.Errorf("%d of %d are kept", kept, len(hashes))
	}
	if size := unsafe.Sizeof(*m); size > 128 {
		t.Errorf("%d bytes beside the table", size)
	}
}
