package breaker

import (
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Filter asks a service's breaker for a permit before the request goes to the service. It is safe
// for concurrent use.
type Filter struct {
	service string
	breaker *Breaker
	begun   bool // its requests are parts of what has begun: see AcquireBegun
	now     func() time.Time
	calls   sync.Pool // of *call
}

// call is what one exchange holds.
type call struct {
	permit Permit
	judged bool // by the head of the service's response
	stream bool // which is a stream
	gRPC   bool // whose status is behind its body
	own    bool // the gateway had no room for the call, and the service no part in it
}

var (
	_ filters.Filter   = (*Filter)(nil)
	_ filters.Reserver = (*Filter)(nil)
)

// NewFilter makes the filter of one route. service is its name in a refusal; now is the
// clock, [time.Now] outside of tests.
func NewFilter(service string, b *Breaker, now func() time.Time) *Filter {
	return &Filter{service: service, breaker: b, now: now, calls: sync.Pool{New: func() any { return new(call) }}}
}

// NewBegunFilter makes the filter of calls that are parts of something which has begun, such as the
// branches of a transaction: the ramp does not hold them up ([Breaker.AcquireBegun]).
func NewBegunFilter(service string, b *Breaker, now func() time.Time) *Filter {
	f := NewFilter(service, b, now)
	f.begun = true
	return f
}

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "breaker" }

// Needs implements [filters.Filter]: heads only.
func (f *Filter) Needs() filters.Needs { return filters.Needs{} }

// Request refuses with breaker-open while the breaker is open, while all probes are out, and what the
// ramp holds up behind that.
func (f *Filter) Request(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	now := x.Admitted
	if now.IsZero() {
		now = f.now()
	}
	permit, retryAfter, ok := f.breaker.acquire(now, f.begun)
	if !ok {
		return f.refuse(retryAfter)
	}
	c := f.calls.Get().(*call)
	c.permit = permit
	s.Ref = c
	if x.Trace != nil {
		x.Decided("breaker", f.breaker.State().String(), f.service)
	}
	return nil
}

func (f *Filter) refuse(retryAfter time.Duration) *filters.Reply {
	detail := "The service has been failing; the gateway sends it no requests, or few, for a while."
	if f.breaker.Mode() == ForcedOpen {
		detail = "An operator has opened the breaker of the service; it gets no requests until an operator says so."
	}
	return filters.Refuse(filters.BreakerOpen, filters.Problem{
		Detail:     detail,
		Service:    f.service,
		RetryAfter: retryAfter,
	})
}

// Reserve implements [filters.Reserver]: nothing is begun that leads to a service which is given a
// rest. There is nothing to keep for the call that follows: see [Breaker.Ready].
func (f *Filter) Reserve(*filters.Exchange, *filters.Slot) *filters.Reply {
	if ready, retryAfter := f.breaker.Ready(f.now()); !ready {
		return f.refuse(retryAfter)
	}
	return nil
}

// Return implements [filters.Reserver].
func (f *Filter) Return(*filters.Slot) {}

// Response judges the service by the head of its response and gives the permit back: what comes
// behind it may take as long as a client likes to read. It does so before another filter can put
// another response in its place.
func (f *Filter) Response(x *filters.Exchange, s *filters.Slot) {
	c, ok := s.Ref.(*call)
	if !ok {
		return
	}
	if x.Response.Local {
		c.own = x.Response.Reason == filters.Overloaded
		return
	}
	c.judged, c.stream = true, x.Response.Stream
	result := resultOf(filters.Completed, x.Response.Status)
	if result == Success && x.Version == "2" && x.IsGRPC() { // gRPC has no other version
		code, known := x.Response.GRPCStatus()
		if known {
			result = f.resultOfCode(x, c, code)
		}
		c.gRPC = !known && c.stream
	}
	f.release(x, c, result, x.Response.CameAt())
}

// Done judges a call without a response of the service, and one whose response was cut off.
func (f *Filter) Done(x *filters.Exchange, s *filters.Slot, o filters.Outcome) {
	c, ok := s.Ref.(*call)
	if !ok {
		return
	}
	s.Ref = nil
	switch {
	case !c.judged:
		status := 0
		if !x.Response.Local {
			status = x.Response.Status
		}
		result := Ignored
		if !c.own {
			result = resultOf(o, status)
		}
		f.release(x, c, result, time.Time{})
	case o == filters.NoResponse && !c.stream, c.gRPC && o == filters.Completed && f.failedBehind(x, c):
		c.permit.Retract(f.now())
	}
	*c = call{}
	f.calls.Put(c)
}

// release gives the permit back; now may be zero. What the client took for its body is no time of the service: else
// clients that send slowly would open the breaker for all.
func (f *Filter) release(x *filters.Exchange, c *call, r Result, now time.Time) {
	if now.IsZero() {
		now = f.now()
	}
	if now.Before(c.permit.at) { // the clock was set back
		now = c.permit.at
	}
	c.permit.release(r, now.Sub(c.permit.at)-x.ClientTime, now)
}

// failedBehind reports whether a call of gRPC ended with a failure of the service, of which the head
// said nothing.
func (f *Filter) failedBehind(x *filters.Exchange, c *call) bool {
	code, known := x.Response.GRPCStatus()
	return known && !x.Response.Local && f.resultOfCode(x, c, code) == Failure
}

// shortTime is how long a client has to wait at least before it says something about the service that
// its own time was over. Else clients with short deadlines would open the breaker for all.
const shortTime = time.Second

// resultOfCode says what a status of gRPC teaches about the service.
func (f *Filter) resultOfCode(x *filters.Exchange, c *call, code filters.GRPCCode) Result {
	switch {
	case code == filters.GRPCDeadlineExceeded && !x.ClientDeadline().IsZero() &&
		f.now().Sub(c.permit.at) < shortTime:
		return Ignored
	case code.ServerFault():
		return Failure
	case code == filters.GRPCOK:
		return Success
	case code == filters.GRPCCancelled: // the client left
		return Ignored
	}
	return Rejected
}

// resultOf says what an outcome teaches about the service; status is 0 when the service's is not
// known.
func resultOf(o filters.Outcome, status int) Result {
	switch o {
	case filters.NotDispatched, filters.NoResponse:
		return Failure
	case filters.Completed:
		switch {
		case status >= 500:
			return Failure
		case status >= 400:
			return Rejected
		case status > 0:
			return Success
		}
	}
	return Ignored // refused, client gone, panicked: nothing is known about the service
}
