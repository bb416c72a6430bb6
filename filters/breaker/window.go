package breaker

import "time"

const buckets = 10

// tally is how many calls ended, and how.
type tally struct{ calls, errors, slow int }

func (t *tally) add(failed, slow bool) {
	t.calls++
	if failed {
		t.errors++
	}
	if slow {
		t.slow++
	}
}

func (t *tally) subtract(o tally) {
	t.calls -= o.calls
	t.errors -= o.errors
	t.slow -= o.slow
}

// window counts the calls of the last while in a ring of buckets. It is not safe for concurrent
// use. What each call writes comes first.
type window struct {
	head   int64 // the newest bucket
	sum    tally
	newest tally         // of that bucket
	span   time.Duration // of one bucket
	epoch  time.Time     // when bucket 0 begins
	ring   [buckets]tally
}

// reset empties the window and lets it begin at now.
func (w *window) reset(length time.Duration, now time.Time) {
	*w = window{span: length / buckets, epoch: now}
}

// add counts one call that ended at now.
func (w *window) add(now time.Time, failed, slow bool) {
	w.turn(now)
	w.newest.add(failed, slow)
	w.sum.add(failed, slow)
}

// fail makes a failure, at now, of a call that was counted as a success.
func (w *window) fail(now time.Time) {
	w.turn(now)
	w.newest.errors++
	w.sum.errors++
}

// turn makes the bucket of a time the newest. One before the newest bucket belongs to the newest: results may
// come a little out of order. A time long before it says that the clock was set back; then the
// window begins again.
func (w *window) turn(now time.Time) {
	bucket := int64(now.Sub(w.epoch) / w.span)
	if w.head-bucket >= buckets {
		w.reset(w.span*buckets, now)
		return
	}
	if bucket <= w.head {
		return
	}
	if bucket-w.head >= buckets {
		w.ring, w.sum, w.newest, w.head = [buckets]tally{}, tally{}, tally{}, bucket
		return
	}
	w.ring[w.head%buckets] = w.newest
	for w.head < bucket {
		w.head++
		oldest := &w.ring[w.head%buckets]
		w.sum.subtract(*oldest)
		*oldest = tally{}
	}
	w.newest = tally{}
}
