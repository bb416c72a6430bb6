package redisx

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
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
	Process(ctx context.Context, cmd redis.Cmder) error
	Pipeline() redis.Pipeliner
}

// signal is what a queued call is told.
type signal uint8

const (
	finished signal = iota // its outcome is in its command
	lead                   // it has one of the writes now: take what is queued along, and send it
)

// batcher combines the calls to one node. A call that finds a write free is sent by its own
// goroutine. The others are queued, and one of them, that with the latest deadline, sends them all
// as soon as a write has come back. So the busier the node, the more calls share a write, and no
// call waits for others.
//
// The deadline of a write is that of the call that leads it. It is about the latest of all, so no
// call is cut off early; the others leave at their own.
//
// The zero value with a node is ready.
type batcher struct {
	node       node
	replicated bool // it has the calls of such scripts ([Script.Replicated]), and no others

	mu     sync.Mutex
	writes int     // in flight
	queue  []*Call // not empty only while writesMax are in flight
}

// do sends the call and returns its outcome, at its deadline at the latest.
func (b *batcher) do(ctx context.Context, c *Call) error {
	if b.beginWrite(c) {
		b.write(c)
		return c.err()
	}
	c.timer.Reset(time.Until(c.deadline))
	defer c.timer.Stop()
	select {
	case s := <-c.signal:
		if s == lead {
			b.write(c)
		}
		return c.err()
	case <-c.timer.C:
		return b.leave(c, context.DeadlineExceeded)
	case <-ctx.Done():
		return b.leave(c, ctx.Err())
	}
}

// beginWrite gives the call a write of its own, or queues it and returns false.
func (b *batcher) beginWrite(c *Call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writes < writesMax {
		b.writes++
		return true
	}
	b.queue = append(b.queue, c)
	return false
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
			return c.err()
		}
		b.endWrite()
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
func (b *batcher) endWrite() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		b.writes--
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
	leader.signal <- lead // never blocks: a call has one signal at most, and the channel holds one
}

// takeBatch takes from the queue what goes out with the leader. A call with little time takes only those
// along that have about as little, so that no other is cut off with it: calls of one Envoy all have the same.
func (b *batcher) takeBatch(leader *Call) []*Call {
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
	batch := slices.Clone(b.queue[:n])
	b.queue = slices.Delete(b.queue, 0, n)
	return batch
}

// write sends the leader's call and what is queued by now, and ends the write.
func (b *batcher) write(leader *Call) {
	runtime.Gosched() // a call that is about to be made comes along; if there is none, this costs nothing
	batch := b.takeBatch(leader)
	if b.replicated {
		b.writeReplicated(leader, batch)
		return
	}
	if len(batch) == 0 {
		_ = b.node.Process(until(leader.deadline), leader.cmd) // the command keeps its error
		b.endWrite()
		return
	}
	p := b.node.Pipeline()
	_ = p.BatchProcess(context.Background(), commands(leader, batch)...)
	_, _ = p.Exec(until(leader.deadline)) // each command keeps its own outcome
	b.endWrite()
	for _, c := range batch {
		c.signal <- finished
	}
}

func commands(leader *Call, batch []*Call) []redis.Cmder {
	cmds := make([]redis.Cmder, 0, len(batch)+1)
	cmds = append(cmds, leader.cmd)
	for _, c := range batch {
		cmds = append(cmds, c.cmd)
	}
	return cmds
}

// until is a context that ends at a moment and does not signal it: the library looks at deadlines
// only.
type until time.Time

func (u until) Deadline() (time.Time, bool) { return time.Time(u), true }
func (u until) Done() <-chan struct{}       { return nil }
func (u until) Value(any) any               { return nil }

func (u until) Err() error {
	if time.Now().Before(time.Time(u)) {
		return nil
	}
	return context.DeadlineExceeded
}
