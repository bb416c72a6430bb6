package breaker

import (
	"strings"
	"sync"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func settings() Settings {
	return Settings{Errors: 0.5, Window: 10 * time.Second, MinRequests: 4, OpenFor: 5 * time.Second, Probes: 2,
		Lease: 3 * time.Second}
}

func newBreaker(t *testing.T, s Settings, onChange func(Change)) *Breaker {
	t.Helper()
	b, err := New(s, onChange)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// call1 makes one call that takes so long, and reports whether it was let through.
func call1(b *Breaker, now time.Time, r Result, took time.Duration) bool {
	p, _, ok := b.Acquire(now)
	p.Release(r, took)
	return ok
}

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// TestSequences runs tables of calls: when one begins, its result, and the state of the breaker
// after it.
func TestSequences(t *testing.T) {
	type step struct {
		at     float64 // seconds
		r      Result
		took   float64
		passes bool
		after  State
	}
	slow := settings()
	slow.Slow = &Slow{Over: time.Second, Share: 0.8}
	slow.MinRequests = 5
	for _, c := range []struct {
		name  string
		set   Settings
		steps []step
	}{
		{"opens at the share, not below the volume", settings(), []step{
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{0, Failure, 0, true, Open}, {0, Success, 0, false, Open},
		}},
		{"just below the share stays closed", settings(), []step{
			{0, Success, 0, true, Closed}, {0, Success, 0, true, Closed}, {0, Success, 0, true, Closed},
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{0, Failure, 0, true, Open},
		}},
		{"the volume can be reached by a success", settings(), []step{
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{0, Success, 0, true, Open},
		}},
		{"an ignored call is no volume and no error", settings(), []step{
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{0, Ignored, 0, true, Closed}, {0, Ignored, 0, true, Closed}, {0, Failure, 0, true, Open},
		}},
		{"errors leave the window", settings(), []step{
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{10, Failure, 0, true, Closed}, {12, Failure, 0, true, Closed},
			{13, Failure, 0, true, Closed}, {14, Failure, 0, true, Open},
		}},
		{"a pause longer than the window empties it", settings(), []step{
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{1000, Failure, 0, true, Closed},
		}},
		{"half-open: all probes succeed and close it", settings(), []step{
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{0, Failure, 0, true, Open},
			{4.999, Success, 0, false, Open}, {5, Success, 0, true, HalfOpen}, {5, Success, 0, true, Closed},
			{5, Failure, 0, true, Closed}, {5, Failure, 0, true, Closed}, {5, Failure, 0, true, Closed},
			{5, Failure, 0, true, Open},
		}},
		{"half-open: one probe fails and opens it for as long again", settings(), []step{
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{0, Failure, 0, true, Open},
			{5, Success, 0, true, HalfOpen}, {5, Failure, 1, true, Open}, {10.9, Success, 0, false, Open},
			{11, Success, 0, true, HalfOpen},
		}},
		{"half-open: ignored probes give their places back", settings(), []step{
			{0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed}, {0, Failure, 0, true, Closed},
			{0, Failure, 0, true, Open},
			{5, Ignored, 0, true, HalfOpen}, {5, Ignored, 0, true, HalfOpen}, {5, Ignored, 0, true, HalfOpen},
			{5, Ignored, 0, true, HalfOpen},
			{5, Success, 0, true, HalfOpen}, {5, Ignored, 0, true, HalfOpen}, {5, Success, 0, true, Closed},
		}},
		{"slow calls open it by their own share", slow, []step{
			{0, Success, 1.5, true, Closed}, {0, Success, 1, true, Closed}, {0, Success, 2, true, Closed},
			{0, Success, 2, true, Closed}, {0, Success, 2, true, Open},
			{7, Success, 2, true, HalfOpen}, {9, Success, 2, true, Open}, {16, Success, 2, true, HalfOpen},
			{18, Success, 1, true, Closed},
		}},
		{"slow calls do not count where they are not looked at", settings(), []step{
			{0, Success, 60, true, Closed}, {0, Success, 60, true, Closed}, {0, Success, 60, true, Closed},
			{0, Success, 60, true, Closed}, {0, Success, 60, true, Closed},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBreaker(t, c.set, nil)
			for i, s := range c.steps {
				passes := call1(b, at(s.at), s.r, time.Duration(s.took*float64(time.Second)))
				if passes != s.passes || b.State() != s.after {
					t.Fatalf("step %d: passes %v, then %v; want %v, %v", i, passes, b.State(), s.passes, s.after)
				}
			}
		})
	}
}

// open opens a breaker with errors at that time.
func open(t *testing.T, b *Breaker, now time.Time) {
	t.Helper()
	for range b.set.MinRequests {
		call1(b, now, Failure, 0)
	}
	if b.State() != Open {
		t.Fatalf("state is %v after %d errors", b.State(), b.set.MinRequests)
	}
}

func acquire(t *testing.T, b *Breaker, now time.Time, want bool) Permit {
	t.Helper()
	p, retryAfter, ok := b.Acquire(now)
	if ok != want || ok != (retryAfter == 0) {
		t.Fatalf("at %v: acquired %v, retry after %v; want %v", now.Sub(t0), ok, retryAfter, want)
	}
	return p
}

func TestProbesAreLimitedAndLeased(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	open(t, b, t0)
	lost := acquire(t, b, at(5), true)
	acquire(t, b, at(6), true) // never comes back at all
	acquire(t, b, at(7.999), false)
	third := acquire(t, b, at(8), true) // the first lease, of 3 s, is over
	acquire(t, b, at(8.5), false)
	lost.Release(Failure, 3400*time.Millisecond) // too late: it does not open the breaker
	if b.State() != HalfOpen {
		t.Fatalf("a result after the lease was counted: %v", b.State())
	}
	third.Release(Success, time.Second)
	fourth := acquire(t, b, at(9), true) // the second lease is over
	fourth.Release(Success, 0)
	if b.State() != Closed {
		t.Fatalf("state is %v", b.State())
	}
}

// TestLostProbesNeverLockOut is the classic fault of gobreaker: all probes lost.
func TestLostProbesNeverLockOut(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	open(t, b, t0)
	now := at(5)
	for range 100 {
		acquire(t, b, now, true)
		acquire(t, b, now, true)
		acquire(t, b, now, false)
		now = now.Add(b.set.Lease)
	}
}

func TestLateResultsAreNotCounted(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	var old []Permit
	for range 8 {
		old = append(old, acquire(t, b, t0, true))
	}
	open(t, b, t0)
	old[0].Release(Failure, 0)
	probe := acquire(t, b, at(5), true)
	old[1].Release(Failure, 5*time.Second) // of the closed state before: not a probe's result
	old[2].Release(Success, 5*time.Second)
	if b.State() != HalfOpen {
		t.Fatalf("a result of the closed state was counted in the half-open one: %v", b.State())
	}
	probe.Release(Success, 0)
	late := acquire(t, b, at(5), true)
	call1(b, at(5), Success, 0) // no place: refused
	late.Release(Success, 0)
	if b.State() != Closed {
		t.Fatalf("state is %v", b.State())
	}
	for i := 3; i < 8; i++ {
		old[i].Release(Failure, 5*time.Second)
	}
	if b.State() != Closed || b.window.sum.calls != 0 {
		t.Fatalf("results of the first closed state were counted in the second: %v, %+v", b.State(), b.window.sum)
	}
}

func TestReleaseTwice(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	p := acquire(t, b, t0, true)
	for range 10 {
		p.Release(Failure, 0)
	}
	if b.window.sum.calls != 1 {
		t.Errorf("one permit was counted %d times", b.window.sum.calls)
	}
	var zero Permit
	zero.Release(Failure, 0)
	open(t, b, t0)
	p = acquire(t, b, at(5), true)
	p.Release(Success, 0)
	p.Release(Success, 0)
	if b.State() != HalfOpen {
		t.Errorf("one probe was counted twice: %v", b.State())
	}
}

func TestRetryAfter(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	open(t, b, t0)
	for seconds, want := range map[float64]time.Duration{0: 5 * time.Second, 1.5: 3500 * time.Millisecond,
		4.75: 250 * time.Millisecond} {
		if _, got, ok := b.Acquire(at(seconds)); ok || got != want {
			t.Errorf("after %v s: passes %v, retry after %v, want %v", seconds, ok, got, want)
		}
	}
	acquire(t, b, at(5), true)
	acquire(t, b, at(5), true)
	if _, got, ok := b.Acquire(at(5)); ok || got != probeRetry {
		t.Errorf("while the probes are out: passes %v, retry after %v", ok, got)
	}
}

func TestClockSetBack(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	open(t, b, at(1000))
	acquire(t, b, at(0), false)
	acquire(t, b, at(5), true) // not only 1000 s later
	acquire(t, b, at(5), true)
	acquire(t, b, at(-100), false)
	acquire(t, b, at(-97), true)

	b = newBreaker(t, settings(), nil)
	for range 3 {
		call1(b, at(1000), Failure, 0)
	}
	call1(b, at(0), Failure, 0)
	if b.State() != Closed || b.window.sum.calls != 1 {
		t.Errorf("the window did not begin again: %v, %+v", b.State(), b.window.sum)
	}
}

func TestChangesAreReportedInOrderOutsideOfTheLock(t *testing.T) {
	var b *Breaker
	var seen []string
	b = newBreaker(t, settings(), func(c Change) {
		_ = b.State() // would deadlock under the lock
		seen = append(seen, c.From.String()+">"+c.To.String())
		if c.From == Closed && (c.Calls != 4 || c.Errors != 4 || c.Slow != 0) {
			t.Errorf("opened by %+v, want 4 errors of 4 calls", c)
		}
	})
	open(t, b, t0)
	call1(b, at(5), Failure, 0)
	call1(b, at(10), Success, 0)
	call1(b, at(10), Success, 0)
	want := "closed>open open>half-open half-open>open open>half-open half-open>closed"
	if got := strings.Join(seen, " "); got != want {
		t.Errorf("changes %s\nwant    %s", got, want)
	}
}

func TestManyAtOnce(t *testing.T) {
	var mu sync.Mutex
	last := Closed
	b := newBreaker(t, settings(), func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		if c.From != last {
			t.Errorf("change from %v reported after one to %v", c.From, last)
		}
		last = c.To
	})
	var all sync.WaitGroup
	for w := range 32 {
		all.Go(func() {
			for i := range 500 {
				p, _, ok := b.Acquire(at(float64(i)))
				if ok && i%7 != 0 {
					p.Release(Result(1+(w+i/50)%2), 0)
				}
			}
		})
	}
	all.Wait()
	if b.State() != last {
		t.Errorf("state is %v, the last report said %v", b.State(), last)
	}
}

func TestConfigure(t *testing.T) {
	b := newBreaker(t, settings(), nil)
	s := settings()
	s.OpenFor, s.Probes = time.Second, 1
	open(t, b, t0)
	if err := b.Configure(s); err != nil {
		t.Fatal(err)
	}
	acquire(t, b, at(0.5), false) // stays open
	p := acquire(t, b, at(1.5), true)
	acquire(t, b, at(1.5), false)
	s.Probes = 3
	if err := b.Configure(s); err != nil {
		t.Fatal(err)
	}
	p.Release(Failure, 0) // of the probes before
	for range 3 {
		p := acquire(t, b, at(1.5), true)
		p.Release(Success, 0)
	}
	if b.State() != Closed {
		t.Fatalf("state is %v", b.State())
	}
	call1(b, at(2), Failure, 0)
	s.MinRequests = 2
	if err := b.Configure(s); err != nil {
		t.Fatal(err)
	}
	call1(b, at(2), Failure, 0) // together with the one before
	if b.State() != Open {
		t.Fatalf("the window was not kept: %v", b.State())
	}
	if err := b.Configure(Settings{}); err == nil || b.set != s {
		t.Errorf("faulty settings: error %v, now %+v", err, b.set)
	}
}

func TestCheckReportsEverything(t *testing.T) {
	_, err := New(Settings{Errors: 1.5, Slow: &Slow{Over: -1, Share: 0}}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"errors is 1.5", "slow.over", "slow.share", "window", "minRequests", "openFor",
		"probes", "lease"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%q is not in %q", key, err)
		}
	}
}

