package gateway

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// streaming is a target whose response's body streams.
type streaming struct {
	read, closed bool
}

func (s *streaming) execute(x *filters.Exchange, _ inbound) result {
	x.Response = filters.Response{Status: 201}
	return result{outcome: filters.Completed, response: s, streams: true, length: -1}
}

func (s *streaming) Head() (int, filters.Header, int64) { return 201, nil, -1 }
func (s *streaming) Next() []byte                       { s.read = true; return nil }
func (s *streaming) Read([]byte) (int, error)           { s.read = true; return 0, io.EOF }
func (s *streaming) Close() error                       { s.closed = true; return nil }
func (s *streaming) Trailer() filters.Header            { return nil }
func (s *streaming) Stream(time.Duration)               {}
func (s *streaming) Watch(context.Context)              {}
func (s *streaming) Endpoint() string                   { return "" }
func (s *streaming) Uploading() bool                    { return false }
func (s *streaming) ClientTime() time.Duration          { return 0 }

// replacing gives the client another response than the service's.
type replacing struct{ counting }

func (*replacing) Response(x *filters.Exchange, _ *filters.Slot) {
	x.SetReply(filters.Refuse(filters.OutcomeUnknown, filters.Problem{}))
}

// replacedOn serves an exchange by a target whose response a filter replaces.
func replacedOn(t *testing.T, at target) (*recorder, *replacing) {
	env := &policy.Env{Logger: slog.New(slog.DiscardHandler), Metrics: policy.NewMetrics()}
	p := newProcess(env, nil, newMetrics(env.Metrics), nil, context.Background())
	f := &replacing{}
	rt := &route{name: "r", target: at, metrics: p.metrics.route("r"), process: p}
	var err error
	if rt.chain, err = filters.NewChain(rt.panicked, f); err != nil {
		t.Fatal(err)
	}
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	w := &recorder{}
	rt.serve(x, &whole{}, w)
	return w, f
}

// A filter may replace a response that streams: of the service's own the client gets nothing then.
func TestFilterReplacesAStream(t *testing.T) {
	t.Parallel()
	service := &streaming{}
	w, f := replacedOn(t, service)
	if w.status != 409 || service.read || !service.closed || f.done != 1 || f.outcome != filters.Completed {
		t.Errorf("status %d, body read %v, closed %v, %d Done with %v",
			w.status, service.read, service.closed, f.done, f.outcome)
	}
}

// eventful is a target of the gateway's own whose body is made as it goes.
type eventful struct{ began bool }

func (s *eventful) execute(x *filters.Exchange, _ inbound) result {
	x.SetReply(&filters.Reply{Status: 200})
	return result{outcome: filters.Completed, events: func(context.Context, io.Writer, func()) error {
		s.began = true
		return nil
	}}
}

func TestFilterReplacesEvents(t *testing.T) {
	t.Parallel()
	at := &eventful{}
	w, _ := replacedOn(t, at)
	if w.status != 409 || at.began {
		t.Errorf("status %d, events written: %v", w.status, at.began)
	}
}
