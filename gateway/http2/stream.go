package http2

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// stream is what both sides of a connection have of a stream. All of it is under the connection's
// mu; the waiters wait without it.
type stream struct {
	c        *conn
	id       uint32
	ctx      *message.Context // of its request; nil on the client's side
	response *Response        // it belongs to; nil on the server's side
	deferred *Stream          // a request that waits to be served until its body is there; else nil

	// Received.
	body        []byte // that has been received
	read        int    // of it
	declared    int64  // the length that the head announced, -1 without one
	received    int64
	remoteEnded bool
	trailer     filters.Header
	readable    waiter

	// Sent.
	lastBatch  uint32 // where its last frame is
	lastAt     int
	localEnded bool
	responded  bool // the head of the final response was written

	flow streamFlow
	sent pace // of what is sent
	got  pace // of what is received
	cut  bool // the socket takes too little for this stream too

	account    *budget.Account // of the client
	charged    int             // of it: the head, and bodyCount
	bodyCount  int             // bytes of body
	overloaded error           // there was no room for the body

	err         error // why it ended before its end
	unprocessed bool  // the peer has not processed it
}

// begin readies a stream for its first frame.
func (s *stream) begin(c *conn, id uint32) {
	body, trailer := s.body[:0], s.trailer[:0]
	if cap(body) > frameMax {
		body = nil
	}
	clear(trailer[:cap(trailer)])
	*s = stream{
		c: c, id: id, account: c.account, ctx: s.ctx, body: body, trailer: trailer,
		readable: s.readable, flow: s.flow, declared: -1,
	}
	s.readable.init()
	c.flow.begin(&s.flow)
}

// waiter is a place for one goroutine to wait at.
type waiter struct {
	woken chan struct{}
	timer *time.Timer
}

func (w *waiter) init() {
	if w.woken == nil {
		w.woken = make(chan struct{}, 1)
	}
	select {
	case <-w.woken:
	default:
	}
}

func (w *waiter) signal() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// wait gives mu back until there is a signal, or d has passed: then it returns false.
func (w *waiter) wait(mu *sync.Mutex, d time.Duration) bool {
	mu.Unlock()
	defer mu.Lock()
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	defer w.timer.Stop()
	select {
	case <-w.woken:
		return true
	case <-w.timer.C:
		return false
	}
}

// errTimeout says that the peer did not send, or take, anything in time.
type errTimeout struct{}

func (errTimeout) Error() string   { return "http2: the peer took too long" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }

var (
	errInterrupted = errors.New("http2: the read was interrupted")
	errEnded       = errors.New("http2: the stream has ended")
)

// errReset is a stream that the peer has reset.
type errReset code

func (e errReset) Error() string {
	return fmt.Sprintf("http2: the peer has reset the stream (code %d)", code(e))
}

// receive takes data. It returns what is wrong with it.
func (s *stream) receive(h *frameHeader, data []byte) code {
	if s.remoteEnded {
		s.c.consume(len(data))
		return streamClosed
	}
	padding := h.length - len(data)
	if !s.flow.receive.receive(h.length) {
		s.c.consume(len(data))
		return flowControlError
	}
	s.flow.receive.skip(padding)
	s.received += int64(len(data))
	s.got.moved += int64(len(data))
	if s.declared >= 0 && (s.received > s.declared || h.has(flagEndStream) && s.received < s.declared) {
		s.c.consume(len(data))
		return protocolError
	}
	if s.overloaded == nil && !s.makeRoom(len(data)) {
		switch {
		case s.response != nil:
			s.c.consume(len(data))
			s.c.reset(s.id, cancel, filters.ErrOverloaded)
			return noError
		case s.deferred != nil: // nothing has seen the request
			s.c.consume(len(data))
			return refusedStream
		}
		s.overload()
	}
	if s.overloaded != nil {
		s.c.consume(len(data))
	} else {
		s.body = append(s.body, data...)
		if s.response != nil {
			s.c.consume(len(data)) // what clients do not take must not hold the others' up
		}
	}
	if h.has(flagEndStream) {
		s.remoteEnd()
	}
	s.readable.signal()
	return noError
}

// remoteEnd takes note that nothing more will be received.
func (s *stream) remoteEnd() {
	s.remoteEnded = true
	s.c.side.remoteClosed(s)
}

