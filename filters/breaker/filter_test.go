package breaker

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
)

func TestConform(t *testing.T) {
	for name, state := range map[string]State{"closed": Closed, "open": Open} {
		t.Run(name, func(t *testing.T) {
			filtertest.Conform(t, func(t *testing.T) (filters.Filter, func(*filters.Exchange)) {
				s := settings()
				s.OpenFor = time.Hour
				if state == Closed {
					s.MinRequests = 1 << 30
				}
				b := newBreaker(t, s, nil)
				if state == Open {
					open(t, b, time.Now())
				}
				return NewFilter("order", b, time.Now), func(*filters.Exchange) {}
			})
		})
	}
}

// run takes one exchange through the filter alone.
func run(t *testing.T, f *Filter, o filters.Outcome, status int, local bool) *filters.Reply {
	t.Helper()
	chain, err := filters.NewChain(func(_ *filters.Exchange, _ string, v any, _ []byte) { t.Errorf("panic: %v", v) }, f)
	if err != nil {
		t.Fatal(err)
	}
	var x filters.Exchange
	x.Begin(context.Background(), nil)
	r, _ := chain.Request(&x)
	if r == nil {
		x.Response.Status, x.Response.Local = status, local
		chain.Response(&x)
	}
	chain.Done(&x, o)
	return r
}

func TestWhatCountsAsAnError(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      filters.Outcome
		status int
		local  bool
		counts bool
		failed bool
	}{
		{"response", filters.Completed, 200, false, true, false},
		{"client's mistake", filters.Completed, 404, false, false, false},
		{"too many", filters.Completed, 429, false, false, false},
		{"elsewhere", filters.Completed, 302, false, true, false},
		{"server error", filters.Completed, 500, false, true, true},
		{"unavailable", filters.Completed, 503, false, true, true},
		{"not connected", filters.NotDispatched, 502, true, true, true},
		{"no response", filters.NoResponse, 504, true, true, true},
		{"refused by the gateway", filters.Refused, 503, true, false, false},
		{"client gone", filters.ClientGone, 0, false, false, false},
		{"panic", filters.Panicked, 500, true, false, false},
		{"the gateway's own response", filters.Completed, 500, true, false, false},
	} {
		s := settings()
		s.MinRequests = 1
		s.Errors = 1
		b := newBreaker(t, s, nil)
		run(t, NewFilter("order", b, time.Now), c.o, c.status, c.local)
		if (b.State() == Open) != c.failed {
			t.Errorf("%s: state is %v", c.name, b.State())
		}
		if !c.failed && (b.window.sum.calls == 1) != c.counts {
			t.Errorf("%s: counted %+v", c.name, b.window.sum)
		}
	}
}

// TestStatusIsTheServices: what a filter before this one puts in place of the response says nothing
// about the service.
func TestStatusIsTheServices(t *testing.T) {
	s := settings()
	s.MinRequests = 1
	b := newBreaker(t, s, nil)
	f := NewFilter("order", b, time.Now)
	var x filters.Exchange
	var slot filters.Slot
	x.Begin(context.Background(), nil)
	f.Request(&x, &slot)
	x.Response.Status = 200
	f.Response(&x, &slot)
	x.SetReply(filters.Refuse(filters.StoreUnavailable, filters.Problem{}))
	f.Done(&x, &slot, filters.Completed)
	if b.State() != Closed || b.window.sum != (tally{calls: 1}) {
		t.Errorf("%v, %+v", b.State(), b.window.sum)
	}
}

// A response is judged by its head, however long it lasts behind it; one that is cut off later is a
// failure, unless it is a stream.
func TestResponsesAreJudgedByTheirHead(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		stream bool
		o      filters.Outcome
		want   tally
	}{
		{"long", 200, false, filters.Completed, tally{calls: 1}},
		{"left by its client", 200, false, filters.ClientGone, tally{calls: 1}},
		{"cut off", 200, false, filters.NoResponse, tally{calls: 1, errors: 1}},
		{"cut off, and a failure anyway", 500, false, filters.NoResponse, tally{calls: 1, errors: 1}},
		{"stream", 200, true, filters.Completed, tally{calls: 1}},
		{"stream that is left", 200, true, filters.ClientGone, tally{calls: 1}},
		{"stream that is cut off", 200, true, filters.NoResponse, tally{calls: 1}},
		{"stream that fails", 503, true, filters.Completed, tally{calls: 1, errors: 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := settings()
			s.MinRequests, s.Window, s.Slow = 100, time.Hour, &Slow{Over: time.Second, Share: 1}
			b := newBreaker(t, s, nil)
			f := NewFilter("order", b, time.Now)
			var x filters.Exchange
			var slot filters.Slot
			x.Begin(context.Background(), nil)
			f.Request(&x, &slot)
			x.Response.Status, x.Response.Stream = c.status, c.stream
			f.Response(&x, &slot)
			time.Sleep(time.Minute)
			f.Done(&x, &slot, c.o)
			if b.window.sum != c.want {
				t.Errorf("%s: counted %+v, want %+v", c.name, b.window.sum, c.want)
			}
		})
	}
}

