package tracing

import (
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-gateway/sluice/filters"
)

// request is the span of an exchange: a client's request, or the call of a branch.
type request struct {
	tracer      trace.Tracer
	span        trace.Span
	traceparent string // that names the span
	attempts    atomic.Int32

	responded bool // see Responded
	code      filters.GRPCCode
	coded     bool // there is one
}

var _ filters.Trace = (*request)(nil)

func newRequest(tracer trace.Tracer, span trace.Span) *request {
	return &request{tracer: tracer, span: span, traceparent: traceparentOf(span.SpanContext())}
}

// traceparentOf writes a traceparent.
func traceparentOf(c trace.SpanContext) string {
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}

// IDs implements [filters.Trace].
func (r *request) IDs() (id, span string) {
	return r.traceparent[traceAt:traceEnd], r.traceparent[parentAt:parentEnd]
}

// Decided implements [filters.Trace].
func (r *request) Decided(policy, decision, subject string) {
	attributes := make([]attribute.KeyValue, 0, 3)
	attributes = append(attributes, policyKey.String(policy), decisionKey.String(decision))
	if subject != "" {
		attributes = append(attributes, subjectKey.String(textOf(subject, textBytesMax)))
	}
	r.span.AddEvent(policy+" "+decision, trace.WithAttributes(attributes...))
}

// attempt is the span of an attempt.
type attempt struct {
	span trace.Span
	path string
}

// Attempt implements [filters.Trace].
func (r *request) Attempt(x *filters.Exchange, service string) filters.Attempt {
	name := method(x.Method)
	attributes := make([]attribute.KeyValue, 0, 6)
	attributes = append(attributes, methodKey.String(methodValue(name)), serviceKey.String(service),
		peerServiceKey.String(service))
	if n := r.attempts.Add(1) - 1; n > 0 {
		attributes = append(attributes, resendKey.Int(int(n)))
	}
	if x.Logical.Attempt > 0 {
		attributes = append(attributes, attemptKey.Int(x.Logical.Attempt))
	}
	ctx := trace.ContextWithSpan(background, r.span)
	_, span := r.tracer.Start(ctx, name+" "+service, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attributes...))
	x.Inject.Set(Field, traceparentOf(span.SpanContext()))
	return &attempt{span: span, path: textOf(x.Path, textBytesMax)}
}

// End implements [filters.Attempt].
func (a *attempt) End(e filters.AttemptEnd) {
	a.span.SetAttributes(ofAttempt(a.path, &e)...)
	switch {
	case e.Fault == cancelled: // by whoever wanted the response
	case e.Fault != "":
		a.span.SetStatus(codes.Error, textOf(e.Detail, textBytesMax))
	case e.Status >= 400: // as the conventions have it for clients
		a.span.SetStatus(codes.Error, "")
	}
	a.span.End()
}

// cancelled is the fault of an attempt for whose response nobody waits any more.
const cancelled = "cancelled"

// Routed names the span of a request by its route: the pattern of its path, and its name in the configuration.
func Routed(x *filters.Exchange, pattern, name string) {
	if r, ok := x.Trace.(*request); ok {
		r.span.SetName(method(x.Method) + " " + pattern)
		r.span.SetAttributes(httpRouteKey.String(pattern), routeKey.String(name))
	}
}

// Responded notes the status of a call of gRPC. The response lies in memory that others may have when the exchange's
// Done has run, so it is called before that; the first call counts, which is that of a fallback where there is one.
func Responded(x *filters.Exchange) {
	if r, ok := x.Trace.(*request); ok && !r.responded && x.IsGRPC() {
		r.responded = true
		r.code, r.coded = x.Response.GRPCStatus()
	}
}

// EndRequest ends the span of a client's request. A request that was refused before it was decided whether it is traced
// is decided about now.
func (t *Tracing) EndRequest(x *filters.Exchange) {
	if x.Trace == nil {
		if !t.On() {
			return
		}
		if _, decided := x.Inject.Lookup(Field); decided {
			return
		}
		x.Inject.Add(Field, t.Begin(x, "", false))
	}
	r, ok := x.Trace.(*request)
	if !ok {
		return
	}
	r.span.SetAttributes(ofRequest(x, r)...)
	if r.failed(x) {
		r.span.SetStatus(codes.Error, string(reasonOf(x)))
	}
	r.span.End()
	x.Trace = nil
}

// BeginBranch begins the span of a branch's call, below the request that began the transaction: its traceparent is
// what the coordinator has kept. Without one the call is the root of a trace of its own.
func (t *Tracing) BeginBranch(x *filters.Exchange, service string) {
	s := t.current.Load()
	if s == nil {
		return
	}
	parent := x.Inject.Get(Field)
	if _, ok := contextOf(parent); !ok {
		x.Inject.Set(Field, t.Begin(x, "", false))
	} else if sampled(parent) {
		x.Inject.Set(Field, t.begin(s, x, parent, x.Inject.Get("tracestate")))
	}
	r, ok := x.Trace.(*request)
	if !ok {
		return
	}
	op := x.Inject.Get("Sluice-Op")
	r.span.SetName("branch " + x.Step + " " + op)
	r.span.SetAttributes(
		routeKey.String(x.Route), serviceKey.String(service), gidKey.String(x.Inject.Get("Sluice-Transaction")),
		stepKey.String(x.Step), opKey.String(op), branchKey.String(x.Inject.Get("Sluice-Branch")),
		attemptKey.Int(x.Logical.Attempt), requestIDKey.String(x.Inject.Get("Sluice-Request-Id")))
}

// EndBranch ends it, with the service's status, 0 without one, and how the call ended.
func EndBranch(x *filters.Exchange, status int, outcome filters.Outcome) {
	r, ok := x.Trace.(*request)
	if !ok {
		return
	}
	r.span.SetAttributes(outcomeKey.String(outcome.String()))
	if status != 0 {
		r.span.SetAttributes(statusKey.Int(status))
	}
	if reason := x.Response.Reason; reason != "" {
		r.span.SetAttributes(reasonKey.String(string(reason)))
	}
	if outcome != filters.Completed || status >= 500 {
		r.span.SetStatus(codes.Error, outcome.String())
	}
	r.span.End()
	x.Trace = nil
}

// milliseconds returns a duration as logs have it.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
