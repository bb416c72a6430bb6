package gateway

import (
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/cors"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/router"
	"github.com/sluice-gateway/sluice/gateway/tracing"
)

// dispatcher takes requests of every protocol and serves each with the engine that is in force when
// it arrives.
type dispatcher struct {
	engine   func() *engine
	overload *overload
	access   *accessLogs
}

// Serve implements [http1.Handler].
func (d *dispatcher) Serve(r *http1.Request) {
	e := d.engine()
	r.LimitBody(int64(e.cfg.Listen.MaxBody))
	l := d.access.begin(&r.Exchange)
	d.dispatch(e, &r.Exchange, r)
	e.tracing.EndRequest(&r.Exchange)
	if l != nil {
		d.access.end(l, &r.Exchange, r)
	}
}

// Refuse implements [http1.Handler].
func (d *dispatcher) Refuse(r *http1.Request, f *http1.Fault) {
	l := d.access.begin(&r.Exchange)
	d.refuseFault(r, f)
	d.engine().tracing.EndRequest(&r.Exchange)
	if l != nil {
		d.access.end(l, &r.Exchange, r)
	}
}

func (d *dispatcher) refuseFault(r *http1.Request, f *http1.Fault) {
	e := d.engine()
	if f.Status == http.StatusServiceUnavailable {
		e.refuse(&r.Exchange, r, d.overload.refuse(&r.Exchange, budget.Buffered))
		return
	}
	reason := filters.BadRequest
	switch f.Status {
	case http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestURITooLong:
		reason = filters.HeaderTooLarge
	case http.StatusExpectationFailed:
		reason = filters.ExpectationFailed
	}
	detail := strings.ToUpper(f.Detail[:1]) + f.Detail[1:] + "."
	e.refuse(&r.Exchange, r, filters.RefuseAs(f.Status, reason, filters.Problem{Detail: detail}))
}

// clientRequest is a request of a client, whatever carries it, and the way back.
type clientRequest interface {
	inbound
	outbound
	ClientText() string      // the address that the connection is held for
	Length() int64           // of the body, -1 when it is not known
	Covers(host string) bool // whether the connection is for that host
	// Account is what the request draws on, that of its connection unless DrawOn names another one;
	// nil bounds nothing.
	Account() *budget.Account
	DrawOn(*budget.Account)
	// LimitBody bounds the body of the request, before any of it is read.
	LimitBody(n int64)
}

// dispatch routes a request and serves it. Its head is valid by the rules of its protocol; x.Path
// is as the client wrote it. A request is in flight until it returns, also when its client has left.
func (d *dispatcher) dispatch(e *engine, x *filters.Exchange, r clientRequest) {
	direct := x.Client
	if !direct.IsValid() {
		direct = x.Peer
	}
	reply := e.normalize(x, r.ClientText(), r.Length())
	if reply == nil && !r.Covers(x.Host) {
		reply = refusal(filters.Misdirected, "This connection is not for the host that the request names.")
	}
	if reply != nil {
		r.CloseAfter()
		e.refuse(x, r, reply)
		return
	}
	if x.Client != direct && x.Client.IsValid() {
		// A trusted proxy's connection has many clients, and one of them must not take what is there
		// for all: each has an account of its own.
		a := d.overload.budget.Account(x.Client)
		defer a.Close()
		r.DrawOn(a)
	}
	a := r.Account()
	if !a.Acquire(budget.InFlight, 1) {
		e.refuse(x, r, d.overload.refuse(x, budget.InFlight))
		return
	}
	defer a.Release(budget.InFlight, 1)
	rt, params, result := e.find(x)
	x.Params = params
	switch result {
	case router.NoPath:
		e.refuse(x, r, refusal(filters.NoRoute, "No route has this path."))
		return
	case router.NoMethod:
		reply := refusal(filters.MethodNotAllowed, "The path is there, but not for "+x.Method+".")
		reply.Header.Add("Allow", strings.Join(e.router.AllowFor(x), ", "))
		e.refuse(x, r, reply)
		return
	}
	x.Route = rt.name
	if x.Trace != nil {
		tracing.Routed(x, rt.pattern, rt.name)
	}
	if rt.maxBody > 0 {
		r.LimitBody(rt.maxBody)
	}
	rt.serve(x, r, r)
}

// find returns the route of a request: the one that its carrier has named, or the first that matches. A preflight that
// no route takes is one for the route of the method that it asks for, where that has CORS.
func (e *engine) find(x *filters.Exchange) (rt *route, params []filters.Param, result router.Result) {
	if rt, params, result = e.findBy(x, x.Method); result == router.NoMethod {
		if method, ok := cors.IsPreflight(x); ok {
			if other, captured, found := e.findBy(x, method); found == router.Found && other.cors {
				return other, captured, found
			}
		}
	}
	return rt, params, result
}

func (e *engine) findBy(x *filters.Exchange, method string) (*route, []filters.Param, router.Result) {
	if x.Route != "" {
		if n := e.named[x.Route]; n != nil {
			return n.FindFor(x, method, x.Params)
		}
	}
	return e.router.FindFor(x, method, x.Params)
}

// refuse writes the reply to a request without a route.
func (e *engine) refuse(x *filters.Exchange, w outbound, reply *filters.Reply) {
	x.SetReply(reply)
	identifyProblem(x)
	r := &x.Response
	r.Header.Set(requestIDField, requestID(x))
	if x.IsGRPC() {
		refuseGRPC(w, r)
	} else {
		w.Head(r.Status, r.Header, int64(len(r.Body)))
		if x.Method != http.MethodHead {
			w.Write(r.Body) // a client that does not read it has gone
		}
	}
	e.refusals.tell("", x, nil)
	e.unrouted.count(r.Status, r.Reason, time.Since(x.Received), x.Trace)
}

// refusal makes the reply for a reason with one sentence about this occurrence.
func refusal(reason filters.Reason, detail string) *filters.Reply {
	return filters.Refuse(reason, filters.Problem{Detail: detail})
}

func headerTooLong(limit config.Size) *filters.Reply {
	return refusal(filters.HeaderTooLarge, "The header is longer than "+limit.String()+".")
}
