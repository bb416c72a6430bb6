package source

import "time"

// Pace spreads long work out, so that requests are served in between: whoever works calls Step again and again. The
// zero value is ready; nil does not pause. It is not safe for concurrent use.
//
// On one processor a goroutine that computes is interrupted after 10 ms only, and the network is not looked at before
// nothing else can run: [runtime.Gosched] finds the same goroutine again. A pause lets the scheduler look. It takes
// about a millisecond where there is nothing else to do.
type Pace struct {
	steps int
	since time.Time // of the last pause
}

const (
	paceWork  = 2 * time.Millisecond // between two pauses
	paceSteps = 32                   // for one look at the clock
	pacePause = 50 * time.Microsecond
)

// Step pauses if it is time.
func (p *Pace) Step() {
	if p == nil {
		return
	}
	if p.steps++; p.steps%paceSteps != 0 {
		return
	}
	now := time.Now()
	switch {
	case p.since.IsZero():
		p.since = now
	case now.Sub(p.since) >= paceWork:
		time.Sleep(pacePause)
		p.since = time.Now()
	}
}
