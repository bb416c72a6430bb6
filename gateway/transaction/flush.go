package transaction

import (
	"sync"
	"time"
)

// flushes are the moments at which ends that nothing waits for are written: those of many calls at once, so
// that they share the round trips and the syncs of the store. The zero value is ready; it is safe for concurrent use.
type flushes struct {
	mu   sync.Mutex
	next chan struct{} // closed at the next one; nil: nothing waits for one
}

// flushEvery is how long an end waits at most.
const flushEvery = 10 * time.Millisecond

// wait returns at the next moment.
func (f *flushes) wait() { <-f.join() }

func (f *flushes) join() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		f.next = make(chan struct{})
		time.AfterFunc(flushEvery, f.release)
	}
	return f.next
}

func (f *flushes) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.next)
	f.next = nil
}
