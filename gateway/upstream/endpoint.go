package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/message"
)

const (
	idleMax     = 128
	idleTimeout = 55 * time.Second // shorter than the 60 to 75 s at which most servers close
)

// endpoint is one instance of a service with its idle connections, the last used on top.
type endpoint struct {
	config.Endpoint
	service *Service
	h2      *h2 // nil but for HTTP/2
	inUse   atomic.Int64
	down    atomic.Bool // it failed its health check
	release func(*http1.Client, bool)

	mu     sync.Mutex
	idle   []*http1.Client
	sweep  *time.Timer // runs while there are idle ones
	closed bool
}

func newEndpoint(c config.Endpoint, s *Service) *endpoint {
	e := &endpoint{Endpoint: c, service: s}
	e.release = e.put
	if c.HTTP2 {
		e.h2 = newH2(e)
	}
	return e
}

// exchange sends a request on an idle connection that looks alive, or on a new one. used tells which. An error that is no
// *message.Failure is one of connecting.
func (e *endpoint) exchange(ctx context.Context, x *filters.Exchange, m *message.Message, began time.Time) (a Response, used bool, err error) {
	before := x.Dispatched
	var answer *http1.Response
	for {
		c, err := e.take(ctx, began)
		if err != nil {
			return nil, false, err
		}
		e.inUse.Add(1)
		used = c.Used > 0
		x.Dispatched = true
		answer, err = c.Do(ctx, x, m, began, e.service.settings.Timeout)
		if err == nil {
			break
		}
		if f, ok := err.(*message.Failure); !ok || !f.Stale {
			return nil, used, err
		}
		x.Dispatched = before // as if it had not been in the pool
	}
	e.service.metrics.Duration.Observe(answer.Took.Seconds())
	return answer, used, nil
}

func (e *endpoint) take(ctx context.Context, now time.Time) (*http1.Client, error) {
	for {
		c := e.pop()
		if c == nil {
			break
		}
		if now.Sub(c.IdleSince) < idleTimeout && c.Quiet(now) {
			return c, nil
		}
		c.Close()
	}
	nc, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	return http1.NewClient(nc, e.Host, e.release), nil
}

// dial makes a connection, with TLS where the endpoint has it.
func (e *endpoint) dial(ctx context.Context) (net.Conn, error) {
	s := e.service
	d := net.Dialer{Timeout: s.settings.ConnectTimeout, KeepAlive: 15 * time.Second}
	s.metrics.Connects.Inc()
	nc, err := d.DialContext(ctx, e.Network, e.Address)
	if err == nil && e.TLS {
		nc, err = e.handshake(ctx, nc)
	}
	if err != nil {
		s.metrics.ConnectFailures.Inc()
		return nil, err
	}
	return nc, nil
}

func (e *endpoint) handshake(ctx context.Context, nc net.Conn) (net.Conn, error) {
	var c *tls.Config
	if c = e.service.settings.TLS; c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.ServerName == "" {
		c = c.Clone()
		if c.ServerName, _, _ = net.SplitHostPort(e.Address); c.ServerName == "" {
			c.ServerName = e.Host
		}
	}
	ctx, cancel := context.WithTimeout(ctx, e.service.settings.ConnectTimeout)
	defer cancel()
	tc := tls.Client(nc, c)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

func (e *endpoint) pop() *http1.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.idle)
	if n == 0 {
		return nil
	}
	c := e.idle[n-1]
	e.idle[n-1] = nil
	e.idle = e.idle[:n-1]
	return c
}

// put takes a connection back behind its exchange.
func (e *endpoint) put(c *http1.Client, reusable bool) {
	e.inUse.Add(-1)
	if !reusable {
		return
	}
	c.Used++
	e.mu.Lock()
	var old *http1.Client
	switch {
	case e.closed:
		old = c
	case len(e.idle) >= idleMax: // the bottom has been idle longest
		old = e.idle[0]
		copy(e.idle, e.idle[1:])
		e.idle[len(e.idle)-1] = c
	default:
		e.idle = append(e.idle, c)
		if e.sweep == nil {
			e.sweep = time.AfterFunc(idleTimeout, e.trim)
		}
	}
	e.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

// trim closes the connections that have idled too long: those at the bottom, which a quiet service would keep for ever.
func (e *endpoint) trim() {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for n < len(e.idle) && time.Since(e.idle[n].IdleSince) >= idleTimeout {
		e.idle[n].Close()
		n++
	}
	e.idle = slices.Delete(e.idle, 0, n)
	if e.sweep = nil; len(e.idle) > 0 {
		e.sweep = time.AfterFunc(idleTimeout/4, e.trim)
	}
}

func (e *endpoint) close() {
	e.mu.Lock()
	idle := e.idle
	e.idle, e.closed = nil, true
	if e.sweep != nil {
		e.sweep.Stop()
	}
	e.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
	if e.h2 != nil {
		e.h2.close()
	}
}
