package discovery

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is how long to wait before a source is asked again: twice as long each time, spread so that
// a fleet does not come back in step.
type backoff struct {
	min, max time.Duration
	tries    int
}

// next returns the next wait, half as long or half as long again by chance.
func (b *backoff) next() time.Duration {
	d := b.max
	if b.tries < 30 {
		d = min(b.min<<b.tries, b.max)
		b.tries++
	}
	return d/2 + rand.N(d+1)
}

func (b *backoff) reset() { b.tries = 0 }

// sleep waits; false when ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
