package breaker

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// State is where a breaker stands; the numbers are those of the metric sluice_breaker_state.
type State int

// The states.
const (
	Closed   State = 0
	HalfOpen State = 1
	Open     State = 2
)

// String returns the state's word.
func (s State) String() string { return gobreaker.State(s).String() }

// Result is what a call taught about the service.
type Result uint8

const (
	// Ignored: nothing was learned. The call never happened, or it ended for a reason of the
	// client's or the gateway's.
	Ignored Result = iota
	// Success is a response that is not the service's failure.
	Success
	// Failure is a failure of the service.
	Failure
	// Rejected is a response by which the service puts the blame on the request. It teaches as little
	// as Ignored, but for probes in the long run: see doc.go.
	Rejected
)

// probeRetry is when to come back while all probes are out: their results are due soon, but it
// is not known when.
const probeRetry = time.Second

var (
	errFailure = errors.New("breaker: the call failed")
	errIgnored = errors.New("breaker: the call is ignored")
)

// Breaker guards one service. It is safe for concurrent use.
type Breaker struct {
	onChange func(Change)
	random   func() float64 // from 0 up to 1
	// steady is closedID where all calls pass: the breaker is closed, and not in a ramp; else 0. Permits of it take no
	// lock.
	steady atomic.Uint64
	*counts

	set      Settings // it and what follows are guarded by counts.mu
	mode     Mode
	machine  *gobreaker.TwoStepCircuitBreaker[struct{}]
	state    State     // the machine's, as of its last step
	now      time.Time // of the last event that could change the state
	ids      uint64
	closedID uint64 // the permits of the present closed state
	pause    pause
	trial    trial // while half-open
	ramp     ramp  // of the present closed state
	door     door

	changes   []Change // not reported yet
	reporting bool     // a goroutine is in report
}

// counts is what a call writes that ends while the breaker is closed. It has an allocation of its own, whose size makes
// it begin with a line of the caches: the mutex and what is counted of a call are all of that line.
type counts struct {
	mu     sync.Mutex
	window window
	_      [48]byte
}

// trial is a half-open state.
type trial struct {
	id     uint64    // which half-open state it is; stays when it has closed the breaker
	since  time.Time // it began
	probes []probe   // those without a result
	slow   int       // slow ones among those with one
}

type probe struct {
	id    uint64
	until time.Time
	done  func(error)
}

// Change is a change of state. The numbers are those of the window in which a closed breaker opened.
type Change struct {
	From, To            State
	Calls, Errors, Slow int
}

// New makes a closed breaker. onChange, which may be nil, is told of each change of state, in
// order, by a goroutine that uses the breaker and holds no lock. The error is that of
// [Settings.Check].
func New(s Settings, onChange func(Change)) (*Breaker, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	b := &Breaker{onChange: onChange, random: rand.Float64, set: s, counts: new(counts)}
	b.machine = b.newMachine()
	b.nextID()
	b.closedID = b.ids
	b.steadyLocked()
	return b, nil
}

// Configure changes the settings and keeps the state: an open breaker stays open, no longer than
// the new settings let it, and a forced one stays forced. The calls counted so far are kept unless
// the window's length changes. The error is that of [Settings.Check], and then nothing changes.
func (b *Breaker) Configure(s Settings) error {
	if err := s.Check(); err != nil {
		return err
	}
	if b.configure(s) {
		b.report()
	}
	return nil
}

// configure tells whether there is a change to report.
func (b *Breaker) configure(s Settings) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.steadyLocked()
	old := b.set
	b.set = s
	if old.Window != s.Window {
		b.window = window{}
	}
	b.pause.length = min(b.pause.length, s.openMax())
	if old.Probes != s.Probes { // the machine's number is fixed: a new one is brought to where the old one stands
		b.machine = b.newMachine()
		if b.state == HalfOpen { // its probes begin again with the next request
			before := b.pause
			b.tripLocked()
			b.pause = before
			b.pause.until = b.now
		} else if b.state == Open {
			b.tripLocked()
		}
	}
	return len(b.changes) > 0
}

func (b *Breaker) newMachine() *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   uint32(b.set.Probes),
		Timeout:       time.Nanosecond, // openUntil decides, see doc.go; 0 would mean a minute
		ReadyToTrip:   func(gobreaker.Counts) bool { return true },
		IsExcluded:    func(err error) bool { return err == errIgnored },
		OnStateChange: func(_ string, _, to gobreaker.State) { b.moved(State(to)) },
	})
}

