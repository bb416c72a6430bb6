package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Client is a connection to a service. It carries one exchange at a time and belongs to whoever has it.
type Client struct {
	nc      net.Conn
	socket  syscall.RawConn // nil where there is none
	host    string          // for requests without one
	release func(c *Client, reusable bool)

	// Used counts the exchanges on it, for the pool; IdleSince is when the last one ended.
	Used      int
	IdleSince time.Time

	quietly func(fd uintptr)
	quiet   bool
	sealed  bool                  // TLS
	ask     func(fd uintptr) bool // nil where the socket is not ours to write to (TLS)
	asking  asking

	interrupted atomic.Bool
	mu          sync.Mutex // of the deadline: an upload moves it too
	deadline    time.Time  // that is set, unless it was interrupted
	timeout     time.Duration
}

// NewClient returns a client on a fresh connection. host stands in the Host field of requests that come without one. release is called once
// an exchange, when the connection is not needed for it any more; what cannot be used again is closed by then.
func NewClient(nc net.Conn, host string, release func(c *Client, reusable bool)) *Client {
	c := &Client{nc: nc, host: host, release: release}
	socket, plain := nc.(syscall.Conn)
	if tc, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		socket, _ = tc.NetConn().(syscall.Conn)
	}
	if socket != nil {
		c.socket, _ = socket.SyscallConn() // without it the connection is taken for alive until it fails
	}
	c.quietly, c.sealed = func(fd uintptr) { c.quiet = silent(int(fd)) }, !plain
	if plain && c.socket != nil {
		c.ask = c.askNow
	}
	return c
}

// asking is the state of a write that is followed by a wait for the answer.
type asking struct {
	out     []byte // to be written
	in      []byte // to be read into
	look    bool   // first, whether the connection is still open and silent
	stale   bool   // it was not, and nothing was written
	written bool
	sent, n int
	err     error // of the write, or of the read
}

// askNow writes the request and has the goroutine parked until there is something to read: a read right behind the write would find
// nothing, and cost a system call. No answer can be missed, since none can be there before the request.
func (c *Client) askNow(fd uintptr) bool {
	a := &c.asking
	if a.look {
		if a.look = false; !silent(int(fd)) {
			a.stale = true
			return true
		}
	}
	if !a.written {
		a.written = true
		if a.sent, a.err = send(int(fd), a.out); a.err == syscall.EAGAIN {
			a.err = nil
		}
		return a.sent < len(a.out)
	}
	n, err := recv(int(fd), a.in)
	if err == syscall.EAGAIN {
		return false
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	a.n, a.err = n, err
	return true
}

// converse writes out and reads the first bytes of the answer into in. sent is how many bytes went out.
func (c *Client) converse(out []byte, in *buffer, look bool) (sent int, err error) {
	if c.ask == nil {
		return c.nc.Write(out)
	}
	a := &c.asking
	*a = asking{out: out, in: in.b[in.w:], look: look}
	err = c.socket.Read(c.ask)
	in.w += a.n
	sent = a.sent
	switch {
	case err != nil: // the deadline, or a closed connection
	case a.stale:
		err = errStale
	case a.err != nil:
		err = a.err
	case sent < len(out): // the kernel's buffer is full
		var more int
		more, err = c.nc.Write(out[sent:])
		sent += more
	}
	*a = asking{}
	return sent, err
}

// silent reports whether a socket is open and has nothing to read.
func silent(fd int) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN
}

// Quiet reports whether an idle connection is open and silent: a service that has closed it, or that spoke unasked, is not given a request.
func (c *Client) Quiet(now time.Time) bool {
	if c.socket == nil || c.looksItself(now) {
		return true
	}
	c.quiet = false
	return c.socket.Control(c.quietly) == nil && c.quiet && !(c.sealed && c.holds())
}

// holds reports whether a TLS connection has read more than it was asked for, or is broken: with a deadline that has passed it gives what it
// has and takes nothing from the socket.
func (c *Client) holds() bool {
	c.nc.SetReadDeadline(message.Past) // fails only for a closed connection, as the read then does
	c.deadline = time.Time{}           // to be set anew
	var b [1]byte
	n, err := c.nc.Read(b[:])
	return n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)
}

