package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one client's connection and the goroutine that serves it. While it idles it holds no buffer.
type conn struct {
	srv      *Server
	base     net.Conn // as it was accepted; this may be used by others than the connection's goroutine
	nc       net.Conn // on base, with TLS where there is such
	raw      syscall.RawConn // nil where the bytes of the socket are not ours to read (TLS)
	socket   syscall.RawConn // to see the client leave; nil where there is none
	peer     netip.Addr
	peerText string
	scheme   string

	r        *Request // nil while it idles
	readable func(fd uintptr) bool
	readErr  error
	served   int  // requests
	fresh    bool // the goroutine has served none of them

	readUntil, writeUntil int64 // the deadlines that are set, in nanoseconds of the server's clock

	state   atomic.Uint32
	quiet   atomic.Int64 // since when it is idle
	mu      sync.Mutex // of what follows, which the watch reads
	context *Context   // of the request that is being served
	since   int64      // when it began
	handed  *Carried   // to another server
	aborted bool
}

// States of a connection: who moves it away from idle first may read from it, or close it.
const (
	idle uint32 = iota
	active
	parking // its goroutine is to be replaced by one with a small stack
	closing
)

var past = time.Unix(1, 0)

// serve is the connection's goroutine.
func (c *conn) serve() {
	renewed := false
	defer func() {
		if c.r != nil {
			c.drop()
		}
		if !renewed {
			c.srv.forget(c)
		}
	}()
	if c.served == 0 && !c.open() {
		return
	}
	for c.await() {
		again := c.one(c.served == 0)
		c.served++
		if !again {
			return
		}
	}
	renewed = c.renew()
}

// renew has another goroutine go on with an idle connection. A request takes a stack of 8 KiB, which stays with its goroutine, and to wait takes
// 2: so what idles waits on a new one.
func (c *conn) renew() bool {
	if c.readErr != errRenew {
		return false
	}
	c.readErr, c.fresh = nil, true
	c.srv.all.Go(c.serve)
	return true
}

var errRenew = errors.New("http1: the connection idles")

// open does what comes before the first request.
func (c *conn) open() bool {
	c.setReadDeadline(time.Now().Add(c.srv.HeaderTimeout)) // from the beginning, also of a client that sends nothing
	if sc, ok := c.nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn() // without it the connection is read as any other
		c.socket = c.raw
	}
	if c.srv.Accepted != nil {
		peer, err := c.srv.Accepted(c.nc, c.peer)
		if err != nil {
			return false
		}
		c.peer = peer
	}
	c.peerText = c.peer.String()
	c.scheme = "http"
	if c.srv.TLS != nil {
		return c.handshake()
	}
	c.readable = c.tryRead
	return true
}

// handshake begins TLS. A client that chose HTTP/2 is handed over.
func (c *conn) handshake() bool {
	c.scheme, c.raw = "https", nil
	carried := c.carried(nil)
	tc := tls.Server(carried, c.srv.TLS())
	c.nc.SetDeadline(time.Now().Add(c.srv.HeaderTimeout)) // fails only for a closed connection
	if err := tc.Handshake(); err != nil {
		return false
	}
	if tc.ConnectionState().NegotiatedProtocol == "h2" {
		c.srv.carry(c, tc, carried)
		return false
	}
	c.nc.SetDeadline(time.Time{})
	c.nc = tc
	c.setReadDeadline(time.Now().Add(c.srv.HeaderTimeout))
	return true
}

// await returns when there is something of a request in the buffer; false when there will be none for this goroutine.
func (c *conn) await() bool {
	if (c.r == nil || c.r.in.empty()) && !c.read() {
		return false
	}
	if c.state.CompareAndSwap(idle, active) {
		c.fresh = false
		return true
	}
	if c.state.CompareAndSwap(parking, active) { // it was to be parked, and a request came
		c.fresh = false
		c.mu.Lock() // until park has set its deadline
		c.mu.Unlock()
		c.setReadDeadline(time.Now().Add(c.srv.IdleTimeout))
		return true
	}
	return false
}

