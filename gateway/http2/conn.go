package http2

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// Bounds of what a peer may make the gateway keep or do. See the package's documentation.
const (
	connWindow      = 1 << 20   // bytes of bodies that have not been read yet, of all streams
	streamWindow    = 256 << 10 // and of one
	smallWindow     = 65535     // or of one, where the connection began when there was little room
	fragmentsMax    = 64        // frames that a head comes in
	idleFramesMax   = 5000      // frames that make no progress, beyond
	idleFramesRate  = 500       // so many a second
	resetStreamsMax = 200       // streams that were begun and not ended, beyond
	resetsRate      = 20        // so many a second
	controlMax      = 256 << 10 // bytes of responses to control frames that the peer does not take
	lingerTime      = time.Second
	lingerGivenWay  = 200 * time.Millisecond // of a connection whose slot is waited for
	firstStreams    = 100
	firstWindow     = 65535 // RFC 9113 §6.9.2
)

// side is what client and server do differently. All of it is called by the goroutine that reads.
type side interface {
	// processHead takes a whole head or trailer section, whose fields are in c.fields. mu is not
	// held.
	processHead(id uint32, end bool) error
	// beforeWait is called before the reader waits for more. mu is not held.
	beforeWait()
	// remoteClosed is called under mu when a stream has received everything.
	remoteClosed(*stream)
	// removed is called under mu when a stream leaves the connection's list.
	removed(*stream)
	// tooSlow is called under mu when the peer moves less than the least rate, or a stream does.
	tooSlow()
	// pingAcked is called under mu when the peer acknowledges a ping.
	pingAcked()
	// settledNow is called under mu when the peer's first SETTINGS have been taken.
	settledNow()
}

// conn is one connection, at either end. One goroutine runs and reads it; all else happens under
// mu.
type conn struct {
	side   side
	server bool

	// The reader's own.
	frameReader
	headDecoder
	settled bool // the peer's SETTINGS have come

	mu         sync.Mutex
	streams    map[uint32]*stream
	ended      *endedStreams // nil while there are none
	flow       flow
	peerMax    int // streams that this side may open
	lastID     uint32
	idleFrames leakyBucket // frames that make no progress
	resets     leakyBucket // streams that the client began and did not end, beyond those answered
	blockSince time.Time   // when the head began that comes in several frames
	closing    error       // why it ends; nil while it is used
	finishing  bool        // the reader has ended, and with it all streams
	lingers    time.Duration
	rate       minRate // of a client
	moved      int64   // bytes of bodies that were sent
	writer
}

func (c *conn) init(nc net.Conn, s side, listMax int) {
	c.nc, c.side = nc, s
	c.streams = make(map[uint32]*stream)
	c.flow, c.peerMax = newFlow(), firstStreams
	c.table = newTableSize()
	c.idleFrames.since = time.Now()
	c.resets.since = c.idleFrames.since
	c.headDecoder.init(listMax)
	c.lingers = lingerTime
	c.idle.L = &c.mu
	c.send = c.write
}

// next returns the next frame; its payload is good until the one behind it.
func (c *conn) next() (frameHeader, []byte, error) {
	for {
		h, p, ok, err := c.frame()
		if ok || err != nil {
			return h, p, err
		}
		c.side.beforeWait()
		if err := c.fill(); err != nil {
			return frameHeader{}, nil, err
		}
	}
}

// run reads until the connection ends and returns why.
func (c *conn) run() error {
	defer c.endBlock()
	for {
		h, p, err := c.next()
		if err == nil {
			err = c.processFrame(&h, p)
		}
		if err != nil {
			return err
		}
	}
}

// refuseLocked resets a stream for what its peer did. It is called in the same critical section in
// which the fault was found: behind it nothing that the stream's handler writes goes out, and
// nothing that it wrote before can come between. The error is for the connection.
func (c *conn) refuseLocked(id uint32, why code) error {
	c.reset(id, why, streamError{id, why})
	if err := c.sendControl(); err != nil {
		return err
	}
	if why == refusedStream { // as a client's first streams may be, which does not know the limit yet
		return c.countIdle()
	}
	return c.countReset()
}

// refuse is refuseLocked for a stream that no handler has.
func (c *conn) refuse(id uint32, why code) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refuseLocked(id, why)
}

// countReset counts a stream that a client has begun and ended before it was answered
// (CVE-2023-44487), or made the server end (CVE-2025-8671).
func (c *conn) countReset() error {
	if c.server && !c.resets.add(resetStreamsMax, resetsRate) {
		return connError{enhanceYourCalm, "too many streams are begun and not ended"}
	}
	return nil
}

// consume lets the peer send as much again as has been read, or dropped.
func (c *conn) consume(n int) {
	if n := c.flow.receive.consume(n); n > 0 {
		c.buffer().b = appendWindowUpdate(c.buffer().b, 0, n)
		c.startWriter()
	}
}

// reset ends a stream from our side.
func (c *conn) reset(id uint32, why code, err error) {
	c.keepEnded(endedStream{id: id})
	c.buffer().b = appendReset(c.buffer().b, id, why)
	c.startWriter()
	if s := c.streams[id]; s != nil {
		c.remove(s, err)
	}
}

// remove takes a stream off the list. What it has received can still be read where err is nil.
func (c *conn) remove(s *stream, err error) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	if err != nil && s.err == nil {
		s.err = err
	}
	c.side.removed(s)
	s.readable.signal()
	s.flow.writable.signal()
	if s.ctx != nil && err != nil {
		s.ctx.Cancel()
	}
}

// failStreams ends all streams.
func (c *conn) failStreams(err error) {
	if c.closing == nil {
		c.closing = err
	}
	for _, s := range c.streams {
		c.remove(s, err)
	}
}

// finish ends the connection behind the reader: what is to be sent is sent, with GOAWAY where the
// peer is at fault, and what the peer still sends is read for a moment, since a close on unread
// bytes would be a reset and take the GOAWAY back.
func (c *conn) finish(err error) {
	var broken connError
	atFault := errors.As(err, &broken)
	c.mu.Lock()
	c.failStreams(err)
	c.finishing = true
	if atFault {
		c.buffer().b = appendGoAway(c.buffer().b, c.lastPeerID(), broken.code)
	}
	c.nc.SetWriteDeadline(time.Now().Add(lingerTime)) // fails only for a closed connection
	c.startWriter()
	c.awaitWritten()
	linger := atFault || errors.Is(err, os.ErrDeadlineExceeded) && !c.broken
	c.mu.Unlock()
	if linger {
		c.linger(c.lingers)
	}
	c.nc.Close()
}

func (c *conn) lastPeerID() uint32 {
	if c.server {
		return c.lastID
	}
	return 0
}

func (c *conn) linger(d time.Duration) {
	if !message.CloseWrite(c.nc) {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(d)) // fails only for a closed connection
	message.Linger(c.nc)
}
