package breaker

import "time"

// pause is how long the breaker stays open.
type pause struct {
	until  time.Time     // while open
	length time.Duration // of the present or the last time
	closed time.Time     // when it closed after the last one; zero: it never did
	times  int           // in a row that it has opened, without a recovery that lasted
}

// begin begins a time open. again: a probe has failed. Else the breaker was closed, and it is again
// as well where that lasted no longer than the ramp and a window behind it.
func (p *pause) begin(now time.Time, s *Settings, again bool, random func() float64) {
	if p.times > 0 && (again || now.Sub(p.closed) < s.Ramp+s.Window) {
		p.times++
	} else {
		p.times = 1
	}
	longest := max(s.OpenMax, s.OpenFor)
	if times := int64(longest / s.OpenFor); int64(p.times) > times { // more would be longer yet
		p.length = longest
	} else {
		p.length = s.OpenFor * time.Duration(p.times)
	}
	if s.Jitter > 0 {
		p.length += time.Duration(s.Jitter * random() * float64(p.length))
	}
	p.until = now.Add(p.length)
}

// left returns how long the breaker stays open from now on. The clock may have been set back, or the
// settings made shorter: never longer than the whole length.
func (p *pause) left(now time.Time) time.Duration {
	if latest := now.Add(p.length); p.until.After(latest) {
		p.until = latest
	}
	return p.until.Sub(now)
}

// end ends a time open at once.
func (p *pause) end(now time.Time) { *p = pause{until: now} }

// ramp lets the calls come back by and by: of those that come, a share passes that grows from a
// tenth to all of them. It spaces out those that pass, so that no chance lets many pass at once.
type ramp struct {
	on     bool
	until  time.Time
	credit int // thousandths of a call that may pass
}

const (
	rampUnit  = 1000           // credit that a call takes
	rampFirst = rampUnit / 10  // the least share
	rampRetry = probeRetry / 2 // the least time after which who is refused is told to come back
)

func beginRamp(now time.Time, length time.Duration) ramp {
	if length <= 0 {
		return ramp{}
	}
	return ramp{on: true, until: now.Add(length), credit: rampUnit - rampFirst} // the first call passes
}

// passes reports whether a call passes, and ends the ramp when its time is over.
func (r *ramp) passes(now time.Time, length time.Duration) bool {
	if latest := now.Add(length); r.until.After(latest) { // the clock was set back, or the ramp made shorter
		r.until = latest
	}
	left := r.until.Sub(now)
	if left <= 0 {
		*r = ramp{}
		return true
	}
	r.credit += max(rampFirst, rampUnit-int(rampUnit*float64(left)/float64(length)))
	if r.credit < rampUnit {
		return false
	}
	r.credit -= rampUnit
	return true
}

// retryAfter spreads those that are refused over what is left of the ramp.
func (r *ramp) retryAfter(now time.Time, random func() float64) time.Duration {
	left := r.until.Sub(now)
	return max(rampRetry, time.Duration(random()*float64(left)))
}

// spreadLocked spreads those that are told to come back after a while over the ramp that is to come,
// so that they do not come all at once.
func (b *Breaker) spreadLocked(wait time.Duration) time.Duration {
	if b.set.Ramp > 0 {
		wait += time.Duration(b.random() * float64(b.set.Ramp))
	}
	return wait
}

// door bounds the calls that are promised to pass while the service is probed.
type door struct {
	until time.Time // those before have come by then, or do not come
	given int
}

// Ready reports whether the breaker would let a call pass that comes soon, for whoever begins
// something that leads to the service later: it takes no permit, and nothing has to be given back.
// False: retryAfter says when to ask again, always above 0.
//
// While the service is probed it says yes for as many calls a second as there are probes, and during
// the ramp for the share of those that ask. The calls that follow then come by
// [Breaker.AcquireBegun].
func (b *Breaker) Ready(now time.Time) (ready bool, retryAfter time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.steadyLocked()
	if b.state == Closed {
		if b.ramp.on && !b.ramp.passes(now, b.set.Ramp) {
			return false, b.ramp.retryAfter(now, b.random)
		}
		return true, 0
	}
	if wait := b.openLocked(now); wait > 0 {
		return false, b.spreadLocked(wait)
	}
	if b.door.until.Sub(now) > probeRetry || !now.Before(b.door.until) {
		b.door = door{until: now.Add(probeRetry)}
	}
	b.expireProbesLocked(now)
	if b.door.given+len(b.trial.probes) >= b.set.Probes {
		return false, b.spreadLocked(probeRetry)
	}
	b.door.given++
	return true, 0
}
