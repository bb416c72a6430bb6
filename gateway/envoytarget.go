package gateway

import (
	"cmp"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/envoy"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// envoyTarget is the target that is a service which Envoy calls. The service's connections, attempts and timeouts are
// Envoy's; what is decided here is what becomes of the key and the permits.
type envoyTarget struct {
	service  string        // the only one; else the exchange leads to one of several
	timeout  time.Duration // of an attempt
	longest  time.Duration // that Envoy may take to the head of a response
	overload *overload
	logger   *slog.Logger
	gone     *filters.LogThrottle
}

// envoyTarget returns the target of a route. Requests of transactions are passed on untouched.
func (b *builder) envoyTarget(r *config.Route) target {
	if r.Transaction != "" {
		return passOn
	}
	var timeout, longest time.Duration
	for _, name := range r.Service.Names() {
		c := b.Config.Services[name]
		timeout, longest = max(timeout, time.Duration(c.Timeout)), max(longest, policy.LongestCall(c))
	}
	if r.Timeout > 0 {
		timeout, longest = time.Duration(r.Timeout), max(longest, time.Duration(r.Timeout))
	}
	return &envoyTarget{
		service: r.Service.Name, timeout: timeout, longest: longest, overload: b.overload, logger: b.env.Logger,
		gone: new(filters.LogThrottle),
	}
}

// passOn is the target of a route that leads to a transaction. Its chain is empty: the gateway that runs the
// transaction has the policies.
var passOn target = passedOn{}

type passedOn struct{}

func (passedOn) execute(x *filters.Exchange, in inbound) result {
	in.(*envoy.Request).PassOn()
	return result{outcome: filters.Completed}
}

func (t *envoyTarget) execute(x *filters.Exchange, in inbound) result {
	r := in.(*envoy.Request)
	x.Service = cmp.Or(t.service, x.LeadsTo())
	x.Inject.Set("Sluice-Principal", x.Principal)
	if x.Led() {
		r.LeadTo(x.Service)
	}
	if reply := lapsed(x); reply != nil {
		x.SetReply(reply)
		return result{outcome: filters.Refused}
	}
	now, left := time.Now(), t.timeout
	if !x.Deadline.IsZero() {
		left = min(left, x.Deadline.Sub(now))
	}
	if left <= 0 {
		t.refuse(x, filters.UpstreamTimeout, "The time for this request was over before it could be sent. "+
			"Nothing was sent.", &fault{what: "the time for a request was over before it was sent",
			code: "no-time-left", text: "the request waited here for all of its time"})
		return result{outcome: filters.Refused}
	}
	upstream.Tell(x, left)
	limit := t.longest
	if !x.Logical.Until.IsZero() {
		limit = max(x.Logical.Until.Sub(now), time.Millisecond)
	}
	var traced filters.Attempt
	if x.Trace != nil {
		traced = x.Trace.Attempt(x, x.Service)
	}
	began := x.Measured.Start()
	head, err := r.Forward(limit)
	x.Measured.AddService(began)
	endTraced(traced, head, err)
	if err != nil {
		return t.failed(x, err)
	}
	if head.Origin != envoy.FromService {
		return t.unanswered(x, head)
	}
	status, length := head.Status, head.Length
	x.Response = filters.Response{Status: status, Header: append(x.Response.Header[:0], head.Header...)}
	x.Response.Header.DelFunc(reservedField)
	x.Response.Header.DelFunc(message.HopByHop)
	e := result{outcome: filters.Completed, length: length}
	kind := streamOf(x, length)
	switch {
	case length == 0 || message.HasNoBody(x.Method, status):
		x.Response.Whole = true
	case x.BufferBody <= 0 || length > x.BufferBody || kind == stream:
		x.Response.Stream = kind != noStream
	default:
		return t.buffer(x, r, e, kind, limit-time.Since(now))
	}
	return e
}

// endTraced ends what is traced of all that Envoy does until there is a head; nil: nothing is.
func endTraced(t filters.Attempt, head envoy.Head, err error) {
	if t == nil {
		return
	}
	end := filters.AttemptEnd{Status: head.Status}
	switch {
	case errors.Is(err, envoy.ErrSilent):
		end = filters.AttemptEnd{Fault: "envoy-silent",
			Detail: "Envoy had no response within the time that it may take"}
	case err != nil:
		end = filters.AttemptEnd{Fault: "cancelled"}
	case head.Origin != envoy.FromService:
		end = filters.AttemptEnd{Fault: "envoy-response", Detail: "Envoy has a response of its own, with the status " +
			strconv.Itoa(head.Status)}
	}
	t.End(end)
}

// buffer has Envoy show the body before the client gets any of it.
func (t *envoyTarget) buffer(
	x *filters.Exchange, r *envoy.Request, e result, kind streamKind, limit time.Duration,
) result {
	body, err := r.Buffer(e.length, x.BufferBody, max(limit, time.Millisecond))
	switch {
	case errors.Is(err, filters.ErrOverloaded):
		t.overload.responseNotKept(x)
	case err != nil:
		return t.failed(x, err)
	}
	if body.Whole {
		x.Response.Body, x.Response.Whole, x.Response.Trailer = body.Bytes, true, body.Trailer
	} else {
		x.Response.Stream = kind != noStream
	}
	return e
}

// unanswered makes the reply where Envoy has a response of its own in place of the service's.
func (t *envoyTarget) unanswered(x *filters.Exchange, head envoy.Head) result {
	outcome, reason := filters.NoResponse, filters.UpstreamFailed
	detail := "The connection to the service broke after something was sent."
	switch head.Origin {
	case envoy.Unreachable:
		outcome, reason = filters.NotDispatched, filters.UpstreamUnreachable
		detail = "No connection to the service came about. Nothing was sent."
	case envoy.Overflowed:
		outcome, reason = filters.NotDispatched, filters.Overloaded
		detail = "There is no connection to spare for this request. Nothing was sent."
	case envoy.TimedOut:
		reason, detail = filters.UpstreamTimeout, "The service did not respond in time."
	}
	x.Dispatched = outcome != filters.NotDispatched
	why := &fault{
		what: "Envoy has a response of its own in place of a service's", code: "envoy-" + string(reason),
		text: "Envoy's own response has the status " + strconv.Itoa(head.Status) + "; its access log has the flags",
	}
	t.refuse(x, reason, detail, why)
	return result{outcome: outcome}
}

// failed says what is known of a request that went on and of which no whole response came. Its client has left, but
// where Envoy still waits.
func (t *envoyTarget) failed(x *filters.Exchange, err error) result {
	if errors.Is(err, envoy.ErrSilent) {
		t.refuse(x, filters.UpstreamTimeout, "The service did not respond within the time that there was.", &fault{
			what: "Envoy had no response of a service within the longest time that it may take", code: "envoy-silent",
			text: "Envoy still waits after " + t.longest.String() + ": its timeout for the route is longer than that",
		})
		return result{outcome: filters.NoResponse}
	}
	if !x.Dispatched {
		return result{outcome: filters.ClientGone}
	}
	t.gone.Warn(t.logger, time.Now(), "Envoy ended a request without a response: its client left", "route", x.Route,
		"service", x.Service, "cause", err,
		"request", x.Inject.Get(requestIDField))
	return result{outcome: filters.ClientGone}
}

// refuse sets the reply of a request without a response.
func (t *envoyTarget) refuse(x *filters.Exchange, reason filters.Reason, detail string, why *fault) {
	x.SetReply(filters.Refuse(reason, filters.Problem{Service: x.Service, Detail: detail, Cause: why}))
}
