package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// How an attempt fails. The cause is wrapped beside it.
var (
	// ErrUnreachable: nothing was sent.
	ErrUnreachable = errors.New("upstream: unreachable")
	// ErrFailed: the connection broke, or the response was not HTTP, after something was sent.
	ErrFailed = errors.New("upstream: failed")
	// ErrTimeout: no whole response in time, after something was sent.
	ErrTimeout = errors.New("upstream: timeout")
	// ErrExpired: the exchange's deadline passed before anything was sent. It says nothing of the service.
	ErrExpired = errors.New("upstream: out of time")
	// ErrDeadline: the exchange's deadline passed after something was sent, so early that it says nothing
	// of the service.
	ErrDeadline = errors.New("upstream: deadline")
	// ErrClientGone: the caller's context ended.
	ErrClientGone = errors.New("upstream: client gone")
	// ErrClientBody: the client's body could not be read to its end; the service got a part of it.
	ErrClientBody = errors.New("upstream: client body")
	// ErrOverloaded: there is no descriptor left for a connection, or not for this client. Nothing
	// was sent, and it says nothing of the service.
	ErrOverloaded = errors.New("upstream: overloaded")
)

var (
	errNoEndpoint = errors.New("the service has no endpoint")
	errLookup     = errors.New("the lookup of its name takes too long")
)

// condition is one under which a failed attempt may be repeated.
type condition uint8

const (
	never condition = iota
	connectFailure
	resetBeforeRequest
)

// Send dispatches the exchange to the service and returns the response, to be read and closed. The
// error is one of the package's, with its cause. Exchange.Dispatched tells afterwards whether
// anything was sent.
func (s *Service) Send(ctx context.Context, x *filters.Exchange, m *message.Message) (Response, error) {
	now := x.Received.Add(time.Since(x.Received)) // one look at the clock, where time.Now takes two
	if x.Received.IsZero() {
		now = time.Now()
	}
	c := s.current.Load()
	settings := &c.settings
	s.budget.request(now)
	var failed *endpoint
	var err error // of the attempt before
	for repeats := 0; ; {
		left := settings.allowed(x, m, now)
		switch {
		case left > 0:
		case err != nil: // to note that a repeat begins may have taken what was left
			return nil, err
		default:
			return nil, ErrExpired
		}
		Tell(x, left)
		var e *endpoint
		e, err = s.assign(ctx, settings, x, failed)
		on := never
		if err == nil {
			var response Response
			var traced filters.Attempt
			if x.Trace != nil {
				traced = x.Trace.Attempt(x, s.name)
			}
			if settings.Hedge != nil && repeats == 0 && hedgeable(ctx, x, m) {
				response, e, on, err = s.hedged(ctx, c, e, x, m, now, traced)
			} else {
				response, e, on, err = s.attempt(ctx, settings, e, x, m, now)
				s.endTraced(traced, response, e, err)
			}
			if e != nil {
				x.Endpoint = e.address
			} else if err == nil { // of the second attempt of a hedge
				x.Endpoint = response.Endpoint()
			}
			if err == nil {
				if !x.Deadline.IsZero() {
					s.typical.add(time.Since(now) - response.ClientTime())
				}
				return response, nil
			}
		}
		s.countFailure(err)
		unsent := errors.Is(err, ErrUnreachable) || errors.Is(err, ErrOverloaded) || errors.Is(err, ErrExpired)
		moved := e != nil && e.removed.Load() && errors.Is(err, ErrUnreachable)
		if x.Dispatched && unsent { // an attempt before this one reached the service
			err = fmt.Errorf("%w: %v", ErrFailed, err)
		}
		switch {
		case ctx.Err() != nil:
			return nil, err
		case m.Stream != nil && x.Dispatched: // a part of it is gone
			return nil, err
		case !s.holds(x, time.Now()):
			return nil, err
		case moved: // it was removed in between: that is no failure of the service, and costs no repeat
		case repeats >= settings.Attempts || !settings.repeats(on):
			return nil, err
		case !s.draw(settings):
			return nil, err
		default:
			repeats++
		}
		if !mayRepeat(x) {
			return nil, err
		}
		failed = e
		s.metrics.Retries.Inc()
		now = time.Now()
	}
}

// countFailure counts an attempt without a response. What says nothing of the service is not counted.
func (s *Service) countFailure(err error) {
	switch {
	case errors.Is(err, ErrUnreachable):
		s.metrics.Unreachable.Inc()
	case errors.Is(err, ErrFailed):
		s.metrics.Broken.Inc()
	case errors.Is(err, ErrTimeout):
		s.metrics.TimedOut.Inc()
	}
}

// endTraced ends what is traced of an attempt; nil: nothing is.
func (s *Service) endTraced(t filters.Attempt, r Response, last *endpoint, err error) {
	if t == nil {
		return
	}
	var end filters.AttemptEnd
	if last != nil {
		end = filters.AttemptEnd{Address: last.address, Host: last.Address, TLS: last.TLS}
	}
	switch {
	case err == nil:
		end.Status, _, _ = r.Head()
	case errors.Is(err, ErrClientGone):
		end.Fault, end.Detail = "cancelled", "nobody waits for the response any more"
	default:
		c := s.Explain(err, end.Address)
		end.Fault, end.Detail = c.Code, c.Text
	}
	t.End(end)
}

// draw takes an attempt beyond the first one from the budget that all routes to the service share.
func (s *Service) draw(settings *Settings) bool {
	if s.budget.take(time.Now(), settings.Budget) {
		return true
	}
	s.metrics.BudgetRefused.Inc()
	return false
}

