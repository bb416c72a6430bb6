package filtertest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

const (
	workers = 32              // exchanges at once
	each    = 20              // exchanges a worker makes one after the other
	patient = 5 * time.Second // how long a phase may take before it counts as hung
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
	timer := time.NewTimer(patient)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Fatalf("%s did not return within %v", what, patient)
	}
}

// needsDeclared: an adapter passes bodies on as Needs says, so a filter reads no body that it does not declare.
func needsDeclared(t *testing.T, h *harness) {
	needs := h.filter.Needs()
	x := new(filters.Exchange)
	h.begin(context.Background(), x)
	var slot filters.Slot
	reply := h.filter.Request(x, &slot)
	if _, read := x.BodyLoaded(); read && !needs.RequestBody {
		t.Error("Request read the request's body, and Needs does not say so")
	}
	if x.BufferBody > needs.ResponseBody {
		t.Errorf("the filter asks for %d bytes of the response's body, Needs says %d", x.BufferBody, needs.ResponseBody)
	}
	o := filters.Refused
	if reply == nil {
		o = filters.ClientGone
	}
	h.filter.Done(x, &slot, o)
}

func named(t *testing.T, h *harness) {
	if h.filter.Name() == "" {
		t.Error("Name is empty")
	}
}

func wellFormed(t *testing.T, h *harness) {
	var x filters.Exchange
	h.begin(t.Context(), &x)
	c := h.chain(t, nil, h.filter)
	r := run(c, &x, filters.Completed)
	if r == nil {
		return
	}
	if r.Status < 200 || r.Status > 599 {
		t.Errorf("reply has status %d", r.Status)
	}
	if r.Reason == "" {
		return
	}
	if r.Status != r.Reason.Status() {
		t.Errorf("status is %d, that of %s is %d", r.Status, r.Reason, r.Reason.Status())
	}
	if got := r.Header.Get("Sluice-Reason"); got != string(r.Reason) {
		t.Errorf("Sluice-Reason is %q, want %q", got, r.Reason)
	}
	if !json.Valid(r.Body) {
		t.Errorf("body of the refusal is not JSON: %q", r.Body)
	}
	if (r.Status == 429 || r.Status == 503) && r.Header.Get("Retry-After") == "" {
		t.Errorf("a %d without Retry-After", r.Status)
	}
}

func balanced(t *testing.T, h *harness) {
	c := h.chain(t, nil, h.filter)
	var x filters.Exchange
	first := ""
	for round := range 50 {
		for _, o := range outcomes {
			h.begin(t.Context(), &x)
			r := run(c, &x, o)
			c.Done(&x, o) // an engine that ends an exchange on two paths: only the first counts
			if first == "" {
				first = verdict(r)
			}
			expect(t, fmt.Sprintf("round %d, outcome %v", round, o), first, r)
		}
	}
	h.checkBalance(t)
	if want := int64(50 * len(outcomes)); h.filter.dones.Load() != want {
		t.Errorf("Done ran %d times for %d exchanges", h.filter.dones.Load(), want)
	}
}

// emptySlot calls the later phases with a slot in which Request left nothing: it panicked, or the
// adapter that calls it was restarted.
func emptySlot(t *testing.T, h *harness) {
	for _, o := range outcomes {
		var x filters.Exchange
		var s filters.Slot
		h.begin(t.Context(), &x)
		respond(&x, o)
		within(t, "Response and Done with an empty slot", func() {
			h.filter.Filter.Response(&x, &s)
			h.filter.Filter.Done(&x, &s, o)
		})
	}
	var x filters.Exchange
	h.begin(t.Context(), &x)
	run(h.chain(t, nil, h.filter), &x, filters.Completed)
}

