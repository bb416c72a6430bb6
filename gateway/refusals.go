package gateway

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// fault is why a response is not the service's, or not the whole of it, in the operator's words. It is a
// [filters.Problem]'s Cause.
type fault struct {
	what string // what happened, the message of the line
	code string // the kind of the cause, one of a fixed list: lines are throttled by it
	text string // the cause, and which setting it has to do with
	err  error  // the errors behind it; nil: there are none
}

func (f *fault) Error() string { return f.what + ": " + f.text }
func (f *fault) Unwrap() error { return f.err }

// fault explains an error of the service's.
func (f *forward) fault(x *filters.Exchange, what string, err error) *fault {
	c := f.service.Explain(err, x.Endpoint)
	return &fault{what, c.Code, c.Text, err}
}

// refusalLog tells the operator of each response that the gateway made in place of a service's, and of each that was
// cut off: by one line for a route, reason and cause, and then by how many more there were. A client can provoke
// most of them as often as it likes, so no number of them makes more than a bounded number of lines.
//
//   - What fails at a service or in the gateway, statuses from 500 on: WARN, one line a second for each route, reason
//     and cause.
//   - What a client's request is refused for: INFO, one line in ten seconds for each route and reason.
//   - Of each of the two levels at most 20 lines a second, all routes together.
//
// What has no line of its own is counted in the next line of its kind, or ten seconds later in a line for it, and by
// a metric. At most 4,096 kinds are told apart; further ones share a line for each reason. A kind of which nothing is
// heard for ten minutes is forgotten. Nothing here is on the way of a request that is not refused.
type refusalLog struct {
	logger  *slog.Logger
	leftOut *metric.CounterVec // reason

	known atomic.Pointer[map[refusalKind]*refusals] // a copy of kinds that takes no lock, and may lack the latest

	mu     sync.Mutex
	kinds  map[refusalKind]*refusals
	missed int // lookups since that copy that it had no answer to

	lines [2]lineBudget // by whether a service or the gateway failed
}

const (
	failureEvery    = time.Second
	refusalEvery    = 10 * time.Second
	linesPerSecond  = 20
	refusalKindsMax = 4096
	kindForgotten   = 10 * time.Minute
)

// refusalKind is what one line stands for. Its strings do not lie in an exchange's buffers.
type refusalKind struct {
	route  string
	reason filters.Reason
	cause  string
	failed bool // a service, or the gateway
}

// forgotten is the next of a kind that is not in the list any more: the list may have another one of it.
const forgotten = -1

// refusals are those of one kind.
type refusals struct {
	next    atomic.Int64 // before which there is no line, in nanoseconds of the Unix epoch; or forgotten
	leftOut atomic.Int64
	counter atomic.Pointer[metric.CounterSeries] // of the reason; nil until something is left out
}

// leaveOut counts one that has no line, for the next line and for the metric.
func (r *refusals) leaveOut(counters *metric.CounterVec, reason filters.Reason) {
	r.leftOut.Add(1)
	c := r.counter.Load()
	if c == nil {
		c = counters.WithLabelValues(string(reason))
		r.counter.Store(c)
	}
	c.Inc()
}

// lineBudget bounds the lines within a second.
type lineBudget struct{ second, lines atomic.Int64 }

func (b *lineBudget) take(now time.Time) bool {
	if s := now.Unix(); b.second.Load() != s {
		b.lines.Store(0) // two at once let a few lines more pass
		b.second.Store(s)
	}
	return b.lines.Add(1) <= linesPerSecond
}

func newRefusalLog(l *slog.Logger, leftOut *metric.CounterVec) *refusalLog {
	log := &refusalLog{logger: l, leftOut: leftOut, kinds: map[refusalKind]*refusals{}}
	log.publishLocked()
	return log
}

// publishLocked renews the copy that is read without the lock.
func (l *refusalLog) publishLocked() {
	known := maps.Clone(l.kinds)
	l.known.Store(&known)
	l.missed = 0
}

// of returns the refusals of a kind.
func (l *refusalLog) of(k refusalKind) *refusals {
	r := (*l.known.Load())[k]
	if r != nil && r.next.Load() != forgotten {
		return r
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		if l.missed++; l.missed >= len(l.kinds) { // so a lookup copies two kinds in the mean, at most
			l.publishLocked()
		}
	}()
	if len(l.kinds) >= refusalKindsMax {
		k = refusalKind{reason: k.reason, failed: k.failed} // reasons are few
	}
	if r = l.kinds[k]; r == nil {
		r = new(refusals)
		l.kinds[k] = r
	}
	return r
}

func every(failed bool) time.Duration {
	if failed {
		return failureEvery
	}
	return refusalEvery
}

// tell writes the line of a refused exchange, or counts it. why is set for what is not in the exchange's problem.
func (l *refusalLog) tell(route string, x *filters.Exchange, why *fault) {
	if l == nil {
		return
	}
	r := &x.Response
	if why == nil && r.Problem != nil {
		why, _ = r.Problem.Cause.(*fault)
	}
	l.tellOf(route, x, r, why)
}

