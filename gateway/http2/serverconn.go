package http2

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// serverConn is the server's side of a connection.
type serverConn struct {
	conn
	srv        *Server
	peer       netip.Addr // who holds it
	client     netip.Addr // for whom: peer, or what a load balancer says
	clientText string
	scheme     string
	base       net.Conn           // below TLS, and what was handed over
	authority  *message.Authority // for which hosts; nil without TLS
	ready      []*Stream          // begun, and not yet given to a handler; the reader's own

	// Under mu.
	running   int // handlers
	idleSince time.Time
	began     time.Time
	begun     bool // the peer has sent its settings
	check     *time.Timer
	draining  bool
	leaving   bool // no more streams are taken

	socketPace writePace
}

// drainWait is how long a client that does not acknowledge has to learn that the connection ends,
// before streams are no longer accepted.
const drainWait = 500 * time.Millisecond

var drainPing = []byte("drained?")

func (c *serverConn) serve(leaving bool) {
	c.mu.Lock()
	c.check = time.AfterFunc(min(c.srv.HeaderTimeout, c.srv.IdleTimeout), c.onCheck)
	if c.account.Room(budget.Buffered) < connWindow {
		c.flow.granted = smallWindow
	}
	c.buffer().b = appendSettings(c.buffer().b,
		setting{settingMaxStreams, uint32(c.srv.MaxStreams)}, setting{settingInitialWindow, uint32(c.flow.granted)},
		setting{settingMaxHeaderList, uint32(c.srv.MaxHeader)})
	c.buffer().b = appendWindowUpdate(c.buffer().b, 0, connWindow-firstWindow)
	c.startWriter()
	c.mu.Unlock()
	if leaving {
		c.drain()
	}
	err := c.preface()
	if err == nil {
		err = c.run()
	}
	c.drop()
	for _, s := range c.ready { // they arrived together with the end of the connection
		c.srv.start(s)
	}
	c.ready = nil
	c.finish(err)
	c.mu.Lock()
	c.check.Stop()
	c.check = nil
	c.mu.Unlock()
	if atFault := (connError{}); errors.As(err, &atFault) {
		c.srv.Cuts.Refused(c.srv.Logger, message.RefusedHTTP2, c.clientText, err)
	}
	c.srv.Logger.Debug("a connection has ended", "client", c.clientText, "reason", err)
}

// preface reads the connection preface of the client.
func (c *serverConn) preface() error {
	for c.w < len(message.HTTP2Preface) {
		if err := c.fill(); err != nil {
			return err
		}
		n := min(c.w, len(message.HTTP2Preface))
		if string(c.in[:n]) != message.HTTP2Preface[:n] {
			return connError{protocolError, "the connection does not begin with HTTP/2's preface"}
		}
	}
	c.r = len(message.HTTP2Preface)
	return nil
}

// onCheck ends the connection when nothing happens on it. It is called by the check timer.
func (c *serverConn) onCheck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.check == nil {
		return
	}
	now := time.Now()
	c.serveDeferred(now)
	c.checkSocket(now)
	quiet := now.Sub(c.idleSince)
	switch {
	case !c.begun && now.Sub(c.began) >= c.srv.HeaderTimeout,
		!c.blockSince.IsZero() && now.Sub(c.blockSince) >= c.srv.HeaderTimeout:
		c.endReader()
		return
	case c.running == 0 && quiet >= c.srv.IdleTimeout:
		c.goAway()
		return
	}
	next := min(c.srv.HeaderTimeout, c.srv.IdleTimeout)
	if c.begun && c.running == 0 && c.blockSince.IsZero() {
		next = c.srv.IdleTimeout - quiet
	}
	if c.sending {
		next = min(next, c.srv.rateWindow/6)
	}
	c.check.Reset(max(next, time.Millisecond))
}

// IdleSince implements [message.Waiting].
func (c *serverConn) IdleSince() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running > 0 || c.leaving || c.closing != nil {
		return 0
	}
	return c.idleSince.UnixNano()
}

// GiveWay implements [message.Waiting]: the client is told that no stream is served any more.
func (c *serverConn) GiveWay(since int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running > 0 || c.leaving || c.closing != nil || c.idleSince.UnixNano() != since {
		return false
	}
	c.lingers = lingerGivenWay
	c.goAway()
	return true
}

// endReader has the reading goroutine end the connection.
func (c *serverConn) endReader() {
	c.leaving = true
	c.nc.SetReadDeadline(message.Past) // fails only for a closed connection
}

// goAway tells the client which was the last stream, and ends the connection behind it.
func (c *serverConn) goAway() {
	if !c.leaving {
		c.leaving = true
		c.buffer().b = appendGoAway(c.buffer().b, c.lastID, noError)
		c.startWriter()
	}
	if c.running == 0 {
		c.endReader()
	}
}

