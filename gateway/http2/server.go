package http2

import (
	"context"
	"log/slog"
	"net"
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
	// MinRate is how many bytes a second a client moves at least that has something to send or to
	// take; over [rateWindow] of waiting it loses the stream for less. 0 is any.
	MinRate int64
	Cuts    *message.Cuts // counts clients and streams that are cut off for it; nil counts nothing
	Logger  *slog.Logger

	rateWindow time.Duration // in place of the constant
}

// Server serves HTTP/2 on connections that are handed to it. It is made with [New].
type Server struct {
	Options

	mu      sync.Mutex
	conns   map[*serverConn]struct{}
	closed  bool
	leaving bool          // Shutdown was called
	changed chan struct{} // when a connection has ended; has room for one
	idle    []*worker     // the last used at the end

	handlers sync.WaitGroup

	detached    context.Context // of what goes on without its client; ends with Close
	endDetached context.CancelFunc
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{Options: o, conns: map[*serverConn]struct{}{}, changed: make(chan struct{}, 1)}
	if s.rateWindow == 0 {
		s.rateWindow = rateWindow
	}
	s.detached, s.endDetached = context.WithCancel(context.Background())
	return s
}

// Serve serves a connection from its preface on, and closes it in the end.
func (s *Server) Serve(nc net.Conn) {
	c := &serverConn{srv: s, scheme: "http", began: time.Now()}
	base := nc
	if tc, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		c.scheme, base = "https", tc.NetConn()
	}
	c.base = base
	if handedOver, ok := base.(*message.Conn); ok {
		c.peer, c.client, c.authority = handedOver.Peer, handedOver.Client, handedOver.Authority
		c.account, c.base = handedOver.Account, handedOver.Conn
		handedOver.SetWaiting(c)
	}
	c.clientText = c.client.String()
	c.server = true
	c.init(nc, c, s.MaxHeader)
	c.writeTimeout = s.IdleTimeout
	if s.MinRate > 0 {
		c.rate = minRate{bytes: int64(float64(s.MinRate) * s.rateWindow.Seconds()), window: s.rateWindow}
	}
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

// Open returns how many connections are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown tells all clients to open no more streams and waits until those that are open have
// ended, or for ctx.
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
	s.endDetached()
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
	_ = s.Shutdown(context.Background()) // their readers end by themselves now
	s.handlers.Wait()
}
