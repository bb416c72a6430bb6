package processor

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

type lineOfOne struct {
	n atomic.Int64
	_ [Line - 8]byte
}

// TestParts: whatever processors count, on as many as there were and on more, is there once.
func TestParts(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	p := NewParts[lineOfOne]()
	for part := range p.All() {
		t.Errorf("there is a part that nobody has used: %v", part)
	}
	runtime.GOMAXPROCS(5)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 1000 {
				if n := Number(); n < 0 || n >= 5 {
					t.Errorf("processor %d of 5", n)
				}
				p.Here().n.Add(1)
				runtime.Gosched()
			}
		})
	}
	all.Wait()
	n, parts := int64(0), 0
	for part := range p.All() {
		n += part.n.Load()
		parts++
	}
	if n != 20_000 || parts > 2 {
		t.Errorf("%d are counted in %d parts, want 20000 in at most 2", n, parts)
	}
}

// TestPartsAreBounded: many processors share as many parts as one thing may have.
func TestPartsAreBounded(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3 * PartsMax))
	if p := NewParts[lineOfOne](); len(p.of) != PartsMax {
		t.Errorf("%d parts, want %d", len(p.of), PartsMax)
	}
}

func TestPartsAreWholeLines(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a part that is no whole line was taken")
		}
	}()
	NewParts[[Line + 8]byte]()
}

func TestHereAllocatesNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := NewParts[lineOfOne]()
	p.Here()
	if n := testing.AllocsPerRun(100, func() { p.Here().n.Add(1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