// looksItself reports whether the connection was used so recently that Do looks at it.
func (c *Client) looksItself(now time.Time) bool {
	return c.ask != nil && c.Used > 0 && now.Sub(c.IdleSince) < quietFor
}

// Close closes the connection.
func (c *Client) Close() { c.nc.Close() }

// quietFor is how long a connection may have been idle for the look at it to be left to [Client.Do], which takes it on the way.
const quietFor = time.Millisecond

// Response is a service's answer: its head, and the body to be read. Its strings are good until Close, which is called once.
type Response struct {
	Status int
	Header filters.Header // without what belongs to the connection or frames the message
	Length int64          // of the body, -1 when it is not known; of an answer without a body what it says of one, -1 nothing
	Took   time.Duration  // from the call of Do to the head

	began   time.Time
	blocked bool    // a read of the body may have waited
	c       *Client // nil once the connection was given back
	head    head
	in      buffer
	body    body
	watch   message.Watch
	upload  *upload       // nil when the request went out whole
	broken  bool          // the connection cannot be used again
	owed    time.Duration // time to be given beyond the deadline that is set
	out     []byte

	inMemory, outMemory [message.SmallBuffer]byte
}

var answers = sync.Pool{New: func() any { return new(Response) }}

// slack is how much later than asked a deadline may be, so that it is not set for each exchange.
func slack(d time.Duration) time.Duration { return min(d/16, 100*time.Millisecond) }

// arm bounds the exchange: it ends between d and d and its slack from now.
func (c *Client) arm(now time.Time, d time.Duration) {
	c.timeout = d
	if left := c.deadline.Sub(now); left < d || left > d+slack(d) {
		c.set(now.Add(d + slack(d)))
	}
}

func (c *Client) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if !c.interrupted.Load() {
		c.nc.SetDeadline(t) // fails only for a closed connection, as what follows then does
	}
}

func (c *Client) extend(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() || c.interrupted.Load() {
		return
	}
	c.deadline = c.deadline.Add(d)
	c.nc.SetDeadline(c.deadline) // fails only for a closed connection
}

// Interrupt ends what waits for the service. The connection is not used again.
func (c *Client) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted.Store(true)
	c.nc.SetDeadline(message.Past) // fails only for a closed connection
}

// Do sends a request and reads the head of the answer. timeout bounds all of it and the answer's body; ctx cuts both short. The error is a
// *[Failure], after which the connection is closed.
func (c *Client) Do(ctx context.Context, x *filters.Exchange, m *message.Message, now time.Time, timeout time.Duration) (*Response, error) {
	a := answers.Get().(*Response)
	a.c, a.began = c, now
	a.in.take(a.inMemory[:])
	c.arm(now, timeout)
	a.watch.Begin(ctx, c)
	f := a.exchange(x, m)
	if f == nil {
		return a, nil
	}
	a.unwatch()
	c.nc.Close()
	if a.upload != nil {
		broken := a.upload.broken.Load()
		a.upload.end()
		if broken {
			f.Cause, f.Client = a.upload.Wait(), true
		}
	}
	a.c = nil
	a.free()
	c.release(c, false)
	return nil, f
}

func (a *Response) unwatch() {
	if !a.watch.End() {
		a.c.interrupted.Store(true)
	}
}

