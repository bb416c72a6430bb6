package tracing

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-gateway/sluice/filters"
)

// traces returns tracing with a share, and a collector that nobody is at.
func traces(t testing.TB, sample float64) *Tracing {
	t.Helper()
	tr := New(Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Instance: "test"})
	p, err := tr.Prepare(&Settings{Endpoint: "http://127.0.0.1:1/v1/traces", HTTP: true, Sample: sample})
	if err != nil {
		t.Fatal(err)
	}
	tr.Use(p)
	t.Cleanup(tr.Close)
	return tr
}

func exchange() *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Method, x.Path, x.Received = "GET", "/", time.Now()
	return x
}

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// A client's tracestate is kept by spans that wait for the collector, so it is bounded.
func TestLongTracestateIsInNoSpan(t *testing.T) {
	t.Parallel()
	for length, want := range map[int]int{512: 3, 513: 0} {
		x := exchange()
		x.Header.Add("Tracestate", "a=1,b="+strings.Repeat("x", 256))
		x.Header.Add("Tracestate", "c="+strings.Repeat("x", length-266))
		traces(t, 1).Begin(x, parent, false)
		if n := x.Trace.(*request).span.SpanContext().TraceState().Len(); n != want {
			t.Errorf("of %d bytes %d members are kept, want %d", length, n, want)
		}
	}
}

// The share is kept whatever clients say, and what goes to services fits what is traced.
func TestShareOfRequests(t *testing.T) {
	t.Parallel()
	const n, share = 4000, 0.1
	tr := traces(t, share)
	for _, sent := range []string{"", parent} {
		sampledOnes, ids := 0, map[string]bool{}
		for range n {
			x := exchange()
			got := tr.Begin(x, sent, false)
			c, ok := contextOf(got)
			if !ok || c.IsSampled() != (x.Trace != nil) {
				t.Fatalf("of %q the service sees %q, and a span there is: %v", sent, got, x.Trace != nil)
			}
			if sent != "" && c.TraceID().String() != sent[traceAt:traceEnd] {
				t.Fatalf("of %q the service sees %q", sent, got)
			}
			ids[c.TraceID().String()] = true
			if x.Trace != nil {
				sampledOnes++
			}
			x.Inject.Set(Field, got)
			tr.EndRequest(x)
		}
		// Within six standard deviations.
		if d := math.Abs(float64(sampledOnes) - n*share); d > 6*math.Sqrt(n*share*(1-share)) {
			t.Errorf("of %q %d of %d are traced", sent, sampledOnes, n)
		}
		if sent == "" && len(ids) != n {
			t.Errorf("%d traces for %d requests", len(ids), n)
		}
	}
}

func TestNotSampledAllocatesNothing(t *testing.T) {
	tr := traces(t, 0)
	x := exchange()
	for _, sent := range []string{"", parent} {
		if n := testing.AllocsPerRun(1000, func() {
			x.Begin(context.Background(), nil)
			tr.Begin(x, sent, false)
		}); n != 0 {
			t.Errorf("of %q: %v allocations", sent, n)
		}
	}
}

// Off, and switched off while requests are under way, nothing is traced and nothing fails.
func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	var none *Tracing
	none.Close()
	if none.On() {
		t.Error("one that is not there is on")
	}
	none.EndRequest(exchange())

	tr := traces(t, 1)
	x := exchange()
	tr.Begin(x, "", false)
	p, err := tr.Prepare(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr.Use(p)
	if tr.On() {
		t.Error("it is on")
	}
	x.Trace.Attempt(x, "a").End(filters.AttemptEnd{Status: 200})
	tr.EndRequest(x) // which goes to nobody, and is counted
	if got := tr.Begin(x, parent, true); got != parent || x.Trace != nil {
		t.Errorf("it begins %q", got)
	}
	tr.EndRequest(x)
	tr.Close()
	if n := tr.Counts.NotTaken.Load() + tr.Counts.Waiting.Load(); n != 2 {
		t.Errorf("%d spans were lost, want 2", n)
	}
}

func FuzzText(f *testing.F) {
	f.Add("plain", 3)
	f.Add("\xff\xfe", 1)
	f.Add(strings.Repeat("é", 200), 255)
	f.Fuzz(func(t *testing.T, s string, most int) {
		if most < 0 || most > 1<<16 {
			return
		}
		got := textOf(s, most)
		if !utf8.ValidString(got) || len(got) > 3*most {
			t.Errorf("%q at %d is %q", s, most, got)
		}
		if utf8.ValidString(s) && !strings.HasPrefix(s, got) {
			t.Errorf("%q is no beginning of %q", got, s)
		}
	})
}

func FuzzTraceparent(f *testing.F) {
	f.Add(parent)
	f.Add("00-00000000000000000000000000000000-00f067aa0ba902b7-01")
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0")
	f.Fuzz(func(t *testing.T, v string) {
		c, ok := contextOf(v)
		if !ok {
			return
		}
		if c.IsSampled() != sampled(strings.ToLower(v)) {
			t.Errorf("%q: %v and %v", v, c.IsSampled(), !c.IsSampled())
		}
		again, ok := contextOf(traceparentOf(c))
		if !ok || again.TraceID() != c.TraceID() || again.SpanID() != c.SpanID() ||
			again.TraceFlags() != c.TraceFlags()&(trace.FlagsSampled|trace.FlagsRandom) {
			t.Errorf("%q is read as %v and then as %v", v, c, again)
		}
	})
}

// BenchmarkBegin is what tracing adds to a request that is not sampled, and to one that is, the export left out.
func BenchmarkBegin(b *testing.B) {
	for name, share := range map[string]float64{"not sampled": 0, "sampled": 1} {
		b.Run(name, func(b *testing.B) {
			tr, x := traces(b, share), exchange()
			b.ReportAllocs()
			for b.Loop() {
				x.Begin(context.Background(), nil)
				x.Method, x.Path, x.Received = "GET", "/", time.Now()
				x.Inject.Set(Field, tr.Begin(x, "", false))
				if x.Trace != nil {
					x.Trace.Decided("ratelimit", "allowed", "own")
					x.Trace.Attempt(x, "a").End(filters.AttemptEnd{Status: 200, Host: "h:1", Address: "127.0.0.1:1"})
				}
				tr.EndRequest(x)
			}
		})
	}
}
