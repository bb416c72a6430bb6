package http2

import (
	"cmp"
	"slices"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// rateWindow is the time of waiting over which Options.MinRate is asked for.
const rateWindow = 30 * time.Second

// minRate is the least rate at which a client moves what it has to. Its zero value is none.
type minRate struct {
	bytes  int64         // over window
	window time.Duration // 0: none
}

// tooSlow counts a stream that is cut off and returns why.
func (c *conn) tooSlow() error {
	c.side.tooSlow()
	return errTooSlow{}
}

// pace is how a body moves, in one direction: only the time counts in which nothing but the client
// is waited for. It is under the connection's mu.
type pace struct {
	waited time.Duration // in this window
	moved  int64         // bytes, since it began
	others int64         // that the whole connection had moved by then
}

// left is how long may be waited until the window is over.
func (p *pace) left(r *minRate) time.Duration { return max(r.window-p.waited, time.Millisecond) }

// begin begins a window where there is none.
func (p *pace) begin(connection int64) {
	if p.waited == 0 {
		p.others = connection
	}
}

// wait adds time that was waited for the client, and reports whether the window is over.
func (p *pace) wait(d time.Duration, r *minRate) bool {
	p.waited += d
	return p.waited >= r.window
}

// errTooSlow says that the peer has moved less than the least rate.
type errTooSlow struct{}

func (errTooSlow) Error() string   { return "http2: the client moves less than the least rate" }
func (errTooSlow) Timeout() bool   { return true }
func (errTooSlow) Temporary() bool { return true }

// judgeSent is called at the end of a stream's window for what it sends. A stream that has no
// window of its own is held to its own rate. One that waits for the connection's shares that with
// the others, each of which gets a frame in its turn: together they have to move as much as each
// has to.
func (s *stream) judgeSent() error {
	c, p := s.c, s.sent
	s.sent = pace{}
	share := (c.moved - p.others) / int64(1+len(c.flow.waiting))
	if p.moved >= c.rate.bytes || s.flow.send > 0 && share >= c.rate.bytes {
		return nil
	}
	return c.tooSlow()
}

// judgeReceived is called at the end of a stream's window for what it receives.
func (s *stream) judgeReceived() error {
	p := s.got
	s.got = pace{}
	if p.moved >= s.c.rate.bytes {
		return nil
	}
	return s.c.tooSlow()
}

// waitsForSocket reports whether nothing but the socket keeps a stream that waits from going on.
func (s *stream) waitsForSocket() bool {
	return s.flow.forHead || s.flow.send > 0 && s.c.flow.send > 0
}

// writePace is how the socket takes what is written on it: as the kernel says, since a write tells
// nothing until it is over, and with TLS cannot be taken up again after a deadline.
type writePace struct {
	writing   bool // a write is under way
	began     time.Time
	from      uint64 // acknowledged at its beginning
	last      uint64 // and when the socket was looked at last
	cannotSee bool
}

// checkSocket is called by the check timer, for a connection that is being written to. It gives one
// more time that takes something, and ends one that takes too little.
func (c *serverConn) checkSocket(now time.Time) {
	w := &c.socketPace
	if !c.sending || c.rate.window == 0 || w.cannotSee {
		w.writing = false
		return
	}
	taken, ok := c.taken()
	if !ok {
		w.cannotSee = true
		return
	}
	if !w.writing {
		*w = writePace{writing: true, began: now, from: taken, last: taken}
		return
	}
	if taken > w.last {
		w.last = taken
		c.writeUntil = now.Add(c.writeTimeout + c.writeTimeout/3)
		c.nc.SetWriteDeadline(c.writeUntil) // fails only for a closed connection
	}
	if now.Sub(w.began) < c.rate.window {
		return
	}
	if moved := int64(taken - w.from); moved < c.rate.bytes {
		c.side.tooSlow()
		c.nc.SetWriteDeadline(message.Past) // the writer ends the connection; fails only for a closed one
	} else {
		c.cutStreams(int(moved / c.rate.bytes))
	}
	w.writing = false
}

// cutStreams is called when the socket has taken in a window what so many streams have to take at
// least. Of those beyond that wait for it, the last half are cut off: those before have more then.
func (c *serverConn) cutStreams(enough int) {
	var waiting []*stream
	for _, s := range c.streams {
		if s.flow.queued && s.waitsForSocket() {
			waiting = append(waiting, s)
		}
	}
	if len(waiting) <= enough {
		return
	}
	slices.SortFunc(waiting, func(a, b *stream) int { return cmp.Compare(b.id, a.id) })
	for _, s := range waiting[:(len(waiting)-enough+1)/2] {
		s.cut = true
		s.flow.writable.signal()
	}
}

// taken returns how many bytes the client has acknowledged.
func (c *serverConn) taken() (n uint64, ok bool) {
	sc, isSocket := c.base.(syscall.Conn)
	if !isSocket {
		return 0, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) { n, ok = acknowledged(int(fd)) })
	return n, ok && err == nil
}
