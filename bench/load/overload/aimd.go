package overload

import "time"

// aimd raises its limit by one a limit's worth of successes while it is in use, and takes a tenth
// off when a call is lost: congestion avoidance of TCP (RFC 5681), as limiters of concurrency use it.
type aimd struct {
	semaphore
	exact float64
}

const (
	aimdStart, aimdLeast, aimdMost = 20, 4, 1000
	aimdBackOff                    = 0.9
)

func newAIMD() *aimd { return &aimd{semaphore{limit: aimdStart}, aimdStart} }

func (a *aimd) release(_ time.Time, _ *call, o outcome, _ time.Duration) {
	inFlight := a.inFlight
	a.inFlight--
	switch {
	case o != succeeded:
		a.exact *= aimdBackOff
	case 2*inFlight >= a.limit:
		a.exact += 1 / a.exact
	}
	a.exact = min(max(a.exact, aimdLeast), aimdMost)
	a.limit = int(a.exact)
}
