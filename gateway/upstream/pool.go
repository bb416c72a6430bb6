package upstream

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	idleMax     = 128
	idleTimeout = 55 * time.Second // shorter than the 60 to 75 s at which most servers close
)

// endpoint is one address of a service with its idle connections, the last used on top.
type endpoint struct {
	address string
	host    string
	inUse   atomic.Int64

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

// take returns a connection that looks alive: an idle one, or a new one.
func (e *endpoint) take(ctx context.Context, connectTimeout time.Duration, m Metrics) (*conn, error) {
	for {
		c := e.pop()
		if c == nil {
			break
		}
		if time.Since(c.idleSince) < idleTimeout && c.quiet() {
			return c, nil
		}
		c.Close()
	}
	d := net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	m.Connects.Inc()
	nc, err := d.DialContext(ctx, "tcp", e.address)
	if err != nil {
		m.ConnectFailures.Inc()
		return nil, err
	}
	return newConn(nc, e), nil
}

func (e *endpoint) pop() *conn {
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

// put gives a connection back for the next request.
func (e *endpoint) put(c *conn) {
	c.idleSince = time.Now()
	c.used++
	e.mu.Lock()
	var old *conn
	switch {
	case e.closed:
		old = c
	case len(e.idle) >= idleMax: // the bottom has been idle longest
		old = e.idle[0]
		copy(e.idle, e.idle[1:])
		e.idle[len(e.idle)-1] = c
	default:
		e.idle = append(e.idle, c)
	}
	e.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

func (e *endpoint) close() {
	e.mu.Lock()
	idle := e.idle
	e.idle, e.closed = nil, true
	e.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// quiet reports whether an idle connection is open and silent: a service that has closed it, or that spoke unasked, cannot be given a request.
func (c *conn) quiet() bool {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	})
	return err == nil && alive
}
