package http2

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Stream is a client's request and the way back to him. It is valid until the handler returns and belongs to its goroutine; Read alone
// may be called from another one at the same time.
type Stream struct {
	stream
	// Exchange has the request's head, as the client wrote it.
	Exchange filters.Exchange

	conn     *serverConn
	load     func(int64) ([]byte, error) // made once
	message  message.Message
	kept     []byte            // a body that was read whole and did not lie in one piece
	allowed  message.Allowance // of the body
	tooLong  bool
	expects  bool // the client waits for 100 (Continue), and has not got it
	stopped  bool // Interrupt; under mu
	outgoing message.Outgoing
	wrote    bool // something of the answer's body
}

var streams = sync.Pool{New: func() any {
	s := &Stream{}
	s.ctx = &message.Context{}
	s.load = s.loadBody
	s.message.Interim, s.message.Trailer = s.Interim, s.Behind // made once
	return s
}}

// open makes a request of the fields that the connection has decoded; false when it is malformed (RFC 9113 §8.1.1).
func (s *Stream) open(c *serverConn, id uint32, end bool) bool {
	s.stream.begin(&c.conn, id)
	s.conn, s.allowed, s.tooLong = c, message.Unlimited, c.tooLong
	s.expects, s.stopped, s.wrote, s.outgoing = false, false, false, message.Outgoing{}
	s.remoteEnded, s.message.Announced = end, ""
	x := &s.Exchange
	x.Begin(s.ctx, s.load)
	x.Received = time.Now()
	x.Scheme, x.Version, x.Peer = c.scheme, "2", c.peer
	if !s.parse(c.fields) {
		return false
	}
	if end && s.declared > 0 {
		return false
	}
	return true
}

// parse takes the fields of a request's head.
func (s *Stream) parse(fields filters.Header) bool {
	x := &s.Exchange
	var path, scheme string
	var seen uint8
	cookies, regular := 0, false
	for i := range fields {
		f := &fields[i]
		if f.Name == "" {
			return false
		}
		if f.Name[0] == ':' {
			var to *string
			var bit uint8
			switch f.Name {
			case ":method":
				to, bit = &x.Method, 1
			case ":scheme":
				to, bit = &scheme, 2
			case ":path":
				to, bit = &path, 4
			case ":authority":
				to, bit = &x.Host, 8
			default:
				return false
			}
			if regular || seen&bit != 0 {
				return false
			}
			seen |= bit
			*to = f.Value
			continue
		}
		regular = true
		kind := message.KindOf(f.Name)
		if !sound(f, kind) {
			return false
		}
		switch kind {
		case message.ContentLength:
			n, ok := message.ParseLength(f.Value)
			if !ok || s.declared >= 0 {
				return false
			}
			s.declared = n
		case message.Trailer:
			s.message.Announced = f.Value
		case message.Expect:
			s.expects = filters.EqualName(f.Value, "100-continue")
		case message.Ordinary:
			if f.Name == "cookie" {
				cookies++
			}
		}
		x.Header = append(x.Header, *f)
	}
	if cookies > 1 {
		joinCookies(&x.Header)
	}
	x.Path, x.RawQuery, _ = strings.Cut(path, "?")
	if s.tooLong {
		return true // it is refused
	}
	if host, ok := x.Header.Lookup("host"); ok && x.Host == "" {
		x.Host = host
	}
	if x.Method == http.MethodConnect { // refused as such
		return seen&^1 == 8 && seen&1 == 1
	}
	return seen&7 == 7 && x.Method != "" && path != "" && (scheme == "http" || scheme == "https")
}

// joinCookies makes one field of the crumbs (RFC 9113 §8.2.3).
func joinCookies(h *filters.Header) {
	var all []string
	for _, f := range *h {
		if f.Name == "cookie" {
			all = append(all, f.Value)
		}
	}
	h.Set("cookie", strings.Join(all, "; "))
}

