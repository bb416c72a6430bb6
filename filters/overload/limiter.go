package overload

import (
	"sync"
	"sync/atomic"
	"time"
)

// Limiter bounds the calls in flight to one service. It is safe for concurrent use. Time is an
// argument; a clock that steps back stands still for it.
//
// What each call writes stands together, in as few lines of the caches as it fits (TestCallsWriteFewLines), since each
// has to come over from the processor that had the last call.
type Limiter struct {
	mu       sync.Mutex
	last     int64
	inFlight int
	pace     pace
	_        [16]byte
	adaptive adaptive
	counters counters
	fairness fairness
	_        [64]byte // what follows is rarely written

	base time.Time
	set  Settings
	// slice is the time over which permits are counted, by the settings.
	slice   int64
	streams int
	full    atomic.Bool  // as many streams are open as may be
	busy    atomic.Int64 // until when it counts as one that sheds, see Announce

	queue    queue
	reserved reservations
	expected expected
	told     []*Waiter // have a verdict that OnVerdict is not yet called with
}

// counters are since the limiter was made.
type counters struct {
	shed     [classes][causes]uint64
	exempt   uint64
	refused  counter // requests shed of late
	_        [80]byte
	admitted [classes]uint64
}

// New makes a limiter; s must pass [Settings.Check]. The seed decides when it probes, so that
// replicas are not in step.
func New(s Settings, now time.Time, seed uint64) *Limiter {
	l := &Limiter{base: now, set: s, slice: sliceOf(s)}
	if s.Adaptive {
		l.adaptive = newAdaptive(s, seed)
	}
	return l
}

// Configure changes the settings and keeps what was learned, what is in flight and who waits, but for
// those that are too many now.
func (l *Limiter) Configure(s Settings, now time.Time) {
	l.mu.Lock()
	l.clockLocked(l.at(now))
	switch {
	case !s.Adaptive:
	case l.adaptive.limit == 0:
		l.adaptive = newAdaptive(s, uint64(l.last)) //nolint:gosec // any bits do
	default:
		l.adaptive.configure(s)
	}
	l.set, l.slice = s, sliceOf(s)
	l.streamsLocked(0)
	l.grantLocked()
	for l.queue.size > s.QueueSize {
		l.displaceLocked()
	}
	l.unlockAndTell()
}

// SetGateways changes how many gateways use the service ([Settings.Gateways]): their number changes
// without a reload.
func (l *Limiter) SetGateways(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n == l.set.Gateways {
		return
	}
	l.set.Gateways = n
	if l.set.Adaptive {
		l.adaptive.prober.know(n)
	}
}

// Acquire asks for a permit. Admitted: it is in w.Permit. Queued: w is in the queue until its verdict,
// or until Leave. Shed: the cause says why.
func (l *Limiter) Acquire(now time.Time, r Request, w *Waiter) (Decision, Cause) {
	return l.acquire(l.at(now), &r, w)
}

// at returns a time as the limiter counts it: in nanoseconds since it was made. A filter, which asks twice a request,
// counts so itself.
func (l *Limiter) at(now time.Time) int64 { return int64(now.Sub(l.base)) }

// timeAt returns the time that is counted so.
func (l *Limiter) timeAt(at int64) time.Time { return l.base.Add(time.Duration(at)) }

func (l *Limiter) acquire(at int64, r *Request, w *Waiter) (Decision, Cause) {
	r.Class = min(r.Class, Low)
	l.mu.Lock()
	l.clockLocked(at)
	d, c := l.acquireLocked(at, r, w)
	if d == Admitted && l.queue.size == 0 && l.told == nil {
		l.mu.Unlock()
		return d, c
	}
	l.unlockAndTell()
	return d, c
}

// Leave takes a request out of the queue whose client went away. It tells whether it was
// admitted in the meantime: then w.Permit must be given back. No verdict follows.
func (l *Limiter) Leave(now time.Time, w *Waiter) (wasAdmitted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockLocked(l.at(now))
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
	l.release(l.at(now), &p, &s)
}

func (l *Limiter) release(at int64, p *Permit, s *Sample) {
	if !p.Valid() {
		return
	}
	l.mu.Lock()
	l.clockLocked(at)
	if p.kind == streamPermit {
		l.streamsLocked(-1)
	} else {
		l.endLocked(p, s)
	}
	if l.queue.size == 0 && l.told == nil {
		l.mu.Unlock()
		return
	}
	l.unlockAndTell()
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
	l.clockLocked(l.at(now))
	l.endLocked(&p, &s)
	ok := l.streams < l.set.streamCap()
	if ok {
		l.streamsLocked(+1)
		p.kind = streamPermit
	} else {
		l.shedLocked(p.class, TooManyStreams)
		p = Permit{}
	}
	l.unlockAndTell()
	return p, ok
}

func (l *Limiter) streamsLocked(more int) {
	l.streams += more
	l.full.Store(l.streams >= l.set.streamCap())
}

// StreamsFull reports whether as many streams are open as may be. It takes no lock: whoever asks need
// not find out for each request whether it leads to one.
func (l *Limiter) StreamsFull() bool { return l.full.Load() }

// Tick ends the wait of those whose time is over. It returns when it should be called next; zero when
// nobody waits. A limiter that nobody waits for needs no timer.
func (l *Limiter) Tick(now time.Time) (next time.Time) {
	l.mu.Lock()
	l.clockLocked(l.at(now))
	l.expireLocked()
	l.grantLocked()
	if l.queue.size > 0 {
		next = l.base.Add(time.Duration(l.queue.soonest().until))
	}
	l.unlockAndTell()
	return next
}

// RetryAfter is how long it takes, as far as can be told, until there is room for a request of this
// class that is shed now. The caller spreads it.
func (l *Limiter) RetryAfter(now time.Time, c Class) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockLocked(l.at(now))
	return l.retryAfterLocked(min(c, Low))
}

// Snapshot tells how the limiter stands.
func (l *Limiter) Snapshot() Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Snapshot{
		Limit: l.allowedLocked(), InFlight: l.inFlight, Streams: l.streams,
		QueuedByClass: l.queue.byClass(), Reserved: l.reserved.open,
		Admitted: l.counters.admitted, Shed: l.counters.shed, Exempt: l.counters.exempt,
		Latency:    time.Duration(l.pace.hold),
		Rate:       l.pace.ended.rate(l.last),
		Overloaded: l.pace.standing,
	}
	if l.set.Adaptive {
		s.Limit = l.adaptive.whole()
		s.Baseline = time.Duration(l.adaptive.baseline.value)
	}
	return s
}

func (l *Limiter) clockLocked(at int64) {
	l.last = max(l.last, at)
	l.pace.turn(l.last, l.slice)
}

// unlockAndTell grants what can be granted, lets go of the lock, and then tells those of OnVerdict.
func (l *Limiter) unlockAndTell() {
	l.grantLocked()
	told := l.told
	l.told = nil
	l.mu.Unlock()
	for _, w := range told {
		w.OnVerdict(w, w.verdict)
	}
}
