package http2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Bounds of a client's connection.
const (
	lastIDMax  = idMax - 1<<16 // there are no numbers beyond, and that many may be reserved
	lookEvery  = 15 * time.Second
	idleMax    = 3 // looks in a row at which nothing is under way: then it is closed
	silenceMax = 3 // at which nothing came of what is under way; after the second the service is asked whether it is there
)

// Client is a connection to a service, which carries many exchanges at a time. It is safe for concurrent use.
type Client struct {
	conn
	host   string // for requests without one
	scheme string
	done   chan struct{} // the reader has ended

	// Under mu.
	open   int // streams that are reserved or under way
	check  *time.Timer
	quiet  int    // looks at which nothing had come, or was under way
	frames uint32 // at the last look
}

// NewClient begins HTTP/2 on a fresh connection, on which that has been agreed or is known beforehand. host stands for that of requests that
// come without one, scheme is http or https.
func NewClient(nc net.Conn, host, scheme string) *Client {
	c := &Client{host: host, scheme: scheme, done: make(chan struct{})}
	c.init(nc, c, message.ResponseHeadMax)
	c.patience = 30 * time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	b := append(c.buffer().b, message.HTTP2Preface...)
	b = appendSettings(b, setting{settingEnablePush, 0}, setting{settingInitialWindow, streamWindow}, setting{settingMaxHeaderList, message.ResponseHeadMax})
	c.out.b = appendWindowUpdate(b, 0, connWindow-firstWindow)
	c.kick()
	c.check = time.AfterFunc(lookEvery, c.look)
	go c.serve()
	return c
}

func (c *Client) serve() {
	defer close(c.done)
	err := c.run()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.finish(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.check.Stop()
	c.check = nil
}

// look finds a service that is not there any more, and a connection that nobody needs.
func (c *Client) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.check == nil {
		return
	}
	c.noise = 0
	frames := c.taken.Load()
	if moved := frames != c.frames; moved && c.open > 0 {
		c.quiet = 0
	} else {
		c.quiet++
	}
	c.frames = frames
	switch {
	case c.open == 0 && c.quiet >= idleMax:
		c.leave(errIdle)
	case c.open > 0 && c.quiet >= silenceMax:
		c.leave(errLate{})
	case c.open > 0 && c.quiet == silenceMax-1:
		c.buffer().b = appendPing(c.buffer().b, 0, drainPing)
		c.kick()
	}
	c.check.Reset(lookEvery)
}

var (
	errIdle   = errors.New("http2: the connection was idle")
	errClosed = errors.New("http2: the connection is closed")
)

// leave has the reader end the connection.
func (c *Client) leave(err error) {
	if c.closing == nil {
		c.closing = err
	}
	c.nc.SetReadDeadline(message.Past) // fails only for a closed connection
}

// Reserve takes a place for one exchange, which Do then uses; false when there is none.
func (c *Client) Reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil || c.broken || c.open >= c.peerMax || c.lastID > lastIDMax {
		return false
	}
	c.open++
	c.quiet = 0
	return true
}

// Alive reports whether new exchanges may be begun, as far as is known.
func (c *Client) Alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing == nil && !c.broken
}

// Open returns how many exchanges are reserved or under way.
func (c *Client) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// Close ends the connection, behind the last exchange that is under way.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == nil {
		c.closing = errClosed
	}
	if c.open == 0 {
		c.leave(errClosed)
	}
}

// settle implements side. Whoever has been woken goes first: services write an answer in small pieces, and more of them may have come by
// then for one system call.
func (c *Client) settle() { runtime.Gosched() }

// pinged implements side.
func (c *Client) pinged() {}

// whole implements side.
func (c *Client) whole(s *stream) {
	if s.localEnded {
		c.forget(s, nil)
	}
}

// ended implements side.
func (c *Client) ended(*stream) { c.leaveOne() }

func (c *Client) leaveOne() {
	if c.open--; c.open == 0 {
		c.quiet = 0
		if c.closing != nil {
			c.leave(c.closing)
		}
	}
}

// headed implements side.
func (c *Client) headed(id uint32, end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	if s == nil {
		if c.unused(id) {
			return connError{protocolError, "an answer to nothing"}
		}
		return c.noisy() // it has been given up
	}
	if err := s.answer.headed(end); err != nil {
		return streamError{id, protocolError}
	}
	s.readable.signal()
	return nil
}

