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

// TestParts: what processors count is there once, also where they are more than parts.
func TestParts(t *testing.T) {
	const processors = PartsMax + 3
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
	var p Parts[lineOfOne]
	for part := range p.All() {
		t.Errorf("there is a part that nobody has used: %v", part)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 1000 {
				if n := Number(); n < 0 || n >= processors {
					t.Errorf("processor %d of %d", n, processors)
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
	if n != 20_000 || parts > PartsMax {
		t.Errorf("%d are counted in %d parts, want 20000 in at most %d", n, parts, PartsMax)
	}
}

func TestPartsAreWholeLines(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a part that is no whole line was taken")
		}
	}()
	new(Parts[[Line + 8]byte]).Here()
}

func TestHereAllocatesNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var p Parts[lineOfOne]
	p.Here()
	if n := testing.AllocsPerRun(100, func() { p.Here().n.Add(1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
