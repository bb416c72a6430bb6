package http2

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// stream is what either side of a stream has. All of it is under the connection's mu, but for what is said of the waiters.
type stream struct {
	c      *conn
	id     uint32
	ctx    *message.Context // that ends with it; nil on the client's side
	answer *Response        // that it is of; nil on the server's side
	held   *Stream          // a request that is not served before its body is there; else nil

	// What comes.
	body        []byte // that has come
	read        int    // of it
	declared    int64
	received    int64
	remoteEnded bool
	trailer     filters.Header
	readable    waiter

	// What goes.
	lastBatch  uint32 // where its last frame is
	lastAt     int
	localEnded bool

	flow streamFlow

	err    error // why it ended before its end
	unseen bool  // the peer has not begun with it
}

// begin readies a stream for its first frame.
func (s *stream) begin(c *conn, id uint32) {
	body, trailer := s.body[:0], s.trailer[:0]
	if cap(body) > frameMax {
		body = nil
	}
	clear(trailer[:cap(trailer)])
	*s = stream{c: c, id: id, ctx: s.ctx, body: body, trailer: trailer, readable: s.readable, flow: s.flow, declared: -1}
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

// errLate is the error of a peer that was waited for too long.
type errLate struct{}

func (errLate) Error() string   { return "http2: the peer took too long" }
func (errLate) Timeout() bool   { return true }
func (errLate) Temporary() bool { return true }

var (
	errStopped = errors.New("http2: the read was interrupted")
	errEnded   = errors.New("http2: the stream has ended")
)

// errReset is a stream that the peer has reset.
type errReset code

func (e errReset) Error() string {
	return fmt.Sprintf("http2: the peer has reset the stream (code %d)", code(e))
}

// receive takes data. The error is for the peer.
func (s *stream) receive(h *frameHeader, data []byte) error {
	if s.remoteEnded {
		s.c.consume(len(data))
		return streamError{s.id, streamClosed}
	}
	padding := h.length - len(data)
	if !s.flow.receive.receive(h.length) {
		s.c.consume(len(data))
		return streamError{s.id, flowControlError}
	}
	s.flow.receive.skip(padding)
	s.received += int64(len(data))
	if s.declared >= 0 && (s.received > s.declared || h.has(flagEndStream) && s.received < s.declared) {
		s.c.consume(len(data))
		return streamError{s.id, protocolError}
	}
	if s.read > 0 && len(s.body)+len(data) > cap(s.body) {
		s.body = s.body[:copy(s.body, s.body[s.read:])]
		s.read = 0
	}
	s.body = append(s.body, data...)
	if h.has(flagEndStream) {
		s.remoteEnd()
	}
	s.readable.signal()
	return nil
}

// remoteEnd: nothing more comes.
func (s *stream) remoteEnd() {
	s.remoteEnded = true
	s.c.side.whole(s)
}

// take reads what has come and lets the peer send as much again.
func (s *stream) take(p []byte) int {
	n := copy(p, s.body[s.read:])
	if s.read += n; s.read == len(s.body) {
		s.body, s.read = s.body[:0], 0
	}
	s.taken(n)
	return n
}

func (s *stream) taken(n int) {
	s.c.consume(n)
	if s.remoteEnded || s.err != nil {
		return
	}
	if n := s.flow.receive.consume(n); n > 0 {
		s.c.buffer().b = appendWindowUpdate(s.c.buffer().b, s.id, n)
		s.c.kick()
	}
}

// rest takes all that has come without a copy. Nothing comes any more.
func (s *stream) rest() []byte {
	p := s.body[s.read:]
	s.read = len(s.body)
	s.c.consume(len(p))
	return p[:len(p):len(p)]
}

// unread is how much has come and was not read.
func (s *stream) unread() int { return len(s.body) - s.read }

// write writes data as far as the windows and the buffer have room, and waits for more of it for as long as patience at a time.
func (s *stream) write(p []byte, patience time.Duration) error {
	c := s.c
	for len(p) > 0 {
		if s.err != nil {
			return s.err
		}
		n := c.flow.acquire(&s.flow, len(p), c.buffered())
		if n == 0 {
			if err := s.await(patience); err != nil {
				return err
			}
			continue
		}
		s.data(p[:n])
		p = p[n:]
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
	c.progress()
}

// await waits for room.
func (s *stream) await(patience time.Duration) error {
	c := s.c
	c.kick()
	ok := c.flow.wait(&s.flow, &c.mu, patience)
	if s.err != nil {
		return s.err
	}
	if !ok {
		return errLate{}
	}
	return nil
}

// awaitHead waits until a head can be written: its size is not under flow control, but it is kept all the same.
func (s *stream) awaitHead(patience time.Duration) error {
	s.flow.forHead = true
	defer func() { s.flow.forHead = false }()
	for s.c.buffered() >= outMax {
		if err := s.await(patience); err != nil {
			return err
		}
	}
	return s.err
}

// wasReset: the peer has ended it.
func (s *stream) wasReset(why code) {
	s.unseen = s.unseen || why == refusedStream
	if !s.c.server && why == noError && s.remoteEnded { // it has answered and wants no more of the body
		s.err = errReset(why)
		s.c.forget(s, nil)
		s.flow.writable.signal()
		return
	}
	s.c.forget(s, errReset(why))
}
