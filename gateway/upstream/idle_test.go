package upstream

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/http1"
)

// idlePool returns a pool without connections, and a function that makes one which has been idle since a time.
func idlePool(t *testing.T) (*pool, func(since time.Time) *conn) {
	s := new(Service)
	s.current.Store(&configuration{settings: Settings{KeepAlive: KeepAlive{Idle: time.Hour}}})
	p := &pool{e: &endpoint{service: s}}
	t.Cleanup(func() { p.closeIdle() })
	return p, func(since time.Time) *conn {
		c := &conn{Client: new(http1.Client), pool: p, expires: since.Add(2 * time.Hour)}
		c.IdleSince = since
		return c
	}
}

// TestIdleOfAllProcessors: whichever processor a connection was used on, it is found where there is no nearer one,
// gives way in the order of its age, expires and is closed.
func TestIdleOfAllProcessors(t *testing.T) {
	now := time.Now()
	p, idle := idlePool(t)
	fill := func() (conns []*conn) {
		for i := range 6 { // the oldest first, by turns on two processors
			c := idle(now.Add(time.Duration(i-10) * time.Minute))
			stack := p.idle.stacks.At(i % 2)
			stack.conns = append(stack.conns, c)
			conns = append(conns, c)
		}
		return conns
	}
	conns := fill()
	if n := p.idle.count(); n != 6 {
		t.Errorf("%d are idle, want 6", n)
	}
	for i, want := range conns {
		if c := p.idle.popOldest(); c != want {
			t.Errorf("the %d. to give way is not the oldest", i+1)
		}
	}
	if p.idle.popOldest() != nil || p.idle.pop() != nil {
		t.Error("there is one more")
	}
	fill()
	found := map[*conn]bool{}
	for c := p.idle.pop(); c != nil; c = p.idle.pop() {
		found[c] = true
	}
	if len(found) != 6 {
		t.Errorf("%d were found, want 6", len(found))
	}
	conns = fill()
	over := p.expired(now, 8*time.Minute)
	if len(over) != 3 || p.idle.count() != 3 || p.idle.sweep == nil {
		t.Errorf("%d have expired and %d are left, want 3 each, and a sweep to come", len(over), p.idle.count())
	}
	if closed := p.closeIdle(); len(closed) != 3 || p.idle.count() != 0 {
		t.Errorf("%d were closed and %d are left, want 3 and none", len(closed), p.idle.count())
	}
	if p.keep(conns[0]) {
		t.Error("a closed pool keeps a connection")
	}
}

// TestIdleIsNobodyElses: on several processors, while others expire and the pool is closed, each connection is one
// goroutine's at a time, and none is lost.
func TestIdleIsNobodyElses(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	const conns, goroutines = 12, 8
	p, idle := idlePool(t)
	used := map[*conn]*atomic.Bool{}
	for range conns {
		c := idle(time.Now())
		used[c] = new(atomic.Bool)
		p.keep(c)
	}
	var over, refused atomic.Int64
	work := func(n int) {
		var all sync.WaitGroup
		for range goroutines {
			all.Go(func() {
				for i := range n {
					c := p.idle.pop()
					if c == nil {
						continue
					}
					if used[c].Swap(true) {
						t.Error("a connection is two goroutines'")
					}
					if i%8 == 0 {
						runtime.Gosched()
					}
					used[c].Store(false)
					if !p.keep(c) {
						refused.Add(1)
					}
				}
			})
		}
		all.Go(func() {
			for range n {
				over.Add(int64(len(p.expired(time.Now(), time.Hour))))
			}
		})
		all.Wait()
	}
	work(2000)
	if n := p.idle.count(); n != conns || over.Load() != 0 || refused.Load() != 0 {
		t.Errorf("%d are idle, %d have expired, %d were not kept, want %d, none and none", n, over.Load(),
			refused.Load(), conns)
	}
	if p.idle.sweepAt.Load() == 0 {
		t.Error("nobody will look for those that are idle too long")
	}
	var closed atomic.Int64
	var all sync.WaitGroup
	all.Go(func() { work(200) })
	all.Go(func() { closed.Add(int64(len(p.closeIdle()))) })
	all.Wait()
	if n := closed.Load() + refused.Load(); n != conns || p.idle.count() != 0 {
		t.Errorf("%d were closed or not kept and %d are left, want %d and none", n, p.idle.count(), conns)
	}
}
