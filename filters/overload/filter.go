package overload

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Service is the limiter of one service with what its filters count. All chains that lead to the
// service share it.
type Service struct {
	Name    string
	Limiter *Limiter

	mu  sync.Mutex // guards set
	set Settings

	salt    uint64
	process *Process
	logs    filters.LogThrottle
	guarded [classes]atomic.Uint64
}

// NewService returns the service's limiter at work.
func NewService(name string, s Settings, p *Process, now time.Time) *Service {
	salt := p.hash(0, name)
	return &Service{Name: name, Limiter: New(s, now, salt), set: s, salt: salt, process: p}
}

// Configure changes the settings but for the number of gateways, see [Service.SetGateways].
func (s *Service) Configure(set Settings, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set.Gateways = s.set.Gateways
	s.set = set
	s.Limiter.Configure(set, now)
}

// SetGateways says how many gateways use the service now.
func (s *Service) SetGateways(n int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.Gateways != n {
		s.set.Gateways = n
		s.Limiter.Configure(s.set, now)
	}
}

// Guarded returns how many requests of a class were shed for want of the process's own resources.
func (s *Service) Guarded(c Class) uint64 { return s.guarded[c].Load() }

// Options is what a filter works with. Service is set.
type Options struct {
	Service *Service
	// Class is that of the route that the chain serves. ClassOf gives that of a route by its name,
	// where the chain serves calls of the gateway's own; nil: they are of class Normal.
	Class   Class
	ClassOf func(route string) Class
	// ClaimFirst: no request is refused before its key is claimed. It is for routes where something else than a refusal
	// follows, which must not meet a request that was executed.
	ClaimFirst bool
	// QueueWait takes how long each queued request waited; nil: none does.
	QueueWait filters.Observer
	Now       func() time.Time // nil: by elapsed time, which costs least
	Logger    *slog.Logger     // nil: nothing is logged
}

// Filter acquires a permit of the service's limiter before a request goes to it. It is safe for
// concurrent use.
type Filter struct {
	Options
	calls sync.Pool // of *call
	start time.Time // without Now: when the filter was made,
	since int64     // and that as the limiter counts it
}

// call is what one exchange holds.
type call struct {
	waiter Waiter
	permit Permit
	begun  int64       // when it had the permit, as the limiter counts
	timer  *time.Timer // nil until it has waited once
	sample Sample
	judged bool // by the head of the service's response
	late   bool // no response came in time
}

var (
	_ filters.Filter   = (*Filter)(nil)
	_ filters.Reserver = (*Filter)(nil)
	_ filters.KeyGuard = (*Filter)(nil)
)

// NewFilter returns a filter.
func NewFilter(o Options) *Filter {
	if o.QueueWait == nil {
		o.QueueWait = filters.Discard
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Filter{Options: o, calls: sync.Pool{New: func() any { return new(call) }}}
	if o.Now == nil {
		f.start = time.Now()
		f.since = o.Service.Limiter.at(f.start)
	}
	return f
}

// at returns the time as the limiter counts it.
func (f *Filter) at() int64 {
	if f.Now == nil {
		return f.since + int64(time.Since(f.start))
	}
	return f.Service.Limiter.at(f.Now())
}

// now returns the time.
func (f *Filter) now() time.Time { return f.Service.Limiter.timeAt(f.at()) }

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "overload" }

// Needs implements [filters.Filter]: heads only.
func (f *Filter) Needs() filters.Needs { return filters.Needs{} }

// Request waits for a permit as long as the queue lets it, or refuses with overloaded.
func (f *Filter) Request(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	at := f.at()
	r := f.requestAt(x, at)
	r.Announced, s.N = Announcement{int64(s.N)}, 0
	if f.Service.process.Guard.refuses(r.Class) {
		if r.Announced.Valid() {
			f.Service.Limiter.Withdraw(r.Class)
		}
		return f.refuseForProcess(x, f.Service.Limiter.timeAt(at), r, nothingSentToService)
	}
	c := f.calls.Get().(*call)
	begun := at
	d, cause := f.Service.Limiter.acquire(at, &r, &c.waiter)
	if d == Queued {
		d, cause = f.wait(x, c, f.Service.Limiter.timeAt(at))
		begun = f.at()
		waited := time.Duration(begun - at)
		f.QueueWait.Observe(waited.Seconds())
		x.Measured.Queue += waited
	}
	if d != Admitted {
		f.calls.Put(c)
		return f.refuse(x, f.Service.Limiter.timeAt(begun), r, cause, nothingSentToService)
	}
	c.permit, c.begun = c.waiter.Permit(), begun
	s.Ref, x.Admitted = c, f.Service.Limiter.timeAt(begun)
	if x.Trace != nil {
		decision := "admitted"
		if begun != at {
			decision = "admitted-from-queue"
		}
		x.Decided("overload", decision, f.Service.Name)
	}
	return nil
}

// request says what the limiter needs to know. Calls of the gateway's own come from it, and not from
// clients that were told to stay away, so they are not demoted; neither is an attempt after one that
// may have happened: somebody waits to learn what became of it.
func (f *Filter) request(x *filters.Exchange, now time.Time) Request {
	return f.requestAt(x, f.Service.Limiter.at(now))
}

