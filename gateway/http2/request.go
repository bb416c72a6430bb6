package http2

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Stream is a client's request and the way back to the client. It is valid until the handler
// returns and belongs to its goroutine; Read alone may be called from another one at the same time.
type Stream struct {
	stream
	// Exchange has the request's head, as the client wrote it.
	Exchange filters.Exchange

	conn        *serverConn
	load        func(int64) ([]byte, error) // made once
	message     message.Message
	whole       message.Whole     // a body that was read whole and had not arrived in one piece
	allowed     message.Allowance // of the body
	tooLong     bool
	expects     bool // the client waits for 100 (Continue), and has not got it
	expectsMore bool // or for something else
	grpc        bool
	messages    grpcBody // of what has been read, where grpc
	interrupted bool     // Interrupt; under mu
	mayRest     bool     // LetRest; under mu
	outgoing    message.Outgoing
	wrote       bool // something of the response's body
}

var streams = sync.Pool{New: func() any {
	s := &Stream{}
	s.ctx = &message.Context{}
	s.load = s.loadBody
	s.message.Interim, s.message.Trailer = s.Interim, s.BodyTrailer // made once
	return s
}}

// open makes a request of the fields that the connection has decoded; false when it is malformed
// (RFC 9113 §8.1.1).
func (s *Stream) open(c *serverConn, id uint32, end bool) bool {
	s.stream.begin(&c.conn, id)
	s.conn, s.allowed, s.tooLong = c, message.Unlimited, c.tooLong
	s.expects, s.expectsMore = false, false
	s.interrupted, s.mayRest, s.wrote, s.outgoing = false, false, false, message.Outgoing{}
	s.remoteEnded, s.message.Announced, s.message.Account = end, "", c.account
	x := &s.Exchange
	x.Begin(s.ctx, s.load)
	x.Received = time.Now()
	x.Scheme, x.Version, x.Peer, x.Client = c.scheme, "2", c.peer, c.client
	if !s.parse(c.fields) {
		return false
	}
	if end && s.declared > 0 {
		return false
	}
	return true
}

// pseudo are the pseudo-header fields of a request (RFC 9113 §8.3.1). The method and the authority
// go to its exchange.
type pseudo struct {
	path, scheme string
	seen         uint8
}

const (
	seenMethod = 1 << iota
	seenScheme
	seenPath
	seenAuthority
)

// read takes one of them; false when it is unknown, or comes twice.
func (p *pseudo) read(f *filters.Field, x *filters.Exchange) bool {
	var to *string
	var bit uint8
	switch f.Name {
	case ":method":
		to, bit = &x.Method, seenMethod
	case ":scheme":
		to, bit = &p.scheme, seenScheme
	case ":path":
		to, bit = &p.path, seenPath
	case ":authority":
		to, bit = &x.Host, seenAuthority
	default:
		return false
	}
	if p.seen&bit != 0 {
		return false
	}
	p.seen |= bit
	*to = f.Value
	return true
}

// valid reports whether they are those of a request, all of them there.
func (p *pseudo) valid(method string) bool {
	if method == http.MethodConnect { // refused as such
		return p.seen&^seenMethod == seenAuthority && p.seen&seenMethod != 0
	}
	const needed = seenMethod | seenScheme | seenPath
	return p.seen&needed == needed && method != "" && p.path != "" && (p.scheme == "http" || p.scheme == "https")
}

// parse takes the fields of a request's head.
func (s *Stream) parse(fields filters.Header) bool {
	x := &s.Exchange
	var p pseudo
	cookies, regular := 0, false
	x.Header = slices.Grow(x.Header[:0], len(fields))
	for i := range fields {
		f := &fields[i]
		if f.Name == "" {
			return false
		}
		if f.Name[0] == ':' {
			if regular || !p.read(f, x) {
				return false
			}
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
			s.expectsMore = s.expectsMore || !s.expects
		case message.Ordinary:
			if f.Name == "cookie" {
				cookies++
			}
		}
		x.Header = append(x.Header, *f)
	}
	if cookies > 1 {
		message.JoinCookies(&x.Header)
	}
	s.grpc, s.messages = !s.remoteEnded && x.IsGRPC(), grpcBody{}
	x.Path, x.RawQuery, _ = strings.Cut(p.path, "?")
	if s.tooLong {
		return true // it is refused
	}
	if host, ok := x.Header.Lookup("host"); ok && x.Host == "" {
		x.Host = host
	}
	return p.valid(x.Method)
}

// trail takes the fields of a trailer section. What may not come there is left out; false when the
// section is malformed.
func (s *stream) trail(fields filters.Header) bool {
	if !soundTrailer(fields) {
		return false
	}
	for i := range fields {
		if f := &fields[i]; message.InTrailer(f.Name) {
			s.trailer = append(s.trailer, *f)
		}
	}
	return true
}

