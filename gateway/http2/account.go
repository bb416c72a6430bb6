package http2

import (
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// charge takes n bytes of the client's account.
func (c *conn) charge(n int) bool { return c.account.Acquire(budget.Buffered, int64(n)) }

// headCost is what the head of a request takes: its strings and the list of them, and for a long
// one once more, since it is written out to the service in one piece. A short one goes into the
// memory that each exchange has.
func headCost(size int) int {
	if size > message.SmallBuffer {
		return 2 * size
	}
	return size
}

// discharge gives them back.
func (c *conn) discharge(n int) {
	if n > 0 {
		c.account.Release(budget.Buffered, int64(n))
	}
}

// short reports whether there is little room left for the client's bodies. Then its streams get
// small windows, and their memory is given back as soon as it is empty.
func (s *stream) short() bool {
	return s.account != nil && s.account.Room(budget.Buffered) < streamWindow
}

// makeRoom makes room for n more bytes of the body; false when there is none.
func (s *stream) makeRoom(n int) bool {
	if s.read > 0 && len(s.body)+n > cap(s.body) {
		s.body = s.body[:copy(s.body, s.body[s.read:])]
		s.read = 0
	}
	least := len(s.body) + n
	size := cap(s.body)
	if least > size {
		size = max(least, min(2*size, streamWindow))
	}
	if size == s.bodyCount {
		return true
	}
	if !s.count(size) {
		if size = max(least, cap(s.body)); !s.count(size) {
			return false
		}
	}
	if size > cap(s.body) {
		s.body = append(make([]byte, 0, size), s.body...)
	}
	return true
}

// count has the body counted as one of so many bytes.
func (s *stream) count(size int) bool {
	more := size - s.bodyCount
	if more > 0 && !s.account.Acquire(budget.Buffered, int64(more)) {
		return false
	}
	s.charged += more
	s.bodyCount = size
	return true
}

// dropBody gives the memory of the body back.
func (s *stream) dropBody() {
	s.account.Release(budget.Buffered, int64(s.bodyCount))
	s.charged -= s.bodyCount
	s.body, s.read, s.bodyCount = nil, 0, 0
}

// overload gives up a body for which there is no room. What still comes of it is dropped; the
// handler, which reads [filters.ErrOverloaded], says so to the client.
func (s *stream) overload() {
	s.overloaded = filters.ErrOverloaded
	s.c.consume(s.unread())
	s.dropBody()
}

// settle gives back what the stream was charged with. Nothing has it any more.
func (s *stream) settle() {
	if s.charged > 0 {
		s.account.Release(budget.Buffered, int64(s.charged))
	}
	if s.charged, s.bodyCount = 0, 0; cap(s.body) > frameMax {
		s.body = nil
	}
}

// chargeOut counts what the buffer has grown by; false when that is more than there is.
func (c *conn) chargeOut() bool {
	if c.account == nil || c.broken { // what is not sent any more is not counted either
		return true
	}
	more := cap(c.out.b) - outFree - c.out.counted
	if more <= 0 {
		return true
	}
	if !c.charge(more) {
		return false
	}
	c.out.counted += more
	return true
}

// overfull reports whether the buffer is larger than what is counted, and not empty: nothing more
// goes into it.
func (c *conn) overfull() bool {
	return c.out != nil && len(c.out.b) > 0 && !c.chargeOut()
}

// roomFor returns how much of a piece of n bytes, for which flow control was acquired, goes into
// the buffer now.
func (c *conn) roomFor(n int) int {
	if c.account == nil || c.broken { // what is not sent any more is not counted either
		return n
	}
	out := c.buffer()
	free := cap(out.b) - len(out.b) - frameHeaderLen
	if n <= free {
		return n
	}
	size := max(2*cap(out.b), len(out.b)+frameHeaderLen+n)
	if more := size - outFree - out.counted; more <= 0 || c.charge(more) {
		out.counted += max(more, 0)
		out.b = append(make([]byte, 0, size), out.b...)
		return n
	}
	if free < outFree/4 { // a frame of a few bytes costs more than it carries
		return 0
	}
	return free
}

// dropOut gives a buffer back that was written, or cannot be.
func (c *conn) dropOut(out *outBuffer) {
	c.discharge(out.counted)
	out.counted = 0
	if cap(out.b) <= 2*outMax {
		out.b = out.b[:0]
		outBuffers.Put(out)
	}
}
