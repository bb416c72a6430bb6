package gateway

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/accesslog"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// accessLogs has the access log in force. Requests of clients are written to it at their end, those that Envoy carries
// too, and upgraded connections and streams when they are over. Calls that the gateway itself makes (branches of
// transactions, probes, health checks) are not: they are not requests of clients.
type accessLogs struct {
	current atomic.Pointer[accesslog.Log] // nil: off
	counts  accesslog.Counts
	logger  *slog.Logger

	changing sync.Mutex // held by a reload, and while a file is opened again
}

// begin returns the log that a request is written to at its end, nil for none, and has the request measured for it.
func (a *accessLogs) begin(x *filters.Exchange) *accesslog.Log {
	if a == nil {
		return nil
	}
	l := a.current.Load()
	if l != nil {
		x.Measured.On = true
	}
	return l
}

// end writes the line of a request, to the log that was in force when it began or, where that has been closed, to the
// one that is now.
func (a *accessLogs) end(l *accesslog.Log, x *filters.Exchange, r clientRequest) {
	reason := x.Response.Reason
	if reason == "" {
		reason = x.Measured.Reason
	}
	if !l.Takes(x.Response.Status, string(reason)) {
		return
	}
	m := &x.Measured
	e := accesslog.Entry{
		Time: x.Received, RequestID: x.Inject.Get(requestIDField), TraceID: traceID(x),
		Method: x.Method, Host: x.Host, Path: x.Path, Protocol: x.Version,
		Upgraded: x.Response.Status == 101, Peer: x.Peer, Client: x.Client,
		Principal: x.Principal, Route: x.Route, Service: x.Service, Endpoint: x.Endpoint, Status: x.Response.Status,
		Reason: string(reason), Record: x.Logical.Key, Attempt: x.Logical.Attempt, Replayed: m.Replayed,
		Total: time.Since(x.Received), ServiceTime: m.Service, StoreTime: m.Store, QueueTime: m.Queue,
	}
	e.In, e.Out = transferred(x, r)
	for !l.Write(&e) {
		if l = a.current.Load(); l == nil {
			return
		}
	}
}

// transferred returns how many bytes the bodies had, -1 where it is not known: what Envoy carries itself is not seen
// here.
func transferred(x *filters.Exchange, r clientRequest) (in, out int64) {
	if t, ok := r.(interface{ Transferred() (in, out int64) }); ok {
		return t.Transferred()
	}
	if body, ok := x.BodyLoaded(); ok {
		in = int64(len(body))
	} else {
		in = r.Length()
	}
	if out = -1; x.Response.Whole {
		out = int64(len(x.Response.Body))
	}
	return in, out
}

// traceID returns the trace of the request, "" without one. What is injected is valid.
func traceID(x *filters.Exchange) string {
	if v := x.Inject.Get("traceparent"); len(v) >= 35 {
		return v[3:35]
	}
	return ""
}

// prepare returns the log of a configuration, with its file open; nil for none. Nothing is written to it before use.
// The process's begin and reload alone call it, one after the other.
func (a *accessLogs) prepare(c *config.AccessLog) (*accesslog.Log, error) {
	if c == nil {
		return nil, nil
	}
	var sink *accesslog.Sink
	if l := a.current.Load(); l != nil && l.Sink().Output() == c.Output {
		sink = l.Sink()
	} else {
		var err error
		if sink, err = accesslog.Open(c.Output, &a.counts, a.logger); err != nil {
			return nil, err
		}
	}
	return accesslog.New(accesslog.Settings{
		JSON: c.Format == config.AccessJSON, Sample: c.Sample.Share(), Plain: c.Principal == config.PrincipalPlain,
	}, sink), nil
}

// discard gives up what prepare returned.
func (a *accessLogs) discard(l *accesslog.Log) {
	if old := a.current.Load(); l != nil && (old == nil || old.Sink() != l.Sink()) {
		l.Sink().Close()
	}
}

// use puts a log in force, nil for none, and closes the one before when all of it is written.
func (a *accessLogs) use(l *accesslog.Log) {
	a.changing.Lock()
	defer a.changing.Unlock()
	if old := a.current.Swap(l); old != nil && (l == nil || l.Sink() != old.Sink()) {
		old.Sink().Close()
	}
}

// reopenAt opens the file again with each value, until ctx ends.
func (a *accessLogs) reopenAt(ctx context.Context, asked <-chan struct{}) error {
	for {
		select {
		case <-asked:
			a.reopen()
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *accessLogs) reopen() {
	a.changing.Lock()
	defer a.changing.Unlock()
	if l := a.current.Load(); l != nil {
		_ = l.Sink().Reopen() // which has told why
	}
}

// publishAccessLog publishes how many lines were written, and how many were not.
func (m *metrics) publishAccessLog(c *accesslog.Counts) {
	counter := func(name, help string, n *atomic.Int64) {
		m.registry.Func(metric.Counter, name, help, func() float64 { return float64(n.Load()) })
	}
	counter("access_log_written_total", "Lines of the access log that were written.", &c.Written)
	counter("access_log_dropped_total", "Lines of the access log that were not written: its file cannot be, or does "+
		"not take as much.", &c.Dropped)
}
