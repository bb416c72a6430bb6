package overload

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
)

// fixed is a service with a concurrency and a queue.
func fixed(concurrency, queue int) *Service {
	s := Settings{Concurrency: concurrency, QueueSize: queue, QueueWait: 100 * time.Millisecond, Streams: 1}
	return NewService("order", s, NewProcess(time.Now()), time.Now())
}

func filterOf(s *Service) *Filter { return NewFilter(Options{Service: s, Class: Normal}) }

func exchange(ctx context.Context) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(ctx, nil)
	x.Route, x.Principal, x.Received = "create-order", "anna", time.Now()
	return x
}

// respond gives the exchange a response of the service.
func respond(x *filters.Exchange, status int) {
	x.Dispatched, x.Response = true, filters.Response{Status: status, Whole: true}
}

func TestFilterConforms(t *testing.T) {
	for name, s := range map[string]Settings{
		"fixed":    {Concurrency: 10_000, QueueSize: 10, QueueWait: time.Second},
		"adaptive": {Adaptive: true, Min: 10_000, Max: 20_000, QueueSize: 10, QueueWait: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Conform(t, func(*testing.T) (filters.Filter, func(*filters.Exchange)) {
				service := NewService("order", s, NewProcess(time.Now()), time.Now())
				return filterOf(service), func(*filters.Exchange) {}
			})
		})
	}
}

// TestFilterGivesBack: on every path the permit is back when the exchange has ended.
func TestFilterGivesBack(t *testing.T) {
	for _, o := range []filters.Outcome{filters.Completed, filters.Refused, filters.NotDispatched, filters.NoResponse,
		filters.ClientGone, filters.Panicked} {
		for _, head := range []string{"none", "whole", "streams", "stream", "local"} {
			s := fixed(1, 0)
			f := filterOf(s)
			x, slot := exchange(t.Context()), new(filters.Slot)
			if r := f.Request(x, slot); r != nil {
				t.Fatalf("refused: %s", r.Body)
			}
			if s.Limiter.Snapshot().InFlight != 1 {
				t.Fatal("no permit was taken")
			}
			inFlight, streams := 1, 0
			if head != "none" {
				respond(x, 200)
				x.Response.Whole = head == "whole"
				x.Response.Stream, x.Response.Local = head == "stream", head == "local"
				f.Response(x, slot)
				if head == "whole" || head == "stream" {
					inFlight = 0
				}
				if head == "stream" {
					streams = 1
				}
			}
			if got := s.Limiter.Snapshot(); got.InFlight != inFlight || got.Streams != streams {
				t.Errorf("%v, %s: %d in flight and %d streams before Done", o, head, got.InFlight, got.Streams)
			}
			f.Done(x, slot, o)
			if got := s.Limiter.Snapshot(); got.InFlight != 0 || got.Streams != 0 {
				t.Errorf("%v, %s: %d in flight and %d streams after Done", o, head, got.InFlight, got.Streams)
			}
		}
	}
}

func TestFilterQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := filterOf(fixed(1, 1))
		first, slot := exchange(t.Context()), new(filters.Slot)
		f.Request(first, slot)
		type end struct {
			reply *filters.Reply
			after time.Duration
		}
		ends := make(chan end, 3)
		begin := time.Now()
		ask := func(ctx context.Context) {
			x, slot := exchange(ctx), new(filters.Slot)
			r := f.Request(x, slot)
			if r == nil {
				f.Done(x, slot, filters.Completed)
			}
			ends <- end{r, time.Since(begin)}
		}
		go ask(t.Context())
		synctest.Wait()
		ask(t.Context()) // the queue is full
		e := <-ends
		switch {
		case e.reply == nil || e.reply.Status != 503 || e.reply.Reason != filters.Overloaded || e.after != 0:
			t.Errorf("beyond the queue: %+v", e)
		case !strings.Contains(string(e.reply.Body), `"service":"order"`):
			t.Errorf("the refusal does not name the service: %s", e.reply.Body)
		case e.reply.Header.Get("Retry-After") < "1" || e.reply.Header.Get("Retry-After") > "3":
			t.Errorf("Retry-After: %s, want 1 to 3", e.reply.Header.Get("Retry-After"))
		}
		time.Sleep(30 * time.Millisecond)
		f.Done(first, slot, filters.Completed)
		if e := <-ends; e.reply != nil || e.after != 30*time.Millisecond {
			t.Errorf("in the queue: %+v, want the permit that came back", e)
		}

		f.Request(first, slot)
		begin = time.Now()
		ask(t.Context())
		if e := <-ends; e.reply == nil || e.after != 100*time.Millisecond {
			t.Errorf("waited in vain: %+v, want a refusal when the wait is over", e)
		}
		ctx, leave := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer leave()
		begin = time.Now()
		ask(ctx)
		if e := <-ends; e.reply == nil || e.after != 10*time.Millisecond {
			t.Errorf("a client that left: %+v, want the end of its wait", e)
		}
		if n := f.Service.Limiter.Snapshot().Queued(); n != 0 {
			t.Errorf("%d in the queue that have left", n)
		}
	})
}

func TestFilterRequests(t *testing.T) {
	f := filterOf(fixed(1, 0))
	f.Class = Low
	now := time.Now()
	anna, ben := exchange(t.Context()), exchange(t.Context())
	ben.Principal = "ben"
	ben.Logical.Key, ben.Logical.Attempt = "k", 1
	if r := f.request(anna, now); r.Class != Low || r.Demoted || r.Exempt || r.Principal == 0 ||
		r.Principal == f.request(ben, now).Principal {
		t.Errorf("first try: %+v", r)
	}
	f.Request(anna, new(filters.Slot))
	reply := f.Request(ben, new(filters.Slot))
	if reply == nil {
		t.Fatal("a second request got through")
	}
	retry, err := time.ParseDuration(reply.Header.Get("Retry-After") + "s")
	if err != nil {
		t.Fatal(err)
	}
	other := exchange(t.Context())
	other.Logical.Key = "k"
	for name, c := range map[string]struct {
		x    *filters.Exchange
		at   time.Duration
		want bool
	}{
		"the principal":        {ben, retry - time.Second/10, true},
		"the key":              {other, retry - time.Second/10, true},
		"somebody else":        {anna, 0, false},
		"in time":              {ben, retry + time.Second, false},
		"the key, and in time": {other, retry + time.Second, false},
	} {
		if got := f.request(c.x, now.Add(c.at)).Demoted; got != c.want {
			t.Errorf("%s: demoted is %v, want %v", name, got, c.want)
		}
	}
	ben.Logical.Attempt = 2
	if f.request(ben, now).Demoted {
		t.Error("an attempt after an unknown outcome is demoted")
	}
	ben.Logical.Attempt = 1
	for call, want := range map[filters.Call]Request{
		filters.DoCall: {Class: Critical}, filters.UndoCall: {Class: Critical, Exempt: true},
		filters.ProbeCall: {Class: High},
	} {
		ben.Call = call
		want.Principal = f.request(ben, now).Principal
		if got := f.request(ben, now); got != want {
			t.Errorf("call %d: %+v, want %+v", call, got, want)
		}
	}
}

func TestFilterUndoPasses(t *testing.T) {
	f := filterOf(fixed(1, 0))
	f.Request(exchange(t.Context()), new(filters.Slot))
	x, slot := exchange(t.Context()), new(filters.Slot)
	x.Call = filters.UndoCall
	if r := f.Request(x, slot); r != nil {
		t.Fatalf("an undo was shed: %s", r.Body)
	}
	if n := f.Service.Limiter.Snapshot().InFlight; n != 2 {
		t.Errorf("%d in flight, want the undo counted", n)
	}
}

