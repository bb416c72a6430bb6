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
// use.
type window struct {
	span  time.Duration // of one bucket
	epoch time.Time     // when bucket 0 begins
	head  int64         // the newest bucket
	ring  [buckets]tally
	sum   tally
}

// reset empties the window and lets it begin at now.
func (w *window) reset(length time.Duration, now time.Time) {
	*w = window{span: length / buckets, epoch: now}
}

// add counts one call that ended at now.
func (w *window) add(now time.Time, failed, slow bool) {
	w.at(now).add(failed, slow)
	w.sum.add(failed, slow)
}

// fail makes a failure, at now, of a call that was counted as a success.
func (w *window) fail(now time.Time) {
	w.at(now).errors++
	w.sum.errors++
}

// at returns the bucket of a time. One before the newest bucket belongs to the newest: results may
// come a little out of order. A time long before it says that the clock was set back; then the
// window begins again.
func (w *window) at(now time.Time) *tally {
	bucket := int64(now.Sub(w.epoch) / w.span)
	if w.head-bucket >= buckets {
		w.reset(w.span*buckets, now)
		bucket = 0
	}
	bucket = max(bucket, w.head)
	if bucket-w.head >= buckets {
		w.ring, w.sum, w.head = [buckets]tally{}, tally{}, bucket
	}
	for w.head < bucket {
		w.head++
		oldest := &w.ring[w.head%buckets]
		w.sum.subtract(*oldest)
		*oldest = tally{}
	}
	return &w.ring[w.head%buckets]
}