// Response is a service's answer: its head, and the body to be read. It is used by one goroutine; Close is called once.
type Response struct {
	stream
	cl      *Client
	method  string // HEAD, or something else
	status  int
	header  filters.Header
	length  int64
	watch   message.Watch
	shared  bool // somebody may still interrupt it: it is not used again
	timeout time.Duration
	upload  *upload // nil when the request went out at once

	// Under mu.
	headCame bool
	interims []interim
	interimN int
	stopped  bool // its context has ended
	deadline time.Time
}

type interim struct {
	status int
	header filters.Header
}

var answers = sync.Pool{New: func() any { return new(Response) }}

// headed takes the fields that the connection has decoded: an interim answer, the final one's head, or what is behind its body.
func (a *Response) headed(end bool) error {
	c := &a.cl.conn
	if a.headCame {
		if !end || a.remoteEnded || c.tooLong || a.declared >= 0 && a.received != a.declared || !a.trail(c.fields) {
			return errMalformed
		}
		a.remoteEnd()
		return nil
	}
	if c.tooLong || len(c.fields) == 0 || c.fields[0].Name != ":status" {
		return errMalformed
	}
	status, ok := message.ParseLength(c.fields[0].Value)
	if !ok || len(c.fields[0].Value) != 3 || status < 100 || status == 101 {
		return errMalformed
	}
	if status < 200 {
		return a.interim(int(status), end)
	}
	length, err := a.takeFields(&a.header, c.fields[1:])
	if err != nil {
		return err
	}
	a.status, a.length = int(status), length
	switch {
	case message.HasNoBody(a.method, a.status):
		a.declared = 0
		if a.method != http.MethodHead && a.status != http.StatusNotModified {
			a.length = -1
		}
	case end && length > 0:
		return errMalformed
	case end:
		a.length = 0
	default:
		a.declared = length
	}
	a.headCame = true
	if end {
		a.remoteEnd()
	}
	return nil
}

var errMalformed = errors.New("http2: the answer is malformed")

// interim keeps an interim answer for whoever waits for the final one.
func (a *Response) interim(status int, end bool) error {
	if a.interimN++; end || a.interimN > message.InterimMax {
		return errMalformed
	}
	var h filters.Header
	if _, err := a.takeFields(&h, a.cl.fields[1:]); err != nil {
		return err
	}
	if status != 100 {
		a.interims = append(a.interims, interim{status, h})
	}
	return nil
}

// takeFields takes the fields of a head but those of the connection, and returns the length that they announce.
func (a *Response) takeFields(to *filters.Header, fields filters.Header) (length int64, err error) {
	length = -1
	for i := range fields {
		f := &fields[i]
		kind := message.KindOf(f.Name)
		if !sound(f, kind) {
			return 0, errMalformed
		}
		switch kind {
		case message.Ordinary:
			*to = append(*to, *f)
		case message.ContentLength:
			n, ok := message.ParseLength(f.Value)
			if !ok || length >= 0 {
				return 0, errMalformed
			}
			length = n
		}
	}
	return length, nil
}

// Do sends a request, for which a place has been reserved, and waits for the head of the answer. timeout bounds all of it and the answer's body; ctx cuts both short. The error is a
// *[message.Failure]. Nothing of x is read any more when it returns.
func (c *Client) Do(ctx context.Context, x *filters.Exchange, m *message.Message, now time.Time, timeout time.Duration) (*Response, error) {
	a := answers.Get().(*Response)
	a.cl, a.timeout = c, timeout
	a.deadline = now.Add(timeout)
	if a.method = ""; x.Method == http.MethodHead {
		a.method = http.MethodHead
	}
	if err := a.ask(x, m); err != nil {
		a.free()
		return nil, &message.Failure{Cause: err, Silent: true}
	}
	a.watch.Begin(ctx, a)
	c.mu.Lock()
	err := a.awaitHead(m)
	if err == nil {
		c.mu.Unlock()
		return a, nil
	}
	f := &message.Failure{Cause: err, Sent: !a.unseen, Silent: !a.headCame && a.interimN == 0}
	c.mu.Unlock()
	a.end()
	if a.upload != nil {
		f.Sent = f.Sent || a.upload.began
		if a.upload.broken != nil {
			f.Cause, f.Client = a.upload.broken, true
		}
	}
	a.free()
	return nil, f
}

