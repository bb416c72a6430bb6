package openloop

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// balancer hands out connections to some addresses in turn. It is safe for concurrent use.
type balancer struct {
	targets []*target
	mu      sync.Mutex
	turn    int
}

// target is one address.
type target struct {
	address string // host:port

	mu    sync.Mutex
	idle  []*conn
	until time.Time // it gets nothing before, since it refused a connection
	fails int       // in a row, without a response
}

const (
	outFor      = 500 * time.Millisecond
	failsMax    = 5
	dialLimit   = time.Second
	idleConnMax = 4096
)

func newBalancer(addresses []string) *balancer {
	b := new(balancer)
	for _, a := range addresses {
		b.targets = append(b.targets, &target{address: a})
	}
	return b
}

// pick returns the next address that is not left out; where all are, the next one.
func (b *balancer) pick(now time.Time) *target {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.targets {
		b.turn++
		if t := b.targets[b.turn%len(b.targets)]; t.inUse(now) {
			return t
		}
	}
	b.turn++
	return b.targets[b.turn%len(b.targets)]
}

func (t *target) inUse(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !now.Before(t.until)
}

// failed leaves the address out for a moment: at once when it refuses connections, else when
// several requests in a row had no response.
func (t *target) failed(now time.Time, refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fails++
	if refused || t.fails >= failsMax {
		t.until, t.fails = now.Add(outFor), 0
	}
}

// connect returns an idle connection, or a new one.
func (t *target) connect(ctx context.Context, deadline time.Time) (*conn, error) {
	t.mu.Lock()
	if n := len(t.idle); n > 0 {
		c := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		return c, nil
	}
	t.mu.Unlock()
	return t.dial(ctx, deadline)
}

func (t *target) dial(ctx context.Context, deadline time.Time) (*conn, error) {
	d := net.Dialer{Deadline: deadline, Timeout: dialLimit}
	c, err := d.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

// put takes back a connection whose response was read whole.
func (t *target) put(c *conn, resp *Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fails = 0
	if resp.close || c.r != c.w || len(t.idle) >= idleConnMax {
		c.Close()
		return
	}
	t.idle = append(t.idle, c)
}

// close closes the idle connections.
func (b *balancer) close() {
	for _, t := range b.targets {
		t.mu.Lock()
		for _, c := range t.idle {
			c.Close()
		}
		t.idle = nil
		t.mu.Unlock()
	}
}

// do sends a request to the next address. A connection that had been closed while idle is replaced
// once: the request was not read. So is an address that refuses connections, by each of the others.
func (b *balancer) do(ctx context.Context, request func(host string) []byte, slow bool,
	deadline time.Time) (Response, error) {
	var resp Response
	err := errLate
	for try := 0; try <= len(b.targets) && time.Now().Before(deadline); try++ {
		t := b.pick(time.Now())
		connect := t.connect
		if errors.Is(err, errStale) && try > 0 {
			connect = t.dial
		}
		var c *conn
		if c, err = connect(ctx, deadline); err != nil {
			t.failed(time.Now(), true)
			continue
		}
		if resp, err = c.roundTrip(request(t.address), slow, deadline); err == nil {
			t.put(c, &resp)
			return resp, nil
		}
		c.Close()
		if errors.Is(err, errStale) {
			continue
		}
		t.failed(time.Now(), false)
		return resp, err
	}
	return resp, err
}
