package message

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
)

// HTTP2Preface is what a client begins a connection of HTTP/2 with (RFC 9113 §3.4).
const HTTP2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Past is a deadline that has passed: it wakes the goroutine that waits for the connection.
var Past = time.Unix(1, 0)

// Conn is a client's connection that one engine hands over to another.
type Conn struct {
	net.Conn
	Peer   netip.Addr // who holds the connection
	Client netip.Addr // for whom: Peer, or what a load balancer says (PROXY protocol)
	// Authority is for which hosts; it is set when TLS has begun.
	Authority *Authority
	// Account is what the connection draws on. Whoever handed the connection over closes it.
	Account *budget.Account
	prefix  []byte // was read already
	once    sync.Once
	closed  chan struct{}
	engine  atomic.Pointer[Waiting]
}

// Waiting is what the engine to which a connection was handed over tells of it, so that it can give
// way to another connection when nothing is under way on it.
type Waiting interface {
	// IdleSince returns since when no request is under way, in nanoseconds of the Unix epoch; 0
	// while there is one. It does not wait for the peer.
	IdleSince() int64
	// GiveWay ends the connection if it has been idle since then; false when it has not.
	GiveWay(since int64) bool
}

// SetWaiting is called by the engine that takes the connection over.
func (c *Conn) SetWaiting(w Waiting) { c.engine.Store(&w) }

// Waiting returns what SetWaiting set; nil before.
func (c *Conn) Waiting() Waiting {
	if w := c.engine.Load(); w != nil {
		return *w
	}
	return nil
}

// NewConn makes a connection of which prefix has been read already.
func NewConn(nc net.Conn, peer netip.Addr, prefix []byte) *Conn {
	return &Conn{Conn: nc, Peer: peer, Client: peer, prefix: prefix, closed: make(chan struct{})}
}

func (c *Conn) Read(b []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(b, c.prefix)
		if c.prefix = c.prefix[n:]; len(c.prefix) == 0 {
			c.prefix = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Closed is closed by Close.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// CloseWrite ends the sending side.
func (c *Conn) CloseWrite() error {
	if cw, ok := c.Conn.(writeCloser); ok {
		return cw.CloseWrite()
	}
	return c.Close()
}

type writeCloser interface{ CloseWrite() error }

// CloseWrite ends the sending side of a connection; false when that is not possible.
func CloseWrite(nc net.Conn) bool {
	cw, ok := nc.(writeCloser)
	return ok && cw.CloseWrite() == nil
}

const lingerMax = 256 << 10

// Linger reads what a peer still sends on a connection whose sending side has ended, to its
// deadline and at most 256 KiB: a close on unread bytes would be a reset, and that takes back what
// the peer has not read yet (RFC 9112 §9.6).
func Linger(nc net.Conn) {
	b := LargeBuffer()
	defer PutLargeBuffer(b)
	for total := 0; total < lingerMax; {
		n, err := nc.Read(b[:])
		if total += n; err != nil {
			return
		}
	}
}
