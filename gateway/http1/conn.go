package http1

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// conn is one client's connection and the goroutine that serves it. It has no buffer while it is
// idle.
type conn struct {
	srv    *Server
	base   net.Conn        // as it was accepted; this may be used by others than the connection's goroutine
	nc     net.Conn        // on base, with TLS where there is such
	raw    syscall.RawConn // nil with TLS
	sealed *message.Sealed // nil without TLS
	socket syscall.RawConn // to see the client leave; nil where there is none
	peer   netip.Addr      // who holds it
	client netip.Addr      // for whom: peer, or what Options.Accepted says
	// clientText is client as text.
	clientText string
	scheme     string
	authority  *message.Authority // for which hosts; nil without TLS
	account    *budget.Account

	r        *Request              // nil while it is idle
	readable func(fd uintptr) bool // onReadable; made once
	fd       int                   // of the socket while onReadable runs, else -1
	event    event                 // why onReadable has returned true
	served   int                   // requests
	renewed  bool                  // this goroutine has served none of them
	slow     bool                  // the client, with the last piece that was spliced: it was waited for

	readUntil, writeUntil int64 // the deadlines that are set, in nanoseconds of the server's clock

	state       atomic.Uint32
	bodyStopped atomic.Bool      // the body of the request is not read any more
	waitsSince  atomic.Int64     // since when nothing is under way, made unique to each time
	rate        rate             // at which the client moves what it has to
	mu          sync.Mutex       // of what follows, which watchConns reads
	parkedFor   int64            // the waitsSince for which it was parked
	context     *message.Context // of the request that is being served
	detached    *message.Context // of what goes on without its client
	since       int64            // when it began
	handedOver  *message.Conn    // to another server
	aborted     bool
}

// States of a connection. The goroutine that moves it away from one of waiting (heading, idle,
// parking) may read from it, or close it.
const (
	heading uint32 = iota // nothing, or a part of a head, has come of what is not an idle connection's request
	idle
	active
	parking   // its goroutine is to be replaced by one with a small stack
	lingering // the last response is out, and the client has time to read it
	closing
)

// serve is the connection's goroutine.
func (c *conn) serve() {
	what := eventEnd
	defer func() {
		if v := recover(); v != nil { // one client's request must not end the others'
			c.srv.Logger.Error("a panic ended a connection", "panic", v, "stack", string(debug.Stack()))
			what = eventEnd
			c.mu.Lock()
			c.context, c.detached = nil, nil
			c.mu.Unlock()
			if c.r != nil {
				c.r.whole.Abandon()
				c.r.in.discharge()
			}
			c.r = nil // the handler may have kept it
		}
		if c.r != nil {
			c.dropRequest()
		}
		if what == eventRenew {
			c.renewed = true
			c.srv.running.Go(c.serve)
		} else {
			c.srv.remove(c)
		}
	}()
	if c.served == 0 && !c.open() {
		return
	}
	for what = c.awaitRequest(); what == eventServe; what = c.awaitRequest() {
		first := c.served == 0
		c.served++
		what = eventEnd // also after a panic
		switch c.serveUnparsed(first) {
		case lingerConn:
			c.linger()
			return
		case closeConn:
			return
		}
	}
	if what == eventLinger {
		c.linger()
	}
}

// event is why the connection's goroutine comes back from waiting.
type event uint8

const (
	eventEnd event = iota
	eventLinger
	eventServe // a request has begun that takes more than one read
	eventRenew // it idles: another goroutine goes on with it
)

// awaitRequest waits for the next request that takes more than one read; the others are served by
// onReadable while it waits.
func (c *conn) awaitRequest() event {
	if c.raw == nil {
		return c.awaitRequestTLS()
	}
	for {
		err := c.raw.Read(c.readable)
		switch {
		case err == nil:
			return c.event
		case errors.Is(err, os.ErrDeadlineExceeded) && c.state.CompareAndSwap(parking, idle):
			c.setReadDeadline(time.Now().Add(c.srv.IdleTimeout))
			return eventRenew
		case !c.requestCame(err):
			return eventEnd
		}
	}
}

// activate takes the connection out of its idle state; false when it is being closed. One that was
// only to give way is taken back: its client has sent a request and is to get the response.
func (c *conn) activate() bool {
	c.renewed = false
	if c.state.CompareAndSwap(idle, active) || c.state.CompareAndSwap(heading, active) {
		return true
	}
	if !c.state.CompareAndSwap(parking, active) {
		return c.takeBack(active)
	}
	c.mu.Lock() // park has set its deadline by then, which is void now
	defer c.mu.Unlock()
	c.setReadDeadline(time.Now().Add(c.srv.IdleTimeout))
	return true
}

// onReadable is called by the poller's loop whenever there may be something to read: once at its
// beginning, then after each sign of it. It serves what is there and returns false to wait for
// more. As it all happens within that loop no sign can be missed, so that no read is needed before
// the wait. While it runs nothing else can read from the connection: what takes more than one read
// is left to the connection's goroutine, and true returned.
func (c *conn) onReadable(fd uintptr) (stop bool) {
	c.fd = int(fd)
	defer func() { c.fd = -1 }()
	for drained := false; ; {
		if c.r == nil {
			c.r = takeRequest(c)
		}
		in := &c.r.in
		if in.empty() {
			if drained {
				return c.releaseBuffers()
			}
			space := in.b[in.w:]
			n, err := message.Recv(fd, space)
			if err == syscall.EAGAIN {
				return c.releaseBuffers()
			}
			if err != nil || n == 0 {
				c.event = eventEnd
				return true
			}
			in.w += n
			drained = n < len(space)
		}
		if !c.activate() {
			c.event = eventEnd
			return true
		}
		if !c.parseBuffered() {
			c.event = c.beginHead()
			return true
		}
		c.served++
		switch c.serveParsed() {
		case closeConn:
			c.event = eventEnd
			return true
		case lingerConn:
			c.event = eventLinger
			return true
		}
	}
}

