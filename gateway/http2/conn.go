package http2

import (
	"encoding/binary"
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
	"github.com/sluice-gateway/sluice/gateway/http1"
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
	lingerMax     = 256 << 10 // bytes that are read of a connection that is given up
	lingerTime    = time.Second
	resetsKept    = 64 // streams that were reset by us and of which something may still be under way
	firstStreams  = 100
	firstWindow   = 65535 // RFC 9113 §6.9.2
	readBufferLen = 32 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readBufferLen]byte) }}

var past = time.Unix(1, 0)

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
	recvWindow int // what the peer may send
	credit     int // what was read and not given back to him yet
	sendWindow int // what we may send
	peerWindow int // that a new stream begins with
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
	c.recvWindow, c.sendWindow, c.peerWindow, c.peerMax = connWindow, firstWindow, firstWindow, firstStreams
	c.decoder = hpack.NewDecoder(tableSize, c.field)
	c.idle.L = &c.mu
	c.send = c.write
}

// field takes a decoded field. Beyond the limit the rest is decoded for the sake of the table only.
func (c *conn) field(f hpack.HeaderField) {
	c.listLeft -= len(f.Name) + len(f.Value) + 4 // as a line of HTTP/1.1
	if c.listLeft < 0 || len(c.fields) >= http1.FieldsMax+8 {
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
	if carried, ok := nc.(*http1.Carried); ok {
		nc = carried.Conn
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

// take handles a frame.
func (c *conn) take(h *frameHeader, p []byte) error {
	if c.blockID != 0 && (h.kind != frameContinuation || h.id != c.blockID) {
		return connError{protocolError, "a head is interrupted by another frame"}
	}
	if !c.settled && h.kind != frameSettings {
		return connError{protocolError, "the first frame is not SETTINGS"}
	}
	switch h.kind {
	case frameData:
		return c.takeData(h, p)
	case frameHeaders:
		return c.takeHeaders(h, p)
	case frameContinuation:
		return c.takeContinuation(h, p)
	case framePushPromise:
		return connError{protocolError, "a push, which nobody has allowed"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.noisy(); err != nil {
		return err
	}
	switch h.kind {
	case frameSettings:
		return c.takeSettings(h, p)
	case frameWindowUpdate:
		return c.takeWindowUpdate(h, p)
	case frameReset:
		return c.takeReset(h, p)
	case framePing:
		return c.takePing(h, p)
	case frameGoAway:
		return c.takeGoAway(h, p)
	case framePriority:
		return takePriority(h, p)
	}
	return nil // what we do not know is ignored (RFC 9113 §5.5)
}

// noisy counts a frame by which nothing goes on.
func (c *conn) noisy() error {
	if c.noise++; c.noise > noiseMax {
		return connError{enhanceYourCalm, "too many frames by which nothing goes on"}
	}
	return nil
}

// progress counts a frame by which something does.
func (c *conn) progress() { c.noise = max(c.noise-8, 0) }

// unused reports whether no message has gone over a stream yet.
func (c *conn) unused(id uint32) bool {
	return id > c.lastID || id%2 == 0
}

// wasReset reports whether a frame may have been under way when we gave the stream up.
func (c *conn) wasReset(id uint32) bool {
	for _, r := range c.resets {
		if r == id {
			return true
		}
	}
	return false
}

func (c *conn) takeData(h *frameHeader, p []byte) error {
	data, err := unpad(h, p)
	if err != nil {
		return err
	}
	if h.id == 0 {
		return connError{protocolError, "data on no stream"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recvWindow -= h.length; c.recvWindow < 0 {
		return connError{flowControlError, "more data than the connection's window"}
	}
	s := c.streams[h.id]
	if s == nil || len(data) == 0 && !h.has(flagEndStream) {
		if err := c.noisy(); err != nil {
			return err
		}
	} else {
		c.progress()
	}
	if s == nil {
		c.giveBack(h.length)
		switch {
		case c.unused(h.id):
			return connError{protocolError, "data on a stream without a head"}
		case c.wasReset(h.id):
			return nil
		}
		return streamError{h.id, streamClosed}
	}
	c.giveBack(h.length - len(data))
	return s.receive(h, data)
}

func (c *conn) takeHeaders(h *frameHeader, p []byte) error {
	p, err := unpad(h, p)
	if err != nil {
		return err
	}
	if h.id == 0 {
		return connError{protocolError, "a head on no stream"}
	}
	var wrong error
	if h.has(flagPriority) {
		if len(p) < 5 {
			return connError{frameSizeError, "a priority of less than five bytes"}
		}
		if binary.BigEndian.Uint32(p)&idMax == h.id {
			wrong = streamError{h.id, protocolError} // once the head has been decoded
		}
		p = p[5:]
	}
	c.fields, c.listLeft, c.tooLong = c.fields[:0], c.listMax, false
	c.decoder.SetEmitEnabled(true)
	c.blockEnd = h.has(flagEndStream)
	if h.has(flagEndHeaders) {
		if err := c.decode(p); err != nil {
			return err
		}
		if wrong != nil {
			return c.disown(h.id, wrong)
		}
		return c.headers(h.id)
	}
	c.block, c.blockID, c.fragments = append(c.block[:0], p...), h.id, 1
	if wrong != nil {
		return connError{protocolError, "a stream that depends on itself"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blockSince = time.Now()
	return nil
}

// disown counts a stream as used whose head is wrong.
func (c *conn) disown(id uint32, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server {
		c.lastID = max(c.lastID, id)
	}
	return err
}

func (c *conn) takeContinuation(h *frameHeader, p []byte) error {
	if c.blockID == 0 {
		return connError{protocolError, "a continuation of no head"}
	}
	if c.fragments++; c.fragments > fragmentsMax || len(c.block)+len(p) > 2*c.listMax+frameMax {
		return connError{enhanceYourCalm, "a head without end"}
	}
	c.block = append(c.block, p...)
	if !h.has(flagEndHeaders) {
		return nil
	}
	c.blockID = 0
	c.mu.Lock()
	c.blockSince = time.Time{}
	c.mu.Unlock()
	err := c.decode(c.block)
	c.block = nil
	if err != nil {
		return err
	}
	return c.headers(h.id)
}

func (c *conn) decode(block []byte) error {
	if _, err := c.decoder.Write(block); err != nil {
		return connError{compressionError, err.Error()}
	}
	if err := c.decoder.Close(); err != nil {
		return connError{compressionError, err.Error()}
	}
	return nil
}

// headers hands a decoded head to the stream that it is of.
func (c *conn) headers(id uint32) error {
	err := c.side.headed(id, c.blockEnd)
	if cap(c.fields) > 2*http1.FieldsMax {
		c.fields = nil
	}
	clear(c.fields)
	return err
}

func (c *conn) takeSettings(h *frameHeader, p []byte) error {
	switch {
	case h.id != 0:
		return connError{protocolError, "settings of a stream"}
	case h.has(flagAck) && len(p) != 0:
		return connError{frameSizeError, "an acknowledgement with a payload"}
	case h.has(flagAck):
		if !c.settled {
			return connError{protocolError, "an acknowledgement before the settings"}
		}
		return nil
	case len(p)%6 != 0:
		return connError{frameSizeError, "settings that are cut short"}
	}
	first := !c.settled
	c.settled = true
	if first && !c.server {
		c.peerMax = windowMax // unless it says something else
	}
	window := c.peerWindow
	for ; len(p) > 0; p = p[6:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingEnablePush:
			if value > 1 || value == 1 && !c.server {
				return connError{protocolError, "push is neither on nor off"}
			}
		case settingMaxStreams:
			c.peerMax = int(min(value, windowMax))
		case settingInitialWindow:
			if value > windowMax {
				return connError{flowControlError, "a window that is too large"}
			}
			window = int(value)
		case settingMaxFrame:
			if value < frameMax || value > 1<<24-1 {
				return connError{protocolError, "a frame size out of range"}
			}
		}
	}
	change := window - c.peerWindow
	c.peerWindow = window
	for _, s := range c.streams {
		if s.sendWindow += change; s.sendWindow > windowMax {
			return connError{flowControlError, "a window that is too large"}
		}
	}
	c.buffer().b = appendFrameHeader(c.buffer().b, 0, frameSettings, flagAck, 0)
	c.grant()
	return c.sendControl()
}

func (c *conn) takeWindowUpdate(h *frameHeader, p []byte) error {
	if len(p) != 4 {
		return connError{frameSizeError, "a window update of another length than four"}
	}
	n := int(binary.BigEndian.Uint32(p) & windowMax)
	if h.id == 0 {
		if n == 0 {
			return connError{protocolError, "a window update of nothing"}
		}
		if c.sendWindow += n; c.sendWindow > windowMax {
			return connError{flowControlError, "a window that is too large"}
		}
		c.grant()
		return nil
	}
	s := c.streams[h.id]
	if s == nil {
		if c.unused(h.id) {
			return connError{protocolError, "a window update of a stream without a head"}
		}
		return nil
	}
	if n == 0 {
		return streamError{h.id, protocolError}
	}
	if s.sendWindow += n; s.sendWindow > windowMax {
		return streamError{h.id, flowControlError}
	}
	c.grant()
	return nil
}

func (c *conn) takeReset(h *frameHeader, p []byte) error {
	switch {
	case len(p) != 4:
		return connError{frameSizeError, "a reset of another length than four"}
	case h.id == 0 || c.unused(h.id):
		return connError{protocolError, "a reset of a stream without a head"}
	}
	if s := c.streams[h.id]; s != nil {
		s.wasReset(code(binary.BigEndian.Uint32(p)))
		return c.cut()
	}
	return nil
}

func (c *conn) takePing(h *frameHeader, p []byte) error {
	switch {
	case len(p) != 8:
		return connError{frameSizeError, "a ping of another length than eight"}
	case h.id != 0:
		return connError{protocolError, "a ping of a stream"}
	case h.has(flagAck):
		c.side.pinged()
		return nil
	}
	c.buffer().b = appendPing(c.buffer().b, flagAck, p)
	return c.sendControl()
}

// sendControl sends an answer to a control frame; a peer that takes none of them does not get any number of them kept for it.
func (c *conn) sendControl() error {
	if c.out != nil && len(c.out.b) > controlMax {
		return connError{enhanceYourCalm, "the answers to control frames are not taken"}
	}
	c.kick()
	return nil
}

// errGone is what a stream ends with that the peer has not begun with and never will.
var errGone = errors.New("http2: the peer goes away and has not seen the stream")

func (c *conn) takeGoAway(h *frameHeader, p []byte) error {
	switch {
	case h.id != 0:
		return connError{protocolError, "a farewell of a stream"}
	case len(p) < 8:
		return connError{frameSizeError, "a farewell that is cut short"}
	}
	if c.server {
		return nil // it opens no more streams; the connection ends when it closes, or idles
	}
	if c.closing == nil {
		c.closing = errGone
	}
	last := binary.BigEndian.Uint32(p) & idMax
	for id, s := range c.streams {
		if id > last {
			s.unseen = true
			c.forget(s, errGone)
		}
	}
	return nil
}

func takePriority(h *frameHeader, p []byte) error {
	switch {
	case h.id == 0:
		return connError{protocolError, "a priority of no stream"}
	case len(p) != 5:
		return streamError{h.id, frameSizeError}
	case binary.BigEndian.Uint32(p)&idMax == h.id:
		return streamError{h.id, protocolError}
	}
	return nil
}

// giveBack lets the peer send again what has been read, or dropped.
func (c *conn) giveBack(n int) {
	if c.credit += n; c.credit < connWindow/2 {
		return
	}
	c.buffer().b = appendWindowUpdate(c.buffer().b, 0, uint32(c.credit))
	c.recvWindow += c.credit
	c.credit = 0
	c.kick()
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
	s.writable.signal()
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
	nc := c.nc
	if tc, ok := nc.(interface{ CloseWrite() error }); !ok || tc.CloseWrite() != nil {
		return
	}
	nc.SetReadDeadline(time.Now().Add(lingerTime)) // fails only for a closed connection
	b := readBuffers.Get().(*[readBufferLen]byte)
	defer readBuffers.Put(b)
	for total := 0; total < lingerMax; {
		n, err := nc.Read(b[:])
		if total += n; err != nil {
			return
		}
	}
}
