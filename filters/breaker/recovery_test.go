package breaker

import (
	"testing"
	"time"
)

// never is a random number that adds nothing.
func never() float64 { return 0 }

func TestOpenTimeGrowsAndIsBounded(t *testing.T) {
	s := settings() // open for 5 s, a window of 10 s
	s.OpenMax, s.Ramp, s.Jitter = 12*time.Second, 2*time.Second, .2
	for _, c := range []struct {
		name   string
		random float64
		steps  [][3]float64 // when it opens, whether a probe has failed (1) or it was closed, and for how long
	}{
		{"once", 0, [][3]float64{{0, 0, 5}}},
		{"chance adds a fifth at most", .5, [][3]float64{{0, 0, 5.5}, {6, 1, 11}, {17, 1, 13.2}}},
		{"probes fail", 0, [][3]float64{{0, 0, 5}, {5, 1, 10}, {15, 1, 12}, {27, 1, 12}, {39, 1, 12}}},
		{"it closes, and opens within ramp and window", 0, [][3]float64{{0, 0, 5}, {16.9, 0, 10}, {38, 0, 12}}},
		{"it closes, and holds", 0, [][3]float64{{0, 0, 5}, {5, 1, 10}, {27, 0, 5}, {44, 0, 5}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pause
			for i, step := range c.steps {
				p.begin(at(step[0]), &s, step[1] == 1, func() float64 { return c.random })
				want := time.Duration(step[2] * float64(time.Second))
				if p.length != want || p.left(at(step[0])) != want {
					t.Fatalf("step %d: open for %v, want %v", i, p.length, want)
				}
				if i+1 < len(c.steps) && c.steps[i+1][1] == 0 {
					p.closed = at(step[0]).Add(p.length) // as soon as it can
				}
			}
		})
	}
}

// A new number of probes has a half-open state begin again. That is no failure of the service.
func TestNewProbesAreNoOpening(t *testing.T) {
	s := settings()
	s.OpenMax = time.Minute
	b := newBreaker(t, s, nil)
	open(t, b, t0)
	p := acquire(t, b, at(5), true)
	s.Probes++
	if err := b.Configure(s); err != nil {
		t.Fatal(err)
	}
	p.Release(Failure, 0) // of the probes before
	p = acquire(t, b, at(5), true)
	p.Release(Failure, 0)
	if b.pause.length != 2*s.OpenFor {
		t.Errorf("open for %v, want %v: it is the second time", b.pause.length, 2*s.OpenFor)
	}
}

func TestOpenTimeIsTheSameWhereItDoesNotGrow(t *testing.T) {
	s := settings()
	var p pause
	for range 100 {
		if p.begin(t0, &s, true, never); p.length != s.OpenFor {
			t.Fatalf("open for %v", p.length)
		}
	}
}

// Replicas that open at once do not probe at once, and none before the time that is set.
func TestReplicasAreNotInStep(t *testing.T) {
	s := settings()
	s.Jitter = .2
	seen := map[time.Duration]bool{}
	for range 50 {
		b := newBreaker(t, s, nil)
		open(t, b, t0)
		length := b.pause.length
		if length < s.OpenFor || length > s.openMax() {
			t.Fatalf("open for %v", length)
		}
		seen[length] = true
		acquire(t, b, t0.Add(length-time.Millisecond), false)
		acquire(t, b, t0.Add(length), true)
	}
	if len(seen) < 40 {
		t.Errorf("%d lengths of 50 replicas", len(seen))
	}
}

// ramping returns a breaker that closed at t0 with a ramp of ten seconds.
func ramping(t *testing.T) *Breaker {
	t.Helper()
	s := settings()
	s.Ramp, s.OpenFor = 10*time.Second, time.Second
	b := newBreaker(t, s, nil)
	b.random = never
	open(t, b, at(-1))
	for range s.Probes {
		p := acquire(t, b, t0, true)
		p.Release(Success, 0)
	}
	if b.State() != Closed {
		t.Fatalf("state is %v", b.State())
	}
	return b
}

