package otlptest

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Mode is what a collector does with an export.
type Mode int

// The modes.
const (
	Takes   Mode = iota
	Refuses      // says that it cannot be read, which no exporter tries again
	Silent       // takes the request and never answers
)

// Span is a span as it came.
type Span struct {
	Name                  string
	Trace, ID, Parent     string // hexadecimal; Parent is empty for a root
	Kind                  tracepb.Span_SpanKind
	Start, End            time.Time
	Failed                bool
	Message               string // of a failure
	State                 string // tracestate
	Attributes, Resources map[string]string
	Events                []Event
}

// Event is one of a span.
type Event struct {
	Name       string
	Attributes map[string]string
}

// Has reports whether the span has an event of that name.
func (s *Span) Has(event string) bool {
	return slices.ContainsFunc(s.Events, func(e Event) bool { return e.Name == event })
}

// Collector is one that runs until the test ends. It is safe for concurrent use.
type Collector struct {
	GRPC, HTTP string // URLs; that of HTTP without a path

	collector.UnimplementedTraceServiceServer

	mu      sync.Mutex
	mode    Mode
	asked   int
	spans   []Span
	headers []map[string]string // of each export
	changed chan struct{}       // closed and replaced with every export
	stop    chan struct{}
}

// Start starts a collector.
func Start(t testing.TB) *Collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{GRPC: "http://" + l.Addr().String(), changed: make(chan struct{}), stop: make(chan struct{})}
	g := grpc.NewServer()
	collector.RegisterTraceServiceServer(g, c)
	go func() { _ = g.Serve(l) }() // it ends with Stop
	h := httptest.NewServer(http.HandlerFunc(c.post))
	c.HTTP = h.URL
	t.Cleanup(func() {
		close(c.stop)
		g.Stop()
		h.CloseClientConnections()
		h.Close()
	})
	return c
}

// Behave says what is done with the exports that follow.
func (c *Collector) Behave(m Mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = m
}

// Asked returns how many exports there were, whatever became of them.
func (c *Collector) Asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// Spans returns those that were taken.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Headers returns the fields of each export, their names in lower case.
func (c *Collector) Headers() []map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.headers)
}

// Wait returns the spans when enough holds for them.
func (c *Collector) Wait(t testing.TB, what string, enough func([]Span) bool) []Span {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		c.mu.Lock()
		spans, changed := slices.Clone(c.spans), c.changed
		c.mu.Unlock()
		if enough(spans) {
			return spans
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the collector never had %s; it has %d spans:\n%s", what, len(spans), Text(spans))
		}
	}
}

// Text shows spans, each on a line.
func Text(spans []Span) string {
	text := ""
	for _, s := range spans {
		text += fmt.Sprintf("%s %s<%s %s %v %v\n", s.Trace, s.ID, s.Parent, s.Name, s.Attributes, s.Events)
	}
	return text
}

// Export implements the service of OTLP/gRPC.
func (c *Collector) Export(ctx context.Context, r *collector.ExportTraceServiceRequest) (
	*collector.ExportTraceServiceResponse, error,
) {
	headers := map[string]string{}
	md, _ := metadata.FromIncomingContext(ctx)
	for name, values := range md {
		headers[name] = values[0]
	}
	switch c.begin(headers) {
	case Refuses:
		return nil, status.Error(codes.InvalidArgument, "the test says so")
	case Silent:
		select {
		case <-ctx.Done():
		case <-c.stop:
		}
		return nil, ctx.Err()
	}
	c.take(r)
	return &collector.ExportTraceServiceResponse{}, nil
}

func (c *Collector) post(w http.ResponseWriter, r *http.Request) {
	headers := map[string]string{}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = values[0]
	}
	body, err := io.ReadAll(r.Body)
	request := new(collector.ExportTraceServiceRequest)
	switch {
	case err != nil:
		return
	case r.Method != http.MethodPost || r.URL.Path != "/v1/traces":
		http.NotFound(w, r)
		return
	case proto.Unmarshal(body, request) != nil:
		http.Error(w, "not protobuf", http.StatusBadRequest)
		return
	}
	switch c.begin(headers) {
	case Refuses:
		http.Error(w, "the test says so", http.StatusBadRequest)
		return
	case Silent:
		select {
		case <-r.Context().Done():
		case <-c.stop:
		}
		return
	}
	c.take(request)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *Collector) begin(headers map[string]string) Mode {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.headers = append(c.headers, headers)
	return c.mode
}

func (c *Collector) take(r *collector.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range r.ResourceSpans {
		resources := attributes(of.Resource.GetAttributes())
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				span := spanOf(s)
				span.Resources = resources
				c.spans = append(c.spans, span)
			}
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func spanOf(s *tracepb.Span) Span {
	span := Span{
		Name: s.Name, Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId),
		Parent: hex.EncodeToString(s.ParentSpanId), Kind: s.Kind, State: s.TraceState,
		Start: time.Unix(0, int64(s.StartTimeUnixNano)), End: time.Unix(0, int64(s.EndTimeUnixNano)),
		Failed: s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR, Message: s.Status.GetMessage(),
		Attributes: attributes(s.Attributes),
	}
	for _, e := range s.Events {
		span.Events = append(span.Events, Event{e.Name, attributes(e.Attributes)})
	}
	return span
}

// attributes returns all values as text.
func attributes(list []*common.KeyValue) map[string]string {
	m := make(map[string]string, len(list))
	for _, a := range list {
		switch v := a.Value.GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[a.Key] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_DoubleValue:
			m[a.Key] = fmt.Sprint(v.DoubleValue)
		case *common.AnyValue_BoolValue:
			m[a.Key] = fmt.Sprint(v.BoolValue)
		default:
			m[a.Key] = a.Value.String()
		}
	}
	return m
}
