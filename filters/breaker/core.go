package breaker

import (
	"errors"
	"sync"
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
	onChange func(from, to State)

	mu        sync.Mutex
	set       Settings
	machine   *gobreaker.TwoStepCircuitBreaker[struct{}]
	state     State // the machine's, as of its last step
	now       time.Time
	window    window
	ids       uint64
	closedID  uint64    // the permits of the present closed state
	openUntil time.Time // while open
	probes    []probe   // while half-open: those without a result
	slow      int       // slow ones among the probes of this half-open state

	changes   []change // not reported yet
	reporting bool     // a goroutine is in report
}

type probe struct {
	id    uint64
	until time.Time
	done  func(error)
}

type change struct{ from, to State }

// New makes a closed breaker. onChange, which may be nil, is told of each change of state, in
// order, by a goroutine that uses the breaker and holds no lock. The error is that of
// [Settings.Check].
func New(s Settings, onChange func(from, to State)) (*Breaker, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	b := &Breaker{onChange: onChange, set: s}
	b.machine = b.newMachine()
	b.nextID()
	b.closedID = b.ids
	return b, nil
}

// Configure changes the settings and keeps the state: an open breaker stays open, no longer than
// the new OpenFor. The calls counted so far are kept unless the window's length changes. The error
// is that of [Settings.Check], and then nothing changes.
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
	old := b.set
	b.set = s
	if old.Window != s.Window {
		b.window = window{}
	}
	if old.Probes != s.Probes { // the machine's number is fixed: a new one is brought to where the old one stands
		b.machine = b.newMachine()
		if b.state == HalfOpen { // its probes begin again with the next request
			b.trip()
			b.openUntil = b.now
		} else if b.state == Open {
			b.trip()
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
		b.changes = append(b.changes, change{b.state, to})
	}
	b.state = to
	clear(b.probes)
	b.probes, b.slow = b.probes[:0], 0
	switch to {
	case Open:
		b.openUntil = b.now.Add(b.set.OpenFor)
	case Closed:
		b.window.reset(b.set.Window, b.now)
		b.nextID()
		b.closedID = b.ids
	}
}

func (b *Breaker) nextID() { b.ids++ }

// Permit allows one call. It is given back by Release once, and Retract may follow; giving it back again, or the zero
// Permit, does nothing. It is not safe for concurrent use, and of copies only one may be given
// back.
type Permit struct {
	b        *Breaker
	id       uint64
	at       time.Time
	released bool
	era      uint64 // the closed state that has its success; 0: none has
}

// Acquire asks for a permit at the time now. When it is refused, retryAfter says when to come back,
// always above 0.
func (b *Breaker) Acquire(now time.Time) (p Permit, retryAfter time.Duration, ok bool) {
	b.mu.Lock()
	p, retryAfter, ok = b.acquireLocked(now)
	changed := len(b.changes) > 0
	b.mu.Unlock()
	if changed {
		b.report()
	}
	return p, retryAfter, ok
}

func (b *Breaker) acquireLocked(now time.Time) (Permit, time.Duration, bool) {
	b.now = now
	if b.state == Closed {
		return Permit{b: b, id: b.closedID, at: now}, 0, true
	}
	if b.state == Open {
		// The clock may have been set back, or OpenFor shortened: never longer than that from now.
		if latest := now.Add(b.set.OpenFor); b.openUntil.After(latest) {
			b.openUntil = latest
		}
		if wait := b.openUntil.Sub(now); wait > 0 {
			return Permit{}, wait, false
		}
	}
	b.expireProbes(now)
	done, err := b.machine.Allow()
	if err != nil {
		return Permit{}, probeRetry, false
	}
	b.nextID()
	b.probes = append(b.probes, probe{id: b.ids, until: now.Add(b.set.Lease), done: done})
	return Permit{b: b, id: b.ids, at: now}, 0, true
}