// moved follows a step of the machine. It runs inside the machine's call and so under b.mu.
func (b *Breaker) moved(to State) {
	if to == b.state {
		return
	}
	if b.onChange != nil {
		c := Change{From: b.state, To: to}
		if sum := b.window.sum; c.From == Closed {
			c.Calls, c.Errors, c.Slow = sum.calls, sum.errors, sum.slow
		}
		b.changes = append(b.changes, c)
	}
	from := b.state
	b.state = to
	clear(b.trial.probes)
	b.trial.probes, b.trial.slow = b.trial.probes[:0], 0
	b.ramp = ramp{}
	switch to {
	case Open:
		b.door = door{}
		b.pause.begin(b.now, &b.set, from == HalfOpen, b.random)
	case HalfOpen:
		b.nextID()
		b.trial.id, b.trial.since = b.ids, b.now
	case Closed:
		b.window.reset(b.set.Window, b.now)
		b.nextID()
		b.closedID = b.ids
		b.pause.closed = b.now
		b.ramp = beginRamp(b.now, b.set.Ramp)
	}
}

func (b *Breaker) nextID() { b.ids++ }

// steadyLocked follows what may have changed the state or ended the ramp.
func (b *Breaker) steadyLocked() {
	var id uint64
	if b.state == Closed && !b.ramp.on {
		id = b.closedID
	}
	if id != b.steady.Load() { // all calls read it, so it is written only when it changes
		b.steady.Store(id)
	}
}

// Permit allows one call. It is given back by Release once, and Retract may follow; giving it back again, or the zero
// Permit, does nothing. It is not safe for concurrent use, and of copies only one may be given
// back.
type Permit struct {
	b        *Breaker
	id       uint64
	at       time.Time
	released bool
	era      uint64 // the closed state that has its success; 0: none has
	trial    uint64 // the half-open state that has it
}

// Acquire asks for a permit at the time now. When it is refused, retryAfter says when to come back,
// always above 0.
func (b *Breaker) Acquire(now time.Time) (p Permit, retryAfter time.Duration, ok bool) {
	return b.acquire(now, false)
}

// AcquireBegun is Acquire for a call that is a part of something which has begun: the ramp lets it
// pass. Whoever begins such a thing asks [Breaker.Ready] before, which the ramp bounds.
func (b *Breaker) AcquireBegun(now time.Time) (p Permit, retryAfter time.Duration, ok bool) {
	return b.acquire(now, true)
}

func (b *Breaker) acquire(now time.Time, begun bool) (p Permit, retryAfter time.Duration, ok bool) {
	if id := b.steady.Load(); id != 0 {
		return Permit{b: b, id: id, at: now}, 0, true
	}
	b.mu.Lock()
	p, retryAfter, ok = b.acquireLocked(now, begun)
	b.steadyLocked()
	changed := len(b.changes) > 0
	b.mu.Unlock()
	if changed {
		b.report()
	}
	return p, retryAfter, ok
}

func (b *Breaker) acquireLocked(now time.Time, begun bool) (Permit, time.Duration, bool) {
	b.now = now
	if b.state == Closed {
		if b.ramp.on && !begun && !b.ramp.passes(now, b.set.Ramp) {
			return Permit{}, b.ramp.retryAfter(now, b.random), false
		}
		return Permit{b: b, id: b.closedID, at: now}, 0, true
	}
	if wait := b.openLocked(now); wait > 0 {
		return Permit{}, b.spreadLocked(wait), false
	}
	b.expireProbesLocked(now)
	done, err := b.machine.Allow()
	if err != nil {
		return Permit{}, b.spreadLocked(probeRetry), false
	}
	b.nextID()
	b.trial.probes = append(b.trial.probes, probe{id: b.ids, until: now.Add(b.set.Lease), done: done})
	return Permit{b: b, id: b.ids, at: now}, 0, true
}

// openLocked returns for how long all calls are refused from now on, 0 or less when a probe may pass.
func (b *Breaker) openLocked(now time.Time) time.Duration {
	switch {
	case b.mode == ForcedOpen:
		return b.set.OpenFor // until somebody says otherwise, which nobody knows
	case b.state == Open:
		return b.pause.left(now)
	}
	return 0
}

// expireProbesLocked takes back the places of probes whose lease is over.
func (b *Breaker) expireProbesLocked(now time.Time) {
	latest := now.Add(b.set.Lease)
	probes := b.trial.probes
	kept := probes[:0]
	for _, p := range probes {
		if p.until.After(latest) { // the clock was set back
			p.until = latest
		}
		if p.until.After(now) {
			kept = append(kept, p)
		} else {
			p.done(errIgnored)
		}
	}
	clear(probes[len(kept):])
	b.trial.probes = kept
}

// Release gives the permit back with what the call taught and how long it took. A result of a state
// that is over, or of a probe whose lease is over, is not counted.
func (p *Permit) Release(r Result, took time.Duration) {
	took = max(took, 0)
	p.release(r, took, p.at.Add(took))
}

