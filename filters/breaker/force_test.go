package breaker

import (
	"strings"
	"testing"
	"time"
)

func TestForce(t *testing.T) {
	type step struct {
		at     float64 // seconds
		mode   Mode
		r      Result // of a call that comes then
		passes bool
		after  State
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"open, whatever the time", []step{
			{0, ForcedOpen, Success, false, Open}, {1000, ForcedOpen, Success, false, Open},
		}},
		{"closed, whatever fails", []step{
			{0, ForcedClosed, Failure, true, Closed}, {0, ForcedClosed, Failure, true, Closed},
			{0, ForcedClosed, Failure, true, Closed}, {0, ForcedClosed, Failure, true, Closed},
			{0, ForcedClosed, Failure, true, Closed},
		}},
		{"behind open it probes at once", []step{
			{0, ForcedOpen, Success, false, Open}, {0, Auto, Success, true, HalfOpen}, {0, Auto, Success, true, Closed},
		}},
		{"behind open a probe fails", []step{
			{0, ForcedOpen, Success, false, Open}, {1, Auto, Failure, true, Open}, {5.9, Auto, Success, false, Open},
			{6, Auto, Success, true, HalfOpen},
		}},
		{"behind closed it counts from nothing", []step{
			{0, Auto, Failure, true, Closed}, {0, Auto, Failure, true, Closed}, {0, Auto, Failure, true, Closed},
			{0, ForcedClosed, Failure, true, Closed}, {0, Auto, Failure, true, Closed},
			{0, Auto, Failure, true, Closed}, {0, Auto, Failure, true, Closed}, {0, Auto, Failure, true, Open},
		}},
		{"an open one is closed", []step{
			{0, Auto, Failure, true, Closed}, {0, Auto, Failure, true, Closed}, {0, Auto, Failure, true, Closed},
			{0, Auto, Failure, true, Open}, {0, Auto, Failure, false, Open}, {0, ForcedClosed, Failure, true, Closed},
			{0, Auto, Success, true, Closed},
		}},
		{"a half-open one is opened", []step{
			{0, ForcedOpen, Success, false, Open}, {0, Auto, Success, true, HalfOpen},
			{0, ForcedOpen, Success, false, Open}, {0, ForcedClosed, Success, true, Closed},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBreaker(t, settings(), nil)
			for i, s := range c.steps {
				b.Force(at(s.at), s.mode)
				passes := call1(b, at(s.at), s.r, 0)
				if passes != s.passes || b.State() != s.after {
					t.Fatalf("step %d: passes %v, then %v; want %v, %v", i, passes, b.State(), s.passes, s.after)
				}
			}
		})
	}
}

// A new configuration changes nothing of what an operator has decided.
func TestForceOutlivesConfigure(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	s := settings()
	s.Probes, s.OpenFor, s.Ramp = 7, time.Second, time.Minute
	for _, mode := range []Mode{ForcedOpen, ForcedClosed} {
		b.Force(t0, mode)
		if err := b.Configure(s); err != nil {
			t.Fatal(err)
		}
		acquire(t, b, at(100), mode == ForcedClosed)
		s.Probes++
	}
}

// A forced closed state has no ramp; behind a forced open one there is one, as behind any.
func TestForceAndTheRamp(t *testing.T) {
	b := ramping(t)
	b.Force(t0, ForcedClosed)
	for range 10 {
		acquire(t, b, t0, true)
	}
	b.Force(t0, Auto)
	for range 10 {
		acquire(t, b, t0, true)
	}
	b.Force(t0, ForcedOpen)
	b.Force(t0, Auto)
	for range b.set.Probes {
		p := acquire(t, b, t0, true)
		p.Release(Success, 0)
	}
	acquire(t, b, t0, true)
	acquire(t, b, t0, false)
}

