package http2

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// Handler answers requests.
type Handler interface {
	// Serve answers a request, in a goroutine of its own.
	Serve(*Stream)
}

// Options of a server. Durations and limits are above 0.
type Options struct {
	Handler       Handler
	HeaderTimeout time.Duration // for the peer's first frame, and for a head that comes in several
	IdleTimeout   time.Duration // between two requests, and between two pieces of a body, either way
	MaxHeader     int           // bytes of a head as HTTP/1.1 would have it; the handler is told of one that is longer
	MaxStreams    int           // of one connection that are served at a time
	Logger        *slog.Logger
}

// Server serves HTTP/2 on connections that are handed to it. It is made with [New].
type Server struct {
	Options

	mu      sync.Mutex
	conns   map[*serverConn]struct{}
	closed  bool
	leaving bool          // Shutdown was called
	changed chan struct{} // when a connection has ended; has room for one
	idle    []*worker     // the last used on top

	handlers sync.WaitGroup

	detached context.Context // of what goes on without its client; ends with Close
	cut      context.CancelFunc
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{Options: o, conns: map[*serverConn]struct{}{}, changed: make(chan struct{}, 1)}
	s.detached, s.cut = context.WithCancel(context.Background())
	return s
}

// serverConn is the server's side of a connection.
type serverConn struct {
	conn
	srv      *Server
	peer     netip.Addr
	peerText string
	scheme   string
	fresh    []*Stream // begun, and not yet given to a handler; the reader's own

	// Under mu.
	running   int // handlers
	idleSince time.Time
	began     time.Time
	begun     bool // the peer has said something
	check     *time.Timer
	draining  bool
	leaving   bool // no more streams are taken
}

// drainPatience is how long a client has to see that the connection ends before the last stream is drawn that is still served.
const drainPatience = 500 * time.Millisecond

var drainPing = []byte("drained?")

// Serve serves a connection from its preface on, and closes it in the end.
func (s *Server) Serve(nc net.Conn) {
	c := &serverConn{srv: s, scheme: "http", began: time.Now()}
	carrier := nc
	if tc, ok := nc.(*tls.Conn); ok {
		c.scheme, carrier = "https", tc.NetConn()
	}
	if handedOver, ok := carrier.(*message.Conn); ok {
		c.peer = handedOver.Peer
	}
	c.peerText = c.peer.String()
	c.server = true
	c.init(nc, c, s.MaxHeader)
	c.patience = s.IdleTimeout
	c.idleSince = c.began
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	leaving := s.leaving
	s.mu.Unlock()
	c.serve(leaving)
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (c *serverConn) serve(leaving bool) {
	c.mu.Lock()
	c.check = time.AfterFunc(min(c.srv.HeaderTimeout, c.srv.IdleTimeout), c.look)
	c.buffer().b = appendSettings(c.buffer().b,
		setting{settingMaxStreams, uint32(c.srv.MaxStreams)}, setting{settingInitialWindow, streamWindow}, setting{settingMaxHeaderList, uint32(c.srv.MaxHeader)})
	c.buffer().b = appendWindowUpdate(c.buffer().b, 0, connWindow-firstWindow)
	c.kick()
	c.mu.Unlock()
	if leaving {
		c.drain()
	}
	err := c.preface()
	if err == nil {
		err = c.run()
	}
	for _, s := range c.fresh { // a connection that ends with what began them
		c.srv.start(s)
	}
	c.fresh = nil
	c.finish(err)
	c.mu.Lock()
	c.check.Stop()
	c.check = nil
	c.mu.Unlock()
	c.srv.Logger.Debug("a connection has ended", "peer", c.peerText, "reason", err)
}

// preface reads what a client begins with.
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

// look is called from time to time, and ends the connection when nothing happens on it.
func (c *serverConn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.check == nil {
		return
	}
	now := time.Now()
	c.noise = 0
	c.release(now)
	quiet := now.Sub(c.idleSince)
	switch {
	case !c.begun && now.Sub(c.began) >= c.srv.HeaderTimeout, !c.blockSince.IsZero() && now.Sub(c.blockSince) >= c.srv.HeaderTimeout:
		c.leave()
		return
	case c.running == 0 && quiet >= c.srv.IdleTimeout:
		c.farewell()
		return
	}
	next := min(c.srv.HeaderTimeout, c.srv.IdleTimeout)
	if c.begun && c.running == 0 && c.blockSince.IsZero() {
		next = c.srv.IdleTimeout - quiet
	}
	c.check.Reset(max(next, time.Millisecond))
}

// leave has the reader end the connection.
func (c *serverConn) leave() {
	c.leaving = true
	c.nc.SetReadDeadline(message.Past) // fails only for a closed connection
}

// farewell tells the client which was the last stream, and ends the connection behind it.
func (c *serverConn) farewell() {
	if !c.leaving {
		c.leaving = true
		c.buffer().b = appendGoAway(c.buffer().b, c.lastID, noError)
		c.kick()
	}
	if c.running == 0 {
		c.leave()
	}
}

// drain tells the client to open no more streams; those that are under way by then are still served.
func (c *serverConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return
	}
	c.draining = true
	c.buffer().b = appendGoAway(c.buffer().b, idMax, noError)
	c.buffer().b = appendPing(c.buffer().b, 0, drainPing)
	c.kick()
	time.AfterFunc(drainPatience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.farewell()
	})
}