// read waits for the first bytes of a request.
func (c *conn) read() bool {
	if c.raw == nil {
		if c.r == nil {
			c.r = takeRequest(c)
		}
		return c.r.in.fill(c.nc) == nil
	}
	c.readErr = nil
	err := c.raw.Read(c.readable)
	if err == nil {
		return c.readErr == nil
	}
	if c.state.CompareAndSwap(parking, idle) && errors.Is(err, os.ErrDeadlineExceeded) {
		c.setReadDeadline(time.Now().Add(c.srv.IdleTimeout))
		c.readErr = errRenew
	}
	return false
}

// tryRead reads if there is something to read. If not, the buffers go back before the goroutine is parked, so an idle connection costs little
// more than its goroutine.
func (c *conn) tryRead(fd uintptr) bool {
	if c.r == nil {
		c.r = takeRequest(c)
	}
	in := &c.r.in
	n, err := readNow(int(fd), in.b[in.w:])
	switch {
	case err == syscall.EAGAIN:
		c.drop()
		if c.served == 1 && !c.fresh { // many clients send one request and then nothing
			c.readErr = errRenew
			return true
		}
		return false
	case err != nil:
		c.readErr = err
	case n == 0:
		c.readErr = io.EOF
	default:
		in.w += n
	}
	return true
}

func readNow(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func (c *conn) drop() {
	c.r.answer.release()
	c.r.release()
	c.r = nil
}

// park has the goroutine of a connection that has idled for a while replaced by one with a small stack.
func (c *conn) park(now int64) {
	since := c.quiet.Load()
	if since == 0 || since > now-int64(parkAfter) || c.raw == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.CompareAndSwap(idle, parking) {
		c.quiet.Store(0)
		c.base.SetReadDeadline(past) // wakes it; fails only for a closed connection
	}
}

const parkAfter = time.Second

// one serves the request that begins in the buffer, and reports whether there may be another one.
func (c *conn) one(first bool) bool {
	r := c.r
	r.begin()
	switch err := r.readHead(); {
	case err == nil:
	case first && err == faultVersionNew && c.scheme == "http" && c.preface():
		return false
	default:
		f, ok := err.(*Fault)
		if !ok {
			return false // it has gone, or it was too slow
		}
		r.headRead()
		r.answer.closing = true
		r.body.err = err
		c.srv.Handler.Refuse(r, f)
		r.finish()
		return false
	}
	r.headRead()
	c.mu.Lock()
	c.context, c.since = r.ctx, c.srv.clock.Load()
	c.mu.Unlock()
	c.srv.Handler.Serve(r)
	c.mu.Lock()
	c.context = nil
	c.mu.Unlock()
	again := r.finish()
	r.ctx = r.ctx.end()
	if !again {
		return false
	}
	r.in.restart()
	c.armRead(c.srv.IdleTimeout)
	c.quiet.Store(c.srv.clock.Load())
	return c.state.CompareAndSwap(active, idle) && !c.srv.draining.Load()
}

// readHead reads until the head is parsed. The error is a [Fault] or one of the connection.
func (r *Request) readHead() error {
	in, limit := &r.in, r.c.srv.MaxHeader
	for late, seen := false, 0; ; late = true {
		for !late && in.r+1 < in.w && in.b[in.r] == '\r' && in.b[in.r+1] == '\n' && in.r < 4 { // RFC 9112 §2.2
			in.r += 2
		}
		if !late || in.w-in.r <= 1024 || headEnds(in.unread(), seen) {
			n, err := parseRequest(in.unread(), &r.Exchange, &r.head)
			if err == nil && n > limit {
				return tooLong(in.unread(), limit)
			}
			if err == nil {
				in.keep(n)
				return nil
			}
			if err != errMore {
				return err
			}
		}
		if !late {
			r.c.setReadDeadline(time.Now().Add(r.c.srv.HeaderTimeout))
		}
		seen = in.w - in.r
		if !in.room(limit) {
			return tooLong(in.unread(), limit)
		}
		if err := in.fill(r.c.nc); err != nil {
			return err
		}
	}
}

// headEnds reports whether what came behind the first seen bytes may end a head, so that it pays to parse it again.
func headEnds(b []byte, seen int) bool {
	b = b[max(seen-3, 0):]
	return bytes.Contains(b, []byte("\n\r\n")) || bytes.Contains(b, []byte("\n\n"))
}

// tooLong says what is too long: the target or the fields.
func tooLong(b []byte, limit int) *Fault {
	if i := bytes.IndexByte(b, '\n'); i < 0 || i > limit/2 {
		return faultURI
	}
	return faultLong
}

// preface is what a client begins HTTP/2 with that knows of it (RFC 9113 §3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// preface hands the connection over when the client begins HTTP/2: with the whole preface and a SETTINGS frame behind it.
func (c *conn) preface() bool {
	in := &c.r.in
	if c.srv.HTTP2 == nil {
		return false
	}
	const frameHeader = 9
	c.setReadDeadline(time.Now().Add(min(c.srv.HeaderTimeout, time.Second))) // both come in one go
	for {
		have := in.unread()
		n := min(len(have), len(preface))
		if text(have[:n]) != preface[:n] {
			return false
		}
		if len(have) >= len(preface)+frameHeader {
			if have[len(preface)+3] != 4 { // SETTINGS
				return false
			}
			break
		}
		in.room(smallBuffer)
		if in.fill(c.nc) != nil {
			return false
		}
	}
	carried := c.carried(bytes.Clone(in.unread()))
	c.drop()
	c.srv.carry(c, carried, carried)
	return true
}

// Carried is a client's connection that another server goes on with.
type Carried struct {
	net.Conn
	Peer   netip.Addr // who it is from; behind a proxy not the address of the connection
	prefix []byte     // was read already
	once   sync.Once
	closed chan struct{}
}

func (c *conn) carried(prefix []byte) *Carried {
	return &Carried{Conn: c.nc, Peer: c.peer, prefix: prefix, closed: make(chan struct{})}
}

// abort closes the connection, whoever serves it.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = true
	if c.handed != nil {
		c.handed.Close()
	}
	c.base.Close()
}

