package breaker

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is the breaker as doc.go describes it, in the plainest form: lists and no gobreaker.
type model struct {
	set       Settings
	mode      Mode
	state     State
	openUntil time.Time
	openings  int // in a row
	closedAt  time.Time
	ended     []ended // calls of this closed state
	epoch     time.Time
	era       int // counts the states gone through
	trial     int // the era of the half-open state before this closed one, or of this one; 0: none
	halfSince time.Time
	places    []*ticket
	succeeded int
	slow      int
	rampUntil time.Time // zero: no ramp
	credit    int
	doorUntil time.Time
	doorGiven int
}

type ended struct {
	bucket       int64
	failed, slow bool
	counted      bool // as a success, before
}

// ticket is a permit in the test: real and modelled.
type ticket struct {
	permit  Permit
	era     int
	at      time.Time
	until   time.Time
	success int // the era of the closed state that has its success
	trial   int // that of the half-open one
}

// chance is what the breakers of the tests get for a random number.
const chance = 0.5

func (m *model) move(to State, now time.Time) {
	m.state = to
	m.era++
	m.places, m.succeeded, m.slow, m.ended = nil, 0, 0, nil
	m.rampUntil = time.Time{}
	switch to {
	case Open:
		m.trial, m.doorUntil, m.doorGiven = 0, time.Time{}, 0
	case HalfOpen:
		m.trial, m.halfSince = m.era, now
	case Closed:
		m.epoch, m.closedAt = now, now
	}
}

func (m *model) expire(now time.Time) {
	var kept []*ticket
	for _, k := range m.places {
		if k.until.After(now) {
			kept = append(kept, k)
		}
	}
	m.places = kept
}

// ramped reports whether the ramp lets one more pass.
func (m *model) ramped(now time.Time) bool {
	switch {
	case m.rampUntil.IsZero():
		return true
	case !now.Before(m.rampUntil):
		m.rampUntil = time.Time{}
		return true
	}
	left := m.rampUntil.Sub(now)
	m.credit += max(100, 1000-int(1000*left/m.set.Ramp))
	if m.credit < 1000 {
		return false
	}
	m.credit -= 1000
	return true
}

func (m *model) isOpen(now time.Time) bool {
	return m.mode == ForcedOpen || m.state == Open && now.Before(m.openUntil)
}

func (m *model) acquire(k *ticket, now time.Time, begun bool) bool {
	switch {
	case m.isOpen(now):
		return false
	case m.state == Closed:
		if !begun && !m.ramped(now) {
			return false
		}
	default:
		if m.state == Open {
			m.move(HalfOpen, now)
		}
		m.expire(now)
		if len(m.places)+m.succeeded >= m.set.Probes {
			return false
		}
		m.places = append(m.places, k)
	}
	k.era, k.at, k.until = m.era, now, now.Add(m.set.Lease)
	return true
}

func (m *model) ready(now time.Time) bool {
	switch {
	case m.isOpen(now):
		return false
	case m.state == Closed:
		return m.ramped(now)
	}
	m.expire(now)
	if !now.Before(m.doorUntil) {
		m.doorUntil, m.doorGiven = now.Add(time.Second), 0
	}
	if m.doorGiven+len(m.places) >= m.set.Probes {
		return false
	}
	m.doorGiven++
	return true
}

func (m *model) release(k *ticket, r Result, took time.Duration) {
	now := k.at.Add(took)
	slow := m.set.Slow != nil && took > m.set.Slow.Over
	if m.mode != Auto {
		return
	}
	if m.state == HalfOpen {
		m.expire(now)
	}
	switch {
	case k.era != m.era:
	case m.state == Closed && (r == Success || r == Failure):
		if r == Success {
			k.success = m.era
		}
		m.count(now, ended{failed: r == Failure, slow: slow})
	case m.state == HalfOpen:
		m.probeEnded(k, r, slow, now)
	}
}

func (m *model) retract(k *ticket, now time.Time) {
	success, trial := k.success, k.trial
	k.success, k.trial = 0, 0
	switch {
	case m.mode != Auto:
	case m.state == Closed && success == m.era:
		m.count(now, ended{failed: true, counted: true})
	case trial == 0 || trial != m.trial:
	case m.state == Closed:
		m.count(now, ended{failed: true})
	case m.state == HalfOpen:
		m.open(now, true)
	}
}

