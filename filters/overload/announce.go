package overload

import "time"

// expected are requests that were announced and have not come yet.
type expected struct {
	calls [classes]int
	doors int
}

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
// shed at once where Acquire would shed it now, or where as many are expected of its class and better ones as there is
// room for: they would be shed when they come, and the step would have been in vain. So the steps that are under way are
// bounded by what the service can take, also while each takes long. The cause says why; it is counted as any other.
//
// expected says that the request is counted on until it comes, with Request.Announced, or Withdraw is called. A limiter
// that has shed nobody of late counts on nobody.
func (l *Limiter) Announce(now time.Time, r Request) (expected bool, why Cause) {
	if !l.Busy(now) {
		return false, NoCause
	}
	r.Class = min(r.Class, Low)
	l.mu.Lock()
	l.clockLocked(now)
	if why = l.turnsAwayLocked(&r); why != NoCause {
		l.shedLocked(r.Class, why)
	} else {
		l.expected.calls[r.Class]++
	}
	l.unlockAndTell()
	return why == NoCause, why
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
	before := -free // who waits of those expected
	for c := Critical; c <= r.Class; c++ {
		before += l.expected.calls[c]
	}
	if before < 0 {
		return NoCause
	}
	wait := nanos(l.set.QueueWait)
	if wait == 0 || l.set.QueueSize == 0 {
		return QueueFull
	}
	if l.queue.size == 0 {
		l.pace.began(l.last, wait)
	}
	v := levelOf(r, l.fairness.heavy(r.Principal))
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
	l.clockLocked(now)
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