// The share of calls that pass grows from a tenth to all of them, second by second, whatever chance
// does.
func TestCallsComeBackByAndBy(t *testing.T) {
	b := ramping(t)
	for second := range 12 {
		passed := 0
		for call := range 1000 {
			now := at(float64(second) + float64(call)/1000)
			p, retryAfter, ok := b.Acquire(now)
			if ok {
				passed++
				p.Release(Success, 0)
			} else if retryAfter <= 0 {
				t.Fatalf("refused, with retry after %v", retryAfter)
			}
		}
		want := min(100*second+50, 1000)
		if second == 0 {
			want = 100
		}
		if passed < want-2 || passed > want+2 {
			t.Errorf("in second %d %d calls of 1000 pass, want %d", second, passed, want)
		}
	}
	if b.ramp.on {
		t.Error("the ramp has not ended")
	}
}

func TestFirstCallOfRampPasses(t *testing.T) {
	b := ramping(t)
	acquire(t, b, t0, true)
	for range 9 {
		acquire(t, b, t0, false)
	}
	acquire(t, b, t0, true)
}

// What has begun is not held up by the ramp, and takes nothing of it.
func TestRampLetsPassWhatHasBegun(t *testing.T) {
	b := ramping(t)
	for range 100 {
		if _, _, ok := b.AcquireBegun(t0); !ok {
			t.Fatal("what has begun is held up")
		}
	}
	acquire(t, b, t0, true)
	acquire(t, b, t0, false)
	open(t, b, at(20))
	if _, _, ok := b.AcquireBegun(at(20)); ok {
		t.Error("an open breaker lets pass what has begun")
	}
}

// A service that fails within the ramp opens the breaker again, for longer.
func TestFailuresInRampOpen(t *testing.T) {
	b := ramping(t)
	b.set.OpenMax = 10 * time.Second
	for b.State() == Closed {
		call1(b, at(1), Failure, 0)
	}
	if b.pause.length != 2*time.Second {
		t.Errorf("open for %v, want 2s: it is the second time", b.pause.length)
	}
}

func TestRampAndTheClock(t *testing.T) {
	b := ramping(t)
	acquire(t, b, at(-1000), true)
	acquire(t, b, at(-1000), false)
	for range 5 {
		acquire(t, b, at(-990), true) // ten seconds after the clock was set back, and not a thousand
	}
	b = ramping(t)
	s := b.set
	s.Ramp = time.Second
	if err := b.Configure(s); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		acquire(t, b, at(0), b.ramp.credit == 900)
	}
	for range 5 {
		acquire(t, b, at(1), true) // the shorter ramp is over
	}
}

// Those that are refused come back spread over the ramp: neither all when the probes are out, nor all
// at its end.
func TestRetryAfterIsSpread(t *testing.T) {
	b := ramping(t)
	b.random = func() float64 { return .75 }
	acquire(t, b, t0, true)
	if _, got, ok := b.Acquire(t0); ok || got != 7500*time.Millisecond {
		t.Errorf("in the ramp: passes %v, retry after %v", ok, got)
	}
	b.random = never
	if _, got, ok := b.Acquire(at(.01)); ok || got != rampRetry {
		t.Errorf("in the ramp: passes %v, retry after %v", ok, got)
	}
	b = ramping(t)
	b.random = func() float64 { return .5 }
	open(t, b, at(30))
	if _, got, ok := b.Acquire(at(30.5)); ok || got != 5500*time.Millisecond {
		t.Errorf("while it is open: passes %v, retry after %v, want half a second and half the ramp", ok, got)
	}
}

// A probe's success that is taken back opens the breaker again, or counts in the closed state that it
// led to.
func TestRetractOfAProbe(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	open(t, b, t0)
	p := acquire(t, b, at(5), true)
	p.Release(Success, 0)
	p.Retract(at(6))
	if b.State() != Open {
		t.Fatalf("%v after the only probe has failed behind its head", b.State())
	}
	acquire(t, b, at(10.9), false)
	probes := [2]Permit{acquire(t, b, at(11), true), acquire(t, b, at(11), true)}
	for i := range probes {
		probes[i].Release(Success, 0)
	}
	for range 2 {
		probes[0].Retract(at(12))
	}
	if b.State() != Closed || b.window.sum != (tally{calls: 1, errors: 1}) {
		t.Fatalf("%v, counted %+v", b.State(), b.window.sum)
	}
	open(t, b, at(12))
	probes[1].Retract(at(13)) // of a half-open state that is over
	if acquire(t, b, at(17), true); b.State() != HalfOpen {
		t.Errorf("%v", b.State())
	}
}

