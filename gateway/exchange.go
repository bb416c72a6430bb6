package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// outbound is the way back to the client, whatever carries it.
type outbound interface {
	// Head sends the head of the answer; length is that of the body, -1 when it is not known.
	Head(status int, h filters.Header, length int64)
	io.Writer
	Flush()
	// Abort breaks the answer off, so that the client cannot take a part of it for the whole.
	Abort()
}

// target is where a route leads once its chain has let the exchange pass. It sets x.Response and returns how it ended.
type target interface {
	execute(x *filters.Exchange, body upstream.Body) end
}

// end is how an exchange went at its target.
type end struct {
	outcome filters.Outcome
	// stream is the rest of a body that was not read whole, of the given length (-1: not known).
	stream io.ReadCloser
	length int64
	// extend gives the stream more time, that which the client took; nil where nothing counts it.
	extend func(time.Duration)
	// events, when set, writes the body bit by bit until it is over or ctx ends.
	events func(ctx context.Context, w io.Writer, flush func()) error
}

// serve runs one exchange through the chain and the target of its route and writes the answer.
func (rt *route) serve(x *filters.Exchange, body upstream.Body, w outbound) {
	began := time.Now()
	e := end{outcome: filters.Refused}
	wrote := false
	defer func() {
		if v := recover(); v != nil {
			rt.panicked(x, "engine", v, debug.Stack())
			e.outcome = filters.Panicked
			x.SetReply(filters.Refuse(filters.InternalError, filters.Problem{}))
			if wrote {
				defer w.Abort()
			} else {
				rt.write(x, w, &e, &wrote)
			}
		}
		if e.stream != nil {
			e.stream.Close()
		}
		rt.chain.Done(x, e.outcome)
		rt.metrics.count(x.Response.Status, x.Response.Reason, time.Since(began))
	}()
	reply, panicked := rt.chain.Request(x)
	if reply != nil {
		x.SetReply(reply)
		if panicked {
			e.outcome = filters.Panicked
		}
	} else {
		e = rt.target.execute(x, body)
	}
	if e.outcome == filters.ClientGone {
		x.Response.Status = statusClientGone // nobody is there to read an answer
		return
	}
	if rt.chain.Response(x) {
		e.outcome = filters.Panicked
		if e.stream != nil { // the answer is replaced
			e.stream.Close()
			e.stream = nil
		}
	}
	rt.write(x, w, &e, &wrote)
}

// statusClientGone is the code under which requests are counted whose client left, as nginx has it.
const statusClientGone = 499

// write sends the answer. A body that breaks half-way breaks the client's connection.
func (rt *route) write(x *filters.Exchange, w outbound, e *end, wrote *bool) {
	r := &x.Response
	*wrote = true
	switch {
	case e.events != nil:
		w.Head(r.Status, r.Header, -1)
		w.Flush()
		if err := e.events(x.Context(), w, w.Flush); err != nil {
			e.outcome = filters.ClientGone
		}
	case e.stream == nil:
		length := int64(len(r.Body))
		if bodiless(x.Method, r.Status) {
			length = contentLength(r.Header)
		}
		r.Header.Del("Content-Length")
		w.Head(r.Status, r.Header, length)
		if length > 0 && len(r.Body) > 0 && x.Method != http.MethodHead {
			w.Write(r.Body) // a client that has gone is not the exchange's failure: the answer was whole
		}
	default:
		r.Header.Del("Content-Length")
		w.Head(r.Status, r.Header, e.length)
		if e.length < 0 {
			w.Flush() // the first byte of a stream may be long in coming
		}
		rt.copyBody(x, w, e)
	}
}

// bodiless: answers that have no body whatever their fields say (RFC 9112 §6.3).
func bodiless(method string, status int) bool {
	return method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
}

// contentLength passes on what a bodiless answer says of the body that it would have had; -1 is nothing.
func contentLength(h filters.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (rt *route) copyBody(x *filters.Exchange, w outbound, e *end) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	clientGone := false
	for {
		n, err := e.stream.Read(*buf)
		if n > 0 && !clientGone {
			began := time.Now()
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				if !x.Detach {
					e.outcome = filters.ClientGone
					return
				}
				clientGone = true // the rest is read all the same, so that the service can finish
			}
			if e.length < 0 {
				w.Flush()
			}
			if e.extend != nil {
				e.extend(time.Since(began)) // a slow reader is not a slow service
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			e.outcome = filters.Unanswered
			if x.Context().Err() != nil {
				e.outcome = filters.ClientGone
			}
			w.Abort()
			return
		}
	}
}

