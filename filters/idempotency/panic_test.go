package idempotency_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

// panicking is a store that panics at the end of a request.
type panicking struct{ idempotency.Store }

func (s panicking) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if ch.Op == idempotency.Finish || ch.Op == idempotency.Free {
		panic("a fault of the store")
	}
	return s.Store.Change(ctx, id, token, ch)
}

// A panic at the end of a request ends its call too: those who come later are not joined to it.
func TestPanicAtTheEndEndsTheCall(t *testing.T) {
	for _, ends := range []response{created, {status: 503}} {
		synctest.Test(t, func(t *testing.T) {
			b := benchOn(t, defaults(), &faulty{Store: panicking{idempotencymemory.New(nil)}})
			panics := 0
			chain, err := filters.NewChain(func(*filters.Exchange, string, any, []byte) { panics++ }, b.filter)
			if err != nil {
				t.Fatal(err)
			}
			x := request("k", "{}")
			if reply, _ := chain.Request(x); reply != nil {
				t.Fatal(reply.Reason)
			}
			x.Dispatched, x.Response = true, filters.Response{Status: ends.status, Whole: true}
			chain.Response(x)
			chain.Done(x, filters.Panicked)
			if panics != 1 || b.calls.InFlight() != 0 {
				t.Errorf("%d panics, %d calls are in flight", panics, b.calls.InFlight())
			}
		})
	}
}
