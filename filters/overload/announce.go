package overload

import "time"

// Announcement is one that the limiter counts on. The zero value is none.
type Announcement struct{ at int64 } // when, plus 1

// Valid tells whether it is one.
func (a Announcement) Valid() bool { return a.at != 0 }

// expected are requests that were announced and have not come yet.
type expected struct {
	calls [classes]int
	doors int
	lead  float64 // how long after its announcement a request comes of late, in ns
}

// comesLocked takes a request that was announced out of those that are expected.
func (l *Limiter) comesLocked(r *Request) {
	e := &l.expected
	e.calls[r.Class]--
	weight := 1.0 / 32
	if e.lead == 0 {
		weight = 1
	}
	e.lead += weight * (min(float64(l.last+1-r.Announced.at), leadMost) - e.lead)
}

const (
	// leadMost is the longest step before the limiter that is made up for.
	leadMost = float64(time.Second)
	// leadShare times what the service completes meanwhile are expected: some of those announced never come, and steps
	// do not take the same time each. It was chosen in TestFloodOfClaims.
	leadShare = 1.5
)

const (
	// busyFor is how long a limiter counts as one that sheds after the last request that was shed or had to wait,
	// busyStep how exact that is.
	busyFor  = int64(time.Second)
	busyStep = busyFor / 16
)

// busyLocked notes that somebody was shed or has to wait.
func (l *Limiter) busyLocked() {
	if until := l.last + busyFor; until-l.busy.Load() > busyStep {
		l.busy.Store(until)
	}
}

// Busy reports whether somebody was shed or had to wait a short time ago. It takes no lock. Where it is false, Announce
// has nothing to say.
func (l *Limiter) Busy(now time.Time) bool { return int64(now.Sub(l.base)) < l.busy.Load() }

// Announce tells of a request that has a step to take before it comes to Acquire, such as the claim of its key. It is
// shed at once where Acquire would shed it now, or where as many of its class and better ones are expected as there
// will be room for: as the limiter has now, and as the service completes in the time that the step takes of late
// (Little's law). More would be shed when they come, and their steps would have been in vain. The cause says why; it is
// counted as any other.
//
// A valid announcement says that the request is counted on until it comes, with Request.Announced, or Withdraw is
// called. A limiter that has shed nobody of late counts on nobody.
func (l *Limiter) Announce(now time.Time, r Request) (a Announcement, why Cause) {
	if !l.Busy(now) {
		return a, NoCause
	}
	r.Class = min(r.Class, Low)
	l.mu.Lock()
	l.clockLocked(l.at(now))
	if why = l.turnsAwayLocked(&r); why != NoCause {
		l.shedLocked(r.Class, why)
	} else {
		l.expected.calls[r.Class]++
		a.at = l.last + 1
	}
	l.unlockAndTell()
	return a, why
}

// Withdraw says that an expected request does not come.
func (l *Limiter) Withdraw(c Class) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expected.calls[min(c, Low)]--
}

// turnsAwayLocked returns why a request of a class would be shed that came behind those that are expected; it is what
// acquireLocked and enqueueLocked do with such a one.
func (l *Limiter) turnsAwayLocked(r *Request) Cause {
	if !r.Deadline.IsZero() && !l.finishesLocked(int64(r.Deadline.Sub(l.base))) {
		return DeadlineShort
	}
	l.expireLocked()
	free := 0
	if l.queue.size == 0 {
		free = max(l.allowedLocked()-l.inFlight, 0)
	}
	v := levelOf(r, l.fairness.heavy(r.Principal))
	before := -free - int(leadShare*l.leftLocked(v)*l.expected.lead) // who waits of those expected
	for c := Critical; c <= r.Class; c++ {
		before += l.expected.calls[c]
	}
	if before < 0 && free > 0 {
		return NoCause
	}
	before = max(before, 0)
	wait := nanos(l.set.QueueWait)
	if wait == 0 || l.set.QueueSize == 0 {
		return QueueFull
	}
	if l.queue.size == 0 {
		l.pace.began(l.last, wait)
	}
	l.standLocked()
	if l.tooLongBehindLocked(v, before) {
		l.pace.offer(v) // it came, and does not come again
		l.pace.emptySince = l.last
		return QueueDelay
	}
	if last := l.queue.last(); l.queue.size+before >= l.set.QueueSize && (last == nil || last.tail.level <= v) {
		l.pace.offer(v)
		return QueueFull
	}
	return NoCause
}

// AnnounceDoor is Announce of a request that comes to Reserve.
func (l *Limiter) AnnounceDoor(now time.Time, r Request) (expected, ok bool) {
	if !l.Busy(now) {
		return false, true
	}
	c := min(r.Class, Low)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockLocked(l.at(now))
	if !l.doorOpenLocked(c, r.Demoted, l.expected.doors) {
		l.shedLocked(c, DoorClosed)
		return false, false
	}
	l.expected.doors++
	return true, true
}

// WithdrawDoor says that a request that was expected at the door is there, or does not come.
func (l *Limiter) WithdrawDoor() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expected.doors--
}
