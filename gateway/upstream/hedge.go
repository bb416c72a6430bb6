package upstream

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Hedge is when a safe request without a key and a body has a second attempt.
type Hedge struct {
	Quantile float64       // of the recent latencies, 0 to 1; 0: After
	After    time.Duration // the delay, where there is no quantile
}

func sameHedge(a, b *Hedge) bool { return a == b || a != nil && b != nil && *a == *b }

// latenciesOf returns what the latencies are kept in for a configuration: those of the one before go on
// where the quantile is the same.
func latenciesOf(old *configuration, s *Settings, now time.Time) *latencies {
	switch {
	case s.Hedge == nil || s.Hedge.Quantile == 0:
		return nil
	case old.latencies != nil && old.latencies.quantile == s.Hedge.Quantile:
		return old.latencies
	}
	return newLatencies(s.Hedge.Quantile, now)
}

// hedgeable reports whether a request may be sent twice at a time. A call of the gateway's own, whose
// context has a deadline, is not.
func hedgeable(ctx context.Context, x *filters.Exchange, m *message.Message) bool {
	if m.Stream != nil || len(m.Bytes) > 0 || m.Upgrade != "" || x.Logical.Key != "" {
		return false
	}
	if x.Method != "GET" && x.Method != "HEAD" && x.Method != "OPTIONS" {
		return false
	}
	if _, keyed := x.Inject.Lookup("Idempotency-Key"); keyed { // that of the route that it falls back for
		return false
	}
	_, own := ctx.(*message.Context)
	return own || ctx.Done() == nil
}

// hedge is a request that may have a second attempt. The first one runs where any attempt does, in the
// caller's goroutine; a timer begins the second one in its own, which the caller waits for: so nothing of
// the request is read when the caller is done with it. The first good head wins, and the other attempt is
// cancelled, which costs its connection, or with HTTP/2 its stream.
type hedge struct {
	service  *Service
	settings *Settings
	x        *filters.Exchange
	m        *message.Message
	first    *endpoint
	began    time.Time
	allowed  time.Duration // for both attempts together

	// Of the two attempts; both end when the client leaves.
	primary, second *message.Context
	watch           message.Watch
	timer           *time.Timer
	ended           chan struct{} // has one element when the second attempt has ended

	mu    sync.Mutex
	state hedgeState
	// Of the second attempt, once it has ended:
	response   Response // where it has won
	dispatched bool
}

type hedgeState uint8

const (
	hedgeWaits hedgeState = iota // the second attempt has not begun
	hedgeRuns                    // both are under way
	hedgeWon                     // by the second attempt
	hedgeOver                    // the first attempt has ended, and the second one will not begin, or is cancelled
)

var hedges = sync.Pool{New: func() any {
	return &hedge{primary: new(message.Context), second: new(message.Context), ended: make(chan struct{}, 1)}
}}

// hedged is [Service.attempt] with a second attempt where the first one takes long. traced is that of the first one,
// which has begun: the timer's goroutine reads the fields that it sets.
func (s *Service) hedged(
	ctx context.Context, c *configuration, e *endpoint, x *filters.Exchange, m *message.Message, began time.Time,
	traced filters.Attempt,
) (Response, *endpoint, condition, error) {
	after, known := c.settings.Hedge.After, true
	if c.latencies != nil {
		after, known = c.latencies.after()
	}
	allowed := c.settings.allowed(x, m, began)
	if !known || after >= allowed {
		r, last, on, err := s.attempt(ctx, &c.settings, e, x, m, began)
		s.endTraced(traced, r, last, err)
		c.took(began, err == nil)
		return r, last, on, err
	}
	h := hedges.Get().(*hedge)
	h.service, h.settings, h.x, h.m, h.first, h.began, h.allowed = s, &c.settings, x, m, e, began, allowed
	h.state = hedgeWaits
	h.watch.Begin(ctx, h)
	if h.timer == nil {
		h.timer = time.AfterFunc(after, h.fire)
	} else {
		h.timer.Reset(after)
	}
	attempted := false
	defer func() {
		if !attempted { // it has panicked
			h.giveUp()
		}
	}()
	r, last, on, err := s.attempt(h.primary, &c.settings, e, x, m, began)
	attempted = true
	s.endTraced(traced, r, last, err)
	own := r
	r, err = h.settle(ctx, r, err)
	c.took(began, err == nil) // of an attempt that was cancelled it is known that it would have taken longer
	if r != own {
		last, on = nil, never
	}
	return r, last, on, err
}