func (f *Filter) requestAt(x *filters.Exchange, at int64) Request {
	r := Request{
		Class: f.Class, Principal: f.Service.process.hash(f.Service.salt, x.Principal), Deadline: x.Deadline,
	}
	switch x.Call {
	case filters.ClientCall:
		r.Demoted = x.Logical.Attempt <= 1 && f.Service.process.until.Load() != 0 &&
			f.demoted(x, f.Service.Limiter.timeAt(at), r.Principal)
		r.Stream = f.Service.Limiter.StreamsFull() && x.Logical.Key == "" && x.IsGRPC()
	case filters.DoCall:
		r.Class = Critical
		r.Reserved, r.Reservation = f.reserved(x, f.Service.Limiter.timeAt(at))
	case filters.UndoCall:
		r.Class, r.Exempt = Critical, true
	case filters.ProbeCall:
		r.Class = High
	}
	return r
}

// demoted reports whether the principal or the key was shed, and told to come back later than now.
func (f *Filter) demoted(x *filters.Exchange, now time.Time, principal uint64) bool {
	p := f.Service.process
	return p.remembers(now) &&
		(p.memory.Shed(now, principal) || p.memory.Shed(now, p.hash(f.Service.salt, x.Logical.Key)))
}

// wait waits for the verdict on a queued request. A client that leaves in the meantime leaves the
// queue; nothing was sent for it.
func (f *Filter) wait(x *filters.Exchange, c *call, now time.Time) (Decision, Cause) {
	l := f.Service.Limiter
	if c.timer == nil {
		c.timer = time.NewTimer(c.waiter.Deadline().Sub(now))
	} else {
		c.timer.Reset(c.waiter.Deadline().Sub(now))
	}
	defer c.timer.Stop()
	for {
		select {
		case v := <-c.waiter.Verdict():
			return v.Decision, v.Cause
		case <-x.Context().Done():
			if l.Leave(f.now(), &c.waiter) {
				return Admitted, NoCause
			}
			return Shed, NoCause
		case <-c.timer.C:
			l.Tick(f.now())
			c.timer.Reset(time.Millisecond) // in case that two clocks differ: the verdict is due
		}
	}
}

// Response notes how long the service took to the head of its response, and gives the permit back
// where its work is done by then: a client that reads slowly holds none. A stream goes on under the
// cap of streams.
func (f *Filter) Response(x *filters.Exchange, s *filters.Slot) {
	c, ok := s.Ref.(*call)
	if !ok {
		return
	}
	if x.Response.Local {
		c.late = x.Response.Reason == filters.UpstreamTimeout
		return
	}
	at := f.headAt(x)
	latency := max(time.Duration(at-c.begun)-x.ClientTime, time.Duration(latencyLeast))
	c.judged, c.sample = true, Sample{Outcome: outcomeOf(x.Response.Status), Latency: latency}
	if c.sample.Outcome == Success && x.IsGRPC() {
		c.sample.Outcome = outcomeOfCode(x.Response.GRPCStatus())
	}
	switch {
	case x.Response.Stream:
		now := f.Service.Limiter.timeAt(at)
		if c.permit, ok = f.Service.Limiter.Head(now, c.permit, c.sample); !ok {
			f.refuseStream(x, now)
		}
		c.sample = Sample{}
	case x.Response.Whole:
		f.Service.Limiter.release(at, &c.permit, &c.sample)
		c.permit = Permit{}
	}
}

// headAt returns when the head of the response came, as the limiter counts.
func (f *Filter) headAt(x *filters.Exchange) int64 {
	if at := x.Response.CameAt(); !at.IsZero() {
		return f.Service.Limiter.at(at)
	}
	return f.at()
}

// Done gives the permit back.
func (f *Filter) Done(x *filters.Exchange, s *filters.Slot, o filters.Outcome) {
	c, ok := s.Ref.(*call)
	if !ok {
		return
	}
	s.Ref = nil
	if c.permit.Valid() {
		if !c.judged {
			c.sample.Outcome = c.outcome(o)
		} else if o == filters.NoResponse && c.sample.Outcome == Success {
			c.sample.Outcome = Failed // behind its head
		}
		f.Service.Limiter.release(f.at(), &c.permit, &c.sample)
	}
	c.permit, c.sample, c.judged, c.late = Permit{}, Sample{}, false, false
	f.calls.Put(c)
}

// outcome is what a call without a response of the service teaches about it: nothing, when the
// client left or nothing was sent.
func (c *call) outcome(o filters.Outcome) Outcome {
	switch {
	case o != filters.NoResponse:
		return Ignored
	case c.late:
		return Dropped
	}
	return Failed
}

// outcomeOfCode is what a status of gRPC says of the service; not known: it stands behind a body that
// has not come yet.
func outcomeOfCode(code filters.GRPCCode, known bool) Outcome {
	switch {
	case !known:
		return Success
	case code == filters.GRPCResourceExhausted, code == filters.GRPCUnavailable, code == filters.GRPCDeadlineExceeded:
		return Dropped
	case code == filters.GRPCCancelled: // the client left
		return Ignored
	case code.ServerFault():
		return Failed
	}
	return Success
}

// outcomeOf is what a status says of the service.
func outcomeOf(status int) Outcome {
	switch {
	case status == 429 || status == 503:
		return Dropped
	case status >= 500:
		return Failed
	}
	return Success
}
