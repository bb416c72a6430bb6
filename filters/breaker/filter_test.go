package breaker

import (
	"context"
	"encoding/json"
	"strings"
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

// A refusal says who has opened the breaker: the service is not said to fail where an operator did it.
func TestRefusalSaysWhoOpened(t *testing.T) {
	const byItself, byOperator = "has been failing", "operator has opened"
	b := newBreaker(t, settings(), nil)
	f := NewFilter("order", b, time.Now)
	detail := func(r *filters.Reply) string {
		var body struct{ Title, Detail string }
		if r == nil || json.Unmarshal(r.Body, &body) != nil {
			t.Fatalf("reply %+v", r)
		}
		if strings.Contains(body.Title, "fail") {
			t.Errorf("title %q, whoever opened it", body.Title)
		}
		return body.Detail
	}
	both := func(want, not string) {
		t.Helper()
		for _, r := range []*filters.Reply{
			run(t, f, filters.Refused, 0, false), f.Reserve(new(filters.Exchange), new(filters.Slot)),
		} {
			if got := detail(r); !strings.Contains(got, want) || strings.Contains(got, not) {
				t.Errorf("detail %q, want that it %s", got, want)
			}
		}
	}
	b.Force(time.Now(), ForcedOpen)
	both(byOperator, byItself)
	b.Force(time.Now(), ForcedClosed)
	b.Force(time.Now(), Auto)
	for range 4 {
		run(t, f, filters.NoResponse, 504, true)
	}
	both(byItself, byOperator)
	b.Force(time.Now(), ForcedOpen) // while it is open already
	both(byOperator, byItself)
}

func TestSlowCallsAreMeasuredByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings()
		s.MinRequests, s.Slow = 1, &Slow{Over: time.Second, Share: 1}
		b := newBreaker(t, s, nil)
		f := NewFilter("order", b, time.Now)
		for _, c := range []struct {
			took, client time.Duration // client: of it, for which the client's body was waited for
			want         State
		}{{time.Second, 0, Closed}, {time.Second + time.Millisecond, 0, Closed}, {2 * time.Second, 0, Closed},
			{3 * time.Second, 2500 * time.Millisecond, Closed}} {
			var x filters.Exchange
			var slot filters.Slot
			x.Begin(context.Background(), nil)
			f.Request(&x, &slot)
			time.Sleep(c.took)
			x.Response.Status, x.ClientTime = 200, c.client
			f.Done(&x, &slot, filters.Completed)
			if b.State() != c.want {
				t.Fatalf("after a call of %v: %v", c.took, b.State())
			}
		}
		if b.window.sum != (tally{calls: 4, slow: 2}) {
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

// grpcExchange runs a call of gRPC whose status is in the head or behind the body, as a stream or
// read whole.
func grpcExchange(f *Filter, head, trailer string, whole bool, o filters.Outcome) {
	var x filters.Exchange
	var slot filters.Slot
	x.Begin(context.Background(), nil)
	x.Method, x.Version = "POST", "2"
	x.Header.Add("Content-Type", "application/grpc")
	f.Request(&x, &slot)
	x.Response.Status, x.Response.Whole, x.Response.Stream = 200, whole, !whole
	x.Response.Header.Add("Content-Type", "application/grpc")
	if head != "" {
		x.Response.Header.Add("Grpc-Status", head)
	}
	behind := func() {
		if trailer != "" {
			x.Response.Trailer.Add("Grpc-Status", trailer)
		}
	}
	if whole {
		behind()
	}
	f.Response(&x, &slot)
	if !whole {
		behind()
	}
	f.Done(&x, &slot, o)
}

func TestCallsOfGRPCAreJudgedByTheirStatus(t *testing.T) {
	const nothing, success, failure = "nothing", "success", "failure"
	codes := map[string]string{"0": success, "1": nothing, "2": failure, "3": nothing, "4": failure, "5": nothing,
		"6": nothing, "7": nothing, "8": nothing, "9": nothing, "10": nothing, "11": nothing, "12": nothing,
		"13": failure, "14": failure, "15": failure, "16": nothing, "": success, "x": success}
	want := map[string]tally{nothing: {}, success: {calls: 1}, failure: {calls: 1, errors: 1}}
	for code, counts := range codes {
		behind := want[counts]
		if counts == nothing { // the head has been taken for a success, and that is not taken back
			behind = want[success]
		}
		for _, c := range []struct {
			name          string
			head, trailer string
			whole         bool
			o             filters.Outcome
			want          tally
		}{
			{"in the head", code, "", false, filters.Completed, want[counts]},
			{"in the head, whole", code, "", true, filters.Completed, want[counts]},
			{"behind the body, whole", "", code, true, filters.Completed, want[counts]},
			{"behind the body", "", code, false, filters.Completed, behind},
			{"behind the body, and the client has left", "", "", false, filters.ClientGone, want[success]},
		} {
			s := settings()
			s.MinRequests = 100
			b := newBreaker(t, s, nil)
			grpcExchange(NewFilter("order", b, time.Now), c.head, c.trailer, c.whole, c.o)
			if b.window.sum != c.want {
				t.Errorf("code %q %s: counted %+v, want %+v", code, c.name, b.window.sum, c.want)
			}
		}
	}
}

// A client that names a short deadline says nothing of the service when that is over.
func TestShortDeadlinesOfClientsCountAsNothing(t *testing.T) {
	for _, c := range []struct {
		name     string
		deadline bool
		took     time.Duration
		code     string
		want     tally
	}{
		{"the client's, soon", true, time.Millisecond, "4", tally{}},
		{"the client's, after a second", true, time.Second, "4", tally{calls: 1, errors: 1}},
		{"the service's own", false, time.Millisecond, "4", tally{calls: 1, errors: 1}},
		{"another fault", true, time.Millisecond, "14", tally{calls: 1, errors: 1}},
	} {
		now := t0
		b := newBreaker(t, settings(), nil)
		f := NewFilter("order", b, func() time.Time { return now })
		var x filters.Exchange
		var slot filters.Slot
		x.Begin(context.Background(), nil)
		x.Method, x.Version = "POST", "2"
		x.Header.Add("Content-Type", "application/grpc")
		if c.deadline {
			x.SetClientDeadline(now.Add(c.took))
		}
		f.Request(&x, &slot)
		now = now.Add(c.took)
		x.Response.Status, x.Response.Whole = 200, true
		x.Response.Trailer.Add("Grpc-Status", c.code)
		f.Response(&x, &slot)
		f.Done(&x, &slot, filters.Completed)
		if b.window.sum != c.want {
			t.Errorf("%s: counted %+v, want %+v", c.name, b.window.sum, c.want)
		}
	}
}

// A probe of gRPC that fails behind its head opens the breaker again.
func TestProbesOfGRPC(t *testing.T) {
	now := t0
	b := newBreaker(t, settings(), nil)
	open(t, b, now)
	now = at(5)
	f := NewFilter("order", b, func() time.Time { return now })
	grpcExchange(f, "", "0", false, filters.Completed)
	grpcExchange(f, "", "14", false, filters.Completed) // the second of two probes: it has just closed
	if b.State() != Closed || b.window.sum != (tally{calls: 1, errors: 1}) {
		t.Errorf("%v, counted %+v", b.State(), b.window.sum)
	}
	open(t, b, now)
	now = at(10)
	grpcExchange(f, "", "14", false, filters.Completed)
	if b.State() != Open {
		t.Errorf("%v behind a probe that failed behind its head", b.State())
	}
}

// What the gateway has no room for says nothing of the service, before it is sent and instead of that.
func TestShedCallsCountAsNothing(t *testing.T) {
	for _, o := range []filters.Outcome{filters.Refused, filters.NotDispatched} {
		s := settings()
		s.MinRequests = 1
		b := newBreaker(t, s, nil)
		f := NewFilter("order", b, time.Now)
		var x filters.Exchange
		var slot filters.Slot
		x.Begin(context.Background(), nil)
		f.Request(&x, &slot)
		x.SetReply(filters.Refuse(filters.Overloaded, filters.Problem{}))
		f.Response(&x, &slot)
		x.SetReply(&filters.Reply{Status: 200}) // another filter's, in its place
		f.Done(&x, &slot, o)
		if b.State() != Closed || b.window.sum != (tally{}) {
			t.Errorf("%v: %v, counted %+v", o, b.State(), b.window.sum)
		}
	}
}

func TestRampHoldsUpRequestsAndNotWhatHasBegun(t *testing.T) {
	b := ramping(t)
	now := func() time.Time { return t0 }
	request := func(f *Filter) *filters.Reply {
		var x filters.Exchange
		x.Begin(context.Background(), nil)
		return f.Request(&x, new(filters.Slot))
	}
	begun, requests := NewBegunFilter("order", b, now), NewFilter("order", b, now)
	if r := request(requests); r != nil {
		t.Fatalf("the first is refused: %s", r.Body)
	}
	for range 5 {
		if r := request(begun); r != nil {
			t.Errorf("what has begun is refused: %s", r.Body)
		}
		if r := request(requests); r == nil || r.Reason != filters.BreakerOpen || r.Header.Get("Retry-After") != "1" {
			t.Errorf("in the ramp: %+v", r)
		}
	}
}