func doneEarly(t *testing.T, h *harness) {
	c := h.chain(t, nil, h.filter)
	var x filters.Exchange
	first := ""
	for range 50 {
		for _, o := range outcomes {
			h.begin(t.Context(), &x)
			r, _ := c.Request(&x)
			c.Done(&x, o)
			if first == "" {
				first = verdict(r)
			}
			expect(t, "Done right after Request", first, r)
		}
	}
	h.checkBalance(t)
}

// neighbour is a filter that refuses or panics as configured.
type neighbour struct {
	refuse bool
	panics string
	dones  atomic.Int64
}

func (n *neighbour) Name() string { return "neighbour" }

func (n *neighbour) Request(_ *filters.Exchange, s *filters.Slot) *filters.Reply {
	s.Ref, s.N = n, 42
	if n.panics == "Request" {
		panic("neighbour's Request")
	}
	if n.refuse {
		return filters.Refuse(filters.BreakerOpen, filters.Problem{Service: "order"})
	}
	return nil
}

func (n *neighbour) Response(_ *filters.Exchange, s *filters.Slot) {
	n.look(s)
	if n.panics == "Response" {
		panic("neighbour's Response")
	}
}

func (n *neighbour) Needs() filters.Needs { return filters.Needs{} }

func (n *neighbour) Done(_ *filters.Exchange, s *filters.Slot, _ filters.Outcome) {
	n.look(s)
	n.dones.Add(1)
	if n.panics == "Done" {
		panic("neighbour's Done")
	}
}

func (n *neighbour) look(s *filters.Slot) {
	if s.Ref != n || s.N != 42 {
		panic("the slot of the neighbour was changed")
	}
}

// refusedLater is the reply path: the filter passes, a later one refuses, and Response sees that
// refusal.
func refusedLater(t *testing.T, h *harness) {
	later := &neighbour{refuse: true}
	c := h.chain(t, nil, h.filter, later)
	var x filters.Exchange
	first := ""
	for range 50 {
		h.begin(t.Context(), &x)
		r := run(c, &x, filters.Refused)
		if first == "" {
			first = verdict(r)
		}
		expect(t, "a later filter refuses", first, r)
		if r != nil && r.Reason == filters.BreakerOpen {
			if x.Response.Status != 503 || x.Response.Reason != filters.BreakerOpen || !json.Valid(x.Response.Body) {
				t.Fatalf("the later filter's refusal became %d %s", x.Response.Status, x.Response.Reason)
			}
		}
	}
	h.checkBalance(t)
}

func refusedEarlier(t *testing.T, h *harness) {
	c := h.chain(t, nil, &neighbour{refuse: true}, h.filter)
	var x filters.Exchange
	h.begin(t.Context(), &x)
	if r := run(c, &x, filters.Refused); r == nil || r.Reason != filters.BreakerOpen {
		t.Fatalf("reply is %v, want the neighbour's", verdict(r))
	}
	if n := h.filter.requests.Load() + h.filter.responses.Load() + h.filter.dones.Load(); n != 0 {
		t.Errorf("%d phases of a filter that was not reached", n)
	}
}

func neighbourPanics(t *testing.T, h *harness) {
	first := ""
	for _, before := range []bool{true, false} {
		for _, phase := range []string{"Request", "Response", "Done"} {
			n := &neighbour{panics: phase}
			list := []filters.Filter{h.filter, n}
			if before {
				list = []filters.Filter{n, h.filter}
			}
			c := h.chain(t, func(filter string) {
				if filter != "neighbour" {
					t.Errorf("filter %s panicked after its neighbour did", filter)
				}
			}, list...)
			for range 20 {
				var x filters.Exchange
				h.begin(t.Context(), &x)
				run(c, &x, filters.Completed)
			}
			h.checkBalance(t)
			// And afterwards the filter is as it was.
			var x filters.Exchange
			h.begin(t.Context(), &x)
			r := run(h.chain(t, nil, h.filter), &x, filters.Completed)
			if first == "" {
				first = verdict(r)
			}
			expect(t, "after panics in "+phase, first, r)
		}
	}
}