func (m *model) count(now time.Time, e ended) {
	if len(m.ended) == 0 && m.epoch.IsZero() {
		m.epoch = now
	}
	e.bucket = int64(now.Sub(m.epoch) / (m.set.Window / buckets))
	for _, o := range m.ended {
		e.bucket = max(e.bucket, o.bucket)
	}
	m.ended = append(m.ended, e)
	calls, failures, slows := 0, 0, 0
	for _, o := range m.ended {
		if o.bucket > e.bucket-buckets {
			if !o.counted {
				calls++
			}
			if o.failed {
				failures++
			}
			if o.slow {
				slows++
			}
		}
	}
	if calls >= m.set.MinRequests && (reached(failures, calls, m.set.Errors) || m.set.Slow != nil &&
		reached(slows, calls, m.set.Slow.Share)) {
		m.open(now, false)
	}
}

func (m *model) open(now time.Time, again bool) {
	if m.openings > 0 && (again || now.Before(m.closedAt.Add(m.set.Ramp+m.set.Window))) {
		m.openings++
	} else {
		m.openings = 1
	}
	m.move(Open, now)
	length := min(m.set.OpenFor*time.Duration(m.openings), max(m.set.OpenMax, m.set.OpenFor))
	length += time.Duration(m.set.Jitter * chance * float64(length))
	m.openUntil = now.Add(length)
}

func (m *model) probeEnded(k *ticket, r Result, slow bool, now time.Time) {
	for i, p := range m.places {
		if p != k {
			continue
		}
		m.places = append(m.places[:i], m.places[i+1:]...)
		if r == Success {
			k.trial = m.era
		}
		if r == Rejected && !now.Before(m.halfSince.Add(m.set.Window)) {
			r = Success
		}
		if r == Success && slow {
			m.slow++
		}
		switch {
		case r == Failure, r == Success && slow && reached(m.slow, m.set.Probes, m.set.Slow.Share):
			m.open(now, true)
		case r == Success:
			if m.succeeded++; m.succeeded == m.set.Probes {
				m.move(Closed, now)
				if m.set.Ramp > 0 {
					m.rampUntil, m.credit = now.Add(m.set.Ramp), 900
				}
			}
		}
		return
	}
}

func (m *model) force(now time.Time, mode Mode) {
	if mode == m.mode {
		return
	}
	m.mode = mode
	switch {
	case mode == ForcedOpen && m.state != Open:
		m.move(Open, now)
	case mode == ForcedClosed && m.state != Closed, mode == Auto && m.state == Closed:
		m.move(Closed, now)
	}
	m.rampUntil = time.Time{}
	m.trial, m.openings, m.openUntil = 0, 0, now
}

func drawSettings(t *rapid.T) Settings {
	s := Settings{
		Errors:      float64(rapid.IntRange(1, 100).Draw(t, "errors")) / 100,
		Window:      time.Duration(rapid.IntRange(1, 20).Draw(t, "window")) * time.Second,
		MinRequests: rapid.IntRange(1, 6).Draw(t, "minRequests"),
		OpenFor:     time.Duration(rapid.IntRange(1, 8).Draw(t, "openFor")) * time.Second,
		Probes:      rapid.IntRange(1, 4).Draw(t, "probes"),
		Lease:       time.Duration(rapid.IntRange(1, 8).Draw(t, "lease")) * time.Second,
		Jitter:      float64(rapid.IntRange(0, 2).Draw(t, "jitter")) / 5,
		Ramp:        time.Duration(rapid.IntRange(0, 8).Draw(t, "ramp")) * time.Second,
	}
	if rapid.Bool().Draw(t, "slow") {
		s.Slow = &Slow{Over: time.Second, Share: float64(rapid.IntRange(1, 100).Draw(t, "share")) / 100}
	}
	if rapid.Bool().Draw(t, "grows") {
		s.OpenMax = s.OpenFor + time.Duration(rapid.IntRange(0, 20).Draw(t, "openMax"))*time.Second
	}
	return s
}

// script is a breaker and its model under the same calls.
type script struct {
	b                      *Breaker
	m                      *model
	now                    time.Time
	out, done              []*ticket // permits that are out, and those that were given back
	changes                []State
	taken, givenBack, lost int
}