// pinged implements side: everything that the client sent before it knew is there.
func (c *serverConn) pinged() {
	if c.draining {
		c.farewell()
	}
}

// headed implements side.
func (c *serverConn) headed(id uint32, end bool) error {
	c.mu.Lock()
	if s := c.streams[id]; s != nil {
		defer c.mu.Unlock()
		return c.trailed(s, end)
	}
	switch {
	case id%2 == 0:
		c.mu.Unlock()
		return connError{protocolError, "a client's stream with an even number"}
	case id <= c.lastID:
		defer c.mu.Unlock()
		if c.wasReset(id) {
			return c.noisy()
		}
		return connError{streamClosed, "a head on a stream that has ended"}
	case c.leaving:
		defer c.mu.Unlock()
		return c.noisy() // the client knows that it is not served
	}
	c.lastID = id
	full := c.running >= c.srv.MaxStreams
	if full {
		defer c.mu.Unlock()
		return streamError{id, refusedStream}
	}
	c.mu.Unlock()
	s := streams.Get().(*Stream)
	if !s.open(c, id, end) {
		streams.Put(s)
		return streamError{id, protocolError}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress()
	c.running++
	s.flow.send = sendWindow(c.flow.initial)
	c.streams[id] = &s.stream
	if !end && s.declared > 0 && s.declared <= heldMax && !s.expects {
		s.held = s
	} else {
		c.fresh = append(c.fresh, s)
	}
	return nil
}

// heldMax is the length up to which a body is waited for before its request is served: it goes out in one piece then, with the head,
// and a client that is slow with it keeps nothing but its stream.
const heldMax = frameMax

// holdMax is how long that is waited for: then the request is served, and the body bit by bit.
const holdMax = time.Second

// whole implements side.
func (c *serverConn) whole(s *stream) {
	if s.held != nil {
		c.fresh = append(c.fresh, s.held)
		s.held = nil
	}
}

// release serves the requests whose bodies have been waited for for long enough.
func (c *serverConn) release(now time.Time) {
	for _, s := range c.streams {
		if s.held != nil && now.Sub(s.held.Exchange.Received) >= holdMax {
			c.srv.start(s.held)
			s.held = nil
		}
	}
}

// trailed takes a trailer section.
func (c *serverConn) trailed(s *stream, end bool) error {
	if s.remoteEnded {
		return streamError{s.id, streamClosed}
	}
	if !end || c.tooLong || s.declared >= 0 && s.received != s.declared || !s.trail(c.fields) {
		return streamError{s.id, protocolError}
	}
	s.remoteEnd()
	s.readable.signal()
	return nil
}

// settle implements side: what came together is handed over together, so a request with a body has it, as a rule.
func (c *serverConn) settle() {
	if !c.begun && c.settled {
		c.mu.Lock()
		c.begun = true
		c.mu.Unlock()
	}
	for i, s := range c.fresh {
		c.fresh[i] = nil
		c.srv.start(s)
	}
	c.fresh = c.fresh[:0]
}

// ended implements side.
func (c *serverConn) ended(s *stream) {
	if s.held != nil { // nobody has seen it
		s.held = nil
		c.consume(s.unread())
		c.served()
	}
}

// served counts a request as done.
func (c *serverConn) served() {
	if c.running--; c.running == 0 {
		c.idleSince = time.Now()
		if c.leaving {
			c.leave()
		}
	}
}

// worker is a goroutine that serves one stream after another: its stack has grown already.
type worker struct{ next chan *Stream }

const workersMax = 256 // that wait for work

func (s *Server) start(st *Stream) {
	s.mu.Lock()
	n := len(s.idle)
	if n > 0 {
		w := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		w.next <- st
		return
	}
	s.mu.Unlock()
	w := &worker{next: make(chan *Stream, 1)}
	s.handlers.Go(func() { s.work(w, st) })
}

func (s *Server) work(w *worker, st *Stream) {
	for st != nil {
		st.serve()
		s.mu.Lock()
		if s.closed || len(s.idle) >= workersMax {
			s.mu.Unlock()
			return
		}
		s.idle = append(s.idle, w)
		s.mu.Unlock()
		st = <-w.next
	}
}

// Shutdown tells all clients to open no more streams and waits until those that are open have ended, or for ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	for {
		s.mu.Lock()
		s.leaving = true
		left := len(s.conns)
		all := make([]*serverConn, 0, left)
		for c := range s.conns {
			all = append(all, c)
		}
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		for _, c := range all {
			c.drain()
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends everything at once and returns when no handler is left.
func (s *Server) Close() {
	s.cut()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.nc.Close()
	}
	for _, w := range s.idle {
		w.next <- nil
	}
	s.idle = nil
	s.mu.Unlock()
	s.Shutdown(context.Background()) // their readers end by themselves now
	s.handlers.Wait()
}