// Responses that just last hold no place among the probes: the breaker closes at their heads.
func TestLongResponsesAreGoodProbes(t *testing.T) {
	for _, stream := range []bool{false, true} {
		b := newBreaker(t, settings(), nil)
		now := time.Now()
		open(t, b, now)
		now = now.Add(settings().OpenFor)
		f := NewFilter("order", b, func() time.Time { return now })
		var xs [8]filters.Exchange
		var slots [8]filters.Slot
		for i := range xs {
			xs[i].Begin(context.Background(), nil)
			if r := f.Request(&xs[i], &slots[i]); r != nil {
				t.Fatalf("stream %v: exchange %d is refused: %s", stream, i, r.Body)
			}
			xs[i].Response.Status, xs[i].Response.Stream = 200, stream
			f.Response(&xs[i], &slots[i])
		}
		if b.State() != Closed {
			t.Errorf("stream %v: %v", stream, b.State())
		}
		for i := range xs {
			f.Done(&xs[i], &slots[i], filters.NoResponse)
		}
		if (b.State() == Open) == stream {
			t.Errorf("stream %v: %v after all were cut off", stream, b.State())
		}
	}
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, settings(), nil)
		f := NewFilter("order", b, time.Now)
		for range 4 {
			if r := run(t, f, filters.NoResponse, 504, true); r != nil {
				t.Fatalf("refused: %s", r.Body)
			}
		}
		time.Sleep(1500 * time.Millisecond)
		r := run(t, f, filters.Refused, 0, false)
		if r == nil || r.Status != 503 || r.Reason != filters.BreakerOpen || r.Header.Get("Retry-After") != "4" {
			t.Fatalf("reply %+v", r)
		}
		var body struct {
			Reason, Service string
			RetryAfter      int `json:"retry_after"`
		}
		if err := json.Unmarshal(r.Body, &body); err != nil || body.Reason != "breaker-open" ||
			body.Service != "order" || body.RetryAfter != 4 {
			t.Errorf("body %s, error %v", r.Body, err)
		}
		time.Sleep(3500 * time.Millisecond)
		for range 2 {
			if r := run(t, f, filters.Completed, 200, false); r != nil {
				t.Fatalf("a probe was refused: %s", r.Body)
			}
		}
		if b.State() != Closed {
			t.Errorf("state is %v", b.State())
		}
	})
}

func TestSlowCallsAreMeasuredByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings()
		s.MinRequests, s.Slow = 1, &Slow{Over: time.Second, Share: 1}
		b := newBreaker(t, s, nil)
		f := NewFilter("order", b, time.Now)
		for _, c := range []struct {
			took time.Duration
			want State
		}{{time.Second, Closed}, {time.Second + time.Millisecond, Closed}, {2 * time.Second, Closed}} {
			var x filters.Exchange
			var slot filters.Slot
			x.Begin(context.Background(), nil)
			f.Request(&x, &slot)
			time.Sleep(c.took)
			x.Response.Status = 200
			f.Done(&x, &slot, filters.Completed)
			if b.State() != c.want {
				t.Fatalf("after a call of %v: %v", c.took, b.State())
			}
		}
		if b.window.sum != (tally{calls: 3, slow: 2}) {
			t.Errorf("counted %+v", b.window.sum)
		}
	})
}

func TestClosedBreakerAllocatesNothing(t *testing.T) {
	s := settings()
	s.MinRequests = 1 << 30
	f := NewFilter("order", newBreaker(t, s, nil), time.Now)
	var x filters.Exchange
	var slot filters.Slot
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		x.Begin(ctx, nil)
		slot = filters.Slot{}
		f.Request(&x, &slot)
		x.Response.Status = 200
		f.Response(&x, &slot)
		f.Done(&x, &slot, filters.Completed)
	}); n != 0 {
		t.Errorf("%v allocations an exchange", n)
	}
}
