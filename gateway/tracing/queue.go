package tracing

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Counts are of spans.
type Counts struct {
	Exported atomic.Int64 // that a collector has taken
	// Dropped, by why: there was no room; no collector took them within the time, or it refused them.
	NoRoom, NotTaken atomic.Int64
	Waiting          atomic.Int64 // for the collector, those on their way to it included
}

// The queue's bounds, and how long a span waits for others at most.
const (
	spansMax  = 2048
	batchMax  = 512
	batchWait = time.Second
)

// failureEvery is the time between two lines of the log on a collector that does not take spans.
const failureEvery = time.Minute

// queue bounds the spans that wait for a collector, and counts what becomes of them. The SDK's processor makes the
// batches; it drops without saying so, so what it is given never exceeds what it has room for.
type queue struct {
	counts *Counts
	logger *slog.Logger
	next   sdktrace.SpanProcessor

	mu        sync.RWMutex // guards what follows
	collector *collector   // nil: there is none
	givenUp   bool         // what waits is not sent any more

	retiring sync.WaitGroup

	failing sync.Mutex // guards what follows, and that a span is either waiting or counted
	failed  time.Time  // when the log said so last; zero: the collector takes spans
	lost    int64      // since
}

// processor returns the first stage, with the SDK's behind it.
func (q *queue) processor() sdktrace.SpanProcessor {
	q.next = sdktrace.NewBatchSpanProcessor((*exports)(q),
		sdktrace.WithMaxQueueSize(spansMax+1), // a flush takes a place too
		sdktrace.WithMaxExportBatchSize(batchMax), sdktrace.WithBatchTimeout(batchWait),
		sdktrace.WithExportTimeout(exportMax+retireInGrace))
	return (*entrance)(q)
}

// entrance is the queue as it takes spans.
type entrance queue

// OnStart implements [sdktrace.SpanProcessor].
func (*entrance) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements [sdktrace.SpanProcessor].
func (q *entrance) OnEnd(s sdktrace.ReadOnlySpan) {
	if q.counts.Waiting.Add(1) > spansMax {
		q.counts.Waiting.Add(-1)
		q.counts.NoRoom.Add(1)
		return
	}
	q.next.OnEnd(s)
}

// ForceFlush implements [sdktrace.SpanProcessor].
func (q *entrance) ForceFlush(ctx context.Context) error { return q.next.ForceFlush(ctx) }

// Shutdown implements [sdktrace.SpanProcessor].
func (q *entrance) Shutdown(ctx context.Context) error { return q.next.Shutdown(ctx) }

// exports is the queue as it gives batches out.
type exports queue

// ExportSpans implements [sdktrace.SpanExporter]. What fails is told and counted here, and not by the SDK.
func (e *exports) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	q, n := (*queue)(e), int64(len(spans))
	for {
		c := q.take()
		if c == nil {
			q.count(&q.counts.NotTaken, n)
			return nil
		}
		err := c.export(ctx, spans)
		if err != nil && ctx.Err() == nil && q.replaced(c) { // it had its time, and there is another one
			c.exports.Done()
			continue
		}
		if err == nil {
			q.count(&q.counts.Exported, n)
			q.taken()
		} else {
			q.count(&q.counts.NotTaken, n)
			q.notTaken(n, err)
		}
		c.exports.Done() // not before it is counted and told: a process that ends waits for this
		return nil
	}
}

// count counts what became of n spans that waited.
func (q *queue) count(what *atomic.Int64, n int64) {
	q.failing.Lock()
	defer q.failing.Unlock()
	q.counts.Waiting.Add(-n)
	what.Add(n)
}

// notSent returns how many spans no collector took so far or has taken yet: none is counted twice.
func (q *queue) notSent() int64 {
	q.failing.Lock()
	defer q.failing.Unlock()
	return q.counts.NotTaken.Load() + q.counts.Waiting.Load()
}

// Shutdown implements [sdktrace.SpanExporter].
func (e *exports) Shutdown(context.Context) error { return nil }

// take returns the collector with an export begun; nil: nothing is sent.
func (q *queue) take() *collector {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.collector == nil || q.givenUp {
		return nil
	}
	q.collector.exports.Add(1)
	return q.collector
}

// replaced reports whether there is another collector by now.
func (q *queue) replaced(c *collector) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.collector != nil && q.collector != c && !q.givenUp
}

// use has batches sent to a collector from now on, nil for none, and the one before closed.
func (q *queue) use(c *collector) {
	q.mu.Lock()
	old := q.collector
	q.collector = c
	q.mu.Unlock()
	if old != nil {
		q.retiring.Go(func() { old.retire(retireInGrace) })
	}
}

// giveUp has nothing more sent: not what waits, and not what is on its way.
func (q *queue) giveUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.givenUp = true
	if q.collector != nil {
		q.collector.stop()
	}
}

const errorBytesMax = 300 // of what a library or a collector says

// notTaken tells that a batch was dropped.
func (q *queue) notTaken(n int64, err error) {
	q.failing.Lock()
	defer q.failing.Unlock()
	q.lost += n
	now := time.Now()
	if !q.failed.IsZero() && now.Sub(q.failed) < failureEvery {
		return
	}
	q.failed = now
	q.logger.Warn("the collector of traces does not take spans; requests go on, and these spans are dropped",
		"dropped", q.lost, "no_room", q.counts.NoRoom.Load(), "error", textOf(err.Error(), errorBytesMax))
	q.lost = 0
}

// taken tells when that is over.
func (q *queue) taken() {
	q.failing.Lock()
	defer q.failing.Unlock()
	if q.failed.IsZero() {
		return
	}
	q.failed = time.Time{}
	q.logger.Info("the collector of traces takes spans again", "dropped", q.lost, "no_room", q.counts.NoRoom.Load())
	q.lost = 0
}
