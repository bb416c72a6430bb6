package idempotencyredis

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// flightsMax is how many writes of calls a lane has on their way at once. One more caller than that waits, and shares the next write.
	flightsMax = 2
	// batchMax and batchBytesMax bound one write, so that its last reply does not come much later than its first.
	batchMax      = 128
	batchBytesMax = 1 << 20
)

// node is a Redis that takes calls.
type node interface {
	Process(ctx context.Context, cmd redis.Cmder) error
	Pipeline() redis.Pipeliner
}

// lane combines the calls to one node: who finds it free sends his own in his own goroutine; who does not is queued, and one of the queued, the last
// one, sends them all as soon as a write has come back. So the busier the node, the more calls share a write, and nothing waits for company.
//
// The sender's deadline is that of the write. It is about the latest of all, so that nobody is cut off early; the others leave at their own.
type lane struct {
	node node

	mu     sync.Mutex
	flying int
	queue  []*call // not empty only while flightsMax fly
}

// do sends the call and returns its outcome, at its deadline at the latest.
func (l *lane) do(ctx context.Context, c *call) error {
	l.mu.Lock()
	if l.flying < flightsMax {
		l.flying++
		l.mu.Unlock()
		l.lead(c)
		return c.cmd.Err()
	}
	l.queue = append(l.queue, c)
	l.mu.Unlock()
	c.timer.Reset(time.Until(c.deadline))
	defer c.timer.Stop()
	select {
	case lead := <-c.turn:
		if lead {
			l.lead(c)
		}
		return c.cmd.Err()
	case <-c.timer.C:
		return l.leave(c, context.DeadlineExceeded)
	case <-ctx.Done():
		return l.leave(c, ctx.Err())
	}
}

// leave takes the call from the queue. If it is to lead just now, another one is.
func (l *lane) leave(c *call, reason error) error {
	l.mu.Lock()
	if i := slices.Index(l.queue, c); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		l.mu.Unlock()
		return reason
	}
	l.mu.Unlock()
	select {
	case lead := <-c.turn:
		if !lead {
			return c.cmd.Err()
		}
		l.land()
	default:
		c.abandoned = true // it is being sent
	}
	return reason
}

// land ends a write: the queued call with the latest deadline makes the next one.
func (l *lane) land() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.flying--
		return
	}
	last := len(l.queue) - 1
	for i := last - 1; i >= 0; i-- {
		if l.queue[i].deadline.After(l.queue[last].deadline) {
			last = i
		}
	}
	leader := l.queue[last]
	l.queue = slices.Delete(l.queue, last, last+1)
	leader.turn <- true // never blocks: it is sent once
}

// lead sends the call and what is queued by now. A call of little time goes alone, so that others are not cut off with it.
func (l *lane) lead(own *call) {
	runtime.Gosched() // who is about to call comes along; nobody is, and it costs nothing
	l.mu.Lock()
	n, size := 0, len(own.buffer)
	for !own.hurried && n < len(l.queue) && n < batchMax-1 && size < batchBytesMax {
		size += len(l.queue[n].buffer)
		n++
	}
	batch := slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, n)
	l.mu.Unlock()
	if n == 0 {
		_ = l.node.Process(until(own.deadline), own.cmd) // kept by the command
		l.land()
		return
	}
	cmds := make([]redis.Cmder, 0, n+1)
	cmds = append(cmds, own.cmd)
	for _, c := range batch {
		cmds = append(cmds, c.cmd)
	}
	p := l.node.Pipeline()
	_ = p.BatchProcess(context.Background(), cmds...)
	_, _ = p.Exec(until(own.deadline)) // each command keeps its own outcome
	l.land()
	for _, c := range batch {
		c.turn <- false
	}
}

// until is a context that ends at a moment and tells nobody: what it is for looks at deadlines.
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

// notExecuted tells whether Redis says for certain that it has not run a script, so that it may be sent again.
func notExecuted(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return errors.Is(err, redis.ErrClosed) // the client of a node that has left the cluster
	}
	for _, prefix := range []string{"NOSCRIPT", "MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "READONLY"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}
