package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters/processor"
)

// retryBudget bounds what a service gets beyond first attempts, repeats and hedges, to a share of the
// requests: within each second it is that share of the second's requests, and no less than three, so
// that a quiet service has some too. What was not drawn within its second is lost: after a silence
// there are three, whatever was there before it. A share of 0 allows none. The zero value has seen no
// request. It is safe for concurrent use. A request costs one atomic addition, in a part of its processor's own: all
// requests to a service count here, and few draw.
type retryBudget struct {
	requests processor.Parts[slotRequests]

	mu    sync.Mutex
	drawn [budgetSlots]drawnSlot
}

// slotRequests are what one processor has counted, by slot modulo their number: the slot's number, and its requests.
type slotRequests struct {
	of [budgetSlots]atomic.Uint64
	_  [2*processor.Line - 8*budgetSlots]byte
}

// drawnSlot is what was drawn within one slot.
type drawnSlot struct {
	slot uint32
	n    int
}

const (
	budgetFloor = 3 // repeats a second
	budgetSlots = 10
	budgetSlot  = time.Second / budgetSlots
)

// budgetBegan is what the slots are counted from, by the monotonic clock, which is never stepped. The
// first slot is beyond the zero value's window.
var budgetBegan = time.Now().Add(-2 * time.Second)

func slotOf(now time.Time) uint32 { return uint32(now.Sub(budgetBegan) / budgetSlot) }

// request counts a request.
func (b *retryBudget) request(now time.Time) {
	slot := slotOf(now)
	r := &b.requests.Here().of[slot%budgetSlots]
	for {
		had := r.Load()
		if had>>32 >= uint64(slot) { // one that comes late counts for its successor
			r.Add(1)
			return
		}
		if r.CompareAndSwap(had, uint64(slot)<<32|1) {
			return
		}
	}
}

// take draws one attempt; false when there is none, or the share allows none any more.
func (b *retryBudget) take(now time.Time, share float64) bool {
	if share <= 0 {
		return false
	}
	slot := slotOf(now)
	b.mu.Lock()
	defer b.mu.Unlock()
	requests, drawn := 0, 0
	for part := range b.requests.All() {
		for i := range part.of {
			if r := part.of[i].Load(); recent(uint32(r>>32), slot) {
				requests += int(uint32(r))
			}
		}
	}
	for _, d := range b.drawn {
		if recent(d.slot, slot) {
			drawn += d.n
		}
	}
	if float64(drawn+1) > max(share*float64(requests), budgetFloor) {
		return false
	}
	d := &b.drawn[slot%budgetSlots]
	if d.slot < slot {
		*d = drawnSlot{slot: slot}
	}
	d.n++
	return true
}

// recent reports whether a slot is of the second that ends with another one.
func recent(slot, last uint32) bool { return slot+budgetSlots > last }
