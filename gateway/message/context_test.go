package message

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// interrupts counts them.
type interrupts struct{ n atomic.Int32 }

func (i *interrupts) Interrupt() { i.n.Add(1) }

func TestContextEnds(t *testing.T) {
	t.Parallel()
	c := &Context{}
	early := c.Done()
	called := make(chan struct{})
	context.AfterFunc(c, func() { close(called) })
	stop := c.AfterFunc(func() { t.Error("what was stopped is called") })
	if !stop() || stop() {
		t.Error("stop does not say whether it stopped the call")
	}
	w := &interrupts{}
	c.Watch(w)
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	c.Cancel()
	c.Cancel()
	<-early
	<-c.Done()
	<-called
	if c.Err() != context.Canceled || w.n.Load() != 1 {
		t.Errorf("%v, %d interrupts", c.Err(), w.n.Load())
	}
	c.Unwatch()
	late := make(chan struct{})
	if stop := c.AfterFunc(func() { close(late) }); stop() {
		t.Error("a call that has begun is said to be stopped")
	}
	<-late
	c.Watch(w)
	if w.n.Load() != 2 {
		t.Error("who comes late is not interrupted")
	}
}

// A context is used for the next request only when nobody can have kept it.
func TestContextReuse(t *testing.T) {
	t.Parallel()
	c := &Context{}
	c.Err()
	c.Watch(&interrupts{})
	if c.End() != c {
		t.Error("a context that nobody holds is not used again")
	}
	w := &interrupts{}
	c.Watch(w)
	c.Unwatch()
	c.Cancel()
	if w.n.Load() != 0 {
		t.Error("an interrupt comes after Unwatch")
	}
	if c.End() != c || c.Err() != nil {
		t.Errorf("a context that was cancelled begins with %v", c.Err())
	}
	done := c.Done()
	next := c.End()
	if next == c || next.Err() != nil {
		t.Error("a context whose channel was given out is used again")
	}
	<-done // who still holds it sees the end of its request
	child, cancel := context.WithCancel(next)
	defer cancel()
	if next.End() == next {
		t.Error("a context with a child is used again")
	}
	<-child.Done()
}

// The standard library takes the context's AfterFunc, and starts no goroutine that waits for its
// channel.
func TestContextChildWithoutGoroutine(t *testing.T) {
	c := &Context{}
	_, cancel := context.WithTimeout(c, time.Hour)
	stacks := make([]byte, 1<<20)
	if n := runtime.Stack(stacks, true); strings.Contains(string(stacks[:n]), "context.(*cancelCtx).propagateCancel") {
		t.Error("a goroutine waits for the context")
	}
	cancel()
	if len(c.after) != 0 {
		t.Error("a child that has ended is still known to its parent")
	}
	ctx, cancel := context.WithTimeout(c, time.Hour)
	defer cancel()
	c.Cancel()
	<-ctx.Done()
	if ctx.Err() != context.Canceled {
		t.Error(ctx.Err())
	}
}
