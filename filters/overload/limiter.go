package overload

import (
	"sync"
	"time"
)

// Limiter bounds the calls in flight to one service. It is safe for concurrent use. Time is an
// argument; a clock that steps back stands still for it.
type Limiter struct {
	mu   sync.Mutex
	base time.Time
	last int64
	set  Settings

	limit    int
	inFlight int
	streams  int
	reserved int

	head, tail *Waiter
	queued     int
	told       []*Waiter // have a verdict that OnVerdict is not yet called with
	byClass    [classes]int
	admitted   [classes]uint64
	shed       [classes][causes]uint64
	exempt     uint64
}

// New makes a limiter; s must pass [Settings.Check]. The seed decides when it probes, so that
// replicas are not in step.
func New(s Settings, now time.Time, seed uint64) *Limiter {
	l := &Limiter{base: now, set: s, limit: s.highest()}
	if s.Adaptive {
		l.limit = min(max(s.Min, 20), s.Max)
	}
	return l
}

// Configure changes the settings and keeps what was learned, what is in flight and who waits.
func (l *Limiter) Configure(s Settings, now time.Time) {
	l.mu.Lock()
	l.clockLocked(now)
	l.set = s
	l.limit = s.highest()
	if s.Adaptive {
		l.limit = min(max(s.Min, 20), s.Max)
	}
	l.grantLocked()
	told := l.toldLocked()
	l.mu.Unlock()
	tell(told)
}

// Acquire asks for a permit. Admitted: it is in w.Permit. Queued: w is in the queue until its verdict,
// or until Leave. Shed: the cause says why.
func (l *Limiter) Acquire(now time.Time, r Request, w *Waiter) (Decision, Cause) {
	l.mu.Lock()
	d, c := l.acquireLocked(now, r, w)
	told := l.toldLocked()
	l.mu.Unlock()
	tell(told)
	return d, c
}

func (l *Limiter) acquireLocked(now time.Time, r Request, w *Waiter) (Decision, Cause) {
	l.clockLocked(now)
	r.Class = min(r.Class, Low)
	w.request = r
	if r.Exempt || r.Reserved || l.inFlight < l.limit && l.queued == 0 {
		l.admitLocked(w)
		return Admitted, NoCause
	}
	if l.queued >= l.set.QueueSize || l.set.QueueWait <= 0 {
		l.shed[r.Class][QueueFull]++
		return Shed, QueueFull
	}
	if w.verdicts == nil && w.OnVerdict == nil {
		w.verdicts = make(chan Verdict, 1)
	}
	w.permit, w.verdict, w.queued = Permit{}, Verdict{}, true
	w.enqueued, w.until = l.last, l.last+int64(l.set.QueueWait)
	w.deadline = now.Add(l.set.QueueWait)
	w.prev, w.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = w
	} else {
		l.head = w
	}
	l.tail = w
	l.queued++
	l.byClass[r.Class]++
	return Queued, NoCause
}

// Leave takes a request out of the queue whose client went away. It tells whether it was
// admitted in the meantime: then w.Permit must be given back. No verdict follows.
func (l *Limiter) Leave(now time.Time, w *Waiter) (wasAdmitted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.queued {
		l.removeLocked(w)
		return false
	}
	select {
	case <-w.verdicts:
	default:
	}
	return w.permit.Valid()
}

// Release gives a permit back and says what the call has shown.
func (l *Limiter) Release(now time.Time, p Permit, s Sample) {
	if !p.Valid() {
		return
	}
	l.mu.Lock()
	l.clockLocked(now)
	if p.kind == streamPermit {
		l.streams--
	} else {
		l.inFlight--
		l.grantLocked()
	}
	told := l.toldLocked()
	l.mu.Unlock()
	tell(told)
}

// Head is called when the head of a stream's response has come: the permit is given back with
// what it has shown, and the stream counts against the cap of streams from now on, until the permit that is
// returned is released. It returns false when the cap is reached: then the caller refuses the stream,
// and there is nothing left to release.
func (l *Limiter) Head(now time.Time, p Permit, s Sample) (Permit, bool) {
	if p.kind != callPermit {
		return p, p.Valid()
	}
	l.mu.Lock()
	l.clockLocked(now)
	l.inFlight--
	ok := l.streams < l.set.streamCap()
	if ok {
		l.streams++
		p.kind = streamPermit
	} else {
		p = Permit{}
		l.shed[Normal][TooManyStreams]++
	}
	l.grantLocked()
	told := l.toldLocked()
	l.mu.Unlock()
	tell(told)
	return p, ok
}

// Reserve asks at the door of a transaction: would a call that it makes later be admitted? If so,
// one is set aside. It is used by Acquire with Request.Reserved, or given back by CancelReservation, or
// expires.
func (l *Limiter) Reserve(now time.Time, r Request) (Reservation, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockLocked(now)
	return Reservation{at: l.last, valid: true}, true
}

// CancelReservation gives a reservation back that will not be used.
func (l *Limiter) CancelReservation(now time.Time, r Reservation) {}

// RetryAfter is how long it takes, as far as can be told, until there is room for a request of this
// class that is shed now. The caller spreads it.
func (l *Limiter) RetryAfter(now time.Time, c Class) time.Duration { return time.Second }

// Tick ends the wait of those whose time is over, and turns the windows. It returns when it should
// be called next; zero when nothing is due. Acquire and Release do the same on their way, so a limiter that
// nobody waits for needs no timer.
func (l *Limiter) Tick(now time.Time) (next time.Time) {
	l.mu.Lock()
	l.clockLocked(now)
	for l.head != nil && l.head.until <= l.last {
		w := l.head
		l.removeLocked(w)
		l.shed[w.request.Class][WaitedInVain]++
		l.decideLocked(w, Verdict{Shed, WaitedInVain})
	}
	if l.head != nil {
		next = l.base.Add(time.Duration(l.head.until))
	}
	told := l.toldLocked()
	l.mu.Unlock()
	tell(told)
	return next
}

// Snapshot tells how the limiter stands.
func (l *Limiter) Snapshot() Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Snapshot{Limit: l.limit, InFlight: l.inFlight, Streams: l.streams, QueuedByClass: l.byClass,
		Reserved: l.reserved, Admitted: l.admitted, Shed: l.shed, Exempt: l.exempt}
}

func (l *Limiter) clockLocked(now time.Time) { l.last = max(l.last, int64(now.Sub(l.base))) }

func (l *Limiter) admitLocked(w *Waiter) {
	l.inFlight++
	if w.request.Exempt {
		l.exempt++
	} else {
		l.admitted[w.request.Class]++
	}
	w.permit = Permit{at: l.last, kind: callPermit}
}

func (l *Limiter) grantLocked() {
	for l.head != nil && l.inFlight < l.limit {
		w := l.head
		l.removeLocked(w)
		l.admitLocked(w)
		l.decideLocked(w, Verdict{Decision: Admitted})
	}
}

func (l *Limiter) removeLocked(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.tail = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	l.queued--
	l.byClass[w.request.Class]--
}

func (l *Limiter) decideLocked(w *Waiter, v Verdict) {
	w.decide(v)
	if w.OnVerdict != nil {
		l.told = append(l.told, w)
	}
}

func (l *Limiter) toldLocked() []*Waiter {
	told := l.told
	l.told = nil
	return told
}

func tell(told []*Waiter) {
	for _, w := range told {
		w.OnVerdict(w, w.verdict)
	}
}
