package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/message"
)

const (
	idleMax     = 128
	idleTimeout = 55 * time.Second // shorter than the 60 to 75 s at which most servers close
)

// pool has the connections of an endpoint that were made with one TLS setting. Once it is closed it
// keeps none; what uses one still ends undisturbed.
type pool struct {
	e       *endpoint
	tls     *tls.Config // nil without TLS
	h2      *h2         // nil but for HTTP/2
	release func(*http1.Client, bool)

	mu     sync.Mutex
	idle   []*http1.Client // the last used on top
	sweep  *time.Timer     // runs while there are idle ones
	closed bool
}

func newPool(e *endpoint, c *tls.Config) *pool {
	p := &pool{e: e}
	p.release = p.put
	if e.TLS {
		p.tls = clientTLS(e, c)
	}
	if e.HTTP2 {
		p.h2 = newH2(p)
	}
	return p
}

// clientTLS returns the TLS for an endpoint: without a server name it is verified as what it is
// connected to.
func clientTLS(e *endpoint, c *tls.Config) *tls.Config {
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.ServerName != "" {
		return c
	}
	c = c.Clone()
	if c.ServerName, _, _ = net.SplitHostPort(e.Address); c.ServerName == "" {
		c.ServerName = e.Host
	}
	return c
}

// exchange sends a request on an idle connection that looks alive, or on a new one. reused tells
// which. An error that is no *message.Failure is one of connecting.
func (p *pool) exchange(
	ctx context.Context, s *Settings, x *filters.Exchange, m *message.Message, began time.Time,
) (r Response, reused bool, err error) {
	before := x.Dispatched
	var response *http1.Response
	for {
		c, err := p.take(ctx, s, began)
		if err != nil {
			return nil, false, err
		}
		p.e.inUse.Add(1)
		reused = c.Used > 0
		x.Dispatched = true
		response, err = c.Do(ctx, x, m, began, s.timeoutOf(m))
		if err == nil {
			break
		}
		if f, ok := err.(*message.Failure); !ok || !f.Stale {
			return nil, reused, err
		}
		x.Dispatched = before // as if it had not been in the pool
	}
	p.e.service.metrics.Duration.Observe(response.Took.Seconds())
	return response, reused, nil
}

func (p *pool) take(ctx context.Context, s *Settings, now time.Time) (*http1.Client, error) {
	for {
		c := p.pop()
		if c == nil {
			break
		}
		if now.Sub(c.IdleSince) < idleTimeout && c.Quiet(now) {
			return c, nil
		}
		c.Close()
	}
	nc, err := p.dial(ctx, s.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	return http1.NewClient(nc, p.e.Host, p.release), nil
}

// dial makes a connection, with TLS where the endpoint has it.
func (p *pool) dial(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
	m := &p.e.service.metrics
	m.Connects.Inc()
	nc, err := d.DialContext(ctx, p.e.Network, p.e.Address)
	if err == nil && p.tls != nil {
		nc, err = p.handshake(ctx, nc, timeout)
	}
	if err != nil {
		m.ConnectFailures.Inc()
		return nil, err
	}
	return nc, nil
}

func (p *pool) handshake(ctx context.Context, nc net.Conn, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tc := tls.Client(nc, p.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

func (p *pool) pop() *http1.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// put takes a connection back behind its exchange.
func (p *pool) put(c *http1.Client, reusable bool) {
	p.e.inUse.Add(-1)
	if !reusable {
		return
	}
	c.Used++
	if surplus := p.keep(c); surplus != nil {
		surplus.Close()
	}
}

// keep makes a connection an idle one and returns the one that is to be closed for that, or nil.
func (p *pool) keep(c *http1.Client) (surplus *http1.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return c
	case len(p.idle) >= idleMax: // the bottom has been idle longest
		surplus = p.idle[0]
		copy(p.idle, p.idle[1:])
		p.idle[len(p.idle)-1] = c
		return surplus
	}
	p.idle = append(p.idle, c)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(idleTimeout, p.trim)
	}
	return nil
}

// trim closes the connections that have been idle too long: those at the bottom, which a quiet
// service would keep for ever.
func (p *pool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].IdleSince) >= idleTimeout {
		p.idle[n].Close()
		n++
	}
	p.idle = slices.Delete(p.idle, 0, n)
	if p.sweep = nil; len(p.idle) > 0 {
		p.sweep = time.AfterFunc(idleTimeout/4, p.trim)
	}
}

func (p *pool) close() {
	for _, c := range p.closeIdle() {
		c.Close()
	}
	if p.h2 != nil {
		p.h2.close()
	}
}

// closeIdle has the pool keep no connection from now on, and returns those that it had.
func (p *pool) closeIdle() []*http1.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle
	p.idle, p.closed = nil, true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	return idle
}
