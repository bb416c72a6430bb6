package overload

import (
	"math"
	"time"
)

// gradient2 compares the latency of the last calls with its long-term average: the limit is scaled
// by their ratio, with a tolerance of a half more, and gets room for a queue of its square root. It
// is the limiter by that name of Netflix' concurrency-limits, in own words and with its defaults.
type gradient2 struct {
	semaphore
	exact    float64
	long     float64 // exponential average over many windows, in seconds
	samples  int     // that long rests on, until it is warm
	sum      float64 // of the window
	count    int
	most     int  // calls in flight in the window
	lost     bool // a call in the window
	windowAt time.Time
}

const (
	gradientStart, gradientLeast, gradientMost = 20, 4, 1000
	gradientTolerance                          = 1.5
	gradientSmoothing                          = 0.2
	gradientLong                               = 600 // windows
	gradientWarm                               = 10
	gradientWindow                             = 100 * time.Millisecond
)

func newGradient2() *gradient2 {
	return &gradient2{semaphore: semaphore{limit: gradientStart}, exact: gradientStart}
}

func (g *gradient2) release(now time.Time, _ *call, o outcome, latency time.Duration) {
	g.most = max(g.most, g.inFlight)
	g.inFlight--
	if o == failed {
		return
	}
	g.lost = g.lost || o == abandoned
	g.sum += latency.Seconds()
	g.count++
	if g.windowAt.IsZero() {
		g.windowAt = now
	}
	if now.Sub(g.windowAt) >= gradientWindow && g.count >= 10 {
		g.update(g.sum / float64(g.count))
		g.sum, g.count, g.most, g.lost, g.windowAt = 0, 0, g.inFlight, false, now
	}
}

// update takes the mean latency of a window.
func (g *gradient2) update(short float64) {
	if g.samples < gradientWarm {
		g.long = (g.long*float64(g.samples) + short) / float64(g.samples+1)
		g.samples++
	} else {
		g.long += (short - g.long) * 2 / (gradientLong + 1)
	}
	if g.long/short > 2 {
		g.long *= 0.95 // comes down faster than it went up
	}
	if 2*g.most < g.limit {
		return // not in use: nothing is learnt
	}
	gradient := max(0.5, min(1, gradientTolerance*g.long/short))
	next := g.exact*gradient + math.Sqrt(g.exact)
	g.exact += (next - g.exact) * gradientSmoothing
	g.exact = min(max(g.exact, gradientLeast), gradientMost)
	g.limit = int(g.exact)
}
