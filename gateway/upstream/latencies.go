package upstream

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// latencies keeps a percentile of recent latencies in bounded memory: counts in buckets whose bounds
// grow by a sixteenth of a power of two, so that what is read is at most about 6 % too much (the idea of
// DDSketch, Masson, Rim and Lee, VLDB 2019, with the buckets of HdrHistogram). There are two windows, the
// present one and the one before, so that what is old is forgotten. To add a latency costs two atomic
// additions, to read the percentile one load. It is safe for concurrent use.
type latencies struct {
	quantile float64
	needed   uint32 // latencies in a window before it says something

	present, before atomic.Pointer[latencyWindow]
	known           atomic.Int64 // the percentile in nanoseconds; 0: not known yet

	mu     sync.Mutex // of turning, and of reckoning
	turned time.Time
}

const (
	latencyStep    = 16 // buckets in a power of two
	latencyBuckets = 40 * latencyStep
	latencyUnit    = 10 * time.Microsecond // of the first buckets

	// A window is turned when it is older than the first and has enough in it, or older than the second.
	latencyWindowMin = 10 * time.Second
	latencyWindowMax = 5 * time.Minute

	// latenciesBeyond is how many latencies beyond the percentile have to be known: fewer are chance.
	latenciesBeyond = 5
	// reckonEach is after how many latencies the percentile is reckoned anew.
	reckonEach = 32
)

type latencyWindow struct {
	total  atomic.Uint32
	counts [latencyBuckets]atomic.Uint32
}

func newLatencies(quantile float64, now time.Time) *latencies {
	l := &latencies{quantile: quantile, turned: now, needed: uint32(latenciesBeyond/(1-quantile) + 0.5)}
	l.present.Store(new(latencyWindow))
	l.before.Store(new(latencyWindow))
	return l
}

// latencyBucket is the bucket of a latency: the first ones a unit each, then sixteen for each power of
// two.
func latencyBucket(d time.Duration) int {
	n := uint64(max(d, 0) / latencyUnit)
	if n < latencyStep {
		return int(n)
	}
	power := bits.Len64(n) - bits.Len64(latencyStep) // at least 0
	return min((power+1)*latencyStep+int(n>>power)-latencyStep, latencyBuckets-1)
}

// latencyBound is the end of a bucket.
func latencyBound(bucket int) time.Duration {
	if bucket < latencyStep {
		return time.Duration(bucket+1) * latencyUnit
	}
	power := bucket/latencyStep - 1
	return time.Duration(bucket%latencyStep+latencyStep+1) << power * latencyUnit
}

// add takes a latency that became known now.
func (l *latencies) add(now time.Time, d time.Duration) {
	w := l.present.Load()
	w.counts[latencyBucket(d)].Add(1)
	if n := w.total.Add(1); n%reckonEach == 0 || n == l.needed {
		l.reckon(now)
	}
}

// after returns the percentile; false while too few latencies are known.
func (l *latencies) after() (time.Duration, bool) {
	d := l.known.Load()
	return time.Duration(d), d > 0
}

// reckon finds the percentile of both windows, and turns them when it is time.
func (l *latencies) reckon(now time.Time) {
	if !l.mu.TryLock() { // somebody does it
		return
	}
	defer l.mu.Unlock()
	present, before := l.present.Load(), l.before.Load()
	total := present.total.Load() + before.total.Load()
	if total >= l.needed {
		left := int64(float64(total) * (1 - l.quantile)) // that may be slower
		for i := latencyBuckets - 1; i >= 0; i-- {
			left -= int64(present.counts[i].Load()) + int64(before.counts[i].Load())
			if left < 0 {
				l.known.Store(int64(latencyBound(i)))
				break
			}
		}
	}
	age := now.Sub(l.turned)
	if age < latencyWindowMin || present.total.Load() < l.needed && age < latencyWindowMax {
		return
	}
	// What is added to the old one at this moment is lost, or counts for the new one.
	before.total.Store(0)
	for i := range before.counts {
		before.counts[i].Store(0)
	}
	l.present.Store(before)
	l.before.Store(present)
	l.turned = now
}
