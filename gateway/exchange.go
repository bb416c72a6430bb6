package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/tracing"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// outbound is the way back to the client, whatever carries it.
type outbound interface {
	// Head begins the response; length is that of the body, -1 when it is not known. The exchange's
	// method decides whether there is one.
	Head(status int, h filters.Header, length int64)
	// Write may keep what it is given until Flush, or the end of the response.
	io.Writer
	Flush()
	// Trailer ends the response with fields behind its body.
	Trailer(h filters.Header)
	// CloseAfter, before Head, has the connection closed behind the response, where it is this
	// request's alone.
	CloseAfter()
	// Abort breaks the response off, so that the client cannot take a part of it for the whole.
	Abort()
}

// inbound gives the request as it goes to a service.
type inbound interface {
	// Message returns it with its body whole or as a stream. The error is one of reading the
	// client's body.
	Message() (*message.Message, error)
}

// target is where a route leads once its chain has let the exchange pass. It sets x.Response and
// returns how it ended.
type target interface {
	execute(x *filters.Exchange, in inbound) result
}

// result is how an exchange ended at its target.
type result struct {
	outcome filters.Outcome
	// response is the service's; nil when the gateway made the response itself. It is closed behind
	// the exchange.
	response upstream.Response
	// streams: the body of response follows, of the given length (-1: not known), behind what was
	// read of it.
	streams bool
	length  int64
	read    []byte
	kept    *message.Whole // has what was read, in place of read, when that was more than came with the head
	// account is what the memory for the body is drawn on.
	account *budget.Account
	// tunnel is the response with which the service goes on in another protocol.
	tunnel *http1.Response
	// events, when set, writes the body as it is made until it is over or ctx ends.
	events func(ctx context.Context, w io.Writer, flush func()) error
	// from is the target whose response it is; nil when the gateway made the response itself.
	from *forward
	took time.Duration // to the head of a stream; 0 for any other response
	// waits: though it is given up for the client, that may still be there for the response.
	waits bool
	fault *fault // why the response was cut off behind its head
}

// serve runs one exchange through the chain and the target of its route and writes the response.
func (rt *route) serve(x *filters.Exchange, in inbound, w outbound) {
	if e := rt.exchange(x, in, w); e.tunnel != nil { // the exchange has ended: the connection is no longer HTTP
		rt.carry(x, w.(*http1.Request), &e)
	}
}

// exchange returns how it ended, with the tunnel where one begins.
func (rt *route) exchange(x *filters.Exchange, in inbound, w outbound) (e result) {
	e.outcome = filters.Refused
	wrote := false
	defer func() {
		if v := recover(); v != nil {
			rt.panicked(x, "engine", v, debug.Stack())
			e.outcome, e.tunnel = filters.Panicked, nil
			x.SetReply(filters.Refuse(filters.InternalError, filters.Problem{}))
			identifyProblem(x)
			if wrote {
				w.Abort()
			} else {
				rt.write(x, w, &result{}, &wrote)
			}
		}
		if x.Trace != nil {
			tracing.Responded(x)
		}
		rt.chain.Done(x, e.outcome)
		if e.response != nil && e.tunnel == nil {
			closeResponse(e.response, in, w)
		}
		e.release()
		if e.took == 0 {
			e.took = time.Since(x.Received)
		}
		if x.Measured.On {
			rt.noteEnd(x, &e)
		}
		if x.Response.Reason != "" && e.outcome != filters.Panicked { // a panic has been logged
			rt.tell(x, e.fault)
		}
		if rt.metrics != nil {
			rt.metrics.count(x.Response.Status, reasonOf(x, &e), e.took, x.Trace)
		}
	}()
	reply, panicked := rt.begin(x), false
	if reply == nil {
		reply, panicked = rt.chain.Request(x)
	}
	if errors.Is(x.BodyError(), filters.ErrOverloaded) { // whatever a filter made of a body that it could not read
		reply = rt.process.overload.refuse(x, budget.Buffered)
	}
	if reply != nil {
		x.SetReply(reply)
		if panicked {
			e.outcome = filters.Panicked
		}
	} else {
		e = rt.targetOf(x).execute(x, in)
		if e.response == nil && errors.Is(x.BodyError(), filters.ErrOverloaded) {
			x.SetReply(rt.process.overload.refuse(x, budget.Buffered))
		}
	}
	if e.outcome == filters.ClientGone && !e.waits {
		x.Response.Status, e.tunnel = statusClientGone, nil // no client is there to read a response
		return e
	}
	identifyProblem(x)
	own := x.Response.Local
	if rt.chain.Response(x) {
		e.outcome = filters.Panicked
	}
	if x.Response.Local && !own { // a filter has replaced the service's response
		e.streams, e.tunnel = false, nil
	}
	if len(rt.kept) > 0 && x.Response.Local {
		x.Response.Header = append(x.Response.Header, rt.kept...)
	}
	if rt.fallback != nil && rt.fallback.standsIn(x, in, &e) && rt.fallBack(x, in, w, &e) {
		return e
	}
	identifyProblem(x) // a filter may have put another refusal in its place
	if x.Measured.On {
		_, x.Measured.Replayed = x.Response.Header.Lookup("Idempotent-Replayed") // of a service's, it was taken out
	}
	if e.tunnel == nil {
		rt.write(x, w, &e, &wrote)
	} else {
		rt.finish(x)
	}
	return e
}

