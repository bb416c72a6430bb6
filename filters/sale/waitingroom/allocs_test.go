//go:build !race

package waitingroom_test

import (
	"testing"
	"time"
)

// Under the race detector sync.Pool drops some of what it is given, and allocations cannot be counted.

// TestAdmissionAllocates: one that is admitted at once, or passes with its ticket, allocates nothing.
func TestAdmissionAllocates(t *testing.T) {
	f := newFleet(1, settings(1e9))
	x := exchange("ann", "")
	for range 3 { // the first one draws the memory
		if _, reply := f.rooms[0].Enter(time.Now(), x); reply != nil {
			t.Fatal(reply.Status)
		}
	}
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { f.rooms[0].Enter(now, x) }); n > 0 {
		t.Errorf("%v allocations without a ticket", n)
	}
	until, _ := f.rooms[0].Enter(now, x)
	f.rooms[0].Stamp(x, &x.Response.Header, until)
	x.Ticket = string([]byte(x.Response.Header.Get("Sluice-Ticket")))
	if n := testing.AllocsPerRun(100, func() { f.rooms[0].Enter(now, x) }); n > 0 {
		t.Errorf("%v allocations with a ticket", n)
	}
}