// TestModel plays random interleavings of calls, some of whose results are lost or come late or
// twice, and of an operator's words, on a breaker and on the model. rapid prints the seed of a failure
// (-rapid.seed repeats it) and the shortest script that shows it.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawSettings(t)
		s := &script{m: &model{set: set, era: 1}, now: t0}
		b, err := New(set, func(c Change) { s.changes = append(s.changes, c.To) })
		if err != nil {
			t.Fatal(err)
		}
		b.random = func() float64 { return chance }
		s.b = b
		t.Repeat(map[string]func(*rapid.T){
			"": s.check,
			"time goes by": func(t *rapid.T) {
				s.now = s.now.Add(time.Duration(rapid.IntRange(1, 10_000).Draw(t, "ms")) * time.Millisecond)
			},
			"acquire": s.acquire,
			"release": s.release,
			"retract": s.retract,
			"ask": func(t *rapid.T) {
				ready, retryAfter := b.Ready(s.now)
				if want := s.m.ready(s.now); ready != want || ready == (retryAfter > 0) {
					t.Fatalf("ready %v, retry after %v; the model says %v (%v)", ready, retryAfter, want, s.m.state)
				}
			},
			"lose": func(t *rapid.T) {
				if len(s.out) == 0 {
					t.Skip("none is out")
				}
				i := rapid.IntRange(0, len(s.out)-1).Draw(t, "which")
				s.out = append(s.out[:i], s.out[i+1:]...)
				s.lost++
			},
			"force": func(t *rapid.T) {
				mode := Mode(max(rapid.IntRange(-2, 2).Draw(t, "mode"), 0)) // more often back than not
				if before := b.Force(s.now, mode); before != s.m.mode {
					t.Fatalf("the mode was %v, the model says %v", before, s.m.mode)
				}
				s.m.force(s.now, mode)
			},
		})
		// Whatever was lost: when the service may have recovered, a call gets through.
		b.Force(s.now, Auto)
		if _, _, ok := b.Acquire(s.now.Add(set.openMax() + set.Lease + set.Ramp)); !ok {
			t.Fatalf("locked out: %v, %d leases", b.State(), len(b.trial.probes))
		}
	})
}

func (s *script) check(t *rapid.T) {
	if s.b.State() != s.m.state {
		t.Fatalf("state is %v, the model says %v", s.b.State(), s.m.state)
	}
	if n := len(s.changes); n > 0 && s.changes[n-1] != s.m.state {
		t.Fatalf("the last change reported is to %v, state is %v", s.changes[n-1], s.m.state)
	}
	if s.m.state == HalfOpen && len(s.b.trial.probes) > s.m.set.Probes {
		t.Fatalf("%d leases, %d probes allowed", len(s.b.trial.probes), s.m.set.Probes)
	}
	if s.taken != s.givenBack+s.lost+len(s.out) {
		t.Fatalf("permits do not balance: %d taken, %d given back, %d lost, %d out", s.taken, s.givenBack, s.lost,
			len(s.out))
	}
	if s.m.mode == ForcedOpen && s.m.state != Open || s.m.mode == ForcedClosed && s.m.state != Closed {
		t.Fatalf("forced %v, and %v", s.m.mode, s.m.state)
	}
}

func (s *script) acquire(t *rapid.T) {
	k, begun, ask := new(ticket), rapid.IntRange(0, 3).Draw(t, "begun") == 0, s.b.Acquire
	if begun {
		ask = s.b.AcquireBegun
	}
	p, retryAfter, ok := ask(s.now)
	if want := s.m.acquire(k, s.now, begun); ok != want {
		t.Fatalf("acquired %v, the model says %v (%v)", ok, want, s.m.state)
	}
	if ok == (retryAfter > 0) {
		t.Fatalf("acquired %v, retry after %v", ok, retryAfter)
	}
	if ok {
		k.permit = p
		s.out = append(s.out, k)
		s.taken++
	}
}

func (s *script) release(t *rapid.T) {
	if len(s.out) == 0 {
		t.Skip("none is out")
	}
	i := rapid.IntRange(0, len(s.out)-1).Draw(t, "which")
	k, r := s.out[i], Result(rapid.IntRange(int(Ignored), int(Rejected)).Draw(t, "result"))
	s.out = append(s.out[:i], s.out[i+1:]...)
	took := s.now.Sub(k.at)
	s.m.release(k, r, took)
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		k.permit.Release(r, took)
	}
	s.givenBack++
	s.done = append(s.done, k)
}

func (s *script) retract(t *rapid.T) {
	if len(s.done) == 0 {
		t.Skip("none was given back")
	}
	k := s.done[rapid.IntRange(0, len(s.done)-1).Draw(t, "which")]
	s.m.retract(k, s.now)
	k.permit.Retract(s.now)
}

// TestProbesOutAtOnce watches the number of unexpired probes from outside, without the model.
func TestProbesOutAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawSettings(t)
		b, err := New(set, nil)
		if err != nil {
			t.Fatal(err)
		}
		now := t0
		for range set.MinRequests {
			call1(b, now, Failure, 0)
		}
		now = now.Add(set.OpenFor)
		var until []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			if _, _, ok := b.Acquire(now); ok {
				until = append(until, now.Add(set.Lease))
			}
			out := 0
			for _, u := range until {
				if u.After(now) {
					out++
				}
			}
			if out > set.Probes {
				t.Fatalf("%d probes out at once, %d allowed", out, set.Probes)
			}
		}
	})
}
