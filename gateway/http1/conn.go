package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// conn is one client's connection and the goroutine that serves it. While it idles it holds no buffer.
type conn struct {
	srv      *Server
	base     net.Conn        // as it was accepted; this may be used by others than the connection's goroutine
	nc       net.Conn        // on base, with TLS where there is such
	raw      syscall.RawConn // nil where the bytes of the socket are not ours to read (TLS)
	socket   syscall.RawConn // to see the client leave; nil where there is none
	peer     netip.Addr
	peerText string
	scheme   string

	r      *Request              // nil while it idles
	step   func(fd uintptr) bool // takeStep; made once
	fd     int                   // while it runs, else -1
	event  event                 // why it has returned true
	served int                   // requests
	fresh  bool                  // the goroutine has served none of them

	readUntil, writeUntil int64 // the deadlines that are set, in nanoseconds of the server's clock

	state    atomic.Uint32
	cut      atomic.Bool      // the body of the request is not read any more
	quiet    atomic.Int64     // since when it is idle
	mu       sync.Mutex       // of what follows, which the watch reads
	context  *message.Context // of the request that is being served
	detached *message.Context // of what goes on without its client
	since    int64            // when it began
	handed   *message.Conn    // to another server
	aborted  bool
}

// States of a connection: who moves it away from idle first may read from it, or close it.
const (
	idle uint32 = iota
	active
	parking // its goroutine is to be replaced by one with a small stack
	closing
)

// serve is the connection's goroutine.
func (c *conn) serve() {
	what := ends
	defer func() {
		if v := recover(); v != nil { // one client's request must not end the others'
			c.srv.Logger.Error("a panic ended a connection", "panic", v, "stack", string(debug.Stack()))
			what = ends
			c.mu.Lock()
			c.context, c.detached = nil, nil
			c.mu.Unlock()
			c.r = nil // somebody may still use it
		}
		if c.r != nil {
			c.drop()
		}
		if what == renews {
			c.fresh = true
			c.srv.all.Go(c.serve)
		} else {
			c.srv.forget(c)
		}
	}()
	if c.served == 0 && !c.open() {
		return
	}
	for what = c.next(); what == works; what = c.next() {
		first := c.served == 0
		c.served++
		what = ends // also after a panic
		switch c.one(first) {
		case lingers:
			c.linger()
			return
		case closes:
			return
		}
	}
	if what == lingersAfter {
		c.linger()
	}
}

// event is why the connection's goroutine comes back from waiting.
type event uint8

const (
	ends event = iota
	lingersAfter
	works  // there is something of a request that takes more than one look
	renews // it idles: another goroutine goes on with it
)

// next waits for the next request. Those that are there whole with one read are served on the way.
func (c *conn) next() event {
	if c.raw == nil {
		return c.nextSealed()
	}
	err := c.raw.Read(c.step)
	switch {
	case err == nil:
		return c.event
	case errors.Is(err, os.ErrDeadlineExceeded) && c.state.CompareAndSwap(parking, idle):
		c.setReadDeadline(time.Now().Add(c.srv.IdleTimeout))
		return renews
	}
	return ends
}

// nextSealed is next where the bytes of the socket are not ours.
func (c *conn) nextSealed() event {
	if c.r == nil {
		c.r = takeRequest(c)
	}
	if c.r.in.empty() && c.r.in.fill(c.nc) != nil {
		return ends
	}
	return works
}

// claim takes the connection out of its idle state; false when it is being closed.
func (c *conn) claim() bool {
	c.fresh = false
	c.quiet.Store(0)
	if c.state.CompareAndSwap(idle, active) {
		return true
	}
	if !c.state.CompareAndSwap(parking, active) {
		return false
	}
	c.mu.Lock() // park has set its deadline by then, which is void now
	defer c.mu.Unlock()
	c.setReadDeadline(time.Now().Add(c.srv.IdleTimeout))
	return true
}

