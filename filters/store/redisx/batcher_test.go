package redisx

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowNode answers each write after a time, or not before the write's deadline while it hangs.
type slowNode struct {
	node  // nothing else of it is called
	takes time.Duration
	hangs atomic.Bool

	mu     sync.Mutex
	writes []int // how many calls each had
}

var errCut = errors.New("cut off")

func (n *slowNode) exchange(w *write, deadline time.Time) {
	n.mu.Lock()
	n.writes = append(n.writes, len(w.calls))
	n.mu.Unlock()
	takes := n.takes
	if left := time.Until(deadline); n.hangs.Load() || left < takes {
		time.Sleep(left)
		fail(w.calls, errCut)
		return
	}
	time.Sleep(takes)
	for _, c := range w.calls {
		c.reply = "done"
	}
}

// testCall makes a call that is not from the pool, since that has timers and channels of other
// bubbles.
func testCall(timeout time.Duration) *Call {
	c := makeCall()
	c.deadline = time.Now().Add(timeout)
	c.EndKey()
	c.complete(NewScript("return 1"), 1)
	return c
}

// TestBatcherSharesWrites: while two writes are in flight, the other calls are queued and share the
// next ones.
func TestBatcherSharesWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &slowNode{takes: time.Second}
		b := &batcher{node: n}
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				c := testCall(time.Minute)
				if err := b.do(context.Background(), c); err != nil || c.reply != "done" {
					t.Errorf("%q, %v", c.reply, err)
				}
			})
		}
		wg.Wait()
		total := 0
		for i, size := range n.writes {
			if total += size; size > batchCallsMax || size < 1 {
				t.Errorf("write %d has %d calls", i, size)
			}
		}
		if total != 300 || len(n.writes) > 8 || b.writes != 0 || len(b.queue) != 0 {
			t.Errorf("writes %v, %d in flight, %d queued", n.writes, b.writes, len(b.queue))
		}
	})
}

// TestBatcherAlone: the calls of a single caller go out one by one and wait for no others.
func TestBatcherAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &slowNode{takes: time.Second}
		b := &batcher{node: n}
		began := time.Now()
		for range 5 {
			if err := b.do(context.Background(), testCall(time.Minute)); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 5*time.Second || len(n.writes) != 5 {
			t.Errorf("%v for writes %v", took, n.writes)
		}
	})
}

// TestBatcherYields: a write lets others run before it is sent only while calls come together.
func TestBatcherYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batcher{node: &slowNode{takes: time.Second}}
		together := func(n int) {
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					if err := b.do(context.Background(), testCall(time.Minute)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		yields := func() bool {
			w := b.beginWrite(testCall(time.Minute))
			b.endWrite(w)
			return w.yields
		}
		together(1)
		if yields() {
			t.Error("a call by itself lets others run")
		}
		together(20)
		if !yields() {
			t.Error("after calls that came together, the next one does not let others run")
		}
		together(1)
		if yields() {
			t.Error("a call lets others run though the last one was by itself")
		}
	})
}

// TestBatcherLateLeader: a call that has its write too late takes nobody with it.
func TestBatcherLateLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &slowNode{}
		b := &batcher{node: n}
		late, other := testCall(time.Second), testCall(time.Minute)
		w := b.beginWrite(late)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := b.do(context.Background(), other); err != nil || other.reply != "done" {
				t.Errorf("%q, %v", other.reply, err)
			}
		})
		time.Sleep(time.Second)
		b.write(w, late)
		wg.Wait()
		if !errors.Is(late.fault, context.DeadlineExceeded) || late.reply != "" || len(n.writes) != 1 {
			t.Errorf("%q, %v, writes %v", late.reply, late.fault, n.writes)
		}
	})
}

// TestBatcherDeadlines: whatever the node does, a call ends at its deadline or with its context;
// and the batcher works when the node is back.
func TestBatcherDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &slowNode{takes: time.Second}
		n.hangs.Store(true)
		b := &batcher{node: n}
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond)
				ctx, cancel := context.WithCancel(context.Background())
				timeout := time.Second + time.Duration(i%7)*100*time.Millisecond
				if i%5 == 0 {
					time.AfterFunc(300*time.Millisecond, cancel)
				}
				defer cancel()
				began := time.Now()
				c := testCall(timeout)
				err := b.do(ctx, c)
				if took := time.Since(began); took > timeout {
					t.Errorf("took %v with a timeout of %v", took, timeout)
				}
				if err == nil || c.reply != "" {
					t.Errorf("%q, %v", c.reply, err)
				}
			})
		}
		wg.Wait()
		n.hangs.Store(false)
		for range 50 {
			wg.Go(func() {
				if err := b.do(context.Background(), testCall(time.Minute)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if b.writes != 0 || len(b.queue) != 0 {
			t.Errorf("%d in flight, %d queued", b.writes, len(b.queue))
		}
	})
}

// TestBatcherHurriedCallsTogether: calls that all have little time share writes as others do.
func TestBatcherHurriedCallsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &slowNode{takes: time.Second}
		b := &batcher{node: n}
		var wg sync.WaitGroup
		began := time.Now()
		for range 60 {
			wg.Go(func() {
				c := testCall(10 * time.Second)
				c.hurried = true
				if err := b.do(context.Background(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("60 calls took %v, at a second a write", took)
		}
	})
}

// TestBatcherHurriedCall: a call whose caller has little time takes no others with it when it is
// cut off.
func TestBatcherHurriedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &slowNode{takes: time.Second}
		b := &batcher{node: n}
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				c := testCall(time.Minute)
				if i%3 == 0 {
					c.deadline, c.hurried = time.Now().Add(time.Second/2), true
				}
				if err := b.do(context.Background(), c); (err != nil) != c.hurried {
					t.Errorf("hurried %v: %v", c.hurried, err)
				}
			})
		}
		wg.Wait()
	})
}
