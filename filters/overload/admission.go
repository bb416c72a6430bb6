package overload

import (
	"math"
	"time"
)

// The constants of the queue. They were chosen in the simulator (bench/load/overload).
const (
	// targetLeast is the shortest wait that the queue aims at while it stands.
	targetLeast = int64(5 * time.Millisecond)
	// targetShare is that wait in relation to the latency of the service.
	targetShare = 0.5
	// targetCalls is how many calls the target is long at least.
	targetCalls = 4
	// fits: levels that want less than this share of the permits are served, critical ones with a little
	// more, since shares are measured over a short time.
	fits         = 0.9
	fitsCritical = 1.1
	// beyondShare of the limit, and beyondLeast calls, is how far critical requests go beyond it.
	beyondShare = 0.25
	beyondLeast = 2
	// lenientGateways: of more gateways each has a limit of so few calls that two more of each would be too many.
	lenientGateways = 2
	// sliceWaits times the longest wait is the time over which permits are counted.
	sliceWaits = 3
	// latencyLeast is what a call takes at least, so that ratios of latencies are numbers.
	latencyLeast = int64(time.Microsecond)
	// retryMost is the longest Retry-After.
	retryMost = 30 * time.Second
)

// allowedLocked is how many calls may be in flight now.
func (l *Limiter) allowedLocked() int {
	if l.set.Adaptive {
		return l.adaptive.allowed()
	}
	return l.set.Concurrency
}

// meanLimitLocked is the limit without its excursions.
func (l *Limiter) meanLimitLocked() float64 {
	if l.set.Adaptive {
		return l.adaptive.limit
	}
	return float64(l.set.Concurrency)
}

func (l *Limiter) acquireLocked(at int64, r *Request, w *Waiter) (Decision, Cause) {
	w.permit = Permit{}
	if r.Announced.Valid() {
		l.comesLocked(r)
	}
	if r.Reserved {
		l.reserved.use(l.last, r.Reservation)
	}
	sure := r.Exempt || r.Reserved
	if !sure && !r.Deadline.IsZero() && !l.finishesLocked(int64(r.Deadline.Sub(l.base))) {
		return l.shedLocked(r.Class, DeadlineShort)
	}
	if !sure && r.Stream && l.streams >= l.set.streamCap() {
		return l.shedLocked(r.Class, TooManyStreams)
	}
	if r.Exempt || l.inFlight < l.allowedLocked() && l.queue.size == 0 {
		v := levelOf(r, l.pace.standing && l.fairness.heavy(r.Principal))
		l.pace.offer(v)
		l.admitLocked(w, r, v)
		return Admitted, NoCause
	}
	wait := nanos(l.set.QueueWait)
	if wait == 0 || l.set.QueueSize == 0 {
		if sure {
			l.admitLocked(w, r, levelOf(r, false))
			return Admitted, NoCause
		}
		return l.shedLocked(r.Class, QueueFull)
	}
	return l.enqueueLocked(at, r, w)
}

// finishesLocked tells whether a call that begins now can be done by then: the fastest of late was.
func (l *Limiter) finishesLocked(by int64) bool { return l.last+l.pace.fastest() <= by }

func (l *Limiter) enqueueLocked(at int64, r *Request, w *Waiter) (Decision, Cause) {
	l.expireLocked()
	if l.queue.size == 0 {
		l.pace.began(l.last, nanos(l.set.QueueWait))
	}
	v := levelOf(r, l.fairness.heavy(r.Principal))
	l.pace.offer(v)
	l.standLocked()
	if l.tooLongLocked(v) {
		l.pace.emptySince = l.last // it is not calm
		return l.shedLocked(r.Class, QueueDelay)
	}
	if l.queue.size >= l.set.QueueSize {
		last := l.queue.last()
		switch {
		case last != nil && last.tail.level > v:
			l.endWaitLocked(last.tail, Displaced)
		case r.Reserved:
			l.admitLocked(w, r, levelOf(r, false))
			return Admitted, NoCause
		default:
			return l.shedLocked(r.Class, QueueFull)
		}
	}
	if w.verdicts == nil && w.OnVerdict == nil {
		w.verdicts = make(chan Verdict, 1)
	}
	w.verdict, w.request, w.level = Verdict{}, *r, v
	w.enqueued, w.until = l.last, l.last+nanos(l.set.QueueWait)
	if !r.Deadline.IsZero() && !r.Reserved {
		w.until = min(w.until, int64(r.Deadline.Sub(l.base))-l.pace.fastest())
	}
	w.deadline = l.timeAt(at + w.until - l.last)
	l.queue.push(w)
	l.busyLocked()
	return Queued, NoCause
}

// standLocked notices when the queue begins to stand, and sheds then what would wait too long: the
// oldest of the least important.
func (l *Limiter) standLocked() {
	if l.pace.standing || l.queue.size == 0 || !l.pace.stands(l.last, nanos(l.set.QueueWait)) {
		return
	}
	l.pace.standing = true
	for last := l.queue.last(); last != nil; last = l.queue.last() {
		w := last.head
		if !l.tooLongLocked(w.level) {
			return
		}
		l.endWaitLocked(w, QueueDelay)
	}
}