// drain tells the client to open no more streams; those that are under way by then are still
// served.
func (c *serverConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return
	}
	c.draining = true
	c.buffer().b = appendGoAway(c.buffer().b, idMax, noError)
	c.buffer().b = appendPing(c.buffer().b, 0, drainPing)
	c.startWriter()
	time.AfterFunc(drainWait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.goAway()
	})
}

// settledNow implements side.
func (c *serverConn) settledNow() {}

// pingAcked implements side: all streams that the client opened before it saw the GOAWAY have
// arrived.
func (c *serverConn) pingAcked() {
	if c.draining {
		c.goAway()
	}
}

// processHead implements side.
func (c *serverConn) processHead(id uint32, end bool) error {
	c.mu.Lock()
	if s := c.streams[id]; s != nil {
		defer c.mu.Unlock()
		return c.processTrailer(s, end)
	}
	switch {
	case id%2 == 0:
		c.mu.Unlock()
		return connError{protocolError, "a client's stream with an even number"}
	case id <= c.lastID:
		defer c.mu.Unlock()
		e := c.endedStream(id)
		if e == nil {
			return connError{streamClosed, "a head on a stream that has ended"}
		}
		if !e.trailer(&c.headDecoder, end) {
			return c.refuseLocked(id, protocolError)
		}
		return c.countIdle()
	case c.leaving:
		defer c.mu.Unlock()
		return c.countIdle() // the client has been told that it is not served
	}
	c.lastID = id
	full := c.running >= c.srv.MaxStreams
	if full {
		defer c.mu.Unlock()
		return c.refuseLocked(id, refusedStream)
	}
	c.mu.Unlock()
	cost := headCost(c.size)
	if !c.charge(cost) {
		return c.refuse(id, refusedStream)
	}
	s := streams.Get().(*Stream)
	if !s.open(c, id, end) {
		c.discharge(cost)
		streams.Put(s)
		return c.refuse(id, protocolError)
	}
	s.charged = cost
	c.mu.Lock()
	defer c.mu.Unlock()
	c.countProgress()
	c.running++
	s.flow.send = sendWindow(c.flow.initial)
	c.streams[id] = &s.stream
	if !end && s.declared > 0 && s.declared <= deferredBodyMax && !s.expects {
		s.deferred = s
	} else {
		c.ready = append(c.ready, s)
	}
	return nil
}

// deferredBodyMax is the length up to which a body is waited for before its request is served: it
// goes out in one piece then, with the head, and a client that is slow with it occupies nothing but
// its stream.
const deferredBodyMax = frameMax

// deferMax is how long it is waited for: then the request is served, and its body streamed.
const deferMax = time.Second

// remoteClosed implements side.
func (c *serverConn) remoteClosed(s *stream) {
	if s.deferred != nil {
		c.ready = append(c.ready, s.deferred)
		s.deferred = nil
	}
}

// serveDeferred serves the requests whose bodies have been waited for long enough.
func (c *serverConn) serveDeferred(now time.Time) {
	for _, s := range c.streams {
		if s.deferred != nil && now.Sub(s.deferred.Exchange.Received) >= deferMax {
			c.srv.start(s.deferred)
			s.deferred = nil
		}
	}
}

// processTrailer takes a trailer section.
func (c *serverConn) processTrailer(s *stream, end bool) error {
	if s.remoteEnded {
		return c.refuseLocked(s.id, streamClosed)
	}
	if !end || c.tooLong || s.declared >= 0 && s.received != s.declared || !s.trail(c.fields) {
		return c.refuseLocked(s.id, protocolError)
	}
	s.remoteEnd()
	s.readable.signal()
	return nil
}

// beforeWait implements side: what arrived together is served together, so a request with a body
// has it, as a rule.
func (c *serverConn) beforeWait() {
	if !c.begun && c.settled {
		c.mu.Lock()
		c.begun = true
		c.mu.Unlock()
	}
	for i, s := range c.ready {
		c.ready[i] = nil
		c.srv.start(s)
	}
	c.ready = c.ready[:0]
}

// removed implements side.
func (c *serverConn) removed(s *stream) {
	if s.deferred != nil { // no handler has it
		s.deferred = nil
		c.consume(s.unread())
		s.settle()
		c.requestDone()
	}
}

// requestDone counts a request as done.
func (c *serverConn) requestDone() {
	if c.running--; c.running == 0 {
		c.idleSince = time.Now()
		if c.leaving {
			c.endReader()
		}
	}
}

// tooSlow implements side.
func (c *serverConn) tooSlow() { c.srv.Cuts.TooSlow(c.srv.Logger, c.clientText, c.srv.MinRate) }
