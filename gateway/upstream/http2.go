package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http2"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// h2 is the HTTP/2 side of a pool: one connection for as many streams as the service allows, a
// further one beyond.
type h2 struct {
	pool *pool

	mu      sync.Mutex
	conns   []*http2.Client
	dialing *dialing // nil while no connection is being made
	closed  bool
}

// dialing is a connection that is being made, which all wait for that need one.
type dialing struct {
	done chan struct{}
	// Once done is closed:
	err  error
	left bool // the request that made it had been given up, or had no time
}

func newH2(p *pool) *h2 { return &h2{pool: p} }

func (h *h2) close() {
	h.mu.Lock()
	conns := h.conns
	h.conns, h.closed = nil, true
	h.mu.Unlock()
	for _, c := range conns {
		c.Close() // those in use close at the end of their last stream
	}
}

// take returns a connection on which a stream is reserved. own: it is nobody else's, and is to be
// closed behind the stream.
func (h *h2) take(ctx context.Context, s *Settings) (c *http2.Client, own bool, err error) {
	for {
		c, d, mine := h.reserve()
		if c != nil {
			return c, false, nil
		}
		if mine {
			return h.dial(ctx, s, d)
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		if d.err != nil && !d.left { // else another request makes it
			return nil, false, d.err
		}
	}
}

// reserve returns a connection with room for a stream, or else the one that is being made: by the
// caller when mine is true, for the caller alone when there is none to wait for.
func (h *h2) reserve() (found *http2.Client, d *dialing, mine bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, true
	}
	kept := h.conns[:0]
	for _, c := range h.conns {
		if !c.Alive() {
			c.Close()
			continue
		}
		kept = append(kept, c)
		if found == nil && c.Reserve() {
			found = c
		}
	}
	clear(h.conns[len(kept):])
	h.conns = kept
	if found != nil {
		return found, nil, false
	}
	if h.dialing != nil {
		return nil, h.dialing, false
	}
	h.dialing = &dialing{done: make(chan struct{})}
	return nil, h.dialing, true
}

// dial makes a connection for the caller, and for those that wait for it.
func (h *h2) dial(ctx context.Context, s *Settings, d *dialing) (c *http2.Client, own bool, err error) {
	nc, err := h.pool.dial(ctx, s.ConnectTimeout)
	if err == nil {
		scheme := "http"
		if h.pool.tls != nil {
			scheme = "https"
		}
		c = http2.NewClient(nc, h.pool.e.Host, scheme)
		c.Reserve() // it has room
	}
	own = h.dialed(d, c, err, ctx.Err() != nil)
	return c, own, err
}

// dialed keeps a new connection, and tells those that wait for it. own: the endpoint's connections
// are closed, and it is not kept.
func (h *h2) dialed(d *dialing, c *http2.Client, err error, left bool) (own bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed && c != nil {
		h.conns = append(h.conns, c)
	}
	if d != nil {
		h.dialing = nil
		d.err, d.left = err, left
		close(d.done)
	}
	return h.closed
}

func (h *h2) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// exchange sends a request as one stream. An error that is no *message.Failure is one of
// connecting, or of a service that went away and has not seen the request.
func (h *h2) exchange(ctx context.Context, s *Settings, x *filters.Exchange, m *message.Message) (Response, error) {
	before := x.Dispatched
	for {
		c, own, err := h.take(ctx, s)
		if err != nil {
			return nil, err
		}
		x.Dispatched = true
		h.pool.e.inUse.Add(1)
		r, err := c.Do(ctx, x, m, time.Now(), s.timeoutOf(m))
		if own {
			c.Close() // at the end of the stream
		}
		if err == nil {
			return &h2Response{r, h.pool.e}, nil
		}
		h.pool.e.inUse.Add(-1)
		var f *message.Failure
		if !errors.As(err, &f) || f.Sent || f.Client || ctx.Err() != nil {
			return nil, err
		}
		x.Dispatched = before
		if own || !h.isClosed() {
			return nil, f.Cause
		}
		// Closed between take and Do: nothing was sent, and a connection of its own is not closed
		// under it.
	}
}

// h2Response is a response that came as a stream of HTTP/2.
type h2Response struct {
	*http2.Response
	e *endpoint
}

func (r *h2Response) Close() error {
	r.e.inUse.Add(-1)
	return r.Response.Close()
}
