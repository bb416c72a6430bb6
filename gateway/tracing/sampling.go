package tracing

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-gateway/sluice/filters"
)

// Field is the field of W3C Trace Context.
const Field = "traceparent"

// The places in its value, 00-TRACE-PARENT-FLAGS.
const (
	traceAt, traceEnd   = 3, 35
	parentAt, parentEnd = 36, 52
	flagsAt, flagsEnd   = 53, 55
)

// Begin decides whether a request is traced, and begins its span if so. parent is the client's traceparent, which is
// valid, or empty; the flag in it counts where whoever sent it is trusted. It returns the traceparent that a service
// gets, unless an attempt has its own: valid until the exchange's Done.
func (t *Tracing) Begin(x *filters.Exchange, parent string, trusted bool) string {
	s := t.current.Load()
	if s == nil { // switched off just now
		return parent
	}
	if trusted && parent != "" {
		if !sampled(parent) {
			return parent
		}
		return t.begin(s, x, parent, x.Header.Joined("Tracestate"))
	}
	if rand.Float64() < s.sample {
		return t.begin(s, x, parent, x.Header.Joined("Tracestate"))
	}
	if parent == "" {
		return unsampledRoot(x)
	}
	return unsampled(x, parent)
}

// begin begins the span of a request.
func (t *Tracing) begin(s *state, x *filters.Exchange, parent, tracestate string) string {
	_, span := s.tracer.Start(below(parent, tracestate), method(x.Method), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(x.Received))
	r := newRequest(s.tracer, span)
	x.Trace, x.Measured.On = r, true
	return r.traceparent
}

// stateBytesMax is how long a tracestate may be for spans to keep it: what W3C Trace Context §3.3.1.5 asks for. It goes
// on to the service whatever its length.
const stateBytesMax = 512

// below returns the context of a span below the one that a traceparent names.
func below(parent, tracestate string) context.Context {
	ctx := context.Background()
	sc, ok := contextOf(parent)
	if !ok {
		return ctx
	}
	if tracestate != "" && len(tracestate) <= stateBytesMax {
		if state, err := trace.ParseTraceState(strings.Clone(tracestate)); err == nil { // else it is not there (§3.3)
			sc = sc.WithTraceState(state)
		}
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}

// contextOf reads a traceparent.
func contextOf(v string) (trace.SpanContext, bool) {
	if len(v) < flagsEnd {
		return trace.SpanContext{}, false
	}
	var c trace.SpanContextConfig
	var flags [1]byte
	_, err1 := hex.Decode(c.TraceID[:], []byte(v[traceAt:traceEnd]))
	_, err2 := hex.Decode(c.SpanID[:], []byte(v[parentAt:parentEnd]))
	_, err3 := hex.Decode(flags[:], []byte(v[flagsAt:flagsEnd]))
	if err1 != nil || err2 != nil || err3 != nil {
		return trace.SpanContext{}, false
	}
	c.TraceFlags = trace.TraceFlags(flags[0]) & (trace.FlagsSampled | trace.FlagsRandom)
	sc := trace.NewSpanContext(c)
	return sc, sc.IsValid()
}

// sampled reports the flag of a traceparent.
func sampled(v string) bool { return len(v) >= flagsEnd && hexDigit(v[flagsEnd-1])&1 != 0 }

// hexDigit returns the value of a digit in lower case.
func hexDigit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// unsampled returns a traceparent whose flag says that it is not sampled.
func unsampled(x *filters.Exchange, v string) string {
	if !sampled(v) {
		return v
	}
	b := append(x.Scratch(), "00"...) // a later version may have more behind it, which is not known here (§4)
	b = append(b, v[2:flagsAt]...)
	return x.Text(append(b, '0', "0123456789abcdef"[hexDigit(v[flagsEnd-1])&2]))
}

// unsampledRoot returns the traceparent of a trace that begins here and is not sampled.
func unsampledRoot(x *filters.Exchange) string {
	var id [24]byte
	for i := 0; i < len(id); i += 8 {
		binary.NativeEndian.PutUint64(id[i:], rand.Uint64())
	}
	id[0], id[16] = id[0]|1, id[16]|1 // neither is zero
	b := append(x.Scratch(), "00-"...)
	b = append(hex.AppendEncode(b, id[:16]), '-')
	return x.Text(append(hex.AppendEncode(b, id[16:]), "-00"...))
}