// finish puts into the head of a response what every response of the route has.
func (rt *route) finish(x *filters.Exchange) {
	rt.edits.apply(&x.Response.Header)
	x.Response.Header.Set(requestIDField, requestID(x))
}

// tell tells the operator of a response that is not the service's, or not the whole of it.
func (rt *route) tell(x *filters.Exchange, why *fault) {
	if x.Service == "" {
		x.Service = rt.service(x)
	}
	rt.process.refusals.tell(rt.name, x, why)
}

// noteEnd notes for the access log how the exchange has ended.
func (rt *route) noteEnd(x *filters.Exchange, e *result) {
	x.Measured.Reason = reasonOf(x, e)
	if x.Service == "" {
		x.Service = rt.service(x)
	}
}

// targetOf returns where the exchange goes: to the service that was chosen, or that its key belongs to, where that is
// not the route's only one.
func (rt *route) targetOf(x *filters.Exchange) target {
	if !x.Led() || rt.process.envoy {
		return rt.target
	}
	if f := rt.forwards[x.LeadsTo()]; f != nil {
		return f
	}
	return rt.elsewhere(x.LeadsTo())
}

// undecided is the target of a route that leads to several services: the chain chooses one of them.
type undecided struct{}

func (undecided) execute(*filters.Exchange, inbound) result {
	panic("gateway: no service was chosen") // the chain has a filter for it
}

// service returns the name of the service that the exchange goes to, "" where the route leads elsewhere, or to several
// and none has been chosen yet.
func (rt *route) service(x *filters.Exchange) string {
	if service := x.LeadsTo(); service != "" {
		return service
	}
	switch t := rt.target.(type) {
	case *forward:
		return t.service.Name()
	case *envoyTarget:
		return t.service
	}
	return ""
}

// statusClientGone is the code under which requests are counted whose client left before there was a
// response, as nginx has it; clientGone is the reason when it left in the middle of one.
const (
	statusClientGone                = 499
	clientGone       filters.Reason = "client-gone"
)

// reasonOf is the reason under which an exchange is counted. To leave is how a client ends a stream.
func reasonOf(x *filters.Exchange, e *result) filters.Reason {
	if e.outcome == filters.ClientGone && e.streams && !x.Response.Stream {
		return clientGone
	}
	return x.Response.Reason
}

// write sends the response. A body that breaks half-way breaks the client's connection.
func (rt *route) write(x *filters.Exchange, w outbound, e *result, wrote *bool) {
	r := &x.Response
	*wrote = true
	rt.finish(x)
	if r.Stream {
		e.took = time.Since(x.Received)
	}
	if closesAfter(r.Reason) {
		w.CloseAfter()
	}
	switch {
	case r.Reason != "" && x.IsGRPC():
		refuseGRPC(w, r)
	case e.events != nil && r.Reason == "": // else a filter has replaced the response, or failed on it
		w.Head(r.Status, r.Header, -1)
		w.Flush()
		if err := e.events(x.Context(), w, w.Flush); err != nil {
			e.outcome = filters.ClientGone
		}
	case e.streams:
		w.Head(r.Status, r.Header, e.length)
		rt.copyBody(x, w, e)
	default:
		length := int64(len(r.Body))
		switch {
		case !r.Local && message.HasNoBody(x.Method, r.Status) && len(r.Body) == 0:
			length = e.length // what the service says that there would be
		case len(r.Trailer) > 0 && x.Version != "1.0":
			length = -1 // only such a body has a trailer
		}
		w.Head(r.Status, r.Header, length)
		if len(r.Body) > 0 && x.Method != http.MethodHead {
			w.Write(r.Body) // a client that has gone is not the exchange's failure: the response was whole
		}
		if len(r.Trailer) > 0 {
			w.Trailer(r.Trailer)
		}
	}
}

// closesAfter reports whether it is unclear behind a refusal what the client still sends.
func closesAfter(r filters.Reason) bool { return r == filters.BodyTooLarge || r == filters.BadRequest }