// Results of calls that began before, or while the breaker was forced, count nowhere.
func TestForceLeavesNothingBehind(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	b.Force(t0, ForcedOpen)
	b.Force(t0, Auto)
	probe := acquire(t, b, t0, true)
	success := acquire(t, b, t0, true)
	success.Release(Success, 0)
	b.Force(t0, ForcedClosed)
	during := acquire(t, b, t0, true)
	done := acquire(t, b, t0, true)
	done.Release(Success, 0)
	b.Force(t0, Auto)
	for range 10 {
		probe.Release(Failure, 0)
		success.Retract(t0)
		during.Release(Failure, 0)
		done.Retract(t0)
	}
	if b.State() != Closed || b.window.sum != (tally{}) {
		t.Errorf("%v, counted %+v", b.State(), b.window.sum)
	}
}

// What a call before is found to be while the breaker is forced closed does not open it.
func TestForcedClosedTakesNothingBack(t *testing.T) {
	s := settings()
	s.MinRequests, s.Errors = 1, .1
	b := newBreaker(t, s, nil)
	p := acquire(t, b, t0, true)
	p.Release(Success, 0)
	b.Force(t0, ForcedClosed)
	p.Retract(t0)
	if b.State() != Closed {
		t.Errorf("%v", b.State())
	}
}

func TestForceTellsOfChangesAlone(t *testing.T) {
	var seen []string
	b := newBreaker(t, settings(), func(c Change) { seen = append(seen, c.From.String()+">"+c.To.String()) })
	var before []string
	for _, m := range []Mode{ForcedClosed, ForcedOpen, ForcedOpen, ForcedClosed, Auto, ForcedOpen, Auto} {
		before = append(before, b.Force(t0, m).String())
	}
	if got := strings.Join(seen, " "); got != "closed>open open>closed closed>open" {
		t.Errorf("changes %s", got)
	}
	if got := strings.Join(before, " "); got != "auto closed open open closed auto open" {
		t.Errorf("modes before %s", got)
	}
}

func TestParseMode(t *testing.T) {
	for word, want := range map[string]Mode{"auto": Auto, "open": ForcedOpen, "closed": ForcedClosed} {
		if m, ok := ParseMode(word); !ok || m != want || m.String() != word {
			t.Errorf("%q is %v, %v", word, m, ok)
		}
	}
	for _, word := range []string{"", "Open", "half-open", "forced"} {
		if m, ok := ParseMode(word); ok {
			t.Errorf("%q is %v", word, m)
		}
	}
}

func TestSnapshot(t *testing.T) {
	s := settings()
	s.Slow, s.Ramp = &Slow{Over: time.Second, Share: 1}, 4*time.Second
	b := newBreaker(t, s, nil)
	see := func(seconds float64, want Snapshot) {
		t.Helper()
		if got := b.Snapshot(at(seconds)); got != want {
			t.Errorf("at %v s: %+v, want %+v", seconds, got, want)
		}
	}
	see(0, Snapshot{})
	call1(b, t0, Success, 0)
	call1(b, t0, Success, 2*time.Second)
	call1(b, at(2), Failure, 0)
	see(3, Snapshot{Calls: 3, Errors: 1, Slow: 1})
	see(30, Snapshot{}) // they have left the window
	for range 4 {
		call1(b, at(30), Failure, 0)
	}
	see(31, Snapshot{State: Open, OpenFor: 4 * time.Second})
	see(36, Snapshot{State: Open})
	p, q := acquire(t, b, at(36), true), acquire(t, b, at(36), true)
	see(36, Snapshot{State: HalfOpen, Probes: 2})
	p.Release(Success, 0)
	q.Release(Success, 0)
	see(37, Snapshot{Ramp: 3 * time.Second})
	b.Force(at(37), ForcedOpen)
	see(37, Snapshot{State: Open, Mode: ForcedOpen})
	b.Force(at(37), ForcedClosed)
	see(37, Snapshot{Mode: ForcedClosed})
}
