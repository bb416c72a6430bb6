package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// streamKind says whether a response is a stream: one that lasts for as long as both sides like, so
// that its length is not that of a call. What follows from it is the same for every part of the
// gateway: it is judged by its head, is not recorded, and ends by silence.
type streamKind uint8

const (
	noStream streamKind = iota
	// callOrStream is a response of gRPC. It is a stream unless it is read whole for a filter, which
	// the response to a unary call can be.
	callOrStream
	stream
)

// streamOf tells the kind of the response, of which length is announced (-1: none). One that
// announces its length is that of a call, but for gRPC, where that does not say much.
func streamOf(x *filters.Exchange, length int64) streamKind {
	switch {
	case x.Response.Status == http.StatusSwitchingProtocols:
		return stream
	case length >= 0 && !x.IsGRPC(): // nearly all responses: no field has to be looked for
		return noStream
	}
	contentType := x.Response.Header.Get("Content-Type")
	switch {
	case filters.IsGRPC(contentType):
		return callOrStream
	case length >= 0:
		return noStream
	}
	for _, t := range streamTypes {
		if !filters.HasNamePrefix(contentType, t) {
			continue
		}
		if len(contentType) == len(t) || contentType[len(t)] == ';' || contentType[len(t)] == ' ' {
			return stream
		}
	}
	return noStream
}

var streamTypes = [...]string{
	"text/event-stream", "multipart/x-mixed-replace", "application/x-ndjson", "application/stream+json",
}

// pass leaves the body to be passed on as it comes.
func (f *forward) pass(x *filters.Exchange, in inbound, e result, kind streamKind) result {
	e.streams = true
	if kind == noStream {
		return e
	}
	x.Response.Stream = true
	e.response.Stream(f.streamIdle)
	if half, ok := in.(dialogue); ok && e.response.Uploading() {
		half.LetRest() // a client that listens may have nothing to say
	}
	return e
}

// dialogue is a request whose body may go on beside its response.
type dialogue interface {
	// LetRest lets the client rest within its body for as long as it likes.
	LetRest()
	// EndRest ends that, and the response, which is whole or broken off. Without LetRest it does
	// nothing.
	EndRest()
}

// closeResponse ends the service's response. A client that still sends gets the end of its own
// first, and after a stream it does not rest any more: nothing else would bound the wait for it.
func closeResponse(response upstream.Response, in inbound, w outbound) {
	if response.Uploading() {
		if half, ok := in.(dialogue); ok {
			half.EndRest()
		}
		w.Flush() // the client gets it while the service still takes the request's body
	}
	response.Close()
}

// outlive reports whether a response whose client has left is read on, so that the service can
// finish what it was asked to do under the key: as long as the claim could have lasted.
func outlive(x *filters.Exchange, response upstream.Response) bool {
	if !x.Logical.Detach {
		return false
	}
	left := time.Until(x.Logical.Until)
	if left > 0 && x.Response.Stream {
		response.Stream(left)
	}
	return left > 0
}

// cut ends a response whose body broke, or fell silent, behind its head. The client must not take
// what it has for the whole: it finds its connection or its stream broken, or as a client of gRPC a
// status. Metrics and the log have the reason.
func (rt *route) cut(x *filters.Exchange, w outbound, e *result, err error) {
	if errors.Is(err, upstream.ErrClientGone) {
		e.outcome = filters.ClientGone
		w.Abort()
		return
	}
	e.outcome = filters.NoResponse
	reason := filters.UpstreamFailed
	switch {
	case errors.Is(err, upstream.ErrDeadline):
		e.outcome, reason = filters.ClientGone, filters.UpstreamTimeout
	case errors.Is(err, upstream.ErrTimeout):
		reason = filters.UpstreamTimeout
	}
	x.Response.Reason = reason
	e.fault = e.from.fault(x, "a response was cut off behind its head", err)
	if x.IsGRPC() && x.Version == "2" && e.length < 0 && filters.IsGRPC(x.Response.Header.Get("Content-Type")) {
		code := strconv.Itoa(int(filters.GRPCCodeOf(reason, reason.Status())))
		w.Trailer(grpcStatus(nil, code, reason.Title()))
		return
	}
	w.Abort()
}

// carry has the connection carry another protocol until it ends, or is silent for too long. Its
// request was counted when it began.
func (rt *route) carry(x *filters.Exchange, r *http1.Request, e *result) {
	reason := filters.Reason("")
	if r.Tunnel(x.Response.Header, e.tunnel, e.from.streamIdle) {
		reason = filters.UpstreamTimeout
		x.Response.Reason = reason
		rt.tell(x, &fault{
			what: "an upgraded connection was silent and is closed", code: "silent-tunnel",
			text: "nothing came from either side for " + e.from.streamIdle.String() + " (services." +
				x.Service + ".streamIdleTimeout)",
		})
	}
	rt.process.metrics.tunnelEnds.WithLabelValues(rt.name, string(reason)).Inc()
	_ = e.tunnel.Close()
}