// took notes how long a request took to the head of its response.
func (c *configuration) took(began time.Time, responded bool) {
	if c.latencies != nil && responded {
		now := time.Now()
		c.latencies.add(now, now.Sub(began))
	}
}

// Interrupt implements [message.Interrupter]: the client has left.
func (h *hedge) Interrupt() {
	h.primary.Cancel()
	h.second.Cancel()
}

// fire makes the second attempt, in the timer's goroutine.
func (h *hedge) fire() {
	h.mu.Lock()
	if h.state != hedgeWaits {
		h.mu.Unlock()
		return
	}
	h.state = hedgeRuns
	h.mu.Unlock()
	if h.wins(h.run()) {
		h.primary.Cancel()
	}
	h.ended <- struct{}{}
}

// run returns the response of the second attempt, nil without one.
func (h *hedge) run() Response {
	s, now := h.service, time.Now()
	left := h.allowed - now.Sub(h.began)
	h.dispatched = false
	if left <= 0 || !s.holds(h.x, now) || !s.draw(h.settings) {
		return nil
	}
	s.metrics.Hedges.Inc()
	x := new(filters.Exchange)
	x.Begin(h.second, nil)
	x.Method, x.Scheme, x.Version, x.Host = h.x.Method, h.x.Scheme, h.x.Version, h.x.Host
	x.Path, x.RawQuery, x.Header, x.Inject = h.x.Path, h.x.RawQuery, h.x.Header, slices.Clone(h.x.Inject)
	x.Received, x.Deadline, x.Route = h.x.Received, now.Add(left), h.x.Route
	x.Trace = h.x.Trace
	Tell(x, left)
	m := &message.Message{Timeout: h.settings.timeoutOf(h.m), Account: h.m.Account} // a body may be silent as long
	e, err := s.assign(h.second, h.settings, x, h.first)
	if err != nil {
		return nil
	}
	var traced filters.Attempt
	if x.Trace != nil {
		traced = x.Trace.Attempt(x, s.name)
	}
	r, last, _, err := s.attempt(h.second, h.settings, e, x, m, now)
	s.endTraced(traced, r, last, err)
	h.dispatched = x.Dispatched
	if err != nil {
		s.countFailure(err)
		return nil
	}
	return r
}

// wins reports whether a response of the second attempt is the one that counts. Else it is closed.
func (h *hedge) wins(r Response) bool {
	if r == nil {
		return false
	}
	h.mu.Lock()
	won := h.state == hedgeRuns && good(r)
	if won {
		h.state, h.response = hedgeWon, r
	}
	h.mu.Unlock()
	if !won {
		r.Close()
	}
	return won
}

// good reports whether a response is one that a second attempt could not better.
func good(r Response) bool {
	status, _, _ := r.Head()
	return status < 500
}

// settle ends both attempts, of which the first one has ended so, and returns what counts.
func (h *hedge) settle(ctx context.Context, r Response, err error) (Response, error) {
	succeeded := err == nil && good(r)
	h.mu.Lock()
	began := h.state != hedgeWaits
	lost := h.state == hedgeRuns && succeeded // the second attempt has
	if !began || lost {
		h.state = hedgeOver
	}
	h.mu.Unlock()
	reusable := true
	if began {
		if lost {
			h.second.Cancel()
		}
		<-h.ended
		h.x.Dispatched = h.x.Dispatched || h.dispatched
	} else {
		reusable = h.timer.Stop() // else the timer's goroutine may be about to look at the state
	}
	if h.state == hedgeWon { // by now nobody else looks at it
		if err == nil {
			r.Close()
		}
		r, err = h.response, nil
		h.service.metrics.HedgesWon.Inc()
	}
	h.watch.End()
	if r != nil {
		r.Watch(ctx)
	}
	if reusable {
		h.free()
	}
	return r, err
}

// giveUp ends the second attempt without regard to the first one: behind it nothing of the request is read.
func (h *hedge) giveUp() {
	h.mu.Lock()
	runs := h.state == hedgeRuns || h.state == hedgeWon
	if h.state != hedgeWon {
		h.state = hedgeOver
	}
	h.mu.Unlock()
	h.timer.Stop()
	if runs {
		h.second.Cancel()
		<-h.ended
	}
	if h.state == hedgeWon {
		h.response.Close()
	}
	h.watch.End()
}

// free keeps the hedge for another request.
func (h *hedge) free() {
	h.primary, h.second = h.primary.End(), h.second.End()
	h.x, h.m, h.first, h.response, h.service, h.settings = nil, nil, nil, nil, nil, nil
	hedges.Put(h)
}
