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

// h2 is the HTTP/2 side of an endpoint: one connection for as many streams as the service allows, a further one beyond.
type h2 struct {
	e *endpoint

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
	left bool // whoever made it had left, or had no time
}

func newH2(e *endpoint) *h2 { return &h2{e: e} }

func (h *h2) close() {
	h.mu.Lock()
	conns := h.conns
	h.conns, h.closed = nil, true
	h.mu.Unlock()
	for _, c := range conns {
		c.Close() // those in use close at the end of their last stream
	}
}

// take returns a connection on which a stream is reserved.
func (h *h2) take(ctx context.Context) (*http2.Client, error) {
	for {
		c, d, mine := h.reserve()
		if c != nil {
			return c, nil
		}
		if mine {
			return h.dial(ctx, d)
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if d.err != nil && !d.left { // else it is somebody else's turn
			return nil, d.err
		}
	}
}

// reserve finds a connection with room for a stream, or else whoever makes one: that is the caller when mine is true.
func (h *h2) reserve() (found *http2.Client, d *dialing, mine bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
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
func (h *h2) dial(ctx context.Context, d *dialing) (*http2.Client, error) {
	nc, err := h.e.dial(ctx)
	var c *http2.Client
	if err == nil {
		scheme := "http"
		if h.e.TLS {
			scheme = "https"
		}
		c = http2.NewClient(nc, h.e.Host, scheme)
		c.Reserve() // it has room
	}
	h.mu.Lock()
	h.dialing = nil
	d.err, d.left = err, ctx.Err() != nil
	if err == nil && !h.closed {
		h.conns = append(h.conns, c)
	}
	closed := h.closed
	h.mu.Unlock()
	close(d.done)
	if closed && c != nil {
		c.Close() // behind this exchange
	}
	return c, err
}

// exchange sends a request as one stream. An error that is no *message.Failure is one of connecting, or of a service that went away and has not
// seen the request.
func (h *h2) exchange(ctx context.Context, x *filters.Exchange, m *message.Message) (Response, error) {
	c, err := h.take(ctx)
	if err != nil {
		return nil, err
	}
	before := x.Dispatched
	x.Dispatched = true
	h.e.inUse.Add(1)
	a, err := c.Do(ctx, x, m, time.Now(), h.e.service.settings.Timeout)
	if err == nil {
		return &h2Answer{a, h.e}, nil
	}
	h.e.inUse.Add(-1)
	var f *message.Failure
	if errors.As(err, &f) && !f.Sent && !f.Client && ctx.Err() == nil {
		x.Dispatched = before
		return nil, f.Cause
	}
	return nil, err
}

// h2Answer is an answer that came as a stream of HTTP/2.
type h2Answer struct {
	*http2.Response
	e *endpoint
}

func (a *h2Answer) Close() error {
	a.e.inUse.Add(-1)
	return a.Response.Close()
}
