package gateway

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// staticResponse is the target that is a configured response.
type staticResponse struct{ reply filters.Reply }

func newStaticResponse(r *config.StaticResponse) *staticResponse {
	f := &staticResponse{filters.Reply{Status: r.Status, Body: []byte(r.Body)}}
	for name, value := range r.Headers {
		if !message.HopByHop(name) { // the engine's own
			f.reply.Header.Add(name, value)
		}
	}
	return f
}

func (f *staticResponse) execute(x *filters.Exchange, _ inbound) result {
	x.SetReply(&f.reply)
	return result{outcome: filters.Completed}
}

// transactionTarget is the target that is a transaction.
type transactionTarget struct{ executor *transaction.Executor }

func (t *transactionTarget) execute(x *filters.Exchange, _ inbound) result {
	return result{outcome: t.executor.Execute(x)}
}

// statusTarget is the status resource of a route's transactions.
type statusTarget struct {
	bridge   *transaction.Bridge
	route    string
	stopping context.Context
}

func (t *statusTarget) execute(x *filters.Exchange, _ inbound) result {
	id, _ := x.Param("id")
	v, found, err := t.bridge.Status(x.Context(), id, t.route, x.Principal)
	switch {
	case err != nil:
		x.SetReply(filters.Refuse(filters.StoreUnavailable, filters.Problem{
			Detail: "The store that knows this transaction does not answer.", Cause: err,
		}))
		return result{outcome: filters.Refused}
	case !found:
		x.SetReply(refusal(filters.NoRoute, "There is no such transaction of yours."))
		return result{outcome: filters.Refused}
	}
	if wantsEvents(x.Header.Joined("Accept")) {
		return t.events(x, v)
	}
	if wait, ok, err := x.Part(ref.Query, "wait"); ok || err != nil {
		wait, err := config.ParseDuration(wait)
		if err != nil {
			x.SetReply(refusal(filters.BadRequest,
				"wait is a duration such as 10s, at most "+transaction.WaitMax.String()+"."))
			return result{outcome: filters.Refused}
		}
		ctx, cancel := eitherDone(x.Context(), t.stopping)
		defer cancel()
		v = t.bridge.Await(ctx, v, time.Duration(wait))
	}
	reply := filters.Reply{Status: 200, Body: v.Encode()}
	reply.Header.Add("Content-Type", "application/json")
	reply.Header.Add("Cache-Control", "no-store")
	x.SetReply(&reply)
	return result{outcome: filters.Completed}
}

func (t *statusTarget) events(x *filters.Exchange, v transaction.View) result {
	reply := filters.Reply{Status: 200}
	reply.Header.Add("Content-Type", "text/event-stream")
	reply.Header.Add("Cache-Control", "no-store")
	x.SetReply(&reply)
	if x.Method == http.MethodHead {
		return result{outcome: filters.Completed}
	}
	x.Response.Stream = true
	return result{outcome: filters.Completed, events: func(ctx context.Context, w io.Writer, flush func()) error {
		ctx, cancel := eitherDone(ctx, t.stopping)
		defer cancel()
		return t.bridge.Events(ctx, v, w, flush)
	}}
}

// eitherDone returns a context that ends with either.
func eitherDone(ctx, other context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(other, cancel)
	return ctx, func() { stop(); cancel() }
}

// wantsEvents reports whether an Accept field asks for text/event-stream, and does not prefer JSON (RFC
// 9110 §12.5.1). Ranges such as */* do not ask for it: a program that takes anything gets JSON.
func wantsEvents(accept string) bool {
	var events, other float64
	for item := range strings.SplitSeq(accept, ",") {
		kind, parameters, _ := strings.Cut(item, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "text/event-stream":
			events = max(events, weight(parameters))
		case "application/json":
			other = max(other, weight(parameters))
		}
	}
	return events > 0 && events >= other
}

// weight returns the weight that the parameters of an item of an Accept field give it (RFC 9110
// §12.4.2): 1 without one, 0 for one that cannot be read.
func weight(parameters string) float64 {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, ok := strings.Cut(p, "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0
		}
		return q
	}
	return 1
}
