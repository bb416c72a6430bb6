package http2

import (
	"sync"
	"time"
)

// sendWindow is how much may be sent, on a connection or a stream (RFC 9113 §6.9.1). It is below 0
// after the peer has made the windows of its streams smaller than what had been sent by then.
type sendWindow int

// grow adds an increment, which may be negative; false when the window is larger than one can be.
func (w *sendWindow) grow(n int) bool {
	*w += sendWindow(n)
	return *w <= windowMax
}

// update takes the increment of a WINDOW_UPDATE and returns what is wrong with it: one of nothing
// is a fault, too (RFC 9113 §6.9).
func (w *sendWindow) update(increment int) code {
	switch {
	case increment == 0:
		return protocolError
	case !w.grow(increment):
		return flowControlError
	}
	return noError
}

// receiveWindow is how much the peer may send, on a connection or a stream.
type receiveWindow struct {
	left   int // that the peer may send
	credit int // that was consumed and has not been returned to the peer
	size   int // of the whole window
}

func newReceiveWindow(size int) receiveWindow { return receiveWindow{left: size, size: size} }

// receive takes n bytes that have come; false when they are more than the peer may send.
func (w *receiveWindow) receive(n int) bool {
	w.left -= n
	return w.left >= 0
}

// skip consumes n bytes without a word to the peer: it is told with the next ones that are
// consumed.
func (w *receiveWindow) skip(n int) { w.credit += n }

// consume takes n bytes that were read, or dropped, and returns the increment to be sent to the
// peer: 0 while it is less than half of the window, since a frame for each piece would cost more
// than it does.
func (w *receiveWindow) consume(n int) (increment uint32) {
	if w.credit += n; w.credit < w.size/2 {
		return 0
	}
	increment = uint32(w.credit)
	w.left += w.credit
	w.credit = 0
	return increment
}

// consumeWithin is consume where the peer shall have size to send. When that is less than the
// window is, what the peer does not get back now it gets with what is consumed when there is room
// again; when it is more the window grows.
func (w *receiveWindow) consumeWithin(n, size int) (increment uint32) {
	if size >= w.size {
		w.credit += size - w.size
		w.size = size
		return w.consume(n)
	}
	w.credit += n
	more := min(w.credit, size-w.left)
	if more < size/2 {
		return 0
	}
	w.left += more
	w.credit -= more
	return uint32(more)
}

// flow is the flow control of a connection (RFC 9113 §5.2), and the streams that wait for it.
// Bodies are bounded by the windows of their stream and of the connection, and by the buffer that
// they go through, of which outMax bytes are theirs; heads by the buffer alone. All of it is under
// the connection's mu.
type flow struct {
	send    sendWindow
	receive receiveWindow
	initial int           // that a new stream may send
	granted int           // that it may receive
	waiting []*streamFlow // for room, the longest first
}

// streamFlow is the flow control of one stream.
type streamFlow struct {
	send     sendWindow
	receive  receiveWindow
	writable waiter
	queued   bool // it is in the connection's list
	forHead  bool // it waits to write a head
}

func newFlow() flow {
	return flow{
		send: firstWindow, receive: newReceiveWindow(connWindow), initial: firstWindow, granted: streamWindow,
	}
}

// begin readies a stream for its first frame.
func (f *flow) begin(s *streamFlow) {
	*s = streamFlow{send: sendWindow(f.initial), receive: newReceiveWindow(f.granted), writable: s.writable}
	s.writable.init()
}

// resize sets the window that new streams begin with and returns by how much those of the present
// ones change (RFC 9113 §6.9.2).
func (f *flow) resize(initial int) (change int) {
	change = initial - f.initial
	f.initial = initial
	return change
}

// acquire takes as much of want from both windows as may be written in one frame now, behind what
// is buffered; 0 when the writer has to wait.
func (f *flow) acquire(s *streamFlow, want, buffered int) int {
	if buffered >= outMax {
		return 0
	}
	n := max(min(want, frameMax, int(s.send), int(f.send)), 0)
	s.send -= sendWindow(n)
	f.send -= sendWindow(n)
	return n
}

// giveBack gives back what was acquired and not used.
func (f *flow) giveBack(s *streamFlow, n int) {
	s.send += sendWindow(n)
	f.send += sendWindow(n)
}

// wait waits until the stream is woken, behind those that wait already; false when timeout has
// passed.
func (f *flow) wait(s *streamFlow, mu *sync.Mutex, timeout time.Duration) bool {
	if !s.queued {
		s.queued = true
		f.waiting = append(f.waiting, s)
	}
	ok := s.writable.wait(mu, timeout)
	f.remove(s)
	return ok
}

func (f *flow) remove(s *streamFlow) {
	if !s.queued {
		return
	}
	s.queued = false
	for i, other := range f.waiting {
		if other == s {
			f.waiting = append(f.waiting[:i], f.waiting[i+1:]...)
			return
		}
	}
}

// wakeWriters wakes as many of those that wait as there is room for behind what is buffered, each
// for one frame, in turn. A stream whose own window is closed is passed over.
func (f *flow) wakeWriters(buffered int) {
	if len(f.waiting) == 0 {
		return
	}
	left := outMax - buffered
	kept := f.waiting[:0]
	for _, s := range f.waiting {
		if left > 0 && (s.forHead || s.send > 0 && f.send > 0) {
			left -= frameMax
			s.queued = false
			s.writable.signal()
			continue
		}
		kept = append(kept, s)
	}
	clear(f.waiting[len(kept):])
	f.waiting = kept
}