// expireProbes takes back the places of probes whose lease is over.
func (b *Breaker) expireProbes(now time.Time) {
	latest := now.Add(b.set.Lease)
	kept := b.probes[:0]
	for _, p := range b.probes {
		if p.until.After(latest) { // the clock was set back
			p.until = latest
		}
		if p.until.After(now) {
			kept = append(kept, p)
		} else {
			p.done(errIgnored)
		}
	}
	clear(b.probes[len(kept):])
	b.probes = kept
}

// Release gives the permit back with what the call taught and how long it took. A result of a state
// that is over, or of a probe whose lease is over, is not counted.
func (p *Permit) Release(r Result, took time.Duration) {
	b := p.b
	if b == nil || p.released {
		return
	}
	p.released = true
	took = max(took, 0)
	b.mu.Lock()
	counted := b.releaseLocked(p.id, r, took, p.at.Add(took))
	if counted && r == Success && b.state == Closed {
		p.era = b.closedID
	}
	changed := len(b.changes) > 0
	b.mu.Unlock()
	if changed {
		b.report()
	}
}

// Retract makes a failure of the success that Release was given: at the time now the call failed
// behind what it was judged by. It counts once, and only in the closed state that has the success.
func (p *Permit) Retract(now time.Time) {
	b := p.b
	if b == nil || p.era == 0 {
		return
	}
	b.mu.Lock()
	if b.state == Closed && b.closedID == p.era {
		b.now = now
		b.windowLocked().fail(now)
		b.judgeWindowLocked()
	}
	p.era = 0
	changed := len(b.changes) > 0
	b.mu.Unlock()
	if changed {
		b.report()
	}
}

// releaseLocked reports whether the result was counted.
func (b *Breaker) releaseLocked(id uint64, r Result, took time.Duration, now time.Time) bool {
	b.now = now
	slow := b.set.Slow != nil && took > b.set.Slow.Over
	if b.state == Closed {
		counts := id == b.closedID && r != Ignored
		if counts {
			b.windowLocked().add(now, r == Failure, slow)
			b.judgeWindowLocked()
		}
		return counts
	}
	b.expireProbes(now)
	for i, p := range b.probes {
		if p.id == id {
			last := len(b.probes) - 1
			b.probes[i] = b.probes[last]
			b.probes[last] = probe{}
			b.probes = b.probes[:last]
			p.done(b.judge(r, slow))
			return true
		}
	}
	return false
}

// windowLocked returns the window, which begins with the first call.
func (b *Breaker) windowLocked() *window {
	if b.window.span == 0 {
		b.window.reset(b.set.Window, b.now)
	}
	return &b.window
}

// judgeWindowLocked opens the breaker when the window says so.
func (b *Breaker) judgeWindowLocked() {
	sum := b.window.sum
	if sum.calls < b.set.MinRequests {
		return
	}
	slow := b.set.Slow
	if reached(sum.errors, sum.calls, b.set.Errors) || slow != nil && reached(sum.slow, sum.calls, slow.Share) {
		b.trip()
	}
}

// trip opens a machine that is closed.
func (b *Breaker) trip() {
	if done, err := b.machine.Allow(); err == nil {
		done(errFailure)
	}
}

// reached reports whether n of total is at least that share; the small number takes up the rounding
// of shares such as 7%.
func reached(n, total int, share float64) bool {
	return float64(n) >= share*float64(total)-1e-9
}

// judge translates a probe's result for the machine.
func (b *Breaker) judge(r Result, slow bool) error {
	switch {
	case r == Ignored:
		return errIgnored
	case r == Failure:
		return errFailure
	case slow:
		b.slow++
		if reached(b.slow, b.set.Probes, b.set.Slow.Share) {
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
			b.onChange(c.from, c.to)
		}
	}
}

// takeChanges returns the changes to report, none if another goroutine reports. first: the caller
// does not report yet.
func (b *Breaker) takeChanges(first bool) []change {
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