// trail takes the fields of a trailer section. What may not come there is left out; false when the section is malformed.
func (s *stream) trail(fields filters.Header) bool {
	for i := range fields {
		f := &fields[i]
		if !sound(f, message.KindOf(f.Name)) { // a colon is in no token
			return false
		}
		if message.InTrailer(f.Name) {
			s.trailer = append(s.trailer, *f)
		}
	}
	return true
}

// serve has the handler answer and ends the stream.
func (s *Stream) serve() {
	s.conn.srv.Handler.Serve(s)
	s.finish()
}

// TooLong reports whether the head is longer than the server takes. The exchange has its beginning.
func (s *Stream) TooLong() bool { return s.tooLong }

// Detached is the context of what goes on when the client leaves. It ends when the server is closed over its head.
func (s *Stream) Detached() context.Context { return s.conn.srv.detached }

// PeerText is the peer's address as text.
func (s *Stream) PeerText() string { return s.conn.peerText }

// Length is that of the body: -1 when it is not known, 0 without one.
func (s *Stream) Length() int64 {
	if s.declared >= 0 {
		return s.declared
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.length()
}

func (s *Stream) length() int64 {
	switch {
	case s.declared >= 0:
		return s.declared
	case s.remoteEnded && len(s.trailer) == 0: // all of it is there
		return s.received
	}
	return -1
}

// LimitBody bounds how much of the body is read; beyond, Read returns [filters.ErrBodyTooLarge].
func (s *Stream) LimitBody(n int64) { s.allowed = message.Allowance(n) }

// Behind returns the fields behind the body, once it has been read to its end.
func (s *Stream) Behind() filters.Header { return s.trailer }

// Message returns the request as it goes to a service: with a body that is there whole, else with a stream. The error is one of
// reading the body.
func (s *Stream) Message() (*message.Message, error) {
	m := &s.message
	m.Bytes, m.Stream = nil, nil
	s.c.mu.Lock()
	ended, n := s.remoteEnded && len(s.trailer) == 0 && s.err == nil, s.unread()
	m.Length = s.length()
	s.c.mu.Unlock()
	if b, ok := s.Exchange.BodyLoaded(); ok {
		m.Bytes = b
		return m, nil
	}
	if !ended || n > message.WholeMax {
		m.Stream = s
		return m, nil
	}
	var err error
	m.Bytes, err = s.Exchange.Body()
	return m, err
}

// loadBody reads the whole body. Where all of it has come it is not copied.
func (s *Stream) loadBody(int64) ([]byte, error) {
	s.c.mu.Lock()
	if s.remoteEnded && s.err == nil && int64(s.unread()) <= int64(s.allowed) {
		defer s.c.mu.Unlock()
		return s.rest(), nil
	}
	s.c.mu.Unlock()
	b, err := message.ReadAll(s.kept[:0], s)
	s.kept = b
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Read reads the body.
func (s *Stream) Read(p []byte) (int, error) {
	if s.allowed.Spent() {
		return 0, filters.ErrBodyTooLarge
	}
	return s.allowed.Spend(s.receiveInto(s.allowed.Clip(p)))
}

func (s *Stream) receiveInto(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case s.stopped:
			return 0, errStopped
		case s.unread() > 0:
			return s.take(p), nil
		case s.err != nil:
			return 0, s.err
		case s.remoteEnded:
			return 0, io.EOF
		}
		if s.expects && !s.outgoing.Headed {
			s.expects = false
			at := c.beginHead(&s.stream)
			c.out.b = appendIndexedName(c.out.b, nameStatus, "100")
			c.endHead(&s.stream, at, 0)
			c.kick()
		}
		if !s.readable.wait(&c.mu, c.patience) {
			return 0, errLate{}
		}
	}
}

// Interrupt ends a Read that waits for the client.
func (s *Stream) Interrupt() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.stopped = true
	s.readable.signal()
}