// TestFilterOutcomes: what each end of a call teaches about the service.
func TestFilterOutcomes(t *testing.T) {
	for status, want := range map[int]Outcome{200: Success, 404: Success, 408: Success, 429: Dropped, 500: Failed,
		502: Failed, 503: Dropped, 504: Failed} {
		if got := outcomeOf(status); got != want {
			t.Errorf("%d is %v, want %v", status, got, want)
		}
	}
	for code, want := range map[filters.GRPCCode]Outcome{filters.GRPCOK: Success, filters.GRPCNotFound: Success,
		filters.GRPCCancelled: Ignored, filters.GRPCUnavailable: Dropped, filters.GRPCResourceExhausted: Dropped,
		filters.GRPCDeadlineExceeded: Dropped, filters.GRPCInternal: Failed} {
		if got := outcomeOfCode(code, true); got != want {
			t.Errorf("gRPC %d is %v, want %v", code, got, want)
		}
		if got := outcomeOfCode(code, false); got != Success {
			t.Errorf("a status that is not known is %v", got)
		}
	}
	for _, c := range []struct {
		o    filters.Outcome
		late bool
		want Outcome
	}{
		{filters.NoResponse, true, Dropped}, {filters.NoResponse, false, Failed}, {filters.ClientGone, true, Ignored},
		{filters.Refused, false, Ignored}, {filters.NotDispatched, false, Ignored}, {filters.Panicked, false, Ignored},
	} {
		if got := (&call{late: c.late}).outcome(c.o); got != c.want {
			t.Errorf("%v, late %v, is %v, want %v", c.o, c.late, got, c.want)
		}
	}
}

func TestFilterStreams(t *testing.T) {
	s := fixed(10, 0)
	f := filterOf(s)
	open := func(x *filters.Exchange) (*filters.Exchange, *filters.Slot) {
		slot := new(filters.Slot)
		if x.Method == "" {
			x.Method = "GET"
		}
		f.Request(x, slot)
		respond(x, 200)
		x.Response.Whole, x.Response.Stream = false, true
		f.Response(x, slot)
		return x, slot
	}
	first, slot := open(exchange(t.Context()))
	if first.Response.Local || s.Limiter.Snapshot().InFlight != 0 {
		t.Error("the first stream is refused, or holds a permit behind its head")
	}
	second, secondSlot := open(exchange(t.Context()))
	if second.Response.Status != 503 || second.Response.Reason != filters.Overloaded {
		t.Errorf("beyond the cap of streams: %d %s", second.Response.Status, second.Response.Reason)
	}
	x := exchange(t.Context())
	x.Logical.Claim, x.Logical.Key = claim{}, "k"
	keyed, keyedSlot := open(x)
	if keyed.Response.Local {
		t.Error("the stream that a keyed request led to was refused, and its service has done the work")
	}
	x = exchange(t.Context())
	x.Method = "POST"
	unsafe, unsafeSlot := open(x)
	if unsafe.Response.Local {
		t.Error("the stream that a POST led to was refused, and its service has done the work")
	}
	x = exchange(t.Context())
	x.Method = "POST"
	x.Header.Add("Content-Type", "application/grpc")
	call := new(filters.Slot)
	if r := f.Request(x, call); r == nil || r.Reason != filters.Overloaded || call.Ref != nil {
		t.Error("a call of gRPC is sent, though there is no room for its stream")
	}
	f.Done(unsafe, unsafeSlot, filters.Completed)
	f.Done(second, secondSlot, filters.Completed)
	f.Done(keyed, keyedSlot, filters.Completed)
	f.Done(first, slot, filters.Completed)
	if got := s.Limiter.Snapshot(); got.Streams != 0 || got.InFlight != 0 {
		t.Errorf("%d streams and %d in flight at the end", got.Streams, got.InFlight)
	}
}

type claim struct{ filters.Claim }

// What the client took for its body is no latency of the service.
func TestFilterTimeOfTheClient(t *testing.T) {
	f, now := filterOf(fixed(10, 0)), time.Now()
	f.Now = func() time.Time { return now }
	for _, c := range []struct{ took, client, want time.Duration }{
		{time.Second, 0, time.Second}, {time.Minute, 59 * time.Second, time.Second}, {time.Second, time.Minute, 1000},
	} {
		x, slot := exchange(t.Context()), new(filters.Slot)
		f.Request(x, slot)
		now = now.Add(c.took)
		respond(x, 200)
		x.Response.Whole, x.ClientTime = false, c.client
		f.Response(x, slot)
		if got := slot.Ref.(*call).sample.Latency; got != c.want {
			t.Errorf("%+v: the latency is %v", c, got)
		}
		f.Done(x, slot, filters.Completed)
	}
}

