package idempotency

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// TestRenewalsInOrder: claims end in any order, what is left stays in the order in which it is due,
// and nothing of the others is kept.
func TestRenewalsInOrder(t *testing.T) {
	r := &renewalList{every: time.Hour}
	now := time.Now()
	var left []*Handle
	for i := range 8 {
		h := &Handle{claimed: filters.ClaimedRequest{Token: uint64(i)}}
		r.add(h, now.Add(time.Duration(i%3)*-time.Second)) // some waited for the store longer than others
		left = append(left, h)
	}
	check := func() {
		t.Helper()
		var forward, backward []*Handle
		for h := r.first; h != nil; h = h.renewal.next {
			if before := h.renewal.prev; before != nil && h.renewal.due.Before(before.renewal.due) {
				t.Errorf("claim %d is due before claim %d", h.claimed.Token, before.claimed.Token)
			}
			forward = append(forward, h)
		}
		for h := r.last; h != nil; h = h.renewal.prev {
			backward = append(backward, h)
		}
		slices.Reverse(backward)
		if !slices.Equal(forward, left) || !slices.Equal(backward, left) {
			t.Errorf("%d claims in the one direction, %d in the other, want %d", len(forward), len(backward), len(left))
		}
	}
	check()
	for _, i := range []int{0, 3, 5, 2, 0, 1, 1, 0} { // the first, the last, from the middle, the only one
		h := left[i]
		left = slices.Delete(left, i, i+1)
		r.end(h)
		r.end(h)
		check()
		if r.again(h, false) || h.renewal.queued {
			t.Errorf("claim %d came back", h.claimed.Token)
		}
	}
	r.timer.Stop()
}
