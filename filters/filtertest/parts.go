package filtertest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

func named(t *testing.T, h *harness) {
	if h.filter.Name() == "" {
		t.Error("Name is empty")
	}
}

// needsDeclared: an adapter passes bodies on as Needs says, so a filter reads no body that it does
// not declare.
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