// A call that failed and was slow counts in both shares, which are taken of the same calls: either
// opens the breaker.
func TestErrorsAndSlowCallsTogether(t *testing.T) {
	for _, c := range []struct {
		name                     string
		both, failed, slow, fine int
		want                     State
	}{
		{"neither share is reached", 1, 1, 1, 7, Closed},
		{"both in one call count twice", 2, 0, 0, 8, Closed},
		{"errors", 2, 2, 0, 6, Open},
		{"errors, some of them slow", 4, 0, 0, 6, Open},
		{"slow ones", 0, 0, 6, 4, Open},
		{"slow ones, some of them failed", 3, 0, 3, 4, Open},
		{"just below both", 3, 0, 2, 5, Closed},
	} {
		s := settings()
		s.Errors, s.Slow, s.MinRequests = .4, &Slow{Over: time.Second, Share: .6}, 10
		b := newBreaker(t, s, nil)
		for range c.fine {
			call1(b, t0, Success, 0)
		}
		for range c.slow {
			call1(b, t0, Success, 2*time.Second)
		}
		for range c.failed {
			call1(b, t0, Failure, 0)
		}
		for range c.both {
			call1(b, t0, Failure, 2*time.Second)
		}
		if b.State() != c.want {
			t.Errorf("%s: %v", c.name, b.State())
		}
	}
}

// What the service rejects teaches nothing; but where it has nothing else to say for a whole window,
// the breaker closes all the same.
func TestRejectedCalls(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	for range 100 {
		call1(b, t0, Rejected, time.Hour)
	}
	if b.State() != Closed || b.window.sum != (tally{}) {
		t.Fatalf("%v, counted %+v", b.State(), b.window.sum)
	}
	open(t, b, t0)
	for _, c := range []struct {
		at   float64
		want State
	}{{5, HalfOpen}, {6, HalfOpen}, {7, HalfOpen}, {14.9, HalfOpen}, {15, HalfOpen}, {15.1, Closed}} {
		if !call1(b, at(c.at), Rejected, 0) || b.State() != c.want {
			t.Errorf("at %v s: %v, want %v", c.at, b.State(), c.want)
		}
	}
}

// Ready takes nothing, and while the service is probed it promises no more than there are probes.
func TestReady(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	b.random = never
	ready := func(seconds float64, want bool, wantAfter time.Duration) {
		t.Helper()
		if ok, after := b.Ready(at(seconds)); ok != want || after != wantAfter {
			t.Fatalf("at %v s: ready %v, retry after %v; want %v, %v", seconds, ok, after, want, wantAfter)
		}
	}
	for range 100 {
		ready(0, true, 0)
	}
	open(t, b, t0)
	ready(1, false, 4*time.Second)
	ready(5, true, 0)
	ready(5, true, 0)
	ready(5.5, false, time.Second)
	if b.State() != Open {
		t.Fatalf("to ask has changed the state: %v", b.State())
	}
	ready(6, true, 0) // the first ones have come by now, or do not come
	p := acquire(t, b, at(6), true)
	ready(6, false, time.Second) // one is promised, one is under way
	p.Release(Ignored, 0)
	ready(6, true, 0)
	ready(3, true, 0) // the clock was set back
	for range 2 {
		p := acquire(t, b, at(7), true)
		p.Release(Success, 0)
	}
	ready(7, true, 0)

	b = ramping(t)
	ready(0, true, 0)
	ready(0, false, rampRetry) // the ramp bounds what is begun
	acquire(t, b, t0, false)   // together with what is not
	ready(10, true, 0)
}
