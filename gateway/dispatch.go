package gateway

import (
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// dispatcher takes requests of every protocol and serves each with the engine that is in force when
// it arrives.
type dispatcher struct {
	engine   func() *engine
	overload *overload
}

// Serve implements [http1.Handler].
func (d *dispatcher) Serve(r *http1.Request) {
	e := d.engine()
	r.LimitBody(int64(e.cfg.Listen.MaxBody))
	d.dispatch(e, &r.Exchange, r.PeerText(), r.Length(), r.Account(), r, r)
}

// Refuse implements [http1.Handler].
func (d *dispatcher) Refuse(r *http1.Request, f *http1.Fault) {
	e := d.engine()
	if f.Status == http.StatusServiceUnavailable {
		e.refuse(&r.Exchange, r, d.overload.refuse(&r.Exchange, budget.Buffered))
		return
	}
	reason := filters.BadRequest
	if f.Status == http.StatusRequestHeaderFieldsTooLarge || f.Status == http.StatusRequestURITooLong {
		reason = filters.HeaderTooLarge
	}
	detail := strings.ToUpper(f.Detail[:1]) + f.Detail[1:] + "."
	e.refuse(&r.Exchange, r, filters.RefuseAs(f.Status, reason, filters.Problem{Detail: detail}))
}

// dispatch routes a request and serves it. Its head is valid by the rules of its protocol; x.Path
// is as the client wrote it. A request is in flight until it returns, also when its client has left.
func (d *dispatcher) dispatch(
	e *engine, x *filters.Exchange, peer string, length int64, a *budget.Account, in inbound, w outbound,
) {
	if reply := e.normalize(x, peer, length); reply != nil {
		w.CloseAfter()
		e.refuse(x, w, reply)
		return
	}
	if !a.Acquire(budget.InFlight, 1) {
		e.refuse(x, w, d.overload.refuse(x, budget.InFlight))
		return
	}
	defer a.Release(budget.InFlight, 1)
	rt, params, result := e.router.Find(x.Method, x.Path, x.Params)
	x.Params = params
	switch result {
	case router.NoPath:
		e.refuse(x, w, refusal(filters.NoRoute, "No route has this path."))
		return
	case router.NoMethod:
		reply := refusal(filters.MethodNotAllowed, "The path is there, but not for "+x.Method+".")
		reply.Header.Add("Allow", strings.Join(e.router.Allow(x.Path), ", "))
		e.refuse(x, w, reply)
		return
	}
	x.Route = rt.name
	rt.serve(x, in, w)
}

// refuse writes the reply to a request without a route.
func (e *engine) refuse(x *filters.Exchange, w outbound, reply *filters.Reply) {
	if x.IsGRPC() {
		x.SetReply(reply)
		refuseGRPC(w, &x.Response)
		e.unrouted.count(reply.Status, reply.Reason, time.Since(x.Received))
		return
	}
	w.Head(reply.Status, reply.Header, int64(len(reply.Body)))
	if x.Method != http.MethodHead {
		w.Write(reply.Body) // a client that does not read it has gone
	}
	e.unrouted.count(reply.Status, reply.Reason, time.Since(x.Received))
}

// refusal makes the reply for a reason with one sentence about this occurrence.
func refusal(reason filters.Reason, detail string) *filters.Reply {
	return filters.Refuse(reason, filters.Problem{Detail: detail})
}

func headerTooLong(limit config.Size) *filters.Reply {
	return refusal(filters.HeaderTooLarge, "The header is longer than "+limit.String()+".")
}
