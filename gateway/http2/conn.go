package http2

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Bounds of what a peer may have us keep or do. See the package's documentation.
const (
	connWindow    = 1 << 20   // bytes of bodies that nobody has read yet, of all streams
	streamWindow  = 256 << 10 // and of one
	tableSize     = 4 << 10   // of the dynamic table of HPACK
	fragmentsMax  = 64        // frames that a head comes in
	noiseMax      = 5000      // frames in a row, or within a check's time, by which nothing goes on
	cutsMax       = 200
	controlMax    = 256 << 10 // bytes of answers to control frames that the peer does not take
	lingerTime    = time.Second
	resetsKept    = 64 // streams that were reset by us and of which something may still be under way
	firstStreams  = 100
	firstWindow   = 65535 // RFC 9113 §6.9.2
	readBufferLen = 32 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readBufferLen]byte) }}

// side is what the two ends of a connection do each in its own way. All of it is called by the reader.
type side interface {
	// headed takes a whole head or trailer section, whose fields are in c.fields. mu is not held.
	headed(id uint32, end bool) error
	// settle is called before the reader waits for more. mu is not held.
	settle()
	// whole is called under mu when all of what a stream receives is there.
	whole(*stream)
	// ended is called under mu when a stream leaves the connection's list.
	ended(*stream)
	// pinged is called under mu for the answer to a ping of ours.
	pinged()
}

// conn is one connection, either side of it. Its reader is the goroutine that runs it; all else happens under mu.
type conn struct {
	nc     net.Conn
	side   side
	server bool

	// The reader's own.
	raw       syscall.RawConn // nil where the bytes of the socket are not ours to read
	readable  func(fd uintptr) bool
	in        *[readBufferLen]byte // nil while nothing is in it
	r, w      int
	readErr   error
	settled   bool // the peer's SETTINGS have come
	decoder   *hpack.Decoder
	fields    filters.Header // of the head that is being decoded
	listLeft  int            // what it may still have
	listMax   int
	tooLong   bool
	block     []byte // a head that comes in several frames
	blockID   uint32 // 0 is none
	blockEnd  bool
	fragments int
	taken     atomic.Uint32 // frames

	mu         sync.Mutex
	streams    map[uint32]*stream
	flow       flow
	peerMax    int // streams that we may open
	lastID     uint32
	resets     [resetsKept]uint32
	resetNext  int
	noise      int
	cuts       int       // streams that ended by a reset, the client's or for his faults, beyond those that were answered
	blockSince time.Time // when the head began that comes in several frames
	closing    error     // why it is given up; nil while it is used
	writer
}

func (c *conn) init(nc net.Conn, s side, listMax int) {
	c.nc, c.side, c.listMax = nc, s, listMax
	c.streams = make(map[uint32]*stream)
	c.flow, c.peerMax = newFlow(), firstStreams
	c.decoder = hpack.NewDecoder(tableSize, c.field)
	c.idle.L = &c.mu
	c.send = c.write
}

// field takes a decoded field. Beyond the limit the rest is decoded for the sake of the table only.
func (c *conn) field(f hpack.HeaderField) {
	c.listLeft -= len(f.Name) + len(f.Value) + 4 // as a line of HTTP/1.1
	if c.listLeft < 0 || len(c.fields) >= message.FieldsMax+8 {
		c.tooLong = true
		c.decoder.SetEmitEnabled(false)
		return
	}
	c.fields = append(c.fields, filters.Field{Name: f.Name, Value: f.Value})
}

