package storetest

import (
	"testing"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// testCensus: keys are counted as they read, whichever way their outcome became unknown.
func testCensus(t *testing.T, h Harness) {
	counter := h.Store.(idempotency.Counter)
	ctx := background(t)
	var marked []idempotency.ClaimRequest
	for range 2 {
		c := request(newID())
		mustClaim(t, h.Store, c)
		mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
		marked = append(marked, c)
	}
	for _, route := range []string{"checkout/branch", "checkout/notice"} { // the gateway's own wait for no decision
		c := request(newID())
		c.Route, c.Service = route, "stock"
		mustClaim(t, h.Store, c)
		mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	}
	lapsed, unsent := request(newID()), request(newID())
	lapsed.Lease, unsent.Lease, unsent.NotDispatched = h.short(), h.short(), true
	mustClaim(t, h.Store, lapsed)
	mustClaim(t, h.Store, unsent)
	h.lapse()
	running, answered, freed := request(newID()), request(newID()), request(newID())
	mustClaim(t, h.Store, running)
	mustClaim(t, h.Store, answered)
	mustClaim(t, h.Store, freed)
	mustChange(t, h.Store, answered.ID, answered.Token, idempotency.Change{Op: idempotency.Finish,
		Response: response(201)})
	mustChange(t, h.Store, freed.ID, freed.Token, idempotency.Change{Op: idempotency.Free})
	c, err := counter.Census(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if c.Unknown != 3 || c.Open != 7 || c.Oldest.IsZero() {
		t.Errorf("%+v, want 7 open keys, 3 of them unknown", c)
	}
	if rec := mustGet(t, h.Store, marked[0].ID, idempotency.Unknown); c.Oldest.After(rec.Expires.Add(-rec.TTL)) {
		t.Errorf("the oldest is of %s, and one has been unknown since %s", c.Oldest, rec.Expires.Add(-rec.TTL))
	}
	if h.Second != nil {
		return // what gateways share may be some seconds old
	}
	if ok, err := h.Store.Resolve(ctx, marked[0].ID, response(200), false); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if ok, err := h.Store.Resolve(ctx, marked[1].ID, nil, false); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if c, err := counter.Census(ctx); err != nil || c.Unknown != 1 || c.Open != 6 {
		t.Errorf("%+v, %v once two are resolved; want 6 open keys, 1 of them unknown", c, err)
	}
}
