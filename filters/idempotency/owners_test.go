package idempotency

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestOwnersAreRemembered: whoever was seen before, in whatever order and by how many at a time, the digest is
// that of the two texts, and of no other split of them.
func TestOwnersAreRemembered(t *testing.T) {
	t.Parallel()
	o := &NewCalls().owners
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 4 * ownersMax {
				principal := fmt.Sprint("user:", i%(2*ownersMax))
				buffer := []byte(principal)
				if got := o.of("r", string(buffer)); got != digestOwner("r", principal) {
					t.Errorf("%s has another digest", principal)
				}
				clear(buffer)
			}
		})
	}
	all.Wait()
	if o.of("ab", "c") == o.of("a", "bc") {
		t.Error("two owners have one digest")
	}
	long := strings.Repeat("p", ownerLengthMax+1)
	if o.of("r", long) != digestOwner("r", long) {
		t.Error("a long principal has another digest")
	}
	for i := range o.slots {
		if known := o.slots[i].Load(); known != nil && len(known.principal) > ownerLengthMax {
			t.Error("a long principal is remembered")
		}
	}
}

// TestKnownOwnersAllocateNothing: that is what they are remembered for.
func TestKnownOwnersAllocateNothing(t *testing.T) {
	o := &NewCalls().owners
	o.of("r", "ann")
	if n := testing.AllocsPerRun(100, func() { o.of("r", "ann") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