func TestSharesAreNotOffByRounding(t *testing.T) {
	for percent := 1; percent <= 100; percent++ {
		s := settings()
		s.Errors, s.MinRequests = float64(percent)/100, 100
		b := newBreaker(t, s, nil)
		for i := range 100 {
			r := Success
			if i >= 100-percent {
				r = Failure
			}
			call1(b, t0, r, 0)
		}
		if b.State() != Open {
			t.Errorf("%d%%: %d errors of 100 do not open it", percent, percent)
		}
	}
}

// A success that is retracted is a failure: once, and in the closed state that counted it.
func TestRetract(t *testing.T) {
	now := time.Now()
	b := newBreaker(t, settings(), nil)
	var permits [5]Permit
	for i := range permits {
		permits[i], _, _ = b.Acquire(now)
		permits[i].Retract(now) // has taught nothing yet
	}
	for i := range permits[:3] {
		permits[i].Release(Success, 0)
	}
	permits[3].Release(Failure, 0)
	permits[4].Release(Ignored, 0)
	for range 2 {
		permits[3].Retract(now) // is one already
		permits[4].Retract(now)
	}
	if b.window.sum != (tally{calls: 4, errors: 1}) {
		t.Fatalf("counted %+v", b.window.sum)
	}
	late := permits[1]
	for range 2 {
		permits[0].Retract(now)
		permits[0].Release(Failure, 0)
	}
	if b.State() != Open { // 2 of 4
		t.Fatalf("%v, counted %+v", b.State(), b.window.sum)
	}
	late.Retract(now)
	now = now.Add(settings().OpenFor)
	for range settings().Probes {
		p, _, ok := b.Acquire(now)
		if !ok {
			t.Fatal("a probe is refused")
		}
		p.Release(Success, 0)
	}
	permits[2].Retract(now)
	if b.State() != Closed || b.window.sum != (tally{}) {
		t.Errorf("what an earlier state counted is retracted in this one: %v, %+v", b.State(), b.window.sum)
	}
	new(Permit).Retract(now)
}