// mayRepeat prepares the exchange for one more attempt; false when there may be none.
func mayRepeat(x *filters.Exchange) bool {
	if x.Dispatched && x.Logical.Key != "" {
		if !x.BeginAttempt() { // no record would tell of it
			return false
		}
		x.Inject.Set("Sluice-Attempt", strconv.Itoa(x.Logical.Attempt))
		return true
	}
	return x.Logical.Claim == nil || x.Logical.Claim.Valid(time.Now()) // else another owner may have the key by now
}

// assign picks an endpoint that the service has. Where it has none yet, since its names have not
// been looked up so far, that is waited for.
func (s *Service) assign(
	ctx context.Context, settings *Settings, x *filters.Exchange, failed *endpoint,
) (*endpoint, error) {
	for {
		c := s.current.Load()
		switch e := pick(c.endpoints, failed); {
		case e != nil && !e.removed.Load():
			return e, nil
		case e != nil: // there are other endpoints by now
			continue
		case c.changed == nil && c.missing != nil:
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, c.missing)
		case c.changed == nil:
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, errNoEndpoint)
		}
		timer := time.NewTimer(untilDeadline(x, time.Now(), settings.ConnectTimeout))
		select {
		case <-c.changed:
			timer.Stop()
		case <-timer.C:
			if late(x, time.Now()) {
				return nil, fmt.Errorf("%w: %w", ErrExpired, errLookup)
			}
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, errLookup)
		case <-ctx.Done():
			timer.Stop()
			if !callerGone(ctx) {
				return nil, fmt.Errorf("%w: %w", ErrUnreachable, errLookup)
			}
			return nil, fmt.Errorf("%w: %w", ErrClientGone, ctx.Err())
		}
	}
}

// attempt sends the exchange to an endpoint, and says under which condition it may be repeated.
// Where no connection to one address of a name comes about, the others are tried within the time of
// connecting: that is one attempt, as it is for everybody who connects to a name. last is the
// endpoint that was tried last.
func (s *Service) attempt(
	ctx context.Context, settings *Settings, e *endpoint, x *filters.Exchange, m *message.Message, began time.Time,
) (r Response, last *endpoint, on condition, err error) {
	var causes error
	for left := untilDeadline(x, began, settings.ConnectTimeout); ; {
		r, on, err = s.try(ctx, settings, e, x, m, began, left)
		if settings.Outlier != nil {
			e.observe(ctx, x, r, on, err)
		}
		if on != connectFailure {
			return r, e, on, err
		}
		failed := asConnectError(err)
		if failed == nil || ctx.Err() != nil { // the caller's own time is over: that says nothing of the address
			return r, e, on, err
		}
		causes = errors.Join(causes, failed)
		now := time.Now()
		if late(x, now) { // so that says nothing either
			return nil, e, never, fmt.Errorf("%w: %w", ErrExpired, causes)
		}
		next := e.sibling()
		if e.address != e.Address {
			e.cutOff.Store(true)
		}
		if left -= now.Sub(began); next == nil || left <= 0 {
			return nil, e, on, fmt.Errorf("%w: %w", ErrUnreachable, causes)
		}
		e, began = next, now
	}
}

// try sends the exchange to one address.
func (s *Service) try(
	ctx context.Context, settings *Settings, e *endpoint, x *filters.Exchange, m *message.Message, began time.Time,
	left time.Duration,
) (Response, condition, error) {
	before := x.Dispatched
	response, reused, err := e.pool.Load().exchange(ctx, settings, x, m, began, left)
	if err == nil {
		return response, never, nil
	}
	var f *message.Failure
	if !errors.As(err, &f) { // there was no connection
		switch {
		case callerGone(ctx):
			return nil, never, fmt.Errorf("%w: %w", ErrClientGone, ctx.Err())
		case errors.Is(err, ErrOverloaded), errors.Is(err, ErrExpired):
			return nil, never, err
		}
		return nil, connectFailure, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if !f.Sent { // refused by the kernel before a byte went out
		x.Dispatched = before
	}
	on, err := judge(ctx, x, f, reused)
	if errors.Is(err, ErrTimeout) && s.shortened(settings.allowed(x, m, began), settings.timeoutOf(m)) {
		err = fmt.Errorf("%w: %w", ErrDeadline, f.Cause)
	}
	return nil, on, fmt.Errorf("%w (endpoint %s)", err, e.address)
}

// callerGone reports whether whoever wants the response has left. A deadline of its own is none of a
// client's, which have none here: the service did not keep to it.
func callerGone(ctx context.Context) bool {
	err := ctx.Err()
	return err != nil && !errors.Is(err, context.DeadlineExceeded)
}

// judge makes a failed exchange the package's error, with the condition under which it may be
// repeated.
func judge(ctx context.Context, x *filters.Exchange, f *message.Failure, reused bool) (condition, error) {
	switch {
	case callerGone(ctx):
		return never, fmt.Errorf("%w: %w", ErrClientGone, ctx.Err())
	case !f.Sent && reused:
		return resetBeforeRequest, fmt.Errorf("%w: %w", ErrUnreachable, f.Cause)
	case f.Client:
		return never, fmt.Errorf("%w: %w", ErrClientBody, f.Cause)
	case !f.Sent:
		return never, fmt.Errorf("%w: %w", ErrUnreachable, f.Cause)
	case isTimeout(f.Cause), ctx.Err() != nil:
		return never, fmt.Errorf("%w: %w", ErrTimeout, f.Cause)
	case f.Silent && (x.Logical.Resend || reused && safe(x.Method)):
		return resetBeforeRequest, fmt.Errorf("%w: %w", ErrFailed, f.Cause)
	}
	return never, fmt.Errorf("%w: %w", ErrFailed, f.Cause)
}

func safe(method string) bool { // RFC 9110 §9.2.1
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