// takeStep is called by the poller's loop whenever there may be something to read: once at its beginning, then after each sign of it. It
// serves what is there and returns false to wait for more. As it all happens within that loop no sign can be missed, so that nothing has to be
// read in vain before the wait. While it runs nobody else can read from the connection: what takes more than one read is left to the
// connection's goroutine, and true returned.
func (c *conn) takeStep(fd uintptr) (stop bool) {
	c.fd = int(fd)
	defer func() { c.fd = -1 }()
	for drained := false; ; {
		if c.r == nil {
			c.r = takeRequest(c)
		}
		in := &c.r.in
		if in.empty() {
			if drained {
				return c.rest()
			}
			space := in.b[in.w:]
			n, err := recv(c.fd, space)
			if err == syscall.EAGAIN {
				return c.rest()
			}
			if err != nil || n == 0 {
				c.event = ends
				return true
			}
			in.w += n
			drained = n < len(space)
		}
		if !c.claim() {
			c.event = ends
			return true
		}
		if !c.whole() {
			c.state.CompareAndSwap(active, idle) // until the head is there; whoever shuts down need not wait for it
			c.event = works
			return true
		}
		c.served++
		switch c.work() {
		case closes:
			c.event = ends
			return true
		case lingers:
			c.event = lingersAfter
			return true
		}
	}
}

// rest gives the buffers back before the goroutine is parked, so that an idle connection costs little more than its goroutine. Many clients
// send one request and then nothing: after the first one the goroutine is renewed. A request takes a stack of 8 KiB, which
// stays with its goroutine, and to wait takes 2.
func (c *conn) rest() (stop bool) {
	c.drop()
	if c.served == 1 && !c.fresh {
		c.event = renews
		return true
	}
	return false
}

// whole parses the head of the request in the buffer. False: it is not there whole with its body, is at fault, or wants a dialogue.
func (c *conn) whole() bool {
	r := c.r
	r.begin()
	n, err := parseRequest(r.in.unread(), &r.Exchange, &r.head)
	h := &r.head
	if err != nil || n > c.srv.MaxHeader || h.upgrades || h.expects || h.length < 0 || h.length > int64(r.in.w-r.in.r-n) {
		return false
	}
	r.in.keep(n)
	return true
}

// work serves the request whose head was parsed.
func (c *conn) work() after {
	r := c.r
	r.headRead()
	c.mu.Lock()
	c.context, c.detached, c.since = r.ctx, r.detached, c.srv.clock.Load()
	c.mu.Unlock()
	c.srv.Handler.Serve(r)
	c.mu.Lock()
	c.context, c.detached = nil, nil
	c.mu.Unlock()
	then := r.finish()
	r.ctx, r.detached = r.ctx.End(), r.detached.End()
	if then != remains {
		return then
	}
	r.in.restart()
	c.armRead(c.srv.IdleTimeout)
	c.quiet.Store(c.srv.clock.Load())
	if !c.state.CompareAndSwap(active, idle) || c.srv.draining.Load() {
		return closes
	}
	return remains
}

// write sends p whole.
func (c *conn) write(p []byte) error {
	if c.fd >= 0 && c.state.Load() != closing {
		n, err := send(c.fd, p)
		if n == len(p) || err != nil && err != syscall.EAGAIN {
			return err
		}
		p = p[n:]
	}
	c.armWrite()
	_, err := c.nc.Write(p)
	return err
}

// waiting returns how many bytes a read would find.
func (c *conn) waiting() (n int) {
	if err := c.socket.Control(func(fd uintptr) { n = unread(int(fd)) }); err != nil {
		return 0
	}
	return n
}

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
	c.step = c.takeStep
	return true
}

// handshake begins TLS. A client that chose HTTP/2 is handed over.
func (c *conn) handshake() bool {
	c.scheme, c.raw = "https", nil
	carried := message.NewConn(c.nc, c.peer, nil)
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

func (c *conn) drop() {
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
		c.base.SetReadDeadline(message.Past) // wakes it; fails only for a closed connection
	}
}

const parkAfter = time.Second