// exchange sends the request and reads to the head of the final answer.
func (a *Response) exchange(x *filters.Exchange, m *message.Message) *message.Failure {
	c := a.c
	var err error
	if a.out, err = appendRequest(a.outMemory[:0], x, m, c.host); err != nil {
		return &message.Failure{Cause: err, Silent: true}
	}
	if m.Stream == nil && len(m.Bytes) > message.WholeMax { // the service may refuse it before it has taken it all
		n := int64(len(m.Bytes))
		m = &message.Message{Stream: message.NewInMemory(m.Bytes), Length: n, Interim: m.Interim, Upgrade: m.Upgrade}
	}
	streams, rest := m.Streams(), m.Bytes
	if len(a.out)+len(rest) <= cap(a.out) { // one write for both
		a.out = append(a.out, rest...)
		rest = nil
	}
	look := c.looksItself(a.began)
	if look && (streams || len(rest) > 0) {
		if look = false; c.socket.Control(c.quietly) != nil || !c.quiet {
			return &message.Failure{Cause: errStale, Silent: true, Stale: true}
		}
	}
	var n int
	if len(rest) == 0 && !streams {
		n, err = c.converse(a.out, &a.in, look)
	} else if n, err = c.nc.Write(a.out); err == nil && len(rest) > 0 {
		_, err = c.nc.Write(rest)
	}
	if err != nil && n == 0 {
		return &message.Failure{Cause: err, Silent: true, Stale: err == errStale}
	}
	if streams { // the service may answer before it has all, so the body goes out beside
		a.upload = startUpload(c, m)
	}
	// Also after a failed write: there may be an answer that says why.
	if err := a.readHead(x.Method, m); err != nil {
		return &message.Failure{Cause: err, Sent: true, Silent: a.in.w == 0}
	}
	return nil
}

// readHead reads to the head of the final answer.
func (a *Response) readHead(method string, m *message.Message) error {
	c, in := a.c, &a.in
	for interim, total := 0, 0; ; {
		n, status, err := parseResponse(in.unread(), method, &a.Header, &a.head)
		if err == errMore {
			if !in.room(message.ResponseHeadMax) {
				return errHeadLong
			}
			if err := in.fill(c.nc); err != nil {
				return unexpected(err)
			}
			continue
		}
		if err != nil {
			return err
		}
		in.keep(n)
		if status == 101 {
			return a.switched(m)
		}
		if status >= 200 {
			a.Status = status
			if a.upload != nil {
				a.upload.answered.Store(true)
			}
			a.begin(method)
			return nil
		}
		if interim, total = interim+1, total+n; interim > message.InterimMax || total > message.ResponseHeadMax {
			return errInterim
		}
		switch {
		case status == 100 && a.upload != nil:
			if s, ok := m.Stream.(interface{ Continue() }); ok && m.Expects {
				s.Continue() // now, since the answer may follow at once
			}
			a.upload.goOn()
		case status != 100 && m.Interim != nil:
			m.Interim(status, a.Header)
		}
	}
}

var (
	errHeadLong = fmt.Errorf("http1: the head of the answer is longer than %d bytes", message.ResponseHeadMax)
	errInterim  = errors.New("http1: the service sends interim answers without end")
	errStale    = errors.New("http1: the service has closed the idle connection")
	errSwitch   = errors.New("http1: the service switches protocols unasked")
	errRequest  = errors.New("http1: the request line, the host or a field has a byte that it cannot have")
)

// switched takes the service's word that it goes on with the protocol that it was asked for.
func (a *Response) switched(m *message.Message) error {
	if m.Upgrade == "" || !a.head.upgrades || !filters.EqualName(a.head.upgrade, m.Upgrade) || a.upload != nil {
		return errSwitch
	}
	a.Status, a.Length = 101, 0
	return nil
}

// begin sets up the body of the final answer.
func (a *Response) begin(method string) {
	a.Took = time.Since(a.began)
	length := a.head.length
	a.Length = length
	if message.HasNoBody(method, a.Status) {
		length = 0
		if !a.head.lengthSet {
			a.Length = -1
		}
	} else if length < 0 {
		a.Length = -1
	}
	a.broken = length == untilClose
	a.body.begin(&a.in, a.c.nc, length, a.head.connection)
	if a.body.done() {
		a.giveBack()
	}
}

// seize takes the connection over for a tunnel; done is called at its end.
func (a *Response) seize() (nc net.Conn, done func()) {
	c := a.c
	a.unwatch()
	a.c = nil
	return c.nc, func() {
		c.nc.Close()
		c.release(c, false)
	}
}

// Head returns the status, the fields and the length of the body.
func (a *Response) Head() (int, filters.Header, int64) { return a.Status, a.Header, a.Length }

// Read reads the body.
func (a *Response) Read(p []byte) (int, error) {
	a.blocked = true
	n, err := a.body.Read(p)
	if a.c != nil && a.body.done() {
		a.giveBack()
	}
	return n, err
}

