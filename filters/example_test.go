package filters_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/filters"
)

// bulkhead lets a fixed number of exchanges through at once and refuses the others. It is safe for
// concurrent use.
type bulkhead struct {
	permits  int64
	inFlight atomic.Int64
}

func (b *bulkhead) Name() string { return "bulkhead" }

// Needs: it reads no body.
func (b *bulkhead) Needs() filters.Needs { return filters.Needs{} }

// Request takes a permit, or refuses. A policy with a reason of its own declares it by
// DeclareReason.
func (b *bulkhead) Request(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	if b.inFlight.Add(1) > b.permits {
		b.inFlight.Add(-1)
		return filters.Refuse(filters.RateLimited, filters.Problem{Detail: "Too many requests are in flight."})
	}
	s.N = 1 // this exchange has a permit
	return nil
}

func (b *bulkhead) Response(*filters.Exchange, *filters.Slot) {}

// Done gives the permit back. It runs for refused exchanges too, which have none.
func (b *bulkhead) Done(x *filters.Exchange, s *filters.Slot, o filters.Outcome) {
	if s.N == 1 {
		b.inFlight.Add(-1)
	}
}

// A small filter in a chain: what Request takes, Done gives back, whatever happened in between.
func Example() {
	limit := &bulkhead{permits: 1}
	chain, err := filters.NewChain(func(_ *filters.Exchange, filter string, v any, _ []byte) {
		fmt.Println("panic in", filter, v) // an engine logs it
	}, limit)
	if err != nil {
		fmt.Println(err)
		return
	}

	// An engine begins an exchange, fills in the request and runs the chain.
	begin := func(path string) *filters.Exchange {
		x := new(filters.Exchange)
		x.Begin(context.Background(), nil)
		x.Method, x.Path = "POST", path
		return x
	}
	first, second := begin("/v1/orders/1"), begin("/v1/orders/2")
	if reply, _ := chain.Request(first); reply == nil {
		fmt.Println("first goes to the service, in flight:", limit.inFlight.Load())
	}
	if reply, _ := chain.Request(second); reply != nil {
		fmt.Println("second is refused:", reply.Status, reply.Reason, reply.Header.Get("Retry-After"))
		second.SetReply(reply)
		chain.Done(second, filters.Refused)
	}
	first.Response = filters.Response{Status: 201}
	chain.Response(first)
	chain.Done(first, filters.Completed)
	fmt.Println("both are done, in flight:", limit.inFlight.Load())

	// Output:
	// first goes to the service, in flight: 1
	// second is refused: 429 rate-limited 1
	// both are done, in flight: 0
}