// boundLocked is how long a request of that level may have to wait by the estimate to come into the
// queue. While the queue stands it is short.
func (l *Limiter) boundLocked() int64 {
	if !l.pace.standing {
		return nanos(l.set.QueueWait)
	}
	return l.targetLocked()
}

// fitsLocked tells whether what comes of that level and of all better ones is less than the
// permits that come back. Then its waits are short in the mean, and it is not shed by an estimate.
func (l *Limiter) fitsLocked(v level) bool {
	share, rate := fits, l.rateLocked()
	if v.class() == Critical {
		share = fitsCritical
		if l.set.Gateways <= lenientGateways { // a few slow calls in a row do not make it too much
			rate = max(rate, l.pace.ended.rate(l.last)/float64(time.Second))
		}
	}
	return l.pace.wanted(l.last, l.slice, v) < share*rate
}

// tooLongLocked tells whether a request of that level would wait too long.
func (l *Limiter) tooLongLocked(v level) bool { return l.tooLongBehindLocked(v, 0) }

// tooLongBehindLocked is the same of one that would wait behind some others, beside those of the queue.
func (l *Limiter) tooLongBehindLocked(v level, others int) bool {
	return !v.reserved() && l.waitLocked(v, others) > float64(l.boundLocked()) && !l.fitsLocked(v)
}

// targetLocked is how long the queue should be while it stands: short, since a longer one serves
// nobody more, but as long as it takes to keep the service busy.
func (l *Limiter) targetLocked() int64 {
	latency := l.pace.hold
	if l.set.Adaptive && l.adaptive.baseline.value > 0 {
		latency = l.adaptive.baseline.value
	}
	target := latency * targetShare
	rate := l.rateLocked()
	if rate <= 0 {
		return nanos(l.set.QueueWait)
	}
	target = max(target, targetCalls/rate)
	wait := float64(l.set.QueueWait)
	target = min(max(target, float64(targetLeast)), wait)
	// Without much more than the service can do, a short queue runs empty again and again.
	if excess := l.pace.wanted(l.last, l.slice, levels-1)/rate - 1; excess < 1 {
		target += (wait - target) * (1 - max(excess, 0))
	}
	return int64(target)
}

// rateLocked is how many permits come back a nanosecond while the limit is reached; 0: not known.
func (l *Limiter) rateLocked() float64 { return l.pace.rate(l.last, l.meanLimitLocked()) }

// leftLocked is how many permits a nanosecond come back that better levels than v leave; 0: not known.
func (l *Limiter) leftLocked(v level) float64 {
	rate := l.rateLocked()
	return max(rate-l.pace.better(l.last, l.slice, v), rate/100)
}

// sliceOf is the time over which permits are counted.
func sliceOf(s Settings) int64 { return max(sliceWaits*nanos(s.QueueWait), targetLeast) }

// waitLocked estimates how long a new waiter of that level waits behind some others, in ns.
func (l *Limiter) waitLocked(v level, others int) float64 {
	left := l.leftLocked(v)
	if left <= 0 {
		return 0
	}
	return float64(l.queue.ahead(v)+others+1) / left
}

func (l *Limiter) admitLocked(w *Waiter, r *Request, v level) {
	l.inFlight++
	if r.Exempt {
		l.counters.exempt++
	} else {
		l.counters.admitted[r.Class]++
	}
	w.permit = Permit{at: l.last, kind: callPermit, class: r.Class}
	if l.set.Adaptive {
		l.adaptive.admitted(&w.permit, l.inFlight)
	}
	l.pace.grant(v)
	l.fairness.count(l.last, r.Principal)
}

// endLocked takes a call out of those in flight.
func (l *Limiter) endLocked(p *Permit, s *Sample) {
	l.inFlight--
	held := l.last - p.at
	l.pace.released(l.last, held, l.meanLimitLocked())
	if s.Outcome == Ignored {
		return
	}
	latency := int64(s.Latency)
	if latency <= 0 {
		latency = max(held, latencyLeast)
	}
	if s.Outcome == Success {
		l.pace.succeeded(l.last, latency)
	}
	if l.set.Adaptive {
		l.adaptive.completed(p, float64(latency), s.Outcome)
	}
}

// grantLocked gives free permits to waiters.
func (l *Limiter) grantLocked() {
	for l.queue.size > 0 && l.inFlight < l.allowedLocked() {
		w := l.nextLocked()
		if w.until <= l.last && !w.request.Reserved && !l.letInLocked(w) {
			l.endWaitLocked(w, WaitedInVain)
			continue
		}
		if l.last-w.enqueued < l.targetLocked() && l.queue.none(w.level+1) {
			l.pace.promptAt = l.last
		}
		l.startLocked(w)
	}
}

