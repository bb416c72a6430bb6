package filtertest

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

const (
	workers   = 32              // exchanges at once
	each      = 20              // exchanges a worker makes one after the other
	waitLimit = 5 * time.Second // how long a phase may take before it counts as hung
)

// outcomes are all that an engine reports.
var outcomes = []filters.Outcome{
	filters.Completed, filters.Refused, filters.NotDispatched, filters.NoResponse, filters.ClientGone, filters.Panicked,
}

// Conform runs the conformance suite on a filter.
//
// make returns a fresh filter and fill, which puts a request into an exchange. Exchanges that fill
// makes are independent of each other and the filter has the same verdict on all of them, some
// thousand in one test, whatever becomes of the earlier ones: give it ample limits, a breaker that
// does not open by itself, a new idempotency key for each. Then a permit, lease or token that is
// not given back shows, because the verdict changes. fill is called by several goroutines at once.
// A filter that has a claim on something while an exchange runs (a key) must be given exchanges
// that do not wait for each other.
//
// The suite has these parts: Done comes once and balances Request on every path; an empty slot and
// a Done right after Request do no harm; a later filter refuses, an earlier one refuses; a
// neighbour panics in each phase; the context is cancelled before or while Request runs; many
// exchanges at once; exchanges that are open together do not share their slots; one exchange value
// is used over and over, and nothing touches it after Done. The last ones say something under the
// race detector only.
func Conform(t *testing.T, make func(t *testing.T) (f filters.Filter, fill func(*filters.Exchange))) {
	t.Helper()
	for _, part := range []struct {
		name string
		run  func(t *testing.T, h *harness)
	}{
		{"name", named},
		{"needs are declared", needsDeclared},
		{"reply is well formed", wellFormed},
		{"done once and balanced", balanced},
		{"empty slot", emptySlot},
		{"done right after request", doneEarly},
		{"a later filter refuses", refusedLater},
		{"an earlier filter refuses", refusedEarlier},
		{"a neighbour panics", neighbourPanics},
		{"cancelled context", cancelled},
		{"many at once", atOnce},
		{"slots are not shared", slotsApart},
		{"exchange is reused", reused},
	} {
		t.Run(part.name, func(t *testing.T) {
			f, fill := make(t)
			part.run(t, &harness{filter: &spy{Filter: f}, fill: fill})
		})
	}
}

// harness is one filter under test.
type harness struct {
	filter *spy
	fill   func(*filters.Exchange)
}

// spy counts the phases of the filter behind it.
type spy struct {
	filters.Filter
	requests, responses, dones atomic.Int64
}

func (s *spy) Request(x *filters.Exchange, slot *filters.Slot) *filters.Reply {
	s.requests.Add(1)
	return s.Filter.Request(x, slot)
}

func (s *spy) Response(x *filters.Exchange, slot *filters.Slot) {
	s.responses.Add(1)
	s.Filter.Response(x, slot)
}

func (s *spy) Done(x *filters.Exchange, slot *filters.Slot, o filters.Outcome) {
	s.dones.Add(1)
	s.Filter.Done(x, slot, o)
}

// begin makes an exchange ready for a request.
func (h *harness) begin(ctx context.Context, x *filters.Exchange) {
	x.Begin(ctx, nil)
	x.Method, x.Scheme, x.Host, x.Path = "POST", "http", "shop.example", "/v1/orders"
	x.Route = "create-order"
	x.Peer, x.Client = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.7")
	x.Received = time.Now()
	x.Principal = "anna"
	h.fill(x)
}

// chain puts the filter between others; a panic in any of them is passed to caught, which may be
// nil where none is expected.
func (h *harness) chain(t *testing.T, caught func(filter string), list ...filters.Filter) *filters.Chain {
	t.Helper()
	c, err := filters.NewChain(func(_ *filters.Exchange, filter string, v any, stack []byte) {
		if caught == nil {
			t.Errorf("filter %s panicked: %v\n%s", filter, v, stack)
			return
		}
		caught(filter)
	}, list...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run takes one exchange through a chain as an engine does, with a response of the service that
// suits the outcome, and returns the filter's own verdict: nil, or its reply.
func run(c *filters.Chain, x *filters.Exchange, o filters.Outcome) *filters.Reply {
	reply, panicked := c.Request(x)
	switch {
	case panicked:
		o = filters.Panicked
		x.SetReply(reply)
	case reply != nil:
		o = filters.Refused
		x.SetReply(reply)
	default:
		respond(x, o)
	}
	if c.Response(x) {
		o = filters.Panicked
	}
	c.Done(x, o)
	return reply
}

// respond puts into the exchange the response that the engine would for such an outcome.
func respond(x *filters.Exchange, o filters.Outcome) {
	switch o {
	case filters.Completed:
		x.Dispatched = true
		x.Response = filters.Response{Status: 200, Body: []byte("{}"), Whole: true, Header: x.Response.Header}
		x.Response.Header.Set("Content-Type", "application/json")
	case filters.NotDispatched:
		x.SetReply(filters.Refuse(filters.UpstreamUnreachable, filters.Problem{}))
	case filters.NoResponse:
		x.Dispatched = true
		x.SetReply(filters.Refuse(filters.UpstreamFailed, filters.Problem{}))
	case filters.ClientGone:
		x.Dispatched = true
	default:
		x.SetReply(filters.Refuse(filters.InternalError, filters.Problem{}))
	}
}

// verdict is the part of a filter's reply that must not change from one exchange to the next.
func verdict(r *filters.Reply) string {
	if r == nil {
		return "passes"
	}
	return fmt.Sprintf("replies %d %s", r.Status, r.Reason)
}

// expect compares a verdict with that of the first exchange.
func expect(t *testing.T, when, first string, r *filters.Reply) {
	t.Helper()
	if got := verdict(r); got != first {
		t.Fatalf("%s: the filter %s, but it %s at first: "+
			"something was not given back, or fill makes exchanges that depend on each other",
			when, got, first)
	}
}

func (h *harness) checkBalance(t *testing.T) {
	t.Helper()
	if r, d := h.filter.requests.Load(), h.filter.dones.Load(); r != d {
		t.Errorf("Request ran %d times, Done %d times", r, d)
	}
}

// within fails the test when do hangs.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	timer := time.NewTimer(waitLimit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Fatalf("%s did not return within %v", what, waitLimit)
	}
}
