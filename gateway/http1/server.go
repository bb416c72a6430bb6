package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Handler answers requests.
type Handler interface {
	// Serve answers a request. What it leaves of the body is dealt with behind it.
	Serve(*Request)
	// Refuse answers one whose head is at fault; the connection is closed behind the response. The
	// exchange holds what could be parsed.
	Refuse(*Request, *Fault)
}

// Options of a server. All durations are above 0.
type Options struct {
	Handler       Handler
	HeaderTimeout time.Duration // for a whole head, and the handshake of TLS
	IdleTimeout   time.Duration // between two requests, and between two pieces of a body, either way
	MaxHeader     int           // bytes of a head
	// Slots bounds the connections that are open at once, over all servers that share it; those
	// beyond wait in the kernel's queue.
	Slots *Slots
	// Budget is what the connections draw on, over all servers that share it; nil bounds nothing.
	Budget *budget.Budget
	// TLS returns the configuration in force; nil is a server without TLS.
	TLS func() *tls.Config
	// HTTP2 takes over a connection that speaks HTTP/2, a *[message.Conn] or a *[message.Sealed] on one,
	// and closes it in the end; nil refuses such.
	HTTP2 func(net.Conn)
	// Accepted is called for each new connection and returns the address that it is held for (PROXY
	// protocol), or why it is not served; nil is none.
	Accepted func(c net.Conn, peer netip.Addr) (netip.Addr, error)
	// MinRate is how many bytes a second a client moves at least that has something to send or to
	// take; over [rateWindow] it is cut off for less. 0 is any.
	MinRate int64
	Cuts    *message.Cuts // counts clients that are cut off for it; nil counts nothing
	// Pipes are what long bodies are spliced through, over all servers that share it; without them, nil,
	// they are copied.
	Pipes  *Pipes
	Logger *slog.Logger

	ticks <-chan time.Time // of the watch, in place of its own
}

// Server serves HTTP/1.x on listeners. It is made with [New].
type Server struct {
	Options
	clock        atomic.Int64 // unix nanoseconds, to a tick
	date         atomic.Pointer[string]
	noKeepAlives atomic.Bool // responses close their connections
	draining     atomic.Bool // and nothing new is accepted
	stopping     chan struct{}
	stop         sync.Once
	end          sync.Once

	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	closed    bool
	running   sync.WaitGroup // the connections' goroutines

	ended, watched chan struct{} // the watch is to end, and has ended
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{
		Options: o, stopping: make(chan struct{}), conns: map[*conn]struct{}{}, listeners: map[net.Listener]struct{}{},
		ended: make(chan struct{}), watched: make(chan struct{}),
	}
	s.tick(time.Now())
	s.Slots.add(s)
	go s.watchConns()
	return s
}

// ErrClosed is what Serve returns after Shutdown or Close.
var ErrClosed = errors.New("http1: server closed")

// Serve accepts connections until the server is shut down, or the listener fails.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listeners[l] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	if closed || s.draining.Load() {
		return ErrClosed
	}
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			if !s.Slots.acquire(s.stopping) {
				nc.Close()
				return ErrClosed
			}
			s.start(nc)
			continue
		}
		if s.draining.Load() {
			return ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if pause == 0 {
			s.Logger.Error("no connection can be accepted", "error", err)
		}
		// Out of descriptors as a rule: a loop would take time from the requests being served.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.stopping:
			timer.Stop()
			return ErrClosed
		}
	}
}

func (s *Server) start(nc net.Conn) {
	c := &conn{srv: s, base: nc, nc: nc, fd: -1}
	c.waitsSince.Store(s.clock.Load())
	if a, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		c.peer = a.Addr().Unmap().WithZone("")
		c.client = c.peer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		nc.Close()
		s.Slots.release()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Go(c.serve)
}

func (s *Server) remove(c *conn) {
	c.nc.Close()
	c.account.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.Slots.release()
}

