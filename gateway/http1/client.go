package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// Client is a connection to a service. It carries one exchange at a time and belongs to one
// goroutine at a time.
type Client struct {
	nc      net.Conn
	socket  syscall.RawConn // nil where there is none
	host    string          // for requests without one
	release func(c *Client, reusable bool)

	// Used counts the exchanges on it, for the pool; IdleSince is when the last one ended.
	Used      int
	IdleSince time.Time
	keepAlive keepAlive // what the service says of it

	quietly func(fd uintptr)
	quiet   bool
	sealed  bool                  // TLS
	step    func(fd uintptr) bool // nil where the socket is not ours to write to (TLS)
	trip    trip

	interrupted atomic.Bool
	mu          sync.Mutex // of the times: an upload moves them too
	times
}

// times are those of one exchange. The head of the response has to be there by the deadline; behind
// it silence is bounded, and no length.
type times struct {
	deadline time.Time     // that is set for reading, unless it was interrupted; zero: none
	timeout  time.Duration // to the head, and of each wait for the service to take a piece of an upload
	silence  time.Duration // between two pieces of the response's body
	upload   bool          // the request's body goes out beside: it has the deadline for writing
	headed   bool          // the head of the response is there
	stream   bool          // silence is that of both directions
}

// NewClient returns a client on a fresh connection. host stands in the Host field of requests that
// come without one. release is called once an exchange, when the connection is not needed for it
// any more; what cannot be used again is closed by then.
func NewClient(nc net.Conn, host string, release func(c *Client, reusable bool)) *Client {
	c := &Client{nc: nc, host: host, release: release}
	socket, plain := nc.(syscall.Conn)
	if tc, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		socket, _ = tc.NetConn().(syscall.Conn)
	}
	if socket != nil {
		c.socket, _ = socket.SyscallConn() // without it the connection is taken for alive until it fails
	}
	c.quietly, c.sealed = func(fd uintptr) { c.quiet = message.Silent(fd) }, !plain
	if plain && c.socket != nil {
		c.step = c.roundTripStep
	}
	return c
}

// trip is the state of a write that is followed by a wait for the response.
type trip struct {
	out     []byte // to be written
	in      []byte // to be read into
	probe   bool   // check first whether the connection is still open and silent
	stale   bool   // it was not, and nothing was written
	written bool
	sent, n int
	err     error // of the write, or of the read
}

// roundTripStep writes the request and has the goroutine parked until there is something to read: a
// read right behind the write would find nothing, and cost a system call. No response can be
// missed, since none can be there before the request.
func (c *Client) roundTripStep(fd uintptr) bool {
	t := &c.trip
	if t.probe {
		if t.probe = false; !message.Silent(fd) {
			t.stale = true
			return true
		}
	}
	if !t.written {
		t.written = true
		if t.sent, t.err = message.Send(fd, t.out, false); t.err == syscall.EAGAIN {
			t.err = nil
		}
		return t.sent < len(t.out)
	}
	n, err := message.Recv(fd, t.in)
	if err == syscall.EAGAIN {
		return false
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	t.n, t.err = n, err
	return true
}

// roundTrip writes out and reads the first bytes of the response into in. sent is how many bytes
// went out.
func (c *Client) roundTrip(out []byte, in *buffer, probe bool) (sent int, err error) {
	if c.step == nil {
		return c.nc.Write(out)
	}
	t := &c.trip
	*t = trip{out: out, in: in.b[in.w:], probe: probe}
	err = c.socket.Read(c.step)
	in.w += t.n
	sent = t.sent
	switch {
	case err != nil: // the deadline, or a closed connection
	case t.stale:
		err = errStale
	case t.err != nil:
		err = t.err
	case sent < len(out): // the kernel's buffer is full
		var more int
		more, err = c.nc.Write(out[sent:])
		sent += more
	}
	*t = trip{}
	return sent, err
}

// Quiet reports whether an idle connection is open and silent: one that the service has closed, or
// on which it sent something unasked, takes no request.
func (c *Client) Quiet() bool {
	if c.socket == nil {
		return true
	}
	c.quiet = false
	return c.socket.Control(c.quietly) == nil && c.quiet && !(c.sealed && c.hasUnread())
}

// hasUnread reports whether a TLS connection has read more than it was asked for, or is broken:
// with a deadline that has passed it gives what it has and takes nothing from the socket.
func (c *Client) hasUnread() bool {
	c.nc.SetReadDeadline(message.Past) // fails only for a closed connection, as the read then does
	c.deadline = time.Time{}           // to be set anew
	var b [1]byte
	n, err := c.nc.Read(b[:])
	return n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)
}

// CheckedByDo reports whether [Client.Do] finds out itself what Quiet says, for the price of the system
// call alone, and nobody need ask before. Then its failure is stale.
func (c *Client) CheckedByDo() bool { return c.step != nil && c.Used > 0 }

// Close closes the connection.
func (c *Client) Close() { c.nc.Close() }

// slack is how much later than asked a deadline may be, so that it is not set for each exchange.
func slack(d time.Duration) time.Duration { return min(d/16, 100*time.Millisecond) }

// arm bounds the wait for the head of a response: it ends between d and d and its slack from now. silence
// is that within its body.
func (c *Client) arm(now time.Time, d, silence time.Duration) {
	c.times = times{deadline: c.deadline, timeout: d, silence: silence}
	if left := c.deadline.Sub(now); left < d || left > d+slack(d) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.setLocked(now.Add(d + slack(d)))
	}
}

// armBody bounds the wait for the next piece of the response's body.
func (c *Client) armBody() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, d := time.Now(), c.silence
	if left := c.deadline.Sub(now); left >= d && left <= d+slack(d) {
		return
	}
	if t := now.Add(d + slack(d)); !c.upload {
		c.setLocked(t)
	} else if c.deadline = t; !c.interrupted.Load() {
		c.nc.SetReadDeadline(t) // fails only for a closed connection, as the read then does
	}
}

// armPiece bounds the wait for the service to take a piece of the request's body, and until there is
// a response that for its head, which may come when it has the last one.
func (c *Client) armPiece() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now := time.Now(); {
	case !c.headed:
		c.setLocked(now.Add(c.timeout))
	case c.stream:
		c.setLocked(now.Add(c.silence))
	case !c.interrupted.Load():
		c.nc.SetWriteDeadline(now.Add(c.timeout)) // fails only for a closed connection, as the write then does
	}
}

// rest lets the service wait for the client, until there is a response: that the client rests is
// bounded by its own time.
func (c *Client) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.headed {
		c.setLocked(time.Time{})
	}
}

func (c *Client) setLocked(t time.Time) {
	c.deadline = t
	if !c.interrupted.Load() {
		c.nc.SetDeadline(t) // fails only for a closed connection, as what follows then does
	}
}

// head notes that the head of the response is there.
func (c *Client) head() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headed = true
}

func (c *Client) responded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headed
}

// streams makes the response a stream with a silence of its own.
func (c *Client) streams(silence time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream, c.silence = true, silence
}

// Interrupt ends what waits for the service. The connection is not used again.
func (c *Client) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted.Store(true)
	c.nc.SetDeadline(message.Past) // fails only for a closed connection
}