func (rt *route) copyBody(x *filters.Exchange, w outbound, e *result) {
	left := e.length
	deliver := func(p []byte) bool {
		if len(p) == 0 {
			return true
		}
		if left > 0 {
			left -= int64(len(p))
		}
		_, err := w.Write(p)
		return err == nil
	}
	here, spliced := e.each(deliver), splicer{}
	if here && !spliced.begin(w, e.response) {
		here = deliver(e.response.Next())
	}
	if left == 0 && here && endsHere(e.response) {
		x.Response.Trailer = e.response.Trailer()
		w.Trailer(x.Response.Trailer)
		return
	}
	e.release()
	var buf message.CopyBuffer
	defer func() { buf.Release() }()
	for here || outlive(x, e.response) {
		moved := false
		if here {
			var err error
			if moved, here, err = spliced.next(); err != nil {
				rt.cut(x, w, e, readFailure(x, err, e.response))
				return
			}
			if moved && !spliced.over() {
				continue
			}
		}
		if here {
			w.Flush() // the next piece may be long in coming
		}
		if !moved { // else the body is over
			buf.Take(e.account)
		}
		n, err := e.response.Read(buf.Bytes())
		if n > 0 && here {
			here = deliver(buf.Bytes()[:n])
		}
		if err == io.EOF {
			if x.Response.Trailer = e.response.Trailer(); here {
				w.Trailer(x.Response.Trailer)
			}
			return
		}
		if err != nil {
			rt.cut(x, w, e, readFailure(x, err, e.response))
			return
		}
	}
	e.outcome = filters.ClientGone
}

// endsHere reports whether a body that has come to its announced length is over by now. On HTTP/2
// the end is a frame of its own, with a trailer perhaps, which may be long in coming.
func endsHere(r upstream.Response) bool {
	if a, ok := r.(interface{ Await(d time.Duration) bool }); ok && !a.Await(0) {
		return false
	}
	_, err := r.Read(nil)
	return err == io.EOF
}

// forward is the target that is a service.
type forward struct {
	service    *upstream.Service
	timeout    time.Duration         // to the response's head, then of silence within its body
	streamIdle time.Duration         // of silence in a stream
	tooLong    func() *filters.Reply // the body is longer than the listener takes
	// reserved are fields that a client's trailer may not have; nil is none.
	reserved func(name string) bool
	edits    *requestEdits // of the route; nil: none
	overload *overload
	refusals *refusalLog
}

func newForward(s *upstream.Service, c *config.Service) *forward {
	return &forward{
		service: s, timeout: time.Duration(c.Timeout), streamIdle: time.Duration(c.StreamIdleTimeout),
	}
}

func (f *forward) execute(x *filters.Exchange, in inbound) result {
	x.Service = f.service.Name()
	if x.Logical.Detach {
		detach(x, in)
	}
	x.Inject.Set("Sluice-Principal", x.Principal)
	if f.edits != nil {
		before := f.edits.apply(x)
		defer before.restore(x)
	}
	m, err := in.Message()
	if err != nil {
		return f.failed(x, bodyFailure(err), false)
	}
	m.Reserved = f.reserved
	if b, ok := x.BodyLoaded(); ok {
		m.Bytes, m.Stream = b, nil
	}
	if reply := lapsed(x); reply != nil {
		x.SetReply(reply)
		return result{outcome: filters.Refused}
	}
	m.Timeout, m.Until = f.timeout, x.ClientDeadline()
	began := x.Measured.Start()
	response, err := f.service.Send(x.Context(), x, m)
	x.Measured.AddService(began)
	if err != nil {
		return f.failed(x, err, false)
	}
	x.ClientTime = response.ClientTime()
	status, header, length := response.Head()
	if status == http.StatusBadRequest {
		f.noteWantsTLS(x, response)
	}
	x.Response = filters.Response{Status: status, Header: append(x.Response.Header[:0], header...)}
	if r, ok := response.(*http1.Response); ok {
		x.Response.Asked, x.Response.Took = r.Asked(), r.Took
	}
	x.Response.Header.DelFunc(reservedField)
	e := result{outcome: filters.Completed, response: response, length: length, from: f, account: m.Account}
	kind := streamOf(x, length)
	switch {
	case status == http.StatusSwitchingProtocols:
		e.tunnel = response.(*http1.Response) // only such a one was asked
		x.Response.Stream = true
	case message.HasNoBody(x.Method, status):
		x.Response.Whole = true
	case length == 0:
		return f.buffer(x, in, e, kind)
	case x.BufferBody <= 0 || length > x.BufferBody || kind == stream:
		return f.pass(x, in, e, kind)
	default:
		return f.buffer(x, in, e, kind)
	}
	return e
}

// noteWantsTLS tells the operator of a service that is spoken to without TLS and says so in a response: it goes on to
// the client, for whom it says nothing.
func (f *forward) noteWantsTLS(x *filters.Exchange, response upstream.Response) {
	if r, ok := response.(*http1.Response); ok && r.WantsTLS() {
		err := &message.OtherProtocol{Speaks: message.SpeaksTLS}
		f.refusals.note(x.Route, x, http.StatusBadRequest, f.fault(x, "a service did not take a request", err))
	}
}