// release is Release at the time now of a call of which took was the service's.
func (p *Permit) release(r Result, took time.Duration, now time.Time) {
	b := p.b
	if b == nil || p.released {
		return
	}
	p.released = true
	b.mu.Lock()
	trial := b.trial.id
	counted := b.releaseLocked(p.id, r, took, now)
	switch {
	case !counted || r != Success:
	case p.id == b.closedID:
		p.era = b.closedID
	default:
		p.trial = trial
	}
	b.steadyLocked()
	changed := len(b.changes) > 0
	b.mu.Unlock()
	if changed {
		b.report()
	}
}

// Retract makes a failure of the success that Release was given: at the time now the call failed
// behind what it was judged by. It counts once, and only in the closed state that has the success. That of a
// probe opens the breaker again, or counts in the closed state that it led to.
func (p *Permit) Retract(now time.Time) {
	b := p.b
	if b == nil || p.era == 0 && p.trial == 0 {
		return
	}
	b.mu.Lock()
	b.retractLocked(p, now)
	p.era, p.trial = 0, 0
	b.steadyLocked()
	changed := len(b.changes) > 0
	b.mu.Unlock()
	if changed {
		b.report()
	}
}

func (b *Breaker) retractLocked(p *Permit, now time.Time) {
	ofTrial := p.trial != 0 && p.trial == b.trial.id
	switch {
	case b.mode != Auto:
	case b.state == Closed && b.closedID == p.era:
		b.windowLocked(now).fail(now)
		b.judgeWindowLocked(now)
	case b.state == Closed && ofTrial: // its success is not in the window
		b.windowLocked(now).add(now, true, false)
		b.judgeWindowLocked(now)
	case b.state == HalfOpen && ofTrial:
		b.now = now
		b.reopenLocked()
	}
}

// releaseLocked reports whether the result was counted.
func (b *Breaker) releaseLocked(id uint64, r Result, took time.Duration, now time.Time) bool {
	if b.mode != Auto {
		return false
	}
	slow := b.set.Slow != nil && took > b.set.Slow.Over
	if b.state == Closed {
		counts := id == b.closedID && (r == Success || r == Failure)
		if counts {
			b.windowLocked(now).add(now, r == Failure, slow)
			b.judgeWindowLocked(now)
		}
		return counts
	}
	b.now = now
	b.expireProbesLocked(now)
	probes := b.trial.probes
	for i, p := range probes {
		if p.id == id {
			last := len(probes) - 1
			probes[i] = probes[last]
			probes[last] = probe{}
			b.trial.probes = probes[:last]
			p.done(b.judgeLocked(r, slow, now))
			return true
		}
	}
	return false
}

// windowLocked returns the window, which begins with the first call.
func (b *Breaker) windowLocked(now time.Time) *window {
	if b.window.span == 0 {
		b.window.reset(b.set.Window, now)
	}
	return &b.window
}

// judgeWindowLocked opens the breaker when the window says so.
func (b *Breaker) judgeWindowLocked(now time.Time) {
	sum := &b.window.sum
	if sum.calls < b.set.MinRequests {
		return
	}
	slow := b.set.Slow
	if reached(sum.errors, sum.calls, b.set.Errors) || slow != nil && reached(sum.slow, sum.calls, slow.Share) {
		b.now = now
		b.tripLocked()
	}
}

// tripLocked opens a machine that is closed.
func (b *Breaker) tripLocked() {
	if done, err := b.machine.Allow(); err == nil {
		done(errFailure)
	}
}

// reopenLocked opens the breaker whatever state it is in: that of a half-open machine may have no
// place for a failure.
func (b *Breaker) reopenLocked() {
	b.machine = b.newMachine()
	b.tripLocked()
}

// reached reports whether n of total is at least that share; the small number takes up the rounding
// of shares such as 7%.
func reached(n, total int, share float64) bool {
	return float64(n) >= share*float64(total)-1e-9
}

// judgeLocked translates a probe's result for the machine.
func (b *Breaker) judgeLocked(r Result, slow bool, now time.Time) error {
	switch {
	case r == Ignored, r == Rejected && now.Sub(b.trial.since) < b.set.Window:
		return errIgnored
	case r == Failure:
		return errFailure
	case slow:
		b.trial.slow++
		if reached(b.trial.slow, b.set.Probes, b.set.Slow.Share) {
			return errFailure
		}
	}
	return nil
}

// State returns where the breaker stands. An open one whose time is over counts as open until the
// next request comes.
func (b *Breaker) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// report tells onChange of the changes. Only one goroutine does at a time, so that the order is
// kept; the others leave theirs to it.
func (b *Breaker) report() {
	for first := true; ; first = false {
		changes := b.takeChanges(first)
		if len(changes) == 0 {
			return
		}
		for _, c := range changes {
			b.onChange(c)
		}
	}
}

// takeChanges returns the changes to report, none if another goroutine reports. first: the caller
// does not report yet.
func (b *Breaker) takeChanges(first bool) []Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first && b.reporting {
		return nil
	}
	changes := b.changes
	b.changes = nil
	b.reporting = len(changes) > 0
	return changes
}
