package envoy

import (
	"fmt"
	"strconv"
	"time"

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
	r.waits = 0
	deadline := time.Now().Add(limit)
	for {
		m, err := r.next(limit)
		if err != nil {
			return Head{}, err
		}
		switch m.kind {
		case requestTrailer:
			if err := r.replyToTrailer(m); err != nil {
				return Head{}, err
			}
			if limit > 0 {
				limit = max(time.Until(deadline), time.Millisecond)
			}
		case responseHead:
			return r.responseHead(m)
		default:
			r.broken = true
			return Head{}, fmt.Errorf("%w: %w: %d in place of the response's head", ErrEnded, errProtocol, m.kind)
		}
	}
}

func (r *Request) responseHead(m *incoming) (Head, error) {
	r.waits = responseHead
	h := Head{Length: -1}
	kept := r.response[:0]
	for _, f := range m.fields {
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
	if m.ends {
		h.Length = 0
	}
	if h.Status < 100 || h.Status > 599 {
		r.broken = true
		return Head{}, fmt.Errorf("%w: %w: a response without a status", ErrEnded, errProtocol)
	}
	h.Header, h.Origin = kept, r.originOf(&m.attributes, h.Status)
	return h, nil
}

// Body is the body of a response as it was shown.
type Body struct {
	Bytes   []byte
	Whole   bool // there is no more of it
	Trailer filters.Header
}

// Buffer has Envoy hold the response until its body is whole, or as much of it as Envoy buffers, and waits for
// that; 0 is for as long as it takes. Where its length was not announced and no room is left for it, it counts
// as not whole. The error is as of Forward.
func (r *Request) Buffer(length, most int64, until time.Duration) (b Body, err error) {
	if err := r.send(&askForResponseBody); err != nil {
		return b, err
	}
	r.waits = 0
	for {
		m, err := r.next(until)
		if err != nil {
			return b, err
		}
		switch m.kind {
		case requestTrailer:
			if err := r.replyToTrailer(m); err != nil {
				return b, err
			}
		case responseBody:
			return r.responseBody(m, length, most, until)
		case responseTrailer: // of a response without a body
			r.waits = responseTrailer
			return Body{Whole: true, Trailer: m.fields}, nil
		default:
			r.broken = true
			return b, fmt.Errorf("%w: %w: %d in place of the response's body", ErrEnded, errProtocol, m.kind)
		}
	}
}

// responseBody takes the body. Where it does not end the message, either a trailer follows or Envoy has no more
// room and passes on what is left: the message does not say which.
func (r *Request) responseBody(m *incoming, length, most int64, until time.Duration) (b Body, err error) {
	r.waits = responseBody
	b.Bytes, b.Whole = m.body, m.ends
	n := int64(len(m.body))
	if n > most {
		b.Whole = false
		return b, nil
	}
	if !r.charge(n) {
		b.Whole = false
		return b, filters.ErrOverloaded
	}
	if b.Whole || !(n == length || r.wholeGRPC(m.body)) {
		return b, nil
	}
	// What a service may not say goes out of its head now: behind the body it is too late.
	if err := r.send(r.passResponse(r.Exchange.Response.Header)); err != nil {
		return b, err
	}
	r.waits = 0
	for {
		next, err := r.next(until)
		if err != nil {
			return b, err
		}
		switch next.kind {
		case requestTrailer:
			if err := r.replyToTrailer(next); err != nil {
				return b, err
			}
		case responseTrailer:
			r.waits, b.Whole, b.Trailer = responseTrailer, true, next.fields
			return b, nil
		default:
			r.broken = true
			return b, fmt.Errorf("%w: %w: %d in place of the response's trailer", ErrEnded, errProtocol, next.kind)
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
func (r *Request) replyToTrailer(m *incoming) error {
	r.ended = true
	r.mutation = r.mutation[:0]
	for i := range m.fields {
		if name := m.fields[i].Name; !message.InTrailer(name) || r.reserved != nil && r.reserved(name) {
			r.mutation = appendRemoved(r.mutation, name)
		}
	}
	r.out = appendReply(r.out[:0], requestTrailer, r.mutation)
	return r.send(&r.out)
}

// send gives Envoy a message. Once that has failed, or the stream is over, it says [ErrEnded].
func (r *Request) send(m *outgoing) error {
	if r.broken {
		return ErrEnded
	}
	if err := r.stream.SendMsg(m); err != nil {
		r.broken = true
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return nil
}
