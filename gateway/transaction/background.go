package transaction

import (
	"context"
	"sync"
)

// background counts the goroutines that it starts. Unlike a sync.WaitGroup it may be waited for
// while more begin. The zero value is ready; it is safe for concurrent use.
type background struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n comes to 0; nil while nothing waits
}

// Go runs f in a goroutine.
func (g *background) Go(f func()) {
	g.mu.Lock()
	g.n++
	g.mu.Unlock()
	go func() {
		defer g.done()
		f()
	}()
}

func (g *background) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.n == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Wait returns nil at a moment at which none runs, or the error of ctx when that ends first.
func (g *background) Wait(ctx context.Context) error {
	idle := g.idleSignal()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// idleSignal returns a channel that is closed when none runs; nil when none runs now.
func (g *background) idleSignal() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n > 0 && g.idle == nil {
		g.idle = make(chan struct{})
	}
	return g.idle
}