// run reads until the connection ends and returns why.
func (c *conn) run() error {
	defer c.drop()
	for {
		h, p, err := c.next()
		if err == nil {
			err = c.take(&h, p)
		}
		var s streamError
		switch {
		case err == nil:
		case errors.As(err, &s):
			if err := c.refuse(s); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// refuse resets a stream for what its peer did.
func (c *conn) refuse(e streamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset(e.id, e.code, e)
	if err := c.sendControl(); err != nil {
		return err
	}
	if e.code == refusedStream { // as a client's first streams may be, which does not know the limit yet
		return c.noisy()
	}
	return c.cut()
}

// cut counts a stream that a client has begun and ended before its end, or made us end (CVE-2023-44487, CVE-2025-8671).
func (c *conn) cut() error {
	if !c.server {
		return nil
	}
	if c.cuts++; c.cuts > cutsMax {
		return connError{enhanceYourCalm, "too many streams are begun and not ended"}
	}
	return nil
}

// next returns the next frame; its payload is good until the one behind it.
func (c *conn) next() (frameHeader, []byte, error) {
	for {
		if c.w-c.r >= frameHeaderLen {
			have := c.in[c.r:c.w]
			h := parseFrameHeader(have)
			if h.length > frameMax {
				return h, nil, connError{frameSizeError, "a frame is too long"}
			}
			if end := frameHeaderLen + h.length; len(have) >= end {
				c.r += end
				c.taken.Add(1)
				return h, have[frameHeaderLen:end], nil
			}
		}
		c.side.settle()
		if err := c.fill(); err != nil {
			return frameHeader{}, nil, err
		}
	}
}

// fill reads once. While it waits with nothing in the buffer, the connection has none.
func (c *conn) fill() error {
	if c.in != nil && c.r > 0 {
		c.w = copy(c.in[:], c.in[c.r:c.w])
		c.r = 0
	}
	if c.raw != nil {
		c.readErr = nil
		if err := c.raw.Read(c.readable); err != nil {
			return err
		}
		return c.readErr
	}
	if c.in == nil {
		c.in = readBuffers.Get().(*[readBufferLen]byte)
	}
	n, err := c.nc.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		c.useSocket()
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// useSocket has the reader read from the socket itself, where that is possible: what was read before the connection came here lies in the
// buffer by now.
func (c *conn) useSocket() {
	if c.readable != nil {
		return
	}
	c.readable = c.tryRead
	nc := c.nc
	if handedOver, ok := nc.(*message.Conn); ok {
		nc = handedOver.Conn
	}
	if sc, ok := nc.(syscall.Conn); ok { // not TLS
		c.raw, _ = sc.SyscallConn() // without it the connection is read as any other
	}
}

func (c *conn) tryRead(fd uintptr) bool {
	if c.in == nil {
		c.in = readBuffers.Get().(*[readBufferLen]byte)
	}
	var n int
	var err error
	for {
		if n, err = syscall.Read(int(fd), c.in[c.w:]); err != syscall.EINTR {
			break
		}
	}
	switch {
	case err == syscall.EAGAIN:
		if c.w == 0 {
			c.drop()
		}
		return false
	case err != nil:
		c.readErr = err
	case n == 0:
		c.readErr = io.EOF
	default:
		c.w += n
	}
	return true
}

func (c *conn) drop() {
	if c.in != nil {
		readBuffers.Put(c.in)
	}
	c.in, c.r, c.w = nil, 0, 0
}

// consume lets the peer send as much again as has been read, or dropped.
func (c *conn) consume(n int) {
	if n := c.flow.receive.consume(n); n > 0 {
		c.buffer().b = appendWindowUpdate(c.buffer().b, 0, n)
		c.kick()
	}
}

// reset ends a stream from our side.
func (c *conn) reset(id uint32, why code, err error) {
	c.resets[c.resetNext%resetsKept] = id
	c.resetNext++
	c.buffer().b = appendReset(c.buffer().b, id, why)
	c.kick()
	if s := c.streams[id]; s != nil {
		c.forget(s, err)
	}
}

// forget takes a stream off the list. What it has received can still be read where err is nil.
func (c *conn) forget(s *stream, err error) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	if err != nil && s.err == nil {
		s.err = err
	}
	c.side.ended(s)
	s.readable.signal()
	s.flow.writable.signal()
	if s.ctx != nil && err != nil {
		s.ctx.Cancel()
	}
}

// fail ends all streams.
func (c *conn) fail(err error) {
	if c.closing == nil {
		c.closing = err
	}
	for _, s := range c.streams {
		c.forget(s, err)
	}
}

// finish ends the connection behind the reader: what is to be sent is sent, with a word on why it ends, and what the peer still
// sends is read for a moment, since a close on unread bytes would be a reset and take that word back.
func (c *conn) finish(err error) {
	var broken connError
	wrong := errors.As(err, &broken)
	c.mu.Lock()
	c.fail(err)
	if wrong {
		c.buffer().b = appendGoAway(c.buffer().b, c.lastPeerID(), broken.code)
	}
	c.nc.SetWriteDeadline(time.Now().Add(lingerTime)) // fails only for a closed connection
	c.kick()
	c.drained()
	linger := wrong || errors.Is(err, os.ErrDeadlineExceeded) && !c.broken
	c.mu.Unlock()
	if linger {
		c.linger()
	}
	c.nc.Close()
}

func (c *conn) lastPeerID() uint32 {
	if c.server {
		return c.lastID
	}
	return 0
}

func (c *conn) linger() {
	if !message.CloseWrite(c.nc) {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTime)) // fails only for a closed connection
	message.Linger(c.nc)
}
