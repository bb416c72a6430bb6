package overload

import (
	"time"
)

// A controller decides which calls of one service go through one gateway.
type controller interface {
	// acquire decides on the call. A queued one hears of the verdict by decide, given to the
	// controller when it was made, from within any of these methods.
	acquire(now time.Time, c *call) verdict
	// leave says that nobody waits any more for a queued call.
	leave(now time.Time, c *call)
	// release says how an admitted call ended, and how long after it was sent.
	release(now time.Time, c *call, o outcome, latency time.Duration)
	// tick does what is due and returns when the next is; the zero time: nothing.
	tick(now time.Time) time.Time
	state() state
}

// A door is a controller that can say beforehand whether it would admit a call.
type door interface {
	// reserve takes a place for a call that comes later.
	reserve(now time.Time, c *call) bool
	// cancel gives it back unused.
	cancel(now time.Time, c *call)
}

type verdict uint8

const (
	admitted verdict = iota
	queued
	shed
)

type outcome uint8

const (
	succeeded outcome = iota
	failed            // the service said so
	abandoned         // the client's time was over
)

// state is what a plot shows of a controller.
type state struct{ limit, inFlight, queued float64 }

// told is what a controller knows of the service beforehand.
type told struct {
	workers  int // told to those only that adapt to nothing
	gateways int // before the service
}

// decide is how a controller tells the verdict on a queued call.
type decide func(c *call, v verdict)

// contender is a controller by its name.
type contender struct {
	name string
	new  func(now time.Time, seed uint64, t told, d decide) controller
	// simulate runs it, if it needs more than virtual time; nil: nothing more.
	simulate simulator
	// only names the scenarios that it takes part in; none: all.
	only []string
}

// The names of the contenders.
const (
	Ours       = "sluice"
	OursNoDoor = "sluice, no door" // what is shed is shed service by service
	OursUntold = "sluice, untold"  // no gateway knows that there are others
	None       = "none"
	Fixed      = "fixed"
	FixedWrong = "fixed, wrongly"
	AIMD       = "AIMD"
	Gradient2  = "gradient2"
)

// contenders returns all of them.
func contenders() []contender {
	return []contender{
		{name: Ours, new: newOurs},
		{name: OursNoDoor, only: []string{"B"}, new: func(now time.Time, seed uint64, t told, d decide) controller {
			return struct{ controller }{newOurs(now, seed, t, d)}
		}},
		{name: OursUntold, only: []string{"replicas-2", "replicas-4"}, new: func(now time.Time, seed uint64, _ told,
			d decide) controller {
			return newOurs(now, seed, told{}, d)
		}},
		{name: None, new: func(time.Time, uint64, told, decide) controller { return &semaphore{limit: unlimited} }},
		{name: Fixed, new: func(_ time.Time, _ uint64, t told, _ decide) controller {
			// A half more than the workers keeps them busy between two calls.
			return &semaphore{limit: t.workers + (t.workers+1)/2}
		}},
		{name: FixedWrong, new: func(_ time.Time, _ uint64, t told, _ decide) controller {
			return &semaphore{limit: wrongFactor * t.workers}
		}},
		{name: AIMD, new: func(time.Time, uint64, told, decide) controller { return newAIMD() }},
		{name: Gradient2, new: func(time.Time, uint64, told, decide) controller { return newGradient2() }},
	}
}

const (
	unlimited = 1 << 30
	// wrongFactor makes a limit whose queue in the service outlasts the patience of its clients.
	wrongFactor = 41
)

// semaphore admits so many calls at a time.
type semaphore struct{ limit, inFlight int }

func (s *semaphore) acquire(_ time.Time, c *call) verdict {
	if s.inFlight >= s.limit && !c.undo {
		return shed
	}
	s.inFlight++
	return admitted
}

func (s *semaphore) release(time.Time, *call, outcome, time.Duration) { s.inFlight-- }
func (*semaphore) leave(time.Time, *call)                             {}
func (*semaphore) tick(time.Time) time.Time                           { return time.Time{} }

func (s *semaphore) state() state {
	if s.limit == unlimited {
		return state{inFlight: float64(s.inFlight)}
	}
	return state{limit: float64(s.limit), inFlight: float64(s.inFlight)}
}
