package tracing

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Settings are a configuration's.
type Settings struct {
	Endpoint string // URL of the collector; with HTTP the path is where spans are posted to
	HTTP     bool   // OTLP/HTTP with protobuf; else OTLP/gRPC
	Sample   float64
	Headers  map[string]string // that each export carries
}

// sameCollector reports whether two settings lead to the same collector in the same way.
func (s *Settings) sameCollector(o *Settings) bool {
	return s != nil && o != nil && s.Endpoint == o.Endpoint && s.HTTP == o.HTTP && maps.Equal(s.Headers, o.Headers)
}

// Options are of a process.
type Options struct {
	Logger   *slog.Logger
	Instance string // names the process among others
	Build    string // the program's version; empty: it is not known
}

// Tracing traces the requests of a process. It is safe for concurrent use; a nil one is off.
type Tracing struct {
	Options
	Counts Counts

	current atomic.Pointer[state] // nil: off
	queue   queue

	changing sync.Mutex // guards what follows
	settings *Settings  // in force; nil: off
	provider *sdktrace.TracerProvider
	closed   bool
	stop     context.CancelFunc // of flushing
	flushing sync.WaitGroup
}

// state is what a request needs to know.
type state struct {
	sample float64
	tracer trace.Tracer
}

// The bounds of the package's comment.
const (
	attributesMax = 32
	eventsMax     = 32
)

// flushMax is how long what waits is sent when tracing is switched off, shutdownMax at the end of the process.
const (
	flushMax    = 10 * time.Second
	shutdownMax = 3 * time.Second
)

// New returns what is off until [Tracing.Use].
func New(o Options) *Tracing {
	t := &Tracing{Options: o}
	t.queue = queue{counts: &t.Counts, logger: o.Logger}
	return t
}

// On reports whether requests are traced.
func (t *Tracing) On() bool { return t != nil && t.current.Load() != nil }

// Prepared is what is to be in force: the way to a collector, where it is another one. It is used or discarded.
type Prepared struct {
	settings  *Settings
	collector *collector // nil: the one in force
}

// Prepare makes ready for settings, nil for off. Nothing is sent yet. It is not called again before its result is used
// or discarded.
func (t *Tracing) Prepare(s *Settings) (Prepared, error) {
	t.changing.Lock()
	defer t.changing.Unlock()
	p := Prepared{settings: s}
	if s == nil || s.sameCollector(t.settings) {
		return p, nil
	}
	var err error
	p.collector, err = newCollector(s)
	return p, err
}

// Discard gives up what Prepare returned.
func (t *Tracing) Discard(p Prepared) {
	if p.collector != nil {
		p.collector.retire(0)
	}
}

// Use puts what was prepared in force. What waits for the collector stays.
func (t *Tracing) Use(p Prepared) {
	t.changing.Lock()
	defer t.changing.Unlock()
	if t.closed {
		t.Discard(p)
		return
	}
	off := t.settings != nil && p.settings == nil
	t.settings = p.settings
	switch {
	case off:
		t.current.Store(nil)
		if t.stop != nil { // of an earlier time, or Close would wait for that one: this one sends what it has left
			t.stop()
		}
		var ctx context.Context
		ctx, t.stop = context.WithTimeout(context.Background(), flushMax)
		t.flushing.Go(func() { t.flushAndLeave(ctx) })
		return
	case p.settings == nil:
		return
	}
	if p.collector != nil {
		t.queue.use(p.collector)
	}
	if t.provider == nil {
		t.provider = t.newProvider()
	}
	t.current.Store(&state{p.settings.Sample, t.provider.Tracer("github.com/sluice-gateway/sluice")})
}

// flushAndLeave sends what waits to the collector of the configuration that has ended, and then leaves it unless
// tracing is on again.
func (t *Tracing) flushAndLeave(ctx context.Context) {
	_ = t.provider.ForceFlush(ctx) // what was not sent is counted
	t.changing.Lock()
	defer t.changing.Unlock()
	if t.settings == nil {
		t.queue.use(nil)
	}
}

// newProvider makes what spans are made with. The decision which ones has been made before.
func (t *Tracing) newProvider() *sdktrace.TracerProvider {
	limits := sdktrace.SpanLimits{
		AttributeValueLengthLimit: textBytesMax, AttributeCountLimit: attributesMax, EventCountLimit: eventsMax,
		LinkCountLimit: 1, AttributePerEventCountLimit: 4, AttributePerLinkCountLimit: 1,
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithResource(t.resource()),
		sdktrace.WithSpanProcessor(t.queue.processor()),
	)
}

// resource says whose spans they are. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES of the environment have the last
// word, as with every program that uses OpenTelemetry.
func (t *Tracing) resource() *resource.Resource {
	own := []attribute.KeyValue{
		attribute.String("service.name", "sluice"), attribute.String("service.instance.id", t.Instance),
	}
	if t.Build != "" {
		own = append(own, attribute.String("service.version", t.Build))
	}
	if host, err := os.Hostname(); err == nil {
		own = append(own, attribute.String("host.name", host))
	}
	r, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(own...),
		resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		t.Logger.Warn("OTEL_RESOURCE_ATTRIBUTES cannot be read", "error", err)
	}
	return r
}

// Close sends what waits, for a while, and stops. No request is under way.
func (t *Tracing) Close() {
	if t == nil {
		return
	}
	t.changing.Lock()
	provider := t.provider
	t.closed = true
	t.current.Store(nil)
	if t.stop != nil {
		t.stop()
	}
	t.changing.Unlock()
	t.flushing.Wait()
	if provider == nil {
		return
	}
	before := t.Counts.NotTaken.Load()
	ctx, cancel := context.WithTimeout(context.Background(), shutdownMax)
	defer cancel()
	stop := context.AfterFunc(ctx, t.queue.giveUp)
	_ = provider.Shutdown(ctx) // what was not sent is counted
	stop()
	t.queue.giveUp()
	t.queue.use(nil)
	t.queue.retiring.Wait()
	if lost := t.queue.notSent() - before; lost > 0 {
		t.Logger.Warn("the collector of traces did not take the last spans before the process ends", "dropped", lost)
	}
}
