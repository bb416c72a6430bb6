package http1

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// rateWindow is the time over which Options.MinRate is asked for.
const rateWindow = 30 * time.Second

// rate is what is known of the rate at which a client moves what it has to. Only the time counts in
// which nothing but the client is waited for, as the watch finds it at its ticks; how much has been
// moved the kernel says, in both directions: a write of 64 KiB tells nothing until it is over, and
// behind a send buffer of megabytes that may take hours. So it costs a request nothing but to say
// that it waits.
type rate struct {
	reads, writes atomic.Bool // the client is waited for, to send or to take
	cut           atomic.Bool // it was too slow
	writeStopped  atomic.Bool // so that nothing more is written

	// Under the connection's mu.
	begun           bool          // a window
	waited, sampled time.Duration // in it, and when the kernel was asked last
	from, last      progress      // at its beginning and at that time
}

// progress is what the kernel says of a connection: bytes that have come, and that the peer has
// acknowledged. A peer that takes little says so in steps: when there is room for a segment, or in a
// sixteenth of its buffer. On the internet that is some seconds at 1 KiB/s. On the loopback device,
// with segments of 64 KiB, it can be minutes; but by then megabytes lie in the kernel, which goes on
// to deliver them when the connection has been closed here.
type progress struct{ received, taken uint64 }

// beginLocked begins a window: what was waited for in an earlier request does not count.
func (r *rate) beginLocked() { r.begun = false }

var errTooSlow = errors.New("http1: the client sends less than the least rate and is cut off")

// checkRate is called by the watch, elapsed after the last time. It cuts a client off that is too
// slow, and gives one time that is not.
func (c *conn) checkRate(elapsed time.Duration) {
	r := &c.rate
	reads, writes := r.reads.Load(), r.writes.Load()
	if !reads && !writes || c.socket == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.waited += elapsed
	if r.begun && r.waited-r.sampled < c.sampleEvery() {
		return
	}
	now, ok := c.progress()
	if !ok || c.aborted {
		return
	}
	if !r.begun {
		r.begun, r.waited, r.sampled, r.from, r.last = true, 0, 0, now, now
		return
	}
	if writes && now.taken > r.last.taken {
		c.extendWriteLocked()
	}
	r.last, r.sampled = now, r.waited
	if r.waited < rateWindow {
		return
	}
	moved := now.received - r.from.received + now.taken - r.from.taken
	if moved < uint64(c.srv.MinRate*int64(rateWindow/time.Second)) {
		c.cutLocked(writes)
	}
	r.waited, r.sampled, r.from = 0, 0, now
}

// sampleEvery is how often the kernel is asked while a client is waited for.
func (c *conn) sampleEvery() time.Duration { return min(time.Second, c.srv.IdleTimeout/4) }

func (c *conn) progress() (p progress, ok bool) {
	err := c.socket.Control(func(fd uintptr) { p, ok = progressOf(int(fd)) })
	return p, ok && err == nil
}

// extendWriteLocked gives a write more time of which a part has been taken: its deadline is there
// for a client that takes nothing.
func (c *conn) extendWriteLocked() {
	if c.state.Load() == active && !c.rate.writeStopped.Load() {
		c.base.SetWriteDeadline(time.Now().Add(tickEvery + c.srv.IdleTimeout*4/3)) // fails only for a closed connection
	}
}

// cutLocked cuts the client off. One that is slow to send can still read why.
func (c *conn) cutLocked(writes bool) {
	c.rate.cut.Store(true)
	c.bodyStopped.Store(true)
	c.srv.Cuts.TooSlow(c.srv.Logger, c.clientText, c.srv.MinRate)
	if !writes {
		c.base.SetReadDeadline(message.Past) // fails only for a closed connection
		return
	}
	c.rate.writeStopped.Store(true)
	c.base.SetDeadline(message.Past) // as above
}