// Next returns what has come of the body and was not read, at most to its end, without waiting; nil when there is nothing, or the body
// is not of a known length. It is good until Close.
func (a *Response) Next() []byte {
	b := &a.body
	if b.kind != sized || b.in.empty() {
		return nil
	}
	p := b.in.unread()
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	b.in.keep(len(p))
	if b.left -= int64(len(p)); b.left == 0 {
		b.kind = noBody
		a.giveBack()
	}
	return p[:len(p):len(p)]
}

// Trailer returns the fields behind the body, once it has been read to its end.
func (a *Response) Trailer() filters.Header { return a.body.trailer }

// Extend gives the exchange more time, while the body is read.
func (a *Response) Extend(d time.Duration) {
	if a.owed += d; a.c != nil && a.owed > a.c.timeout/16 { // small ones add up
		a.c.extend(a.owed)
		a.owed = 0
	}
}

// giveBack ends the use of the connection, which can be used again when both messages are over and nothing lies behind the answer.
func (a *Response) giveBack() {
	c := a.c
	if c == nil {
		return
	}
	if a.Uploading() {
		return // Close does it
	}
	a.unwatch()
	a.c = nil
	reusable := !a.broken && a.body.done() && a.in.empty() && !a.head.close && (a.head.minor > 0 || a.head.keepAlive) &&
		(a.upload == nil || a.upload.Wait() == nil) && !c.interrupted.Load()
	if !reusable {
		c.nc.Close()
	}
	if c.IdleSince = a.began.Add(a.Took); a.blocked { // without another look at the clock, which costs as much as to parse the head
		c.IdleSince = time.Now()
	}
	c.release(c, reusable)
}

// Uploading reports whether the request's body still goes out. Then Close may wait for that.
func (a *Response) Uploading() bool { return a.upload != nil && !a.upload.Over() }

// Close ends the answer. A body that was not read to its end costs the connection. An upload goes on while the service, which has not
// refused it, takes it.
func (a *Response) Close() error {
	if a.c != nil && a.Uploading() {
		if !a.body.done() || a.head.close || a.Status >= 400 {
			a.broken = true
			a.c.nc.Close()
			a.upload.end()
		}
		a.upload.Wait()
	}
	a.giveBack()
	a.free()
	return nil
}

func (a *Response) free() {
	a.in.release()
	message.Poison(a.outMemory[:])
	clear(a.Header)
	a.Header, a.body = a.Header[:0], body{trailer: a.body.trailer[:0]}
	a.c, a.upload, a.out = nil, nil, nil
	a.broken, a.blocked, a.owed, a.head = false, false, 0, head{}
	answers.Put(a)
}

// appendRequest writes the head of a request.
func appendRequest(dst []byte, x *filters.Exchange, m *message.Message, host string) ([]byte, error) {
	if x.Host != "" {
		host = x.Host
	}
	if !message.Sendable(x, host) {
		return nil, errRequest
	}
	dst = append(dst, x.Method...)
	dst = append(dst, ' ')
	dst = append(dst, x.Path...)
	if x.RawQuery != "" {
		dst = append(dst, '?')
		dst = append(dst, x.RawQuery...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	dst = append(dst, '\r', '\n')
	from := 0
	for i := range x.Header {
		if _, replaced := x.Inject.Lookup(x.Header[i].Name); replaced {
			dst = appendFields(dst, x.Header[from:i])
			from = i + 1
		}
	}
	dst = appendFields(appendFields(dst, x.Header[from:]), x.Inject)
	length := m.BodyLength()
	switch {
	case m.Upgrade != "":
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, m.Upgrade...)
		dst = append(dst, '\r', '\n')
	case length < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		if m.Announced != "" && message.FieldValue(m.Announced) {
			dst = append(append(append(dst, "Trailer: "...), m.Announced...), '\r', '\n')
		}
	case message.Announces(x.Method, length):
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, length, 10)
		dst = append(dst, '\r', '\n')
	}
	if m.Expects && length != 0 {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	return append(dst, '\r', '\n'), nil
}