// forward is the target that is a service.
type forward struct {
	service *upstream.Service
	timeout time.Duration
	tooLong func() *filters.Reply // the body is longer than the listener takes
}

func (f *forward) execute(x *filters.Exchange, body upstream.Body) end {
	if b, ok := x.BodyLoaded(); ok {
		body = upstream.Body{Bytes: b}
	}
	if x.Detach {
		x.SetContext(context.WithoutCancel(x.Context()))
	}
	x.Inject.Set("Sluice-Principal", x.Principal)
	answer, err := f.service.Send(x.Context(), x, body)
	if err != nil {
		return f.failed(x, err)
	}
	x.Response = filters.Response{Status: answer.Status, Header: append(x.Response.Header[:0], answer.Header...)}
	x.Response.Header.DelFunc(spoofed)
	if bodiless(x.Method, answer.Status) || answer.Length == 0 {
		x.Response.Whole = true
		answer.Body.Close()
		return end{outcome: filters.Completed}
	}
	if x.KeepBody <= 0 {
		return end{outcome: filters.Completed, stream: answer.Body, length: answer.Length, extend: answer.Extend}
	}
	return f.keep(x, answer)
}

// keep reads the body whole for the filters, or, where it is longer than they keep, leaves the rest to be streamed.
func (f *forward) keep(x *filters.Exchange, answer *upstream.Answer) end {
	if answer.Length > x.KeepBody {
		return end{outcome: filters.Completed, stream: answer.Body, length: answer.Length, extend: answer.Extend}
	}
	kept, err := io.ReadAll(io.LimitReader(answer.Body, x.KeepBody+1))
	if err != nil {
		answer.Body.Close()
		return f.failed(x, readFailure(x, err))
	}
	if int64(len(kept)) > x.KeepBody {
		rest := struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(kept), answer.Body), answer.Body}
		return end{outcome: filters.Completed, stream: rest, length: answer.Length, extend: answer.Extend}
	}
	answer.Body.Close()
	x.Response.Body, x.Response.Whole = kept, true
	return end{outcome: filters.Completed}
}

// readFailure says why a body could not be read to its end.
func readFailure(x *filters.Exchange, err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case x.Context().Err() != nil:
		return upstream.ErrClientGone
	case errors.As(err, &timeout) && timeout.Timeout():
		return upstream.ErrTimeout
	}
	return upstream.ErrFailed
}

// failed makes the reply for an attempt without an answer.
func (f *forward) failed(x *filters.Exchange, err error) end {
	name := f.service.Name()
	switch {
	case errors.Is(err, upstream.ErrClientGone):
		return end{outcome: filters.ClientGone}
	case errors.Is(err, filters.ErrBodyTooLarge):
		x.SetReply(f.tooLong())
		return end{outcome: filters.Refused} // the client's fault, and nothing that the service did
	case errors.Is(err, upstream.ErrClientBody) && x.Context().Err() != nil:
		return end{outcome: filters.ClientGone}
	case errors.Is(err, upstream.ErrClientBody): // it is still there, and its body is not
		x.SetReply(filters.Refuse(filters.BadRequest, filters.Problem{Detail: "The body could not be read to its end."}))
		return end{outcome: filters.Refused}
	case errors.Is(err, upstream.ErrUnreachable):
		x.SetReply(filters.Refuse(filters.UpstreamUnreachable, filters.Problem{Service: name, Detail: "No connection to the service came about. Nothing was sent."}))
		return end{outcome: filters.NotSent}
	case errors.Is(err, upstream.ErrTimeout):
		x.SetReply(filters.Refuse(filters.UpstreamTimeout, filters.Problem{Service: name, Detail: "The service did not answer within " + f.timeout.String() + "."}))
		return end{outcome: filters.Unanswered}
	}
	x.SetReply(filters.Refuse(filters.UpstreamFailed, filters.Problem{Service: name, Detail: "The connection to the service broke after something was sent."}))
	return end{outcome: filters.Unanswered}
}

// spoofed: fields by which a client tells the gateway's word from a service's.
func spoofed(name string) bool {
	return filters.HasNamePrefix(name, "Sluice-") || filters.EqualName(name, "Idempotent-Replayed") || filters.EqualName(name, "Idempotent-Original-Date")
}