// Interim sends an answer that is not the last one (1xx). 100 (Continue) is not sent by it: that comes from reading the body.
func (s *Stream) Interim(status int, h filters.Header) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.outgoing.Headed || !message.ForwardsInterim(status) || s.awaitHead(c.patience) != nil {
		return
	}
	at := c.beginHead(&s.stream)
	c.out.b = appendFields(appendStatus(c.out.b, status), h)
	c.endHead(&s.stream, at, 0)
	c.kick()
}

func appendStatus(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, 0x80|nameStatus)
	case 204:
		return append(dst, 0x80|(nameStatus+1))
	}
	return append(appendInt(dst, 0, 4, nameStatus), 3, '0'+byte(status/100%10), '0'+byte(status/10%10), '0'+byte(status%10))
}

// Head begins the answer. length is that of the body, -1 when it is not known. h has no field of the connection or the framing.
func (s *Stream) Head(status int, h filters.Header, length int64) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.outgoing.Begin(s.Exchange.Method, status, length)
	if s.outgoing.Err = s.awaitHead(c.patience); s.outgoing.Err != nil {
		return
	}
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

// endsWithHead reports whether an answer without a body ends the stream in the frame that its head is in. It does not while the request's body still goes to
// the service: a client that sees the end stops sending. A status of gRPC in a head does always: it is one only where the stream ends there, and
// means the end of the call in both directions.
func (s *Stream) endsWithHead(h filters.Header) bool {
	if s.remoteEnded || s.message.Stream == nil {
		return true
	}
	_, status := h.Lookup("Grpc-Status")
	return status
}

// appendNumber appends a number as a value.
func appendNumber(dst []byte, n int64) []byte {
	at := len(dst)
	dst = append(dst, 0)
	if n == 0 {
		dst = append(dst, '0')
	}
	var b [20]byte
	i := len(b)
	for ; n > 0; n /= 10 {
		i--
		b[i] = '0' + byte(n%10)
	}
	dst = append(dst, b[i:]...)
	dst[at] = byte(len(dst) - at - 1)
	return dst
}

// Write writes a piece of the body. It may be kept until the next Flush or the end of the answer. The error is one of the connection.
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
	if s.outgoing.Err = s.write(p, s.c.patience); s.outgoing.Err != nil {
		return 0, s.outgoing.Err
	}
	return len(p), nil
}

// Flush sends what is kept.
func (s *Stream) Flush() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.wrote {
		s.c.kick()
	} else {
		s.c.kickSoon()
	}
}

// Trailer ends the answer with fields behind its body. What may not come there is left out.
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
	for i := range h {
		if message.InTrailer(h[i].Name) {
			c.out.b = appendFields(c.out.b, h[i:i+1])
		}
	}
	c.endHead(s, at, flagEndStream)
}

// CloseAfter has nothing to do: a stream is not the connection.
func (s *Stream) CloseAfter() {}

// Abort breaks the answer off, so that the client cannot take a part of it for the whole.
func (s *Stream) Abort() { s.outgoing.Aborted = true }

// finish ends the answer and the stream, which is used again then.
func (s *Stream) finish() {
	c := s.conn
	c.mu.Lock()
	if c.streams[s.id] == &s.stream { // else it has ended by now
		switch {
		case s.outgoing.Broken() || s.outgoing.Err != nil && !s.outgoing.Bodiless:
			why := internalError
			if _, late := s.outgoing.Err.(errLate); late {
				why = cancel
			}
			c.reset(s.id, why, errEnded)
		default:
			c.endStream(&s.stream)
			c.cuts = max(c.cuts-1, 0)
			if !s.remoteEnded { // nobody reads the rest (RFC 9113 §8.1)
				c.reset(s.id, noError, errEnded)
			} else {
				c.forget(&s.stream, nil)
			}
			c.kick()
		}
	}
	c.consume(s.unread())
	c.served()
	c.mu.Unlock()
	s.release()
}

func (s *Stream) release() {
	s.ctx = s.ctx.End()
	if cap(s.kept) > message.WholeMax {
		s.kept = nil
	}
	s.message.Bytes, s.message.Stream = nil, nil
	s.conn, s.c = nil, nil
	streams.Put(s)
}
