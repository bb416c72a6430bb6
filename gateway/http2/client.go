package http2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// Bounds of a client's connection.
const (
	lastIDMax     = idMax - 1<<16 // there are no numbers beyond, and that many may be reserved
	streamsMax    = 256           // beyond it another connection serves better, also where the service has no limit
	checkEvery    = 15 * time.Second
	checkEveryMin = 25 * time.Millisecond
	idleMax       = 45 * time.Second // unless KeepFor says something else
	silentPing    = 30 * time.Second // nothing was received of what is under way for so long: the service is pinged
	silentMax     = 45 * time.Second
	checksEach    = 4 // in the time that it may be idle, or kept
)

// Client is a connection to a service, which carries many exchanges at a time. It is safe for
// concurrent use.
type Client struct {
	conn
	host   string // for requests without one
	scheme string
	ready  chan struct{} // the service's SETTINGS have come
	done   chan struct{} // the reader has ended

	// Under mu.
	open    int // streams that are reserved or under way
	check   *time.Timer
	every   time.Duration // between two checks
	idleMax time.Duration
	expires time.Time     // zero: never
	quiet   time.Duration // for how long nothing has come, or was under way
	frames  uint32        // at the last check
}

// NewClient begins HTTP/2 on a fresh connection, on which that has been agreed or is known
// beforehand. host stands for that of requests that come without one, scheme is http or https.
func NewClient(nc net.Conn, host, scheme string) *Client {
	c := &Client{host: host, scheme: scheme, ready: make(chan struct{}), done: make(chan struct{})}
	if _, plain := nc.(syscall.Conn); plain {
		nc = message.NewSocket(nc)
	}
	c.init(nc, c, message.ResponseHeadMax)
	c.writeTimeout = 30 * time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	b := append(c.buffer().b, message.HTTP2Preface...)
	b = appendSettings(b, setting{settingEnablePush, 0}, setting{settingInitialWindow, streamWindow},
		setting{settingMaxHeaderList, message.ResponseHeadMax})
	c.out.b = appendWindowUpdate(b, 0, connWindow-firstWindow)
	c.startWriter()
	c.idleMax, c.every = idleMax, checkEvery
	c.check = time.AfterFunc(c.every, c.onCheck)
	go c.serve()
	return c
}

// KeepFor has the connection closed when nothing was under way for so long, or, behind what is under way, once it
// expires (zero: never).
func (c *Client) KeepFor(idle time.Duration, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idleMax, c.expires = idle, expires
	c.every = min(checkEvery, idle/checksEach)
	if !expires.IsZero() {
		c.every = min(c.every, time.Until(expires)/checksEach)
	}
	c.every = max(c.every, checkEveryMin)
	if c.check != nil {
		c.check.Reset(c.every)
	}
}

// errNoSettings: what is on the other side does not speak HTTP/2, or not in time.
var errNoSettings = errors.New("http2: the service has sent no SETTINGS")

// AwaitReady waits for the service's SETTINGS, which say how many exchanges the connection can carry.
func (c *Client) AwaitReady(ctx context.Context, timeout time.Duration) error {
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-c.ready:
		return nil
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("%w: %w", errNoSettings, c.closing)
	case <-t.C:
		return fmt.Errorf("%w within %s", errNoSettings, timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) serve() {
	defer close(c.done)
	err := c.run()
	if !c.settled && c.in != nil { // what came may be short of a frame
		if other := message.Spoken(c.in[c.r:c.w]); other != nil {
			err = other
		}
	}
	c.drop()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.finish(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.check.Stop()
	c.check = nil
}

// onCheck finds a service that is not there any more, and a connection that is not needed.
func (c *Client) onCheck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.check == nil {
		return
	}
	before := c.quiet
	frames := c.framesRead.Load()
	if moved := frames != c.frames; moved && c.open > 0 {
		c.quiet = 0
	} else {
		c.quiet += c.every
	}
	c.frames = frames
	if c.closing == nil && !c.expires.IsZero() && time.Now().After(c.expires) {
		c.closing = errAged // takes nothing more, and closes behind what is under way
	}
	switch {
	case c.open == 0 && c.closing != nil:
		c.endReader(c.closing)
	case c.open == 0 && c.quiet >= c.idleMax:
		c.endReader(errIdle)
	case c.open > 0 && c.quiet >= silentMax:
		c.endReader(errTimeout{})
	case c.open > 0 && c.quiet >= silentPing && before < silentPing:
		c.buffer().b = appendPing(c.buffer().b, 0, drainPing)
		c.startWriter()
	}
	c.check.Reset(c.every)
}

var (
	errIdle   = errors.New("http2: the connection was idle")
	errAged   = errors.New("http2: the connection is older than it becomes")
	errClosed = errors.New("http2: the connection is closed")
)

// endReader has the reader end the connection.
func (c *Client) endReader(err error) {
	if c.closing == nil {
		c.closing = err
	}
	c.nc.SetReadDeadline(message.Past) // fails only for a closed connection
}

// Reserve takes a place for one exchange, which Do then uses; false when there is none.
func (c *Client) Reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil || c.broken || c.open >= c.limitLocked() || c.lastID > lastIDMax {
		return false
	}
	c.open++
	c.quiet = 0
	return true
}

// Unreserve gives a place back that Do does not use.
func (c *Client) Unreserve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streamDone()
}

// Limit returns how many exchanges the connection can carry at a time.
func (c *Client) Limit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limitLocked()
}

func (c *Client) limitLocked() int { return min(c.peerMax, streamsMax) }

// Alive reports whether new exchanges may be begun, as far as is known.
func (c *Client) Alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing == nil && !c.broken && c.lastID <= lastIDMax
}

// Closed is closed when the connection has ended.
func (c *Client) Closed() <-chan struct{} { return c.done }

// Open returns how many exchanges are reserved or under way.
func (c *Client) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// Close ends the connection, behind the last exchange that is under way.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == nil {
		c.closing = errClosed
	}
	if c.open == 0 {
		c.endReader(errClosed)
	}
}

// beforeWait implements side. Goroutines that have been woken go first: services write a response
// in small pieces, and more of them may have come by then for one system call.
func (c *Client) beforeWait() { runtime.Gosched() }

// pingAcked implements side.
func (c *Client) pingAcked() {}

// settledNow implements side.
func (c *Client) settledNow() { close(c.ready) }

// remoteClosed implements side.
func (c *Client) remoteClosed(s *stream) {
	if s.localEnded {
		c.remove(s, nil)
	}
}

// removed implements side.
func (c *Client) removed(*stream) { c.streamDone() }

func (c *Client) streamDone() {
	if c.open--; c.open == 0 {
		c.quiet = 0
		if c.closing != nil {
			c.endReader(c.closing)
		}
	}
}

// processHead implements side.
func (c *Client) processHead(id uint32, end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	if s == nil {
		if c.unused(id) {
			return connError{protocolError, "a response to no request"}
		}
		return c.countIdle() // it has been given up
	}
	if err := s.response.processHead(end); err != nil {
		return c.refuseLocked(id, protocolError)
	}
	s.readable.signal()
	return nil
}

// tooSlow implements side: a service is held to silence only.
func (c *Client) tooSlow() {}
