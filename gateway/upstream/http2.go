package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http2"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// h2 is the HTTP/2 side of a pool: as many connections as the streams need that the service allows
// on each.
type h2 struct {
	pool *pool

	mu     sync.Mutex
	conns  []*conn2
	dials  []*dialing
	limit  int // streams that the last connection could carry
	closed bool
}

// conn2 is a connection of HTTP/2.
type conn2 struct {
	*http2.Client
	expires time.Time
}

// dialing is a connection that is being made, which those wait for that need one and may find room
// on it.
type dialing struct {
	done    chan struct{}
	waiting int // requests, with the one that makes it
	// Once done is closed:
	err  error
	left bool // the request that made it had been given up, or had no time
}

// streamsExpected is how many streams a connection is taken to carry before one has told.
const streamsExpected = 100

// errNoStreams: a service that takes no request.
var errNoStreams = errors.New("the service allows no stream on its connection")

func newH2(p *pool) *h2 { return &h2{pool: p, limit: streamsExpected} }

func (h *h2) close() {
	h.mu.Lock()
	conns := h.conns
	h.conns, h.closed = nil, true
	h.mu.Unlock()
	for _, c := range conns {
		c.Close() // those in use close at the end of their last stream
	}
}

// evict closes at most limit connections that are idle and returns how many.
func (h *h2) evict(limit int) int {
	idle := h.takeIdle(limit)
	for _, c := range idle {
		c.Close()
	}
	timer := time.NewTimer(evictedWait)
	defer timer.Stop()
	for _, c := range idle {
		select {
		case <-c.Closed():
		case <-timer.C:
			return len(idle)
		}
	}
	return len(idle)
}

func (h *h2) takeIdle(limit int) (idle []*conn2) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.conns[:0]
	for _, c := range h.conns {
		if len(idle) < limit && c.Open() == 0 {
			idle = append(idle, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(h.conns[len(kept):])
	h.conns = kept
	return idle
}

// take returns a connection on which a stream is reserved, or one of HTTP/1.1 where the service
// chooses that.
func (h *h2) take(ctx context.Context, s *Settings, now time.Time, left time.Duration) (taken, error) {
	for {
		c, d, mine := h.reserve(now)
		if c != nil {
			return taken{two: c}, nil
		}
		if mine {
			return h.dial(ctx, s, d, left)
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return taken{}, ctx.Err()
		}
		if d.err != nil && !d.left { // else another request makes it
			return taken{}, d.err
		}
	}
}

// reserve returns a connection with room for a stream, the least used one, or else one that is being
// made: by the caller when mine is true, for the caller alone when there is none to wait for.
func (h *h2) reserve(now time.Time) (found *conn2, d *dialing, mine bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, true
	}
	if found = h.leastUsedLocked(now); found != nil && found.Reserve() {
		return found, nil, false
	}
	for _, d := range h.dials {
		if d.waiting < h.limit {
			d.waiting++
			return nil, d, false
		}
	}
	d = &dialing{done: make(chan struct{}), waiting: 1}
	h.dials = append(h.dials, d)
	return nil, d, true
}

// leastUsedLocked returns the connection with the fewest streams that has room for one. What has
// ended, or is too old, leaves the list and closes behind its streams.
func (h *h2) leastUsedLocked(now time.Time) (found *conn2) {
	least := 0
	kept := h.conns[:0]
	for _, c := range h.conns {
		if !c.Alive() || !now.Before(c.expires) {
			c.Close()
			continue
		}
		kept = append(kept, c)
		if found != nil && least == 0 {
			continue
		}
		if open := c.Open(); open < c.Limit() && (found == nil || open < least) {
			found, least = c, open
		}
	}
	clear(h.conns[len(kept):])
	h.conns = kept
	return found
}

// dial makes a connection for the caller, and for those that wait for it.
func (h *h2) dial(ctx context.Context, s *Settings, d *dialing, left time.Duration) (t taken, err error) {
	p := h.pool
	nc, err := p.connect(ctx, p.tls, nil, left)
	switch {
	case err != nil:
	case p.tls != nil && nc.protocol != "h2":
		p.spoken.Store(alpnHTTP1)
		t.one = p.newConn(nc, false)
		h.dialed(d, nil, errHTTP1, false)
		return t, nil
	default:
		p.spoken.Store(alpnHTTP2)
		t.two, err = h.begin(ctx, s, nc)
	}
	t.own = h.dialed(d, t.two, err, ctx.Err() != nil)
	return t, err
}

// begin begins HTTP/2 on a connection and reserves a stream on it. It waits for the service's
// settings: more streams than those allow it would refuse.
func (h *h2) begin(ctx context.Context, s *Settings, nc *connection) (*conn2, error) {
	scheme := "http"
	if h.pool.tls != nil {
		scheme = "https"
	}
	c := &conn2{http2.NewClient(nc.Conn, h.pool.e.Host, scheme), nc.expires}
	err := c.AwaitReady(ctx, s.ConnectTimeout)
	if err == nil && !c.Reserve() {
		err = errNoStreams
	}
	if err != nil {
		c.Close()
		nc.Close()
		h.pool.e.service.metrics.ConnectFailures.Inc()
		return nil, &connectError{h.pool.e.address, err}
	}
	c.KeepFor(s.KeepAlive.Idle, nc.expires)
	return c, nil
}

// add keeps a connection. own: the pool is closed, and it is not kept.
func (h *h2) add(c *conn2) (own bool) {
	limit := c.Limit()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return true
	}
	h.conns, h.limit = append(h.conns, c), max(limit, 1)
	return false
}

// dialed keeps a new connection, and tells those that wait for it.
func (h *h2) dialed(d *dialing, c *conn2, err error, left bool) (own bool) {
	if c != nil {
		own = h.add(c)
	}
	if d == nil {
		return own
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.dials {
		if h.dials[i] == d {
			h.dials = append(h.dials[:i], h.dials[i+1:]...)
			break
		}
	}
	d.err, d.left = err, left
	close(d.done)
	return own
}

// exchange sends a request as one stream. An error that is no *message.Failure is one of a service
// that went away and has not seen the request. again: nothing was written, and another connection
// may serve.
func (h *h2) exchange(
	ctx context.Context, s *Settings, t taken, x *filters.Exchange, m *message.Message,
) (r Response, again bool, err error) {
	before := x.Dispatched
	x.Dispatched = true
	e := h.pool.e
	e.inUse.Add(1)
	now := time.Now()
	response, err := t.two.Do(ctx, x, m, now, s.allowed(x, m, now))
	if t.own {
		t.two.Close() // at the end of the stream
	}
	if err == nil {
		return &h2Response{Response: response, e: e}, false, nil
	}
	e.inUse.Add(-1)
	var f *message.Failure
	if !errors.As(err, &f) || f.Sent || f.Client || ctx.Err() != nil {
		return nil, false, err
	}
	x.Dispatched = before
	return nil, f.Stale, f.Cause
}

// h2Response is a response that came as a stream of HTTP/2.
type h2Response struct {
	*http2.Response
	e    *endpoint
	gRPC bool // the endpoint is judged by what is behind the body
}

func (r *h2Response) Read(p []byte) (int, error) {
	n, err := r.Response.Read(p)
	if err == io.EOF && r.gRPC {
		r.gRPC = false
		r.e.take(verdictOfFields(r.Trailer()))
	}
	return n, err
}

func (r *h2Response) Close() error {
	r.e.inUse.Add(-1)
	return r.Response.Close()
}