func (c *Carried) Read(b []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(b, c.prefix)
		if c.prefix = c.prefix[n:]; len(c.prefix) == 0 {
			c.prefix = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// Close closes the connection.
func (c *Carried) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// CloseWrite ends the sending side.
func (c *Carried) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Close()
}

// Deadlines are moved only when they would come too early by a quarter: to set one costs as much as a small request's parsing. So a peer
// has at least the time that is configured, and a third more at most.

func (c *conn) armRead(d time.Duration) {
	if now := c.srv.clock.Load(); c.readUntil < now+int64(d) || c.readUntil > now+int64(d+d/2) {
		c.setReadDeadline(time.Unix(0, now).Add(d + d/3))
	}
}

func (c *conn) armWrite() {
	d := c.srv.IdleTimeout
	if now := c.srv.clock.Load(); c.writeUntil < now+int64(d) {
		c.writeUntil = now + int64(d+d/3)
		c.nc.SetWriteDeadline(time.Unix(0, c.writeUntil)) // fails only for a closed connection, as the write then does
	}
}

func (c *conn) setReadDeadline(t time.Time) {
	c.readUntil = t.UnixNano()
	c.nc.SetReadDeadline(t) // fails only for a closed connection, as the read then does
}

const lingerMax = 256 << 10

// linger ends the sending side and reads what the client still sends, for a while: a close on unread bytes would be a reset, and that
// takes an answer back which has not been read yet (RFC 9112 §9.6).
func (c *conn) linger() {
	cw, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || cw.CloseWrite() != nil {
		return
	}
	c.setReadDeadline(time.Now().Add(patience))
	b := LargeBuffer()
	defer PutLargeBuffer(b)
	for total := 0; total < lingerMax; {
		n, err := c.nc.Read(b[:])
		if total += n; err != nil {
			return
		}
	}
}