// Interrupt ends what waits for the service.
func (a *Response) Interrupt() {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.stopped = true
	a.readable.signal()
	a.flow.writable.signal()
}

var errRequest = errors.New("http2: the method, the path or the host has a byte that it cannot have")

// ask sends the head, and the body where it is there whole and there is room for it. The rest goes out beside the wait.
func (a *Response) ask(x *filters.Exchange, m *message.Message) error {
	c := a.cl
	host := x.Host
	if host == "" {
		host = c.host
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.closing
	if !message.Sendable(x, host) {
		err = errRequest
	}
	if err != nil {
		c.leaveOne()
		return err
	}
	if c.lastID == 0 {
		c.lastID = 1
	} else {
		c.lastID += 2
	}
	a.stream.begin(&c.conn, c.lastID)
	a.answer = a
	c.streams[a.id] = &a.stream
	at := c.beginHead(&a.stream)
	c.out.b = a.appendRequest(c.out.b, x, m, host)
	streams := m.Streams()
	c.endHead(&a.stream, at, 0)
	rest := m.Bytes
	for !streams && len(rest) > 0 {
		n := c.flow.acquire(&a.flow, len(rest), c.buffered())
		if n == 0 {
			break
		}
		a.data(rest[:n])
		rest = rest[n:]
	}
	switch {
	case streams, len(rest) > 0:
		a.startUpload(m, rest)
	default:
		c.endStream(&a.stream)
	}
	c.kick()
	return nil
}

// appendRequest appends the fields of a request.
func (a *Response) appendRequest(dst []byte, x *filters.Exchange, m *message.Message, host string) []byte {
	switch x.Method {
	case "GET":
		dst = append(dst, methodGET)
	case "POST":
		dst = append(dst, methodPOST)
	default:
		dst = appendIndexedName(dst, nameMethod, x.Method)
	}
	if a.cl.scheme == "https" {
		dst = append(dst, schemeHTTPS)
	} else {
		dst = append(dst, schemeHTTP)
	}
	dst = appendIndexedName(dst, nameAuthority, host)
	if x.RawQuery == "" {
		dst = appendIndexedName(dst, namePath, x.Path)
	} else {
		dst = appendInt(appendInt(dst, 0, 4, namePath), 0, 7, len(x.Path)+1+len(x.RawQuery))
		dst = append(append(append(dst, x.Path...), '?'), x.RawQuery...)
	}
	for i := range x.Header {
		if _, replaced := x.Inject.Lookup(x.Header[i].Name); !replaced {
			dst = appendFields(dst, x.Header[i:i+1])
		}
	}
	dst = appendFields(dst, x.Inject)
	dst = appendField(dst, "te", "trailers")  // gRPC asks for it, and trailers are passed on
	if m.Stream != nil && m.Announced != "" { // servers show their handlers trailers only that were announced
		dst = appendField(dst, "trailer", m.Announced)
	}
	if length := m.BodyLength(); message.Announces(x.Method, length) {
		dst = appendNumber(appendInt(dst, 0, 4, nameContentLength), length)
	}
	return dst
}

// awaitHead waits for the head of the final answer, and passes the interim ones on. mu is held.
func (a *Response) awaitHead(m *message.Message) error {
	for {
		for len(a.interims) > 0 {
			i := a.interims[0]
			a.interims = a.interims[1:]
			if m.Interim != nil {
				a.c.mu.Unlock()
				m.Interim(i.status, i.header)
				a.c.mu.Lock()
			}
		}
		switch {
		case a.headCame:
			return nil
		case a.err != nil:
			return a.err
		}
		if err := a.wait(); err != nil {
			return err
		}
	}
}

// wait waits for something to come, at most to the deadline.
func (a *Response) wait() error {
	for {
		if a.stopped {
			return errStopped
		}
		d := time.Until(a.deadline) // an upload moves it
		if d <= 0 {
			return errLate{}
		}
		if a.readable.wait(&a.c.mu, d) {
			if a.stopped {
				return errStopped
			}
			return nil
		}
	}
}
