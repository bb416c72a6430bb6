package transaction

import (
	"context"
	"sync"
)

// running counts what goes on in the background. Unlike a sync.WaitGroup it may be waited for while more begins. The zero value is ready.
type running struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n comes to 0; nil while nobody waits
}

// Go runs f in the background.
func (r *running) Go(f func()) {
	r.mu.Lock()
	r.n++
	r.mu.Unlock()
	go func() {
		defer r.ended()
		f()
	}()
}

func (r *running) ended() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n--
	if r.n == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// Wait returns nil at a moment at which nothing runs, or the error of ctx when that ends first.
func (r *running) Wait(ctx context.Context) error {
	r.mu.Lock()
	if r.n == 0 {
		r.mu.Unlock()
		return nil
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
