package http2

import "time"

// leakyBucket counts what a peer may do in a burst, and slowly for ever: it leaks at a steady rate.
// The clock is read only when it is full.
type leakyBucket struct {
	level int
	since time.Time // when it has leaked last
}

// add counts one more; false when that is beyond size although so many a second have leaked.
func (b *leakyBucket) add(size, perSecond int) bool {
	if b.level++; b.level <= size {
		return true
	}
	return b.leak(time.Now(), perSecond) <= size
}

// leak takes out what has leaked by now, and returns the level.
func (b *leakyBucket) leak(now time.Time, perSecond int) int {
	leaked := now.Sub(b.since).Seconds() * float64(perSecond)
	if leaked >= 1 { // a part of one is kept for the next time
		b.level = int(max(float64(b.level)-leaked, 0))
		b.since = now
	}
	return b.level
}

// take takes n out.
func (b *leakyBucket) take(n int) { b.level = max(b.level-n, 0) }