// one serves the request that begins in the buffer, whatever it takes.
func (c *conn) one(first bool) after {
	r := c.r
	r.begin()
	err := r.readHead()
	if !c.claim() {
		return closes
	}
	if err == nil {
		return c.work()
	}
	if first && err == faultVersionNew && c.scheme == "http" && c.preface() {
		return closes
	}
	if first && err == faultAlien { // another protocol; whoever speaks it could not read an answer (RFC 9113 §3.4)
		return closes
	}
	f, ok := err.(*Fault)
	if !ok {
		return closes // it has gone, or it was too slow
	}
	r.headRead()
	r.answer.closing = true
	r.body.err = err
	c.srv.Handler.Refuse(r, f)
	return r.finish()
}

// readHead reads until the head is parsed. The error is a [Fault] or one of the connection.
func (r *Request) readHead() error {
	in, limit := &r.in, r.c.srv.MaxHeader
	for late, seen := false, 0; ; late = true {
		for in.r < 4 && in.r+1 < in.w && in.b[in.r] == '\r' && in.b[in.r+1] == '\n' { // RFC 9112 §2.2
			in.r += 2
		}
		if begun := in.unread(); len(begun) == 0 || len(begun) == 1 && begun[0] == '\r' {
			// nothing of it yet
		} else if !late || in.w-in.r <= 1024 || headEnds(in.unread(), seen) {
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

// preface hands the connection over when the client begins HTTP/2: with the whole preface and a SETTINGS frame behind it.
func (c *conn) preface() bool {
	in := &c.r.in
	if c.srv.HTTP2 == nil {
		return false
	}
	const preface, frameHeader = message.HTTP2Preface, 9
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
		in.room(message.SmallBuffer)
		if in.fill(c.nc) != nil {
			return false
		}
	}
	carried := message.NewConn(c.nc, c.peer, bytes.Clone(in.unread()))
	c.drop()
	c.srv.carry(c, carried, carried)
	return true
}

// abort has the connection's goroutine end, whoever serves it. The connection itself is closed by that: to close it here would mean to wait
// for a step that is under way.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = true
	c.state.Store(closing)
	if c.handed != nil {
		c.handed.Close()
	}
	for _, ctx := range [...]*message.Context{c.context, c.detached} {
		if ctx != nil {
			ctx.Cancel()
		}
	}
	c.base.SetDeadline(message.Past) // fails only for a closed connection
}

// Deadlines are moved only when they would come too early by a quarter: to set one costs as much as a small request's parsing. So a peer
// has at least the time that is configured, and a third more at most.

func (c *conn) armRead(d time.Duration) {
	now := c.srv.clock.Load() + int64(tickEvery) // the clock may be late by that
	if c.readUntil < now+int64(d) || c.readUntil > now+int64(d+d/2) {
		c.setReadDeadline(time.Unix(0, now).Add(d + d/3))
	}
}

func (c *conn) armWrite() {
	d := c.srv.IdleTimeout
	if now := c.srv.clock.Load() + int64(tickEvery); c.writeUntil < now+int64(d) {
		c.writeUntil = now + int64(d+d/3)
		c.nc.SetWriteDeadline(time.Unix(0, c.writeUntil)) // fails only for a closed connection, as the write then does
	}
	if c.state.Load() == closing {
		c.nc.SetWriteDeadline(message.Past) // what abort has set
	}
}

func (c *conn) setReadDeadline(t time.Time) {
	c.readUntil = t.UnixNano()
	c.nc.SetReadDeadline(t) // fails only for a closed connection, as the read then does
	if c.state.Load() == closing || c.cut.Load() {
		c.nc.SetReadDeadline(message.Past) // what abort or Interrupt has set
	}
}

// linger ends the sending side and reads what the client still sends, for a while.
func (c *conn) linger() {
	if !message.CloseWrite(c.nc) {
		return
	}
	c.cut.Store(false)
	c.setReadDeadline(time.Now().Add(patience))
	message.Linger(c.nc)
}