// lapsed refuses an exchange whose claim does not hold any more: this process was stopped for longer than the lease,
// or the store was unreachable for as long.
func lapsed(x *filters.Exchange) *filters.Reply {
	if x.Logical.Claim == nil || x.Logical.Claim.Valid(time.Now()) {
		return nil
	}
	return refusal(filters.StoreUnavailable,
		"The claim of the key ran out before anything was sent. Nothing was done.")
}

// detach has what follows go on when the client leaves. It ends when the drain's limit is over all
// the same.
func detach(x *filters.Exchange, in inbound) {
	if d, ok := in.(interface{ Detached() context.Context }); ok {
		x.SetContext(d.Detached())
	} else {
		x.SetContext(context.Background())
	}
}

// bodyFailure says why the client's body could not be read.
func bodyFailure(err error) error {
	if errors.Is(err, filters.ErrBodyTooLarge) || errors.Is(err, filters.ErrOverloaded) {
		return err
	}
	return fmt.Errorf("%w: %w", upstream.ErrClientBody, err)
}

// failed makes the reply for an attempt without a response, or with one that ended in the middle of
// its body.
func (f *forward) failed(x *filters.Exchange, err error, inBody bool) result {
	switch {
	case errors.Is(err, upstream.ErrClientGone):
		return result{outcome: filters.ClientGone}
	case errors.Is(err, filters.ErrBodyTooLarge):
		x.SetReply(f.tooLong())
		return result{outcome: filters.Refused} // the client's fault, and nothing that the service did
	case errors.Is(err, upstream.ErrOverloaded): // it says nothing of the service
		x.SetReply(f.overload.refuse(x, budget.Upstreams))
		return result{outcome: filters.NotDispatched}
	case errors.Is(err, filters.ErrOverloaded):
		x.SetReply(f.overload.refuse(x, budget.Buffered))
		return result{outcome: filters.Refused}
	case errors.Is(err, upstream.ErrClientBody) && x.Context().Err() != nil:
		return result{outcome: filters.ClientGone}
	case errors.Is(err, upstream.ErrClientBody): // it is still there, and its body is not
		x.SetReply(refusal(filters.BadRequest, "The body could not be read to its end."))
		return result{outcome: filters.Refused}
	case errors.Is(err, upstream.ErrExpired):
		f.refuse(x, filters.UpstreamTimeout, "The time for this request was over before it could be sent. "+
			"Nothing was sent.", f.fault(x, "the time for a request was over before it was sent", err))
		return result{outcome: filters.Refused}
	case errors.Is(err, upstream.ErrDeadline):
		f.refuse(x, filters.UpstreamTimeout, "The service did not respond within the time that there was.",
			f.fault(x, "the time for a request was over before the service could respond", err))
		return result{outcome: filters.ClientGone, waits: true}
	case errors.Is(err, upstream.ErrUnreachable):
		f.refuse(x, filters.UpstreamUnreachable, "No connection to the service came about. Nothing was sent.",
			f.fault(x, "a service could not be reached", err))
		return result{outcome: filters.NotDispatched}
	}
	reason, detail := filters.UpstreamFailed, "The connection to the service broke after something was sent."
	switch rule := message.Malformation(err); {
	case errors.Is(err, upstream.ErrTimeout):
		reason, detail = filters.UpstreamTimeout, "The service did not respond within "+f.timeout.String()+"."
		switch own := x.ClientDeadline(); {
		case inBody:
			detail = "The service began its response and did not end it in time."
		case !own.IsZero() && own.Before(x.Received.Add(f.timeout)):
			detail = "The service did not respond within the time that the client had set."
		}
	case rule != "":
		detail = "The service's response is malformed: " + rule + "."
	}
	f.refuse(x, reason, detail, f.fault(x, "a service gave no whole response", err))
	return result{outcome: filters.NoResponse}
}

// refuse sets the reply for an attempt without a response, with why for the operator.
func (f *forward) refuse(x *filters.Exchange, reason filters.Reason, detail string, why *fault) {
	x.SetReply(filters.Refuse(reason, filters.Problem{Service: f.service.Name(), Detail: detail, Cause: why}))
}

// reservedField reports whether a field tells clients something that only the gateway may say: a
// service cannot set it.
func reservedField(name string) bool {
	if name == "" {
		return false
	}
	switch name[0] | 0x20 { // decides for nearly every field
	case 's':
		return message.OwnerOf(name) == message.GatewayOwns
	case 'i':
		return message.FoldedEqual(name, "Idempotent-Replayed") ||
			message.FoldedEqual(name, "Idempotent-Original-Date")
	}
	return false
}
