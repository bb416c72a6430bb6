package upstream

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// pool has the connections of an endpoint that were made with one TLS setting: those of HTTP/1.1
// that are idle, and in h2 those of HTTP/2. Once it is closed it keeps none; what uses one still
// ends undisturbed.
type pool struct {
	e           *endpoint
	tls         *tls.Config  // offers both protocols; nil without TLS
	tlsHTTP1    *tls.Config  // offers HTTP/1.1 alone
	h2          *h2          // nil where HTTP/2 is not spoken
	spoken      atomic.Int32 // what the last handshake agreed on: see alpn
	notUpgraded atomic.Int64 // unix nanoseconds until which the service is taken not to speak HTTP/1.1

	idle idleConns
}

func newPool(e *endpoint, c *tls.Config) *pool {
	p := &pool{e: e}
	if e.TLS {
		p.tls, p.tlsHTTP1 = clientTLS(e, c)
	}
	if e.HTTP2 || e.TLS {
		p.h2 = newH2(p)
	}
	return p
}

// conn is a connection of HTTP/1.1.
type conn struct {
	*http1.Client
	pool    *pool
	held    *descriptor
	expires time.Time
	lent    bool // its descriptor is counted for the client that uses it
	unsure  bool // the service may not speak HTTP/1.1
}

// newConn makes a connection one of HTTP/1.1.
func (p *pool) newConn(nc *connection, lent bool) *conn {
	c := &conn{pool: p, held: nc.held, expires: nc.expires, lent: lent}
	c.Client = http1.NewClient(nc.Conn, p.e.Host, c.release)
	return c
}

// deadline is when an idle connection closes.
func (c *conn) deadline(idle time.Duration) time.Time {
	if said := c.IdleMax(); said > 0 {
		idle = min(idle, said)
	}
	if at := c.IdleSince.Add(idle); at.Before(c.expires) {
		return at
	}
	return c.expires
}

// exchange sends a request on an idle connection that looks alive, or on a new one. reused tells
// which. An error that is no *message.Failure is one of connecting.
func (p *pool) exchange(
	ctx context.Context, s *Settings, x *filters.Exchange, m *message.Message, began time.Time, left time.Duration,
) (r Response, reused bool, err error) {
	before := x.Dispatched
	var response *http1.Response
	for stale := 0; ; stale++ {
		t, err := p.take(ctx, s, m, began, left)
		if err != nil {
			return nil, false, err
		}
		if !x.Deadline.IsZero() && late(x, time.Now()) { // while it connected
			t.discard()
			return nil, false, ErrExpired
		}
		if t.two != nil {
			r, again, err := p.h2.exchange(ctx, s, t, x, m)
			if again && stale < staleMax {
				continue
			}
			if err == nil {
				x.Observe(p.e.service.metrics.Duration, time.Since(began).Seconds())
				status, _, _ := r.Head()
				p.e.service.metrics.Responses.Count(status)
			}
			return r, false, err
		}
		c := t.one
		p.e.inUse.Add(1)
		reused = c.Used > 0
		x.Dispatched = true
		response, err = c.Do(ctx, x, m, began, s.allowed(x, m, began))
		if err == nil {
			break
		}
		f, ok := err.(*message.Failure)
		if ok && f.Silent && c.unsure {
			p.noHTTP1()
		}
		if !ok || !f.Stale {
			return nil, reused, err
		}
		x.Dispatched = before // as if it had not been in the pool
	}
	x.Observe(p.e.service.metrics.Duration, response.Took.Seconds())
	status, _, _ := response.Head()
	p.e.service.metrics.Responses.Count(status)
	return response, reused, nil
}

// staleMax is how many connections of HTTP/2 in a row may be ended by the service before a request
// is written.
const staleMax = 3

// taken is a connection that is ready for a request: one of HTTP/1.1, or one of HTTP/2 on which a
// stream is reserved.
type taken struct {
	one *conn
	two *conn2
	own bool // two is nobody else's, and is to be closed behind the stream
}

// discard gives up what was taken and not used.
func (t taken) discard() {
	if t.one != nil {
		t.one.Close()
		return
	}
	t.two.Unreserve()
	if t.own {
		t.two.Close()
	}
}

func (p *pool) take(
	ctx context.Context, s *Settings, m *message.Message, now time.Time, left time.Duration,
) (taken, error) {
	for {
		if p.usesHTTP2(m) {
			t, err := p.h2.take(ctx, s, now, left)
			if err == errHTTP1 { // the service has just chosen that
				continue
			}
			return t, err
		}
		c, err := p.reuse(s, m, now)
		if c != nil || err != nil {
			return taken{one: c}, err
		}
		t, err := p.dial(ctx, s, m, left)
		if err == errHTTP2 || err == errOnlyHTTP2 { // as is known now
			continue
		}
		return t, err
	}
}

// reuse returns an idle connection that looks alive; nil when there is none.
func (p *pool) reuse(s *Settings, m *message.Message, now time.Time) (*conn, error) {
	for {
		c := p.idle.pop()
		if c == nil {
			return nil, nil
		}
		if !now.Before(c.deadline(s.KeepAlive.Idle)) || !c.CheckedByDo() && !c.Quiet() {
			c.Close()
			continue
		}
		d := p.e.service.dialer
		if m.Account == nil || !d.guarded() {
			return c, nil
		}
		if c.held.move(m.Account) {
			c.lent = true
			return c, nil
		}
		p.giveBack(c)
		return nil, ErrOverloaded
	}
}

// giveBack keeps a connection that was popped and not used.
func (p *pool) giveBack(c *conn) {
	if !c.held.counted(p.e.service.dialer) || !p.keep(c) {
		c.Close()
	}
}

// release takes a connection back behind its exchange.
func (c *conn) release(_ *http1.Client, reusable bool) {
	p := c.pool
	p.e.inUse.Add(-1)
	if !reusable {
		return
	}
	c.Used++
	switch {
	case c.Spent(), !c.IdleSince.Before(c.expires):
	case c.lent && !c.held.move(p.e.service.dialer.account(nil)):
	default:
		if c.lent = false; p.keep(c) {
			return
		}
	}
	c.Close()
}

func (p *pool) close() {
	for _, c := range p.closeIdle() {
		c.Close()
	}
	if p.h2 != nil {
		p.h2.close()
	}
}