func cancelled(t *testing.T, h *harness) {
	c := h.chain(t, nil, h.filter)
	var x filters.Exchange
	h.begin(t.Context(), &x)
	first := verdict(run(c, &x, filters.Completed))
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.begin(ctx, &x)
		within(t, "an exchange whose context is cancelled", func() { run(c, &x, filters.ClientGone) })
	}
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		h.begin(ctx, &x)
		var left sync.WaitGroup
		left.Go(cancel)
		within(t, "an exchange whose context is cancelled on its way", func() { run(c, &x, filters.ClientGone) })
		left.Wait()
	}
	h.checkBalance(t)
	h.begin(t.Context(), &x)
	expect(t, "after cancelled ones", first, run(c, &x, filters.Completed))
}

func atOnce(t *testing.T, h *harness) {
	c := h.chain(t, nil, &neighbour{}, h.filter, &neighbour{})
	verdicts := make([][]string, workers)
	within(t, "many exchanges at once", func() {
		var all sync.WaitGroup
		for w := range workers {
			all.Go(func() {
				var x filters.Exchange
				for i := range each {
					h.begin(t.Context(), &x)
					verdicts[w] = append(verdicts[w], verdict(run(c, &x, outcomes[(w+i)%len(outcomes)])))
				}
			})
		}
		all.Wait()
	})
	h.checkBalance(t)
	for w := range verdicts {
		for i, v := range verdicts[w] {
			if v != verdicts[0][0] {
				t.Fatalf("worker %d, exchange %d: the filter %s, but it %s in another exchange", w, i, v,
					verdicts[0][0])
			}
		}
	}
}

// slotsApart keeps exchanges open together and ends them in another order. State that sits in the
// filter instead of in the slot is then ended by the wrong exchange: the names of the fields that
// Response adds differ from an exchange that was alone.
func slotsApart(t *testing.T, h *harness) {
	c := h.chain(t, nil, h.filter)
	var alone filters.Exchange
	h.begin(t.Context(), &alone)
	first := verdict(run(c, &alone, filters.Completed))
	want := fieldNames(&alone)

	open := make([]filters.Exchange, workers)
	for i := range open {
		h.begin(t.Context(), &open[i])
		r, _ := c.Request(&open[i])
		expect(t, fmt.Sprintf("with %d exchanges open", i), first, r)
		if r != nil {
			open[i].SetReply(r)
		} else {
			respond(&open[i], filters.Completed)
		}
	}
	for step := range open {
		i := step * 13 % workers // 13 has no factor in common with 32: each once, in another order
		x := &open[i]
		c.Response(x)
		if got := fieldNames(x); !slices.Equal(got, want) {
			t.Errorf("exchange %d among others has the fields %q, alone it had %q", i, got, want)
		}
		c.Done(x, filters.Completed)
	}
	h.checkBalance(t)
}

func fieldNames(x *filters.Exchange) []string {
	var names []string
	for _, f := range x.Response.Header {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

// reused runs many exchanges in one value and overwrites it and the buffers that its strings lie in
// after each Done: a filter that still reads there is found by the race detector, or has another
// verdict.
func reused(t *testing.T, h *harness) {
	c := h.chain(t, nil, h.filter)
	var x filters.Exchange
	var lent Buffers
	first := ""
	for i := range 100 {
		h.begin(t.Context(), &x)
		lent.Request(&x)
		r := run(c, &x, outcomes[i%len(outcomes)])
		if first == "" {
			first = verdict(r)
		}
		expect(t, fmt.Sprintf("exchange %d in the same value", i), first, r)
		for j := range x.Header {
			x.Header[j] = filters.Field{}
		}
		for j := range x.Response.Header {
			x.Response.Header[j] = filters.Field{}
		}
		lent.Overwrite()
		x = filters.Exchange{Header: x.Header, Inject: x.Inject, Params: x.Params}
	}
	h.checkBalance(t)
}