// handOver hands a connection over and returns when it has been closed. It counts as one of this
// server's until then.
func (s *Server) handOver(c *conn, nc net.Conn, handedOver *message.Conn) {
	if !c.state.CompareAndSwap(heading, active) && c.state.Load() != active {
		return
	}
	c.mu.Lock()
	c.handedOver = handedOver
	aborted := c.aborted
	c.mu.Unlock()
	if aborted {
		return
	}
	c.nc.SetDeadline(time.Time{}) // fails only for a closed connection
	s.HTTP2(nc)
	<-handedOver.Closed()
}

// Open returns how many connections are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// headDrained is how long a new connection has for its first request, and a head for its end, when the server is being
// shut down: who has just connected is sending it, and would lose it.
const headDrained = time.Second

// Shutdown closes the listeners and the idle connections and waits for the others to end their
// request, or for ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		s.mu.Lock()
		for c := range s.conns {
			c.closeWaiting(idle, parking)
			waited := s.clock.Load() - c.waitsSince.Load()
			if waited > int64(headDrained) {
				c.closeWaiting(heading)
			}
			if waited > int64(lingerDrained) {
				c.closeWaiting(lingering)
			}
		}
		left := len(s.conns)
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
}

// DisableKeepAlives has every response from now on close its connection, so that clients go
// elsewhere before the listeners close.
func (s *Server) DisableKeepAlives() { s.noKeepAlives.Store(true) }

func (s *Server) drain() {
	s.DisableKeepAlives()
	s.draining.Store(true)
	s.stop.Do(func() { close(s.stopping) })
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		l.Close()
	}
	clear(s.listeners)
}

// Close ends everything at once and returns when no goroutine of the server is left.
func (s *Server) Close() {
	s.drain()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.abort()
	}
	s.mu.Unlock()
	s.running.Wait()
	s.Slots.remove(s)
	s.end.Do(func() { close(s.ended) })
	<-s.watched
}

// tickEvery is the step of the server's clock and of the watch.
const tickEvery = 100 * time.Millisecond

// watchConns moves the clock and checks, for each request that takes longer than a tick, whether
// its client is still there and moves what it has to.
func (s *Server) watchConns() {
	defer close(s.watched)
	ticks := s.ticks
	if ticks == nil {
		t := time.NewTicker(tickEvery)
		defer t.Stop()
		ticks = t.C
	}
	var busy []*conn
	for {
		select {
		case now := <-ticks:
			busy = s.check(now, busy[:0])
		case <-s.ended:
			return
		}
	}
}

// check is what the watch does at a tick. busy is its memory for a list.
func (s *Server) check(now time.Time, busy []*conn) []*conn {
	// A machine that stood still has not given anybody time.
	elapsed := min(max(time.Duration(now.UnixNano()-s.clock.Load()), 0), time.Second)
	s.tick(now)
	busy = s.busyConns(busy)
	for _, c := range busy {
		c.checkClient()
		c.checkRate(elapsed)
	}
	clear(busy)
	return busy
}

func (s *Server) tick(now time.Time) {
	s.clock.Store(now.UnixNano())
	if text := message.Date(now); s.date.Load() == nil || *s.date.Load() != text {
		s.date.Store(&text)
	}
}

func (s *Server) dateText() string { return *s.date.Load() }

// busyConns returns the connections that serve a request, or linger behind the last one, and parks
// those that have become idle.
func (s *Server) busyConns(list []*conn) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Load()
	for c := range s.conns {
		switch c.state.Load() {
		case active, lingering:
			list = append(list, c)
		case idle:
			c.park(now)
		}
	}
	return list
}

// checkClient ends the context of a request whose client has left: with a reset, or the end of its
// sending side, as nginx and net/http take it.
func (c *conn) checkClient() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.context == nil || c.socket == nil || c.since > c.srv.clock.Load()-int64(tickEvery) {
		return
	}
	gone := false
	err := c.socket.Control(func(fd uintptr) { gone = hungUp(int(fd)) })
	if gone || err != nil {
		c.context.Cancel()
	}
}
