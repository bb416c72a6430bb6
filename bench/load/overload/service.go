package overload

import (
	"math/rand/v2"
	"time"
)

// serviceSpec describes a service: some workers behind an unbounded queue, first in, first out. It
// finishes what it has begun, and what waits in its queue, whether or not somebody still waits for
// the response.
type serviceSpec struct {
	name    string
	workers profile
	mean    time.Duration            // of the work of one call, at speed 1
	work    func(*rand.Rand) float64 // the work of a call as a multiple of the mean; nil: 0.5 to 1.5
	speed   profile                  // of the workers; nil: 1. At 0 they stand still
	failing profile                  // the share of calls that fail at once; nil: none
}

// failsIn is how long a call takes that fails at once.
const failsIn = time.Millisecond

// capacity returns how many calls a second the service can do, as a mean over a stretch of time.
func (s *serviceSpec) capacity(from, to time.Duration) float64 {
	const slices = 10
	sum := 0.0
	for i := range slices {
		at := from + (to-from)*time.Duration(2*i+1)/(2*slices)
		each := s.mean.Seconds()
		if share := s.failingAt(at); share > 0 {
			// What fails takes a worker's time as well; what is possible is what succeeds.
			each = each*(1-share) + failsIn.Seconds()*share
			sum += s.workers.value(at) * s.speedAt(at) / each * (1 - share)
			continue
		}
		sum += s.workers.value(at) * s.speedAt(at) / each
	}
	return sum / slices
}

func (s *serviceSpec) speedAt(at time.Duration) float64 {
	if s.speed == nil {
		return 1
	}
	return s.speed.value(at)
}

func (s *serviceSpec) failingAt(at time.Duration) float64 {
	if s.failing == nil {
		return 0
	}
	return s.failing.value(at)
}

// service is a service in a run.
type service struct {
	*serviceSpec
	clock  *clock
	random *rand.Rand
	done   func(c *call, failed bool)

	queue    []*call
	busy     int
	busyTime time.Duration // worker time spent, for the utilisation
}

func newService(spec *serviceSpec, c *clock, random *rand.Rand, done func(*call, bool)) *service {
	s := &service{serviceSpec: spec, clock: c, random: random, done: done}
	for _, e := range spec.workers {
		c.at(e.at, s.start) // workers that come back take from the queue
	}
	return s
}

// take puts the call into the queue.
func (s *service) take(c *call) {
	s.queue = append(s.queue, c)
	s.start()
}

// start gives queued calls to idle workers.
func (s *service) start() {
	for len(s.queue) > 0 && s.busy < int(s.workers.value(s.clock.now)+1e-9) {
		c := s.queue[0]
		s.queue = s.queue[1:]
		failed := s.failing != nil && s.random.Float64() < s.failingAt(s.clock.now)
		end := s.clock.now + failsIn
		if !failed {
			end = s.finish(s.clock.now, s.draw())
		}
		began := s.clock.now
		s.busy++
		s.clock.at(end, func() {
			s.busy--
			s.busyTime += s.clock.now - began
			s.done(c, failed)
			s.start()
		})
	}
}

// draw returns the work of the next call, as time at speed 1.
func (s *service) draw() time.Duration {
	factor := 0.5 + s.random.Float64()
	if s.work != nil {
		factor = s.work(s.random)
	}
	return time.Duration(factor * float64(s.mean))
}

// finish returns when work that begins at start is done, whatever the speed becomes meanwhile.
func (s *service) finish(start, work time.Duration) time.Duration {
	const step = 2 * time.Millisecond
	left, at := float64(work), start
	for {
		speed := s.speedAt(at)
		if speed*float64(step) >= left {
			return at + time.Duration(left/speed)
		}
		left -= speed * float64(step)
		at += step
	}
}
