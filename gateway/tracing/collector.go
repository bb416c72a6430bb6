package tracing

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// How long a batch is tried, and how often.
const (
	exportMax     = 10 * time.Second
	retryFirst    = 500 * time.Millisecond
	retryMax      = 2 * time.Second
	reconnectMax  = 5 * time.Second // between two connections to a collector that is gone
	headBytesMax  = 64 << 10        // of what a collector says
	stopMax       = time.Second
	retireInGrace = 2 * time.Second
)

// collector is the way to one collector.
type collector struct {
	exporter *otlptrace.Exporter
	ctx      context.Context // of its exports: ends when nothing more is to be sent
	stop     context.CancelFunc
	exports  sync.WaitGroup // under way
}

func newCollector(s *Settings) (*collector, error) {
	c := new(collector)
	c.ctx, c.stop = context.WithCancel(context.Background())
	client := grpcClient(s)
	if s.HTTP {
		client = httpClient(s)
	}
	var err error
	if c.exporter, err = otlptrace.New(c.ctx, client); err != nil {
		c.stop()
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return c, nil
}

func grpcClient(s *Settings) otlptrace.Client {
	return otlptracegrpc.NewClient(
		otlptracegrpc.WithEndpointURL(s.Endpoint), otlptracegrpc.WithHeaders(s.Headers),
		otlptracegrpc.WithTimeout(exportMax),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst,
			MaxInterval: retryMax, MaxElapsedTime: exportMax}),
		// The library's own pauses go up to two minutes.
		otlptracegrpc.WithDialOption(grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: retryFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax},
			// a SYN that nobody answers
			MinConnectTimeout: reconnectMax,
		}), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(headBytesMax))),
	)
}

func httpClient(s *Settings) otlptrace.Client {
	return otlptracehttp.NewClient(
		otlptracehttp.WithEndpointURL(s.Endpoint), otlptracehttp.WithHeaders(s.Headers),
		otlptracehttp.WithTimeout(exportMax), otlptracehttp.WithMaxResponseSize(headBytesMax),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: retryFirst,
			MaxInterval: retryMax, MaxElapsedTime: exportMax}),
	)
}

// export sends a batch, until ctx ends or nothing more is to be sent. The caller has it among c.exports.
func (c *collector) export(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithTimeout(ctx, exportMax)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	return c.exporter.ExportSpans(ctx, spans)
}

// retire closes the way when the exports under way have ended, which have so long for it.
func (c *collector) retire(grace time.Duration) {
	timer := time.AfterFunc(grace, c.stop)
	c.exports.Wait()
	timer.Stop()
	c.stop()
	ctx, cancel := context.WithTimeout(context.Background(), stopMax)
	defer cancel()
	_ = c.exporter.Shutdown(ctx) // nothing of it is left
}