// note tells of what is wrong with a service although its response goes on to the client.
func (l *refusalLog) note(route string, x *filters.Exchange, status int, why *fault) {
	l.tellOf(route, x, &filters.Response{Status: status, Reason: "response-passed-on"}, why)
}

func (l *refusalLog) tellOf(route string, x *filters.Exchange, r *filters.Response, why *fault) {
	now := time.Now()
	k := refusalKind{route: route, reason: r.Reason, failed: why != nil || r.Status >= 500}
	if why != nil {
		k.cause = why.code
	}
	of, due := l.due(k, now)
	if !due || !l.budget(k.failed).take(now) {
		of.leaveOut(l.leftOut, k.reason)
		return
	}
	l.write(k, x, r, why, of.leftOut.Swap(0))
}

// due returns the refusals of a kind, and whether the line that is due is the caller's to write.
func (l *refusalLog) due(k refusalKind, now time.Time) (*refusals, bool) {
	for {
		of := l.of(k)
		next := of.next.Load()
		switch {
		case next == forgotten:
		case now.UnixNano() < next:
			return of, false
		case of.next.CompareAndSwap(next, now.Add(every(k.failed)).UnixNano()):
			return of, true
		case of.next.Load() != forgotten: // another one writes it
			return of, false
		}
	}
}

func (l *refusalLog) budget(failed bool) *lineBudget {
	if failed {
		return &l.lines[1]
	}
	return &l.lines[0]
}

func level(failed bool) slog.Level {
	if failed {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

const (
	pathBytesMax  = 200 // of a line, of a client's path or method
	causeBytesMax = 400 // of a line, of what the client is told
)

// write writes the line of an exchange.
func (l *refusalLog) write(k refusalKind, x *filters.Exchange, r *filters.Response, why *fault, leftOut int64) {
	what, cause := "a request was refused", k.reason.Title()
	a := make([]any, 0, 36)
	add := func(name, value string) {
		if value != "" {
			a = append(a, name, value)
		}
	}
	if a = append(a, "route", k.route); x.Call != filters.ClientCall {
		add("of_route", x.Route) // whose transaction or probe it is
	}
	p := r.Problem
	if p == nil {
		p = new(filters.Problem)
	}
	if p.Detail != "" {
		cause = p.Detail[:min(len(p.Detail), causeBytesMax)]
	}
	if why != nil {
		what, cause = why.what, why.text
	}
	service := x.Service
	if service == "" {
		service = p.Service
	}
	add("service", service)
	a = append(a, "reason", k.reason, "status", r.Status)
	add("endpoint", x.Endpoint)
	add("cause", cause)
	if why != nil && why.err != nil {
		a = append(a, "error", why.err)
	} else if why == nil && p.Cause != nil {
		a = append(a, "error", p.Cause)
	}
	add("limit", p.Limit)
	if x.Client.IsValid() {
		a = append(a, "client", x.Client)
	}
	add("principal", filters.HashedPrincipal(x.Principal))
	add("method", x.Method[:min(len(x.Method), pathBytesMax)])
	add("path", x.Path[:min(len(x.Path), pathBytesMax)])
	add("request", x.Inject.Get(requestIDField))
	if leftOut > 0 {
		a = append(a, "left_out", leftOut)
	}
	l.logger.Log(context.Background(), level(k.failed), what, a...)
}

// run tells of what was left out and had no line since, until ctx ends.
func (l *refusalLog) run(ctx context.Context) error {
	t := time.NewTicker(refusalEvery)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			l.settle(now)
		case <-ctx.Done():
			l.settle(time.Now().Add(refusalEvery)) // all of it
			return nil
		}
	}
}

// settle tells of what was left out, and forgets the kinds of which nothing has been heard.
func (l *refusalLog) settle(now time.Time) {
	for k, r := range l.quiet(now) {
		n := r.leftOut.Swap(0)
		if n == 0 {
			continue
		}
		if !l.budget(k.failed).take(now) {
			r.leftOut.Add(n) // the next time
			continue
		}
		l.logger.Log(context.Background(), level(k.failed), "requests were refused that have no line of their own",
			"route", k.route, "reason", k.reason, "cause_code", k.cause, "left_out", n)
	}
}

// quiet returns the kinds whose next line may come by now.
func (l *refusalLog) quiet(now time.Time) map[refusalKind]*refusals {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.publishLocked()
	quiet := map[refusalKind]*refusals{}
	for k, r := range l.kinds {
		at := r.next.Load()
		next := time.Unix(0, at)
		switch {
		case now.Before(next):
		case r.leftOut.Load() > 0:
			quiet[k] = r
		case now.Sub(next) > kindForgotten && r.next.CompareAndSwap(at, forgotten): // else it is heard of just now
			delete(l.kinds, k)
		}
	}
	return quiet
}
