package breaker

import "time"

// Mode says who decides on the state of a breaker.
type Mode uint8

// The modes.
const (
	Auto         Mode = iota // the breaker, by what it counts
	ForcedOpen               // an operator: no call passes
	ForcedClosed             // an operator: every call passes
)

// String returns the mode's word, as an operator writes it.
func (m Mode) String() string {
	switch m {
	case ForcedOpen:
		return "open"
	case ForcedClosed:
		return "closed"
	}
	return "auto"
}

// ParseMode returns the mode of a word; false for a word that is none.
func ParseMode(word string) (Mode, bool) {
	for _, m := range [...]Mode{Auto, ForcedOpen, ForcedClosed} {
		if word == m.String() {
			return m, true
		}
	}
	return Auto, false
}

// Force has the breaker open or closed, at the time now, until the mode is Auto again. While it is
// forced nothing is counted. Behind a forced open state it goes on with probes, and behind a forced
// closed one closed, with an empty window. It returns the mode before.
func (b *Breaker) Force(now time.Time, m Mode) (before Mode) {
	b.mu.Lock()
	before = b.mode
	if m != before {
		b.forceLocked(now, m)
		b.steadyLocked()
	}
	changed := len(b.changes) > 0
	b.mu.Unlock()
	if changed {
		b.report()
	}
	return before
}

func (b *Breaker) forceLocked(now time.Time, m Mode) {
	b.now, b.mode = now, m
	switch {
	case m == ForcedOpen && b.state != Open:
		b.reopenLocked()
	case m == ForcedClosed:
		b.machine = b.newMachine()
		b.moved(Closed)
		b.ramp = ramp{}
	case m == Auto && b.state == Closed: // what was let pass before says nothing
		b.window.reset(b.set.Window, now)
		b.nextID()
		b.closedID = b.ids
	}
	b.trial.id = 0 // what its probes end with later counts nowhere
	b.pause.end(now)
}

// Mode returns who decides on the state now.
func (b *Breaker) Mode() Mode {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mode
}

// Snapshot is how a breaker stands.
type Snapshot struct {
	State State
	Mode  Mode
	// Calls are those that ended in the window of the closed state; Errors and Slow are those among
	// them that failed, and that were slow.
	Calls, Errors, Slow int
	OpenFor             time.Duration // how long it stays open, where it does by itself
	Ramp                time.Duration // how long the calls still take to come back
	Probes              int           // that are under way
}

// Snapshot returns how the breaker stands at the time now.
func (b *Breaker) Snapshot(now time.Time) Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Snapshot{State: b.state, Mode: b.mode, Probes: len(b.trial.probes)}
	switch {
	case b.state == Open && b.mode == Auto:
		s.OpenFor = max(b.pause.left(now), 0)
	case b.state == Closed && b.mode == Auto && b.window.span > 0:
		b.window.turn(now)
		s.Calls, s.Errors, s.Slow = b.window.sum.calls, b.window.sum.errors, b.window.sum.slow
		if b.ramp.on {
			s.Ramp = max(b.ramp.until.Sub(now), 0)
		}
	}
	return s
}
