package upstream

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/filters/processor"
)

// idleConns are the idle connections of a pool, in a stack for each processor: a connection goes on where it was used
// last, so its buffers and its socket are in the caches there, and processors do not wait for each other. One that has
// none takes another's, so no connection is made while one is idle. The zero value has none. It is safe for concurrent
// use.
type idleConns struct {
	stacks processor.Parts[idleStack]
	closed atomic.Bool

	mu      sync.Mutex   // taken before that of a stack
	sweep   *time.Timer  // runs while there are idle ones
	sweepAt atomic.Int64 // when, in Unix nanoseconds; 0: it does not run. Written under mu
}

// idleStack is one processor's.
type idleStack struct {
	mu    sync.Mutex
	conns []*conn // the last used on top
	_     [processor.Line - unsafe.Sizeof(sync.Mutex{}) - unsafe.Sizeof([]*conn{})]byte
}

// pop takes the connection out that was used last on this processor, or else on another one; nil when there is none.
func (s *idleConns) pop() *conn {
	if c := s.stacks.Here().pop(); c != nil {
		return c
	}
	for stack := range s.stacks.All() {
		if c := stack.pop(); c != nil {
			return c
		}
	}
	return nil
}

func (s *idleStack) pop() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.conns)
	if n == 0 {
		return nil
	}
	c := s.conns[n-1]
	s.conns[n-1] = nil
	s.conns = s.conns[:n-1]
	return c
}

// popOldest takes the connection out that has been idle longest; nil when there is none.
func (s *idleConns) popOldest() *conn {
	for {
		var oldest *idleStack
		var since time.Time
		for stack := range s.stacks.All() {
			if at, ok := stack.oldest(); ok && (oldest == nil || at.Before(since)) {
				oldest, since = stack, at
			}
		}
		if oldest == nil {
			return nil
		}
		if c := oldest.popOldest(); c != nil {
			return c
		}
	}
}

// oldest returns since when the connection at the bottom has been idle; false when there is none.
func (s *idleStack) oldest() (since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == 0 {
		return time.Time{}, false
	}
	return s.conns[0].IdleSince, true
}

func (s *idleStack) popOldest() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == 0 {
		return nil
	}
	c := s.conns[0]
	n := copy(s.conns, s.conns[1:])
	s.conns[n] = nil
	s.conns = s.conns[:n]
	return c
}

// push adds a connection; false when all are closed.
func (s *idleConns) push(c *conn) bool {
	stack := s.stacks.Here()
	stack.mu.Lock()
	defer stack.mu.Unlock()
	if s.closed.Load() { // under the lock: whoever closes empties the stack after it
		return false
	}
	stack.conns = append(stack.conns, c)
	return true
}

// count returns how many there are.
func (s *idleConns) count() (n int) {
	for stack := range s.stacks.All() {
		stack.mu.Lock()
		n += len(stack.conns)
		stack.mu.Unlock()
	}
	return n
}

// keep makes a connection an idle one; false when the pool is closed.
func (p *pool) keep(c *conn) bool {
	at := c.deadline(p.idleMax()) // it is another's as soon as it is idle
	if !p.idle.push(c) {
		return false
	}
	if sweepAt := p.idle.sweepAt.Load(); sweepAt == 0 || at.UnixNano() < sweepAt {
		p.sweepBy(at)
	}
	return true
}

func (p *pool) idleMax() time.Duration { return p.e.service.current.Load().settings.KeepAlive.Idle }

// sweepMin is the least time between two looks for what is idle too long.
const sweepMin = 50 * time.Millisecond

// sweepBy has the pool look for what is idle too long at a time, unless it does so before.
func (p *pool) sweepBy(at time.Time) {
	p.idle.mu.Lock()
	defer p.idle.mu.Unlock()
	p.sweepByLocked(at)
}

func (p *pool) sweepByLocked(at time.Time) {
	s := &p.idle
	if sweepAt := s.sweepAt.Load(); s.closed.Load() || sweepAt != 0 && sweepAt <= at.UnixNano() {
		return
	}
	s.sweepAt.Store(at.UnixNano())
	wait := max(time.Until(at), sweepMin)
	if s.sweep == nil {
		s.sweep = time.AfterFunc(wait, p.trim)
	} else {
		s.sweep.Reset(wait)
	}
}

// trim closes the connections that have been idle too long or are too old, which a quiet service
// would keep for ever.
func (p *pool) trim() {
	for _, c := range p.expired(time.Now(), p.idleMax()) {
		c.Close()
	}
}

// expired takes out what is to be closed, and arranges for what is left.
func (p *pool) expired(now time.Time, idle time.Duration) (over []*conn) {
	s := &p.idle
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepAt.Store(0) // before the look: who adds one behind it arranges for that
	var next time.Time
	for stack := range s.stacks.All() {
		var first time.Time
		if over, first = stack.expired(over, now, idle); !first.IsZero() && (next.IsZero() || first.Before(next)) {
			next = first
		}
	}
	if !next.IsZero() {
		p.sweepByLocked(next)
	} else if s.sweep != nil {
		s.sweep.Stop()
		s.sweep = nil
	}
	return over
}

// expired appends what is to be closed, and returns when the next one is.
func (s *idleStack) expired(over []*conn, now time.Time, idle time.Duration) (_ []*conn, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.conns[:0]
	for _, c := range s.conns {
		at := c.deadline(idle)
		if !now.Before(at) {
			over = append(over, c)
			continue
		}
		kept = append(kept, c)
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	clear(s.conns[len(kept):])
	s.conns = kept
	return over, next
}

// closeIdle has the pool keep no connection from now on, and returns those that it had.
func (p *pool) closeIdle() (idle []*conn) {
	s := &p.idle
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed.Store(true)
	for stack := range s.stacks.All() {
		stack.mu.Lock()
		idle = append(idle, stack.conns...)
		stack.conns = nil
		stack.mu.Unlock()
	}
	if s.sweep != nil {
		s.sweep.Stop()
	}
	return idle
}
