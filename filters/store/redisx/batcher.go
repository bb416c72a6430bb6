package redisx

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	// writesMax is how many writes a batcher has in flight. One more call than that waits and
	// shares the next write.
	writesMax = 2
	// batchCallsMax and batchBytesMax bound one write, so that its last reply does not come much
	// later than its first.
	batchCallsMax = 128
	batchBytesMax = 1 << 20
	// hurriedSpread is by how much a call with little time may be cut off early.
	hurriedSpread = time.Millisecond
)

// node is a Redis server that takes commands.
type node interface {
	// exchange sends the calls of a write on one connection and waits for their replies, until the deadline. Each call
	// has its own outcome.
	exchange(w *write, deadline time.Time)
	// further sends calls on the connection on which the write went out, and on no other one.
	further(w *write, calls []*Call, deadline time.Time)
}

// signal is what a queued call is told.
type signal uint8

const (
	finished signal = iota // its outcome is in its command
	lead                   // it has one of the writes now (Call.leads): take what is queued along, and send it
)

// batcher combines the calls to one node. A call that finds a write free is sent by its own
// goroutine, and takes those along that come before it does. The others are queued, and one of them, that with the
// latest deadline, sends them all as soon as a write has come back. So the busier the node, the more calls share a
// write, and no call waits for others.
//
// The deadline of a write is that of the call that leads it. It is about the latest of all, so no
// call is cut off early; the others leave at their own.
//
// The zero value with a node is ready.
type batcher struct {
	node       node
	replicated bool // it has the calls of such scripts ([Script.Replicated]), and no others

	mu      sync.Mutex
	writes  int      // in flight
	gathers *write   // the one that takes what is queued along in a moment; nil: none
	company bool     // the last write took others along
	spare   []*write // not in flight
	queue   []*Call  // not empty only while writesMax are in flight, or one gathers
	retired bool     // its connections are given back
}

// do sends the call and returns its outcome, at its deadline at the latest.
func (b *batcher) do(ctx context.Context, c *Call) error {
	if w := b.beginWrite(c); w != nil {
		b.write(w, c)
		return c.fault
	}
	c.timer.Reset(time.Until(c.deadline))
	defer c.timer.Stop()
	select {
	case s := <-c.signal:
		if s == lead {
			b.write(c.leads, c)
		}
		return c.fault
	case <-c.timer.C:
		return b.leave(c, context.DeadlineExceeded)
	case <-ctx.Done():
		return b.leave(c, ctx.Err())
	}
}

// beginWrite gives the call a write of its own, or queues it and returns nil.
func (b *batcher) beginWrite(c *Call) *write {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gathers != nil || b.writes == writesMax {
		b.queue = append(b.queue, c)
		return nil
	}
	return b.newWriteLocked()
}

// newWriteLocked returns a write that is not in flight; of several the one whose connection was used last.
func (b *batcher) newWriteLocked() *write {
	b.writes++
	if n := len(b.spare); n > 0 {
		b.gathers = b.spare[n-1]
		b.spare = b.spare[:n-1]
	} else {
		b.gathers = new(write)
	}
	b.gathers.yields = b.writes > 1 || b.company
	return b.gathers
}

// leave takes the call out of the queue and returns the reason, unless its outcome has just come.
// If it has just become the leader of a write, another one does.
func (b *batcher) leave(c *Call, reason error) error {
	if b.unqueue(c) {
		return reason
	}
	select {
	case s := <-c.signal:
		if s == finished {
			return c.fault
		}
		b.endWrite(c.leads)
	default:
		c.abandoned = true // it is being sent
	}
	return reason
}

// unqueue reports whether the call was still queued.
func (b *batcher) unqueue(c *Call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.queue, c)
	if i < 0 {
		return false
	}
	b.queue = slices.Delete(b.queue, i, i+1)
	return true
}

// endWrite ends a write: the queued call with the latest deadline leads the next one.
func (b *batcher) endWrite(w *write) {
	clear(w.calls)
	w.calls = w.calls[:0]
	b.mu.Lock()
	b.writes--
	if b.gathers == w { // its leader has left before it was sent
		b.gathers = nil
	}
	retired := b.retired
	if !retired {
		b.spare = append(b.spare, w)
	}
	b.promoteLocked()
	b.mu.Unlock()
	if retired {
		w.closeLine()
	}
}

// promoteLocked has a queued call lead a write, where one is free and none takes the call along.
func (b *batcher) promoteLocked() {
	if len(b.queue) == 0 || b.writes == writesMax || b.gathers != nil {
		return
	}
	latest := len(b.queue) - 1
	for i := latest - 1; i >= 0; i-- {
		if b.queue[i].deadline.After(b.queue[latest].deadline) {
			latest = i
		}
	}
	leader := b.queue[latest]
	b.queue = slices.Delete(b.queue, latest, latest+1)
	leader.leads = b.newWriteLocked()
	leader.signal <- lead // never blocks: a call has one signal at most, and the channel holds one
}

// takeBatch takes from the queue what goes out with the leader. A call with little time takes only those
// along that have about as little, so that no other is cut off with it: calls of one Envoy all have the same.
func (b *batcher) takeBatch(w *write, leader *Call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, size := 0, len(leader.Buffer)
	for n < len(b.queue) && n < batchCallsMax-1 && size < batchBytesMax {
		if leader.hurried && b.queue[n].deadline.After(leader.deadline.Add(hurriedSpread)) {
			break
		}
		size += len(b.queue[n].Buffer)
		n++
	}
	w.calls = append(append(w.calls, leader), b.queue[:n]...)
	b.queue = slices.Delete(b.queue, 0, n)
	b.gathers, b.company = nil, n > 0
	b.promoteLocked() // of those that it did not take
}

// write sends the leader's call and what is queued by now, and ends the write.
func (b *batcher) write(w *write, leader *Call) {
	if w.yields {
		runtime.Gosched() // a call that is about to be made comes along
	}
	if !time.Now().Before(leader.deadline) { // it was woken too late: those that are queued may have more time
		leader.fault = context.DeadlineExceeded
		b.endWrite(w)
		return
	}
	b.takeBatch(w, leader)
	b.node.exchange(w, leader.deadline)
	if b.replicated {
		b.replicate(w, leader)
		return
	}
	for _, c := range w.calls[1:] {
		c.signal <- finished
	}
	b.endWrite(w)
}

// retire gives the connections back to the library. Calls that have the batcher still use it to their end.
func (b *batcher) retire() {
	b.mu.Lock()
	b.retired = true
	spare := b.spare
	b.spare = nil
	b.mu.Unlock()
	for _, w := range spare {
		w.closeLine()
	}
}