// TestFilterReserves: what is reserved is taken by one call, be the limiter another one by then, or is
// given back.
func TestFilterReserves(t *testing.T) {
	s := fixed(1, 0)
	f := filterOf(s)
	f.ClassOf = func(route string) Class { return map[string]Class{"create-order": High}[route] }
	chain, err := filters.NewChain(func(_ *filters.Exchange, name string, v any, _ []byte) {
		t.Errorf("panic in %s: %v", name, v)
	}, f)
	if err != nil {
		t.Fatal(err)
	}
	x := exchange(t.Context())
	reservations, refused := filters.Reserve(x, []*filters.Chain{chain})
	if refused != nil {
		t.Fatalf("refused: %s", refused.Body)
	}
	for _, g := range []*Filter{f, filterOf(fixed(1, 0))} {
		do := exchange(t.Context())
		do.Call, do.Reservation = filters.DoCall, reservations[0]
		r := g.request(do, time.Now())
		if !r.Reserved || r.Class != Critical || r.Reservation.Valid() != (g == f) {
			t.Errorf("the call for which a place was reserved: %+v", r)
		}
		if r := g.request(do, time.Now()); r.Reserved {
			t.Errorf("the reservation served twice")
		}
		if reservations, refused = filters.Reserve(x, []*filters.Chain{chain}); refused != nil {
			t.Fatalf("refused: %s", refused.Body)
		}
	}
	reservations[0].Return()
	reservations[0].Return()
	if _, ok := reservations[0].Take("overload"); ok {
		t.Error("a reservation that was given back is still there")
	}
}

// TestServiceGateways: neither a reload nor a change of the fleet loses what the other has set.
func TestServiceGateways(t *testing.T) {
	s := adaptiveService()
	s.SetGateways(3, time.Now())
	set := s.set
	set.Max, set.Gateways = 10, 0
	s.Configure(set, time.Now())
	if s.set.Max != 10 || s.set.Gateways != 3 {
		t.Errorf("%+v, want both changes", s.set)
	}
}

func chainOf(t testing.TB, f filters.Filter) *filters.Chain {
	t.Helper()
	c, err := filters.NewChain(func(_ *filters.Exchange, name string, v any, _ []byte) {
		t.Errorf("panic in %s: %v", name, v)
	}, f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func through(t testing.TB, c *filters.Chain, x *filters.Exchange, ctx context.Context) {
	x.Begin(ctx, nil)
	x.Principal = "anna"
	if r, _ := c.Request(x); r != nil {
		t.Fatalf("refused: %s", r.Body)
	}
	respond(x, 200)
	c.Response(x)
	c.Done(x, filters.Completed)
}

func adaptiveService() *Service {
	return NewService("order", Settings{Adaptive: true, Min: 4, Max: 1000, QueueSize: 200,
		QueueWait: 100 * time.Millisecond}, NewProcess(time.Now()), time.Now())
}

func TestFilterAllocates(t *testing.T) {
	c := chainOf(t, filterOf(adaptiveService()))
	var x filters.Exchange
	if n := testing.AllocsPerRun(1000, func() { through(t, c, &x, t.Context()) }); n >= 1 {
		t.Errorf("%v allocations a request, want none", n)
	}
}

// BenchmarkFilter is what a request costs beside a chain without a filter.
func BenchmarkFilter(b *testing.B) {
	empty, err := filters.NewChain(nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]*filters.Chain{"none": empty, "overload": chainOf(b, filterOf(adaptiveService()))} {
		b.Run(name, func(b *testing.B) {
			var x filters.Exchange
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				through(b, c, &x, ctx)
			}
		})
	}
}
