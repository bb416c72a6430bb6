package http2

import (
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Interim sends a response that is not the last one (1xx). 100 (Continue) is not sent by it: that
// comes from reading the body.
func (s *Stream) Interim(status int, h filters.Header) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.outgoing.Headed || !message.ForwardsInterim(status) || s.awaitHeadRoom(c.writeTimeout) != nil {
		return
	}
	at := c.beginHead(&s.stream)
	// Like a trailer it has nothing that only a final response may say.
	c.out.b = appendTrailer(appendStatus(c.out.b, status), h)
	c.endHead(&s.stream, at, 0)
	c.startWriter()
}

// Head begins the response. length is that of the body, -1 when it is not known. h has no field of
// the connection or the framing.
func (s *Stream) Head(status int, h filters.Header, length int64) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.outgoing.Begin(s.Exchange.Method, status, length)
	if s.outgoing.Err = s.awaitHeadRoom(c.writeTimeout); s.outgoing.Err != nil {
		return
	}
	s.responded = true
	at := c.beginHead(&s.stream)
	out := c.out
	out.b = appendFields(appendStatus(out.b, status), h)
	if _, dated := h.Lookup("Date"); !dated { // RFC 9110 §6.6.1
		out.b = appendIndexedName(out.b, nameDate, message.Date(time.Now()))
	}
	if length >= 0 && status != http.StatusNoContent { // RFC 9110 §8.6
		out.b = appendNumber(append(out.b, 0x0f, nameContentLength-15), length)
	}
	var flags uint8
	if (s.outgoing.Bodiless || length == 0) && s.endsWithHead(h) {
		flags = flagEndStream
	}
	c.endHead(&s.stream, at, flags)
}

// endsWithHead reports whether a response without a body ends the stream in the frame that its head
// is in. It does not while the request's body still goes to the service: a client that sees the end
// stops sending. A status of gRPC in a head does always: it is one only where the stream ends
// there, and means the end of the call in both directions.
func (s *Stream) endsWithHead(h filters.Header) bool {
	if s.remoteEnded || s.message.Stream == nil {
		return true
	}
	_, status := h.Lookup("Grpc-Status")
	return status
}

// Write writes a piece of the body. It may be kept until the next Flush or the end of the response.
// The error is one of the connection.
func (s *Stream) Write(p []byte) (int, error) {
	if s.outgoing.Err != nil {
		return 0, s.outgoing.Err
	}
	if s.outgoing.Bodiless || len(p) == 0 {
		return len(p), nil
	}
	if err := s.outgoing.Piece(len(p)); err != nil {
		return 0, err
	}
	s.wrote = true
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.outgoing.Err = s.write(p, s.c.writeTimeout); s.outgoing.Err != nil {
		return 0, s.outgoing.Err
	}
	return len(p), nil
}

// Flush sends what is kept.
func (s *Stream) Flush() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.wrote {
		s.c.startWriter()
	} else {
		s.c.startWriterSoon()
	}
}

// Trailer ends the response with fields behind its body. What may not come there is left out.
func (s *Stream) Trailer(h filters.Header) {
	if len(h) == 0 || s.outgoing.Err != nil {
		return
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err != nil || s.localEnded || s.outgoing.Short() {
		return
	}
	c.trailer(&s.stream, h)
}

// trailer ends our side of a stream with fields.
func (c *conn) trailer(s *stream, h filters.Header) {
	at := c.beginHead(s)
	c.out.b = appendTrailer(c.out.b, h)
	c.endHead(s, at, flagEndStream)
}

// appendTrailer appends the fields that may stand behind a body.
func appendTrailer(dst []byte, h filters.Header) []byte {
	for i := range h {
		if message.InTrailer(h[i].Name) {
			dst = appendFields(dst, h[i:i+1])
		}
	}
	return dst
}

// CloseAfter does nothing: a stream is not the connection.
func (s *Stream) CloseAfter() {}

// Abort breaks the response off, so that the client cannot take a part of it for the whole.
func (s *Stream) Abort() { s.outgoing.Aborted = true }

// finish ends the response and the stream, which goes back to the pool.
func (s *Stream) finish() {
	c := s.conn
	c.mu.Lock()
	if c.streams[s.id] == &s.stream { // else it has ended by now
		switch {
		case s.outgoing.Broken() || s.outgoing.Err != nil && !s.outgoing.Bodiless:
			why := internalError
			switch s.outgoing.Err.(type) {
			case errTimeout:
				why = cancel
			case errTooSlow:
				why = enhanceYourCalm
			}
			c.reset(s.id, why, errEnded)
		default:
			c.endStream(&s.stream)
			c.resets.take(1)
			if !s.remoteEnded { // the rest is not read (RFC 9113 §8.1)
				c.reset(s.id, noError, errEnded)
				c.keepEnded(answered(&s.stream))
			} else {
				c.remove(&s.stream, nil)
			}
			c.startWriter()
		}
	}
	c.consume(s.unread())
	c.requestDone()
	c.mu.Unlock()
	s.release()
}

func (s *Stream) release() {
	s.ctx = s.ctx.End()
	s.whole.Release()
	s.settle()
	s.message.Bytes, s.message.Stream = nil, nil
	s.conn, s.c = nil, nil
	streams.Put(s)
}