// beginHead has the connection wait for the rest of a head; a shutdown need not wait for it.
func (c *conn) beginHead() event {
	c.waitsSince.Store(c.srv.clock.Load())
	c.state.CompareAndSwap(active, heading)
	return eventServe
}

// releaseBuffers gives the buffers back before the goroutine is parked, so that an idle connection
// costs little more than its goroutine. Many clients send one request and then nothing: after the
// first one the goroutine is renewed. A request takes a stack of 8 KiB, which stays with its
// goroutine, and to wait takes 2.
func (c *conn) releaseBuffers() (stop bool) {
	c.dropRequest()
	if c.served == 1 && !c.renewed {
		c.event = eventRenew
		return true
	}
	return false
}

// parseBuffered parses the head of the request in the buffer. False: the head or
// its body is not there whole, is malformed, or needs a second read from the client.
func (c *conn) parseBuffered() bool {
	r := c.r
	r.begin()
	n, err := parseRequest(r.in.unread(), &r.Exchange, &r.head)
	h := &r.head
	if err != nil || n > c.srv.MaxHeader || h.upgrades || h.expects ||
		h.length < 0 || h.length > int64(r.in.w-r.in.r-n) {
		return false
	}
	r.in.consume(n)
	return true
}

// serveParsed serves the request whose head was parsed.
func (c *conn) serveParsed() disposition {
	r := c.r
	r.beginBody()
	c.mu.Lock()
	c.context, c.detached, c.since = r.ctx, r.detached, c.srv.clock.Load()
	c.rate.beginLocked()
	c.mu.Unlock()
	c.srv.Handler.Serve(r)
	c.mu.Lock()
	c.context, c.detached = nil, nil
	c.mu.Unlock()
	r.whole.Release()
	then := r.finish()
	r.ctx, r.detached = r.ctx.End(), r.detached.End()
	if then != keepConn {
		return then
	}
	r.in.restart()
	c.armRead(c.srv.IdleTimeout)
	c.waitsSince.Store(c.srv.clock.Load() + int64(c.served)) // a nanosecond each
	if !c.state.CompareAndSwap(active, idle) || c.srv.draining.Load() {
		return closeConn
	}
	return keepConn
}

// write sends p whole.
func (c *conn) write(p []byte) error {
	if c.fd >= 0 && c.state.Load() != closing {
		n, err := message.Send(uintptr(c.fd), p, false)
		if n == len(p) || err != nil && err != syscall.EAGAIN {
			return err
		}
		p = p[n:]
	}
	c.armWrite()
	c.rate.writes.Store(true)
	_, err := c.nc.Write(p)
	c.rate.writes.Store(false)
	return err
}

// bytesWaiting returns how many bytes a read would find.
func (c *conn) bytesWaiting() (n int) {
	if err := c.socket.Control(func(fd uintptr) { n = unread(int(fd)) }); err != nil {
		return 0
	}
	return n
}

var errNotArrived = errors.New("http1: the body has not come whole")

// readArrived reads what is there, without a wait. With TLS that is not known.
func (c *conn) readArrived(p []byte) (n int, err error) {
	if c.raw == nil {
		return 0, errNotArrived
	}
	failed := c.raw.Control(func(fd uintptr) { n, err = message.Recv(fd, p) })
	switch {
	case failed != nil:
		return 0, failed
	case err == syscall.EAGAIN:
		return 0, errNotArrived
	case n == 0 && err == nil:
		return 0, io.EOF
	}
	return n, err
}

func (c *conn) dropRequest() {
	c.r.release()
	c.r = nil
}

// park has the goroutine of a connection that has idled for a while replaced by one with a small
// stack.
func (c *conn) park(now int64) {
	since := c.waitsSince.Load()
	if since > now-int64(parkAfter) || c.raw == nil && c.sealed == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parkedFor != since && c.state.CompareAndSwap(idle, parking) {
		c.parkedFor = since
		c.base.SetReadDeadline(message.Past) // wakes it; fails only for a closed connection
	}
}

const parkAfter = time.Second

// serveUnparsed serves the request that begins in the buffer, whatever it takes.
func (c *conn) serveUnparsed(first bool) disposition {
	r := c.r
	r.begin()
	err := r.readHead()
	if !c.activate() {
		return closeConn
	}
	if err == nil {
		return c.serveParsed()
	}
	if first && err == faultVersionNew && c.scheme == "http" && c.preface() {
		return closeConn
	}
	if first && err == faultOtherProtocol { // its speaker could not read a response of HTTP/1.1 (RFC 9113 §3.4)
		return closeConn
	}
	f, ok := err.(*Fault)
	if !ok {
		return closeConn // it has gone, or it was too slow
	}
	r.beginBody()
	r.response.closing = true
	r.body.err = err
	c.srv.Handler.Refuse(r, f)
	return r.finish()
}

// abort has the connection's goroutine end, in this server or another. That goroutine closes the
// connection: to close it here would mean to wait for onReadable.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = true
	c.state.Store(closing)
	if c.handedOver != nil {
		_ = c.handedOver.Close()
	}
	for _, ctx := range [...]*message.Context{c.context, c.detached} {
		if ctx != nil {
			ctx.Cancel()
		}
	}
	c.base.SetDeadline(message.Past) // fails only for a closed connection
}