// nextLocked is who gets the next permit: the first come of the best level. It is the last come when
// more come than fit and the first has waited so long that the estimates at arrival do not hold: whoever
// sent it may well be gone.
func (l *Limiter) nextLocked() *Waiter {
	first := l.queue.first()
	w := first.head
	if !l.pace.standing || first.size < 2 || l.last-w.enqueued <= 2*l.boundLocked() || l.fitsLocked(w.level) {
		return w
	}
	return first.tail
}

// startLocked gives a waiter a permit.
func (l *Limiter) startLocked(w *Waiter) {
	l.removeLocked(w)
	l.admitLocked(w, &w.request, w.level)
	l.decideLocked(w, Verdict{Decision: Admitted})
}

// displaceLocked takes the least important waiter out of the queue: the one that came last.
func (l *Limiter) displaceLocked() {
	if last := l.queue.last(); last != nil {
		l.endWaitLocked(last.tail, Displaced)
		return
	}
	l.startLocked(l.queue.soonest()) // all are reserved
}

// expireLocked ends the wait of those whose time is over.
func (l *Limiter) expireLocked() {
	for l.queue.size > 0 {
		w := l.queue.soonest()
		if w.until > l.last {
			return
		}
		if w.request.Reserved || l.letInLocked(w) {
			l.startLocked(w)
		} else {
			l.endWaitLocked(w, WaitedInVain)
		}
	}
}

// letInLocked tells whether a waiter whose time is over is let in beyond an adaptive limit, though not beyond the
// highest one: a critical request, if all that are critical fit. That it has waited so long is chance then: at a
// limit of a few calls all of them can be slow ones, or one fewer is allowed for a while to see what that does. It
// is a few calls more at most, for as long as those last.
func (l *Limiter) letInLocked(w *Waiter) bool {
	if !l.set.Adaptive || l.set.Gateways > lenientGateways || w.level.class() != Critical {
		return false
	}
	if by := w.request.Deadline; !by.IsZero() && !l.finishesLocked(int64(by.Sub(l.base))) {
		return false
	}
	limit := l.meanLimitLocked()
	most := min(limit+max(limit*beyondShare, beyondLeast), l.adaptive.top)
	return float64(l.inFlight) < most && l.fitsLocked(w.level)
}

// endWaitLocked sheds a waiter.
func (l *Limiter) endWaitLocked(w *Waiter, why Cause) {
	l.removeLocked(w)
	l.shedLocked(w.request.Class, why)
	l.decideLocked(w, Verdict{Shed, why})
}

func (l *Limiter) shedLocked(c Class, why Cause) (Decision, Cause) {
	l.counters.shed[c][why]++
	l.counters.refused.add(l.last)
	l.busyLocked()
	return Shed, why
}

func (l *Limiter) removeLocked(w *Waiter) {
	l.queue.remove(w)
	if l.queue.size == 0 {
		l.pace.emptySince = l.last
	}
}

func (l *Limiter) decideLocked(w *Waiter, v Verdict) {
	w.decide(v)
	if w.OnVerdict != nil {
		l.told = append(l.told, w)
	}
}

// retryAfterLocked: those who wait are served first, and then those who were shed of late, at the
// rate that more important classes leave.
func (l *Limiter) retryAfterLocked(c Class) time.Duration {
	v := level(c)*ranks + rankDemoted // as which it comes again
	rate := l.leftLocked(v)
	if rate <= 0 {
		return time.Second
	}
	many := float64(l.queue.ahead(v)) + l.counters.refused.rate(l.last)
	return time.Duration(math.Min(many/rate, float64(retryMost)))
}

// Reserve asks at the door of a transaction: would a call that it makes later be admitted? If so,
// one is set aside. It is used by Acquire with Request.Reserved, or given back by CancelReservation, or
// expires after half a minute.
func (l *Limiter) Reserve(now time.Time, r Request) (Reservation, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockLocked(l.at(now))
	c := min(r.Class, Low)
	if !l.doorOpenLocked(c, r.Demoted, 0) {
		l.shedLocked(c, DoorClosed)
		return Reservation{}, false
	}
	return l.reserved.add(l.last), true
}

// doorOpenLocked tells whether there is room at the door behind those that are expected there.
func (l *Limiter) doorOpenLocked(c Class, demoted bool, expected int) bool {
	l.reserved.clock(l.last)
	return float64(l.reserved.open+l.queue.size+l.inFlight+expected) < l.roomLocked(c, demoted)
}

// roomLocked is how many calls may be under way or promised: as many as the limit, and as many as the
// service completes between the door and the call (Little's law).
func (l *Limiter) roomLocked(c Class, demoted bool) float64 {
	room := l.meanLimitLocked()
	room += l.rateLocked() * l.reserved.lead
	room = room*doorShare[c] + 2
	if demoted {
		room *= 0.95
	}
	return room
}

// CancelReservation gives a reservation back that will not be used.
func (l *Limiter) CancelReservation(now time.Time, r Reservation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockLocked(l.at(now))
	l.reserved.remove(l.last, r)
}
