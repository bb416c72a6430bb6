package idempotency

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// renewing takes every renewal, as a store does that ends the lease at the cap.
type renewing struct{ Store }

func (renewing) Change(context.Context, string, uint64, Change) error { return nil }

func TestClaimIsNotHeldBeyondItsCap(t *testing.T) {
	t.Parallel()
	s := Settings{Lease: 10 * time.Second, MaxInFlight: 60 * time.Second, TTL: time.Hour}
	f := New(s, Options{Store: renewing{}})
	began := time.Now().Add(-59 * time.Second) // the claim is a second short of its cap
	h := &Handle{filter: f, id: "k", claimed: filters.ClaimedRequest{Token: 1}}
	h.cap = began.Add(s.MaxInFlight)
	h.setLease(began.Add(s.Lease))
	h.renewal.list = f.renewals.here()
	h.renew()
	h.stop()
	if h.Valid(began.Add(65 * time.Second)) {
		t.Error("held 5s beyond the cap, where the store gives the key to somebody else")
	}
}
