package http2

import (
	"errors"
	"io"
	"net"
	"runtime"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// Bounds of a client's connection.
const (
	lastIDMax       = idMax - 1<<16 // there are no numbers beyond, and that many may be reserved
	checkEvery      = 15 * time.Second
	idleChecksMax   = 3 // checks in a row at which nothing is under way: then it is closed
	silentChecksMax = 3 // at which nothing was received of what is under way; after the second the service is pinged
)

// Client is a connection to a service, which carries many exchanges at a time. It is safe for
// concurrent use.
type Client struct {
	conn
	host   string // for requests without one
	scheme string
	done   chan struct{} // the reader has ended

	// Under mu.
	open       int // streams that are reserved or under way
	check      *time.Timer
	idleChecks int    // at which nothing had come, or was under way
	frames     uint32 // at the last check
}

// NewClient begins HTTP/2 on a fresh connection, on which that has been agreed or is known
// beforehand. host stands for that of requests that come without one, scheme is http or https.
func NewClient(nc net.Conn, host, scheme string) *Client {
	c := &Client{host: host, scheme: scheme, done: make(chan struct{})}
	c.init(nc, c, message.ResponseHeadMax)
	c.writeTimeout = 30 * time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	b := append(c.buffer().b, message.HTTP2Preface...)
	b = appendSettings(b, setting{settingEnablePush, 0}, setting{settingInitialWindow, streamWindow},
		setting{settingMaxHeaderList, message.ResponseHeadMax})
	c.out.b = appendWindowUpdate(b, 0, connWindow-firstWindow)
	c.startWriter()
	c.check = time.AfterFunc(checkEvery, c.onCheck)
	go c.serve()
	return c
}

func (c *Client) serve() {
	defer close(c.done)
	err := c.run()
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
	frames := c.framesRead.Load()
	if moved := frames != c.frames; moved && c.open > 0 {
		c.idleChecks = 0
	} else {
		c.idleChecks++
	}
	c.frames = frames
	switch {
	case c.open == 0 && c.idleChecks >= idleChecksMax:
		c.endReader(errIdle)
	case c.open > 0 && c.idleChecks >= silentChecksMax:
		c.endReader(errTimeout{})
	case c.open > 0 && c.idleChecks == silentChecksMax-1:
		c.buffer().b = appendPing(c.buffer().b, 0, drainPing)
		c.startWriter()
	}
	c.check.Reset(checkEvery)
}

var (
	errIdle   = errors.New("http2: the connection was idle")
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
	if c.closing != nil || c.broken || c.open >= c.peerMax || c.lastID > lastIDMax {
		return false
	}
	c.open++
	c.idleChecks = 0
	return true
}

// Alive reports whether new exchanges may be begun, as far as is known.
func (c *Client) Alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing == nil && !c.broken
}

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
		c.idleChecks = 0
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
