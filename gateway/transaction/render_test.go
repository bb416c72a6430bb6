package transaction

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// TestARequestThatTheCoordinatorCouldNotStore is refused before anything is done, and its key is free.
func TestARequestThatTheCoordinatorCouldNotStore(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int {
		d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return 200
	}
	// The settings have the quantity in three bodies, of two steps.
	body := func(n int) string { return `{"qty":"` + strings.Repeat("x", n) + `"}` }
	r := d.checkout(t, "k", body(22_000))
	if r.Status != 413 || r.Reason != filters.BodyTooLarge || len(d.submits) != 0 {
		t.Fatalf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	if list, err := d.store.List(t.Context(), idempotency.Query{}, 10); err != nil || len(list) != 0 {
		t.Errorf("the key is not free: %+v, %v", list, err)
	}
	if r := d.checkout(t, "k", body(21_000)); r.Status != 200 || len(d.submits) != 1 {
		t.Errorf("one that fits: %d %s", r.Status, r.Body)
	}
}