func soundTrailer(fields filters.Header) bool {
	for i := range fields {
		if !sound(&fields[i], message.KindOf(fields[i].Name)) { // a colon is in no token
			return false
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

// ExpectsMore reports whether the client has an expectation that nobody meets (RFC 9110 §10.1.1).
func (s *Stream) ExpectsMore() bool { return s.expectsMore }

// Detached is the context of what goes on when the client leaves. It ends with the server's Close.
func (s *Stream) Detached() context.Context { return s.conn.srv.detached }

// ClientText is the address that the connection is held for, as text.
func (s *Stream) ClientText() string { return s.conn.clientText }

// Covers reports whether the connection may be used for that host ([message.Authority]).
func (s *Stream) Covers(host string) bool { return s.conn.authority.Covers(host) }

// Account is what the request draws on, that of the connection unless DrawOn has named another one;
// nil bounds nothing. It may be used when the client has left.
func (s *Stream) Account() *budget.Account { return s.message.Account }

// DrawOn names the account that the request draws on from now on. What the connection keeps of the
// stream, its head and what has arrived of its body, stays with the connection's account.
func (s *Stream) DrawOn(a *budget.Account) { s.message.Account = a }

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

// BodyTrailer returns the fields behind the body, once it has been read to its end.
func (s *Stream) BodyTrailer() filters.Header { return s.trailer }

// Message returns the request as it goes to a service: with a body that is there whole, else with a
// stream. The error is one of reading the body.
func (s *Stream) Message() (*message.Message, error) {
	m := &s.message
	m.Bytes, m.Stream = nil, nil
	s.c.mu.Lock()
	ended, n := s.remoteEnded && len(s.trailer) == 0 && s.err == nil && s.overloaded == nil, s.unread()
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

// loadBody reads the whole body. Where all of it has arrived it is not copied.
func (s *Stream) loadBody(int64) ([]byte, error) {
	s.c.mu.Lock()
	if s.remoteEnded && s.err == nil && s.overloaded == nil && int64(s.unread()) <= int64(s.allowed) {
		defer s.c.mu.Unlock()
		return s.restOfBody(), nil
	}
	s.c.mu.Unlock()
	s.whole.Begin(s.message.Account, s.declared)
	b, err := s.whole.ReadAll(s)
	if err != nil {
		s.whole.Release()
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
		case s.interrupted:
			return 0, errInterrupted
		case s.overloaded != nil:
			return 0, s.overloaded
		case s.unread() > 0:
			n := s.readBody(p)
			if s.grpc {
				s.messages.add(p[:n])
			}
			return n, nil
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
			c.startWriter()
		}
		if err := s.awaitBody(); err != nil {
			return 0, err
		}
	}
}

// awaitBody waits for the client to send.
func (s *Stream) awaitBody() error {
	c := s.c
	// A client that may not send is not slow; and that of a gRPC call may have nothing to say, but
	// not within a message.
	rests := s.mayRest
	if s.grpc {
		rests = !s.messages.within()
	}
	paced := c.rate.window > 0 && s.flow.receive.left > 0 && c.flow.receive.left > 0 && !rests
	if !paced {
		if !s.readable.wait(&c.mu, c.writeTimeout) && !s.mayRest {
			return errTimeout{}
		}
		return nil
	}
	began := time.Now()
	ok := s.readable.wait(&c.mu, min(c.writeTimeout, s.got.left(&c.rate)))
	if s.mayRest && !s.grpc {
		return nil
	}
	if s.got.wait(time.Since(began), &c.rate) {
		return s.judgeReceived()
	}
	if !ok && !s.mayRest {
		return errTimeout{}
	}
	return nil
}

// LetRest lets the client rest within its body for as long as it likes: the body is one half of a
// stream, and whoever reads the other half bounds the silence of both.
func (s *Stream) LetRest() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.mayRest = true
}

// EndRest ends what LetRest allowed, and the response, for whose end the client may wait before it
// ends its body.
func (s *Stream) EndRest() {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.mayRest {
		return
	}
	s.mayRest = false
	if c.streams[s.id] == &s.stream && !s.outgoing.Broken() && s.outgoing.Err == nil {
		c.endStream(&s.stream)
	}
}

// Interrupt ends a Read that waits for the client.
func (s *Stream) Interrupt() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.interrupted = true
	s.readable.signal()
}

// Transferred returns how many bytes of the request's body came, and how many of the response's were written.
func (s *Stream) Transferred() (in, out int64) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.received, s.outgoing.Sent()
}
