package envoy

import (
	"fmt"
	"strconv"
	"time"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Head is the head of a response.
type Head struct {
	Status int
	Header filters.Header // good as long as the request is
	Length int64          // of the body; -1: not announced
	Origin Origin
}

// Forward has Envoy send the request to the service, with what the exchange injects, and waits for the head of
// the response, at most so long; 0 is for as long as it takes. The exchange is marked as dispatched before. The
// error is [ErrEnded] or [ErrSilent].
func (r *Request) Forward(limit time.Duration) (Head, error) {
	x := &r.Exchange
	if err := x.Context().Err(); err != nil { // nothing was sent
		return Head{}, ErrEnded
	}
	x.Dispatched = true
	if err := r.send(r.goOn()); err != nil {
		return Head{}, err
	}
	r.waits = nothing
	deadline := time.Now().Add(limit)
	for {
		m, err := r.next(limit)
		if err != nil {
			return Head{}, err
		}
		switch {
		case m.GetRequestTrailers() != nil:
			if err := r.replyToTrailer(m.GetRequestTrailers()); err != nil {
				return Head{}, err
			}
			if limit > 0 {
				limit = max(time.Until(deadline), time.Millisecond)
			}
		case m.GetResponseHeaders() != nil:
			return r.responseHead(m, m.GetResponseHeaders())
		default:
			r.broken = true
			return Head{}, fmt.Errorf("%w: %w: %T in place of the response's head", ErrEnded, errProtocol, m.Request)
		}
	}
}

func (r *Request) responseHead(m *extproc.ProcessingRequest, head *extproc.HttpHeaders) (Head, error) {
	r.waits = onResponseHeaders
	h := Head{Length: -1}
	r.response = appendFields(r.response[:0], head.Headers)
	kept := r.response[:0]
	for _, f := range r.response {
		switch {
		case f.Name == ":status":
			h.Status, _ = strconv.Atoi(f.Value)
			continue
		case f.Name != "" && f.Name[0] == ':':
			continue
		case filters.EqualName(f.Name, "Content-Length"):
			if n, ok := message.ParseLength(f.Value); ok {
				h.Length = n
			}
		}
		kept = append(kept, f)
	}
	r.response = kept
	if head.EndOfStream {
		h.Length = 0
	}
	if h.Status < 100 || h.Status > 599 {
		r.broken = true
		return Head{}, fmt.Errorf("%w: %w: a response without a status", ErrEnded, errProtocol)
	}
	h.Header, h.Origin = kept, r.originOf(m, h.Status)
	return h, nil
}

// Body is the body of a response as it was shown.
type Body struct {
	Bytes   []byte
	Whole   bool // there is no more of it
	Trailer filters.Header
}

// Buffer has Envoy hold the response until its body is whole, or as much of it as Envoy buffers, and waits for
// that; 0 is for as long as it takes. Where its length was not announced and no room is left for it, it counts as not whole. The error is as
// of Forward.
func (r *Request) Buffer(length, most int64, until time.Duration) (b Body, err error) {
	if err := r.send(askForResponseBody); err != nil {
		return b, err
	}
	r.waits = nothing
	for {
		m, err := r.next(until)
		if err != nil {
			return b, err
		}
		switch {
		case m.GetRequestTrailers() != nil:
			if err := r.replyToTrailer(m.GetRequestTrailers()); err != nil {
				return b, err
			}
		case m.GetResponseBody() != nil:
			return r.responseBody(m.GetResponseBody(), length, most, until)
		case m.GetResponseTrailers() != nil: // of a response without a body
			r.waits = onResponseTrailers
			return Body{Whole: true, Trailer: appendFields(nil, m.GetResponseTrailers().Trailers)}, nil
		default:
			r.broken = true
			return b, fmt.Errorf("%w: %w: %T in place of the response's body", ErrEnded, errProtocol, m.Request)
		}
	}
}

// responseBody takes the body. Where it does not end the message, either a trailer follows or Envoy has no more
// room and passes on what is left: the message does not say which.
func (r *Request) responseBody(m *extproc.HttpBody, length, most int64, until time.Duration) (b Body, err error) {
	r.waits = onResponseBody
	b.Bytes, b.Whole = m.Body, m.EndOfStream
	n := int64(len(m.Body))
	if n > most {
		b.Whole = false
		return b, nil
	}
	if !r.charge(n) {
		b.Whole = false
		return b, filters.ErrOverloaded
	}
	if b.Whole || !(n == length || r.wholeGRPC(m.Body)) {
		return b, nil
	}
	if err := r.send(r.passBody()); err != nil {
		return b, err
	}
	r.waits = nothing
	for {
		next, err := r.next(until)
		if err != nil {
			return b, err
		}
		switch {
		case next.GetRequestTrailers() != nil:
			if err := r.replyToTrailer(next.GetRequestTrailers()); err != nil {
				return b, err
			}
		case next.GetResponseTrailers() != nil:
			r.waits, b.Whole = onResponseTrailers, true
			b.Trailer = appendFields(nil, next.GetResponseTrailers().Trailers)
			return b, nil
		default:
			r.broken = true
			return b, fmt.Errorf("%w: %w: %T in place of the response's trailer", ErrEnded, errProtocol, next.Request)
		}
	}
}

// wholeGRPC reports whether a body is one whole message of gRPC, behind which the status comes.
func (r *Request) wholeGRPC(b []byte) bool {
	const prefix = 5 // a flag, and the length of the message
	if !filters.IsGRPC(r.response.Get("Content-Type")) {
		return false
	}
	return len(b) >= prefix &&
		int64(len(b)) == prefix+(int64(b[1])<<24|int64(b[2])<<16|int64(b[3])<<8|int64(b[4]))
}

// replyToTrailer takes out of a client's trailer what may not come there.
func (r *Request) replyToTrailer(t *extproc.HttpTrailers) error {
	r.ended = true
	var remove []string
	for _, f := range t.GetTrailers().GetHeaders() {
		if !message.InTrailer(f.Key) || r.reserved != nil && r.reserved(f.Key) {
			remove = append(remove, f.Key)
		}
	}
	return r.send(trailerReply(remove))
}

// send gives Envoy a message. Once that has failed, or the stream is over, it says [ErrEnded].
func (r *Request) send(m *extproc.ProcessingResponse) error {
	if r.broken {
		return ErrEnded
	}
	if err := r.stream.Send(m); err != nil {
		r.broken = true
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return nil
}
