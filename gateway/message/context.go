package message

import (
	"context"
	"sync"
	"time"
)

// Context is the context of one request: it ends when the client leaves. It costs nothing until its
// channel is asked for; a wait on a connection is registered with [Context.Watch] instead.
type Context struct {
	mu     sync.Mutex
	err    error
	done   chan struct{}
	after  map[*func()]struct{}
	watch  Interrupter
	shared bool // it may be held by others after the request
}

var _ context.Context = (*Context)(nil)

// Deadline implements [context.Context]; there is none.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements [context.Context]; there is none.
func (c *Context) Value(any) any { return nil }

// Err implements [context.Context].
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done implements [context.Context].
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shared = true
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// AfterFunc calls f in a goroutine of its own when the context ends, as [context.AfterFunc] does,
// which makes use of it.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shared = true
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = map[*func()]struct{}{}
	}
	key := &f
	c.after[key] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, pending := c.after[key]
		delete(c.after, key)
		return pending
	}
}

// Watch has w interrupted when the context ends, until [Context.Unwatch]; at once when it has.
// There is one at a time.
func (c *Context) Watch(w Interrupter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = w
	if c.err != nil {
		w.Interrupt()
	}
}

// Unwatch ends what Watch began: no Interrupt comes after it.
func (c *Context) Unwatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = nil
}

// Cancel ends the context: the client has left. It may be called while the request is served.
func (c *Context) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = context.Canceled
	if c.done != nil {
		close(c.done)
	}
	for f := range c.after {
		go (*f)()
	}
	c.after = nil
	if c.watch != nil {
		c.watch.Interrupt()
	}
}

// End ends the request and returns the context for the next one: the same one when it cannot have
// been kept.
func (c *Context) End() *Context {
	c.mu.Lock()
	shared := c.shared
	c.watch = nil
	if !shared {
		c.err = nil
	}
	c.mu.Unlock()
	if shared {
		c.Cancel()
		return &Context{}
	}
	return c
}

// Watch has a wait interrupted when a context ends. Its zero value watches nothing.
type Watch struct {
	ctx  *Context
	stop func() bool
}

// Begin has w interrupted when ctx ends, until End.
func (a *Watch) Begin(ctx context.Context, w Interrupter) {
	if own, ok := ctx.(*Context); ok {
		own.Watch(w)
		a.ctx = own
	} else if ctx.Done() != nil {
		a.stop = context.AfterFunc(ctx, w.Interrupt)
	}
}

// End ends what Begin began. False: the interrupt has begun, or is about to, and may still come.
func (a *Watch) End() bool {
	if a.ctx != nil {
		a.ctx.Unwatch()
		a.ctx = nil
	}
	if stop := a.stop; stop != nil {
		a.stop = nil
		return stop()
	}
	return true
}