// readBody reads what has been received and lets the peer send as much again.
func (s *stream) readBody(p []byte) int {
	n := copy(p, s.body[s.read:])
	if s.read += n; s.read == len(s.body) {
		s.body, s.read = s.body[:0], 0
		if s.short() {
			s.dropBody()
		}
	}
	s.consumed(n)
	return n
}

func (s *stream) consumed(n int) {
	if s.response == nil {
		s.c.consume(n)
	}
	if s.remoteEnded || s.err != nil {
		return
	}
	size := streamWindow
	if s.short() {
		size = frameMax
	}
	if n := s.flow.receive.consumeWithin(n, size); n > 0 {
		s.c.buffer().b = appendWindowUpdate(s.c.buffer().b, s.id, n)
		s.c.startWriter()
	}
}

// restOfBody takes all that has been received, without a copy. Nothing more will be.
func (s *stream) restOfBody() []byte {
	p := s.body[s.read:]
	s.read = len(s.body)
	if s.response == nil {
		s.c.consume(len(p))
	}
	return p[:len(p):len(p)]
}

// unread is how much has been received and was not read.
func (s *stream) unread() int { return len(s.body) - s.read }

// write writes data as far as the windows and the buffer have room, and waits for more of it, at
// most timeout at a time.
func (s *stream) write(p []byte, timeout time.Duration) error {
	c := s.c
	for len(p) > 0 {
		if s.err != nil {
			return s.err
		}
		n := c.flow.acquire(&s.flow, len(p), c.buffered())
		if n == 0 {
			if err := s.awaitRoom(timeout); err != nil {
				return err
			}
			continue
		}
		fits := c.roomFor(n)
		c.flow.giveBack(&s.flow, n-fits)
		if fits == 0 {
			if err := s.awaitRoom(timeout); err != nil {
				return err
			}
			continue
		}
		s.data(p[:fits])
		p = p[fits:]
	}
	c.flow.wakeWriters(c.buffered())
	return nil
}

// data appends a DATA frame, for which flow control was acquired.
func (s *stream) data(p []byte) {
	c := s.c
	out := c.buffer()
	s.lastBatch, s.lastAt = c.batch, len(out.b)
	out.b = append(appendFrameHeader(out.b, len(p), frameData, 0, s.id), p...)
	s.sent.moved += int64(len(p))
	c.moved += int64(len(p))
	c.countProgress()
}

// awaitRoom waits for room.
func (s *stream) awaitRoom(timeout time.Duration) error {
	c := s.c
	c.startWriter()
	if c.rate.window > 0 {
		return s.awaitRoomPaced(timeout)
	}
	ok := c.flow.wait(&s.flow, &c.mu, timeout)
	if s.err != nil {
		return s.err
	}
	if !ok {
		return errTimeout{}
	}
	return nil
}

// awaitRoomPaced waits no longer for a client than one may take.
func (s *stream) awaitRoomPaced(timeout time.Duration) error {
	c := s.c
	if s.waitsForSocket() { // which checkSocket looks at
		c.flow.wait(&s.flow, &c.mu, timeout)
		if s.cut {
			return c.tooSlow()
		}
		return s.err
	}
	began := time.Now()
	s.sent.begin(c.moved)
	ok := c.flow.wait(&s.flow, &c.mu, min(timeout, s.sent.left(&c.rate)))
	if s.err != nil {
		return s.err
	}
	if s.sent.wait(time.Since(began), &c.rate) {
		return s.judgeSent()
	}
	if !ok {
		return errTimeout{}
	}
	return nil
}

// awaitHeadRoom waits until a head can be written: no window bounds it, but the buffer does.
func (s *stream) awaitHeadRoom(timeout time.Duration) error {
	s.flow.forHead = true
	defer func() { s.flow.forHead = false }()
	for s.c.buffered() >= outMax || s.c.overfull() {
		if err := s.awaitRoom(timeout); err != nil {
			return err
		}
	}
	return s.err
}

// resetByPeer ends a stream that the peer has reset.
func (s *stream) resetByPeer(why code) {
	s.unprocessed = s.unprocessed || why == refusedStream
	if !s.c.server && why == noError && s.remoteEnded { // it has responded and wants no more of the body
		s.err = errReset(why)
		s.c.remove(s, nil)
		s.flow.writable.signal()
		return
	}
	s.c.remove(s, errReset(why))
}
