package overload_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/overload"
)

const ms = time.Millisecond

// one is a limiter of one call, with a queue.
func one(queue int, wait time.Duration) *overload.Limiter {
	return overload.New(overload.Settings{Concurrency: 1, QueueSize: queue, QueueWait: wait}, start, 1)
}

func acquire(t *testing.T, l *overload.Limiter, now time.Time, r overload.Request,
	want overload.Decision) *overload.Waiter {
	t.Helper()
	w := new(overload.Waiter)
	if d, cause := l.Acquire(now, r, w); d != want {
		t.Fatalf("Acquire(%+v) = %v %v, want %v", r, d, cause, want)
	}
	return w
}

// verdict is the waiter's, or none.
func verdict(w *overload.Waiter) overload.Verdict {
	select {
	case v := <-w.Verdict():
		return v
	default:
		return overload.Verdict{}
	}
}

func class(c overload.Class) overload.Request { return overload.Request{Class: c} }

var done = overload.Sample{Outcome: overload.Success}

func TestServesTheQueueByClassThenRankThenArrival(t *testing.T) {
	l := one(20, 100*ms)
	first := acquire(t, l, start, class(overload.Normal), overload.Admitted)
	in := []overload.Request{
		{Class: overload.Low}, {Class: overload.Normal, Demoted: true}, {Class: overload.Normal},
		{Class: overload.Normal}, {Class: overload.Critical, Demoted: true}, {Class: overload.Critical},
		{Class: overload.Low, Reserved: true},
		{Class: overload.High},
	}
	want := []int{5, 4, 7, 2, 3, 1, 6, 0}
	waiters := make([]*overload.Waiter, len(in))
	for i, r := range in {
		waiters[i] = acquire(t, l, start, r, overload.Queued)
	}
	p := first.Permit()
	for place, i := range want {
		l.Release(start.Add(time.Duration(place+1)*ms), p, done)
		if v := verdict(waiters[i]); v.Decision != overload.Admitted {
			t.Fatalf("place %d: request %d has the verdict %+v", place, i, v)
		}
		p = waiters[i].Permit()
	}
}

func TestAMoreImportantRequestTakesThePlaceOfALessImportantOne(t *testing.T) {
	l := one(2, 100*ms)
	acquire(t, l, start, class(overload.Normal), overload.Admitted)
	old := acquire(t, l, start, class(overload.Low), overload.Queued)
	young := acquire(t, l, start, class(overload.Low), overload.Queued)
	acquire(t, l, start, class(overload.Low), overload.Shed)
	acquire(t, l, start, class(overload.Critical), overload.Queued)
	if v := verdict(young); v != (overload.Verdict{Decision: overload.Shed, Cause: overload.Displaced}) {
		t.Errorf("the young one: %+v", v)
	}
	acquire(t, l, start, class(overload.Normal), overload.Queued)
	if v := verdict(old); v.Cause != overload.Displaced {
		t.Errorf("the old one: %+v", v)
	}
	acquire(t, l, start, class(overload.Normal), overload.Shed)
}

// TestFairnessByPrincipal: of two that wait, the one whose principal had less goes first.
func TestFairnessByPrincipal(t *testing.T) {
	l := one(20, 100*ms)
	now := start
	for i := range 300 {
		r := overload.Request{Class: overload.Normal, Principal: uint64(i) * 0x9e3779b97f4a7c15}
		if i%3 == 0 {
			r.Principal = 77 << 33
		}
		w := acquire(t, l, now, r, overload.Admitted)
		now = now.Add(ms)
		l.Release(now, w.Permit(), done)
	}
	busy := acquire(t, l, now, class(overload.Normal), overload.Admitted)
	greedy := acquire(t, l, now, overload.Request{Class: overload.Normal, Principal: 77 << 33}, overload.Queued)
	modest := acquire(t, l, now, overload.Request{Class: overload.Normal, Principal: 78 << 33}, overload.Queued)
	p := busy.Permit()
	for i, w := range []*overload.Waiter{modest, greedy} {
		l.Release(now, p, done)
		if v := verdict(w); v.Decision != overload.Admitted {
			t.Fatalf("place %d: %+v", i, v)
		}
		p = w.Permit()
	}
}

func TestWhatIsExemptNeverWaits(t *testing.T) {
	l := one(1, 100*ms)
	acquire(t, l, start, class(overload.Critical), overload.Admitted)
	acquire(t, l, start, class(overload.Critical), overload.Queued)
	for range 10 {
		acquire(t, l, start, overload.Request{Class: overload.Low, Exempt: true, Deadline: start}, overload.Admitted)
	}
	if s := l.Snapshot(); s.InFlight != 11 || s.Exempt != 10 {
		t.Errorf("%+v", s)
	}
}

func TestWhatIsReservedWaitsAndIsAdmittedAtLast(t *testing.T) {
	l := one(1, 100*ms)
	acquire(t, l, start, class(overload.Critical), overload.Admitted)
	low := acquire(t, l, start, class(overload.Low), overload.Queued)
	w := acquire(t, l, start, overload.Request{Class: overload.Low, Reserved: true}, overload.Queued)
	if v := verdict(low); v.Cause != overload.Displaced {
		t.Errorf("the low one: %+v", v)
	}
	// The reserved one keeps its place, and there is none for another.
	acquire(t, l, start, class(overload.Critical), overload.Shed)
	acquire(t, l, start, overload.Request{Class: overload.Low, Reserved: true}, overload.Admitted)
	if next := l.Tick(start.Add(99 * ms)); !next.Equal(w.Deadline()) {
		t.Errorf("next is %v, not %v", next, w.Deadline())
	}
	if v := verdict(w); v.Decision != 0 {
		t.Errorf("before its time: %+v", v)
	}
	l.Tick(start.Add(100 * ms))
	if v := verdict(w); v.Decision != overload.Admitted {
		t.Errorf("at its time: %+v", v)
	}
}

func TestEndsAWaitAtItsDeadline(t *testing.T) {
	l := one(5, 100*ms)
	acquire(t, l, start, class(overload.Normal), overload.Admitted)
	hurried := overload.Request{Class: overload.Normal, Deadline: start.Add(30 * ms)}
	soon := acquire(t, l, start, hurried, overload.Queued)
	late := acquire(t, l, start, class(overload.Normal), overload.Queued)
	if next := l.Tick(start); !next.Equal(start.Add(30 * ms)) {
		t.Errorf("next is %v", next)
	}
	if next := l.Tick(start.Add(30 * ms)); !next.Equal(start.Add(100 * ms)) {
		t.Errorf("next is %v", next)
	}
	if v := verdict(soon); v.Cause != overload.WaitedInVain {
		t.Errorf("the first: %+v", v)
	}
	if next := l.Tick(start.Add(100 * ms)); !next.IsZero() {
		t.Errorf("next is %v", next)
	}
	if v := verdict(late); v.Cause != overload.WaitedInVain {
		t.Errorf("the second: %+v", v)
	}
}

func TestStartsNothingThatCannotFinish(t *testing.T) {
	l := one(5, 100*ms)
	w := acquire(t, l, start, class(overload.Normal), overload.Admitted)
	l.Release(start.Add(20*ms), w.Permit(), done)
	now := start.Add(30 * ms)
	r := overload.Request{Class: overload.Critical, Deadline: now.Add(19 * ms)}
	if d, cause := l.Acquire(now, r, w); d != overload.Shed || cause != overload.DeadlineShort {
		t.Errorf("%v %v", d, cause)
	}
	r.Deadline = now.Add(20 * ms)
	w = acquire(t, l, now, r, overload.Admitted)
	// One that waits is given up when too little time is left for the fastest call.
	r.Deadline = now.Add(60 * ms)
	waiter := acquire(t, l, now, r, overload.Queued)
	if got := waiter.Deadline().Sub(now); got != 40*ms {
		t.Errorf("waits for %v", got)
	}
	l.Release(now.Add(41*ms), w.Permit(), done)
	if v := verdict(waiter); v.Cause != overload.WaitedInVain {
		t.Errorf("%+v", v)
	}
}

func TestWithoutAQueueNobodyWaits(t *testing.T) {
	for _, s := range []overload.Settings{{Concurrency: 1, QueueSize: 5}, {Concurrency: 1, QueueWait: ms}} {
		l := overload.New(s, start, 1)
		acquire(t, l, start, class(overload.Normal), overload.Admitted)
		acquire(t, l, start, class(overload.Critical), overload.Shed)
		acquire(t, l, start, overload.Request{Reserved: true}, overload.Admitted)
	}
}

func TestLeave(t *testing.T) {
	l := one(5, 100*ms)
	w := acquire(t, l, start, class(overload.Normal), overload.Admitted)
	gone := acquire(t, l, start, class(overload.Normal), overload.Queued)
	lucky := acquire(t, l, start, class(overload.Normal), overload.Queued)
	if l.Leave(start, gone) {
		t.Error("admitted though it waits")
	}
	l.Release(start.Add(ms), w.Permit(), done)
	if !l.Leave(start.Add(ms), lucky) {
		t.Error("not admitted though a permit was free")
	}
	if v := verdict(lucky); v.Decision != 0 {
		t.Errorf("a verdict after Leave: %+v", v)
	}
	l.Release(start.Add(ms), lucky.Permit(), done)
	if s := l.Snapshot(); s.InFlight != 0 || s.Queued() != 0 {
		t.Errorf("left over: %+v", s)
	}
}

func TestStreamsGiveTheirPermitBackAtTheHead(t *testing.T) {
	l := overload.New(overload.Settings{Concurrency: 1, Streams: 2}, start, 1)
	var open []overload.Permit
	for range 2 {
		w := acquire(t, l, start, class(overload.Normal), overload.Admitted)
		p, ok := l.Head(start, w.Permit(), done)
		if !ok {
			t.Fatal("refused")
		}
		open = append(open, p)
	}
	w := acquire(t, l, start, class(overload.High), overload.Admitted)
	if p, ok := l.Head(start, w.Permit(), done); ok || p.Valid() {
		t.Error("a third stream of two")
	}
	s := l.Snapshot()
	if s.InFlight != 0 || s.Streams != 2 || s.Shed[overload.High][overload.TooManyStreams] != 1 {
		t.Errorf("%+v", s)
	}
	for _, p := range open {
		l.Release(start, p, done)
	}
	if s := l.Snapshot(); s.Streams != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

func TestConfigureKeepsWhatIsUnderWay(t *testing.T) {
	l := one(5, 100*ms)
	acquire(t, l, start, class(overload.Normal), overload.Admitted)
	w := acquire(t, l, start, class(overload.Normal), overload.Queued)
	more := acquire(t, l, start, class(overload.Low), overload.Queued)
	l.Configure(overload.Settings{Concurrency: 2, QueueSize: 0, QueueWait: 100 * ms}, start)
	if v := verdict(w); v.Decision != overload.Admitted {
		t.Errorf("with more room: %+v", v)
	}
	if v := verdict(more); v.Cause != overload.Displaced {
		t.Errorf("without a queue: %+v", v)
	}
	l.Configure(defaults, start)
	if s := l.Snapshot(); s.Limit < defaults.Min || s.InFlight < 1 {
		t.Errorf("adaptive: %+v", s)
	}
}

func TestClockThatStepsBackStandsStill(t *testing.T) {
	l := one(5, 100*ms)
	w := acquire(t, l, start.Add(time.Hour), class(overload.Normal), overload.Admitted)
	waiter := acquire(t, l, start, class(overload.Normal), overload.Queued)
	l.Tick(start.Add(-time.Hour))
	l.Release(start.Add(-time.Hour), w.Permit(), done)
	if v := verdict(waiter); v.Decision != overload.Admitted {
		t.Errorf("%+v", v)
	}
	if s := l.Snapshot(); s.Latency < 0 || s.Rate < 0 {
		t.Errorf("%+v", s)
	}
}

func TestOnVerdictIsCalledWithoutTheLock(t *testing.T) {
	l := one(5, 100*ms)
	w := acquire(t, l, start, class(overload.Normal), overload.Admitted)
	var got []overload.Decision
	waiter := &overload.Waiter{OnVerdict: func(w *overload.Waiter, v overload.Verdict) {
		got = append(got, v.Decision)
		l.Release(start, w.Permit(), done) // it would wait for ever
	}}
	if d, _ := l.Acquire(start, class(overload.Normal), waiter); d != overload.Queued {
		t.Fatal(d)
	}
	l.Release(start, w.Permit(), done)
	if len(got) != 1 || got[0] != overload.Admitted || l.Snapshot().InFlight != 0 {
		t.Errorf("%v, %+v", got, l.Snapshot())
	}
}

func TestRetryAfterGrowsWithWhatWasShed(t *testing.T) {
	l := one(5, 100*ms)
	now := start
	for range 50 { // ten calls a second
		w := acquire(t, l, now, class(overload.Normal), overload.Admitted)
		now = now.Add(100 * ms)
		l.Release(now, w.Permit(), done)
	}
	acquire(t, l, now, class(overload.Normal), overload.Admitted)
	few := l.RetryAfter(now, overload.Normal)
	for range 55 {
		l.Acquire(now, class(overload.Low), new(overload.Waiter))
	}
	many := l.RetryAfter(now, overload.Low)
	if few < 0 || many < 4*time.Second || many > 30*time.Second {
		t.Errorf("%v with few, %v with many shed", few, many)
	}
}

// TestManyAtOnce has goroutines come, wait, leave and end all the time; the race detector watches.
func TestManyAtOnce(t *testing.T) {
	l := overload.New(overload.Settings{Concurrency: 3, QueueSize: 4, QueueWait: ms}, start, 1)
	var inside, most atomic.Int64
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			w := new(overload.Waiter)
			for range 2000 {
				now := time.Now()
				r := overload.Request{Class: overload.Class(random.IntN(4)), Principal: random.Uint64N(5)}
				decision, _ := l.Acquire(now, r, w)
				if decision == overload.Queued {
					if random.IntN(3) > 0 {
						l.Tick(w.Deadline())
						decision = (<-w.Verdict()).Decision
					} else if l.Leave(now, w) {
						decision = overload.Admitted
					}
				}
				if decision != overload.Admitted {
					continue
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				inside.Add(-1)
				l.Release(time.Now(), w.Permit(), done)
			}
		})
	}
	group.Wait()
	if s := l.Snapshot(); s.InFlight != 0 || s.Queued() != 0 || most.Load() > 3 {
		t.Errorf("%d at once, left over: %+v", most.Load(), s)
	}
}

func TestAdmissionAllocatesNothing(t *testing.T) {
	l := overload.New(defaults, start, 1)
	var w overload.Waiter
	now := start
	allocs := testing.AllocsPerRun(10000, func() {
		now = now.Add(ms)
		l.Acquire(now, overload.Request{Class: overload.Normal, Principal: uint64(now.UnixNano())}, &w)
		l.Release(now, w.Permit(), done)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestWaitingAllocatesNothing: a waiter that was used before costs nothing either.
func TestWaitingAllocatesNothing(t *testing.T) {
	l := one(5, 100*ms)
	var a, b overload.Waiter
	cycle := func() {
		l.Acquire(start, class(overload.Normal), &a)
		l.Acquire(start, class(overload.Normal), &b)
		l.Release(start, a.Permit(), done)
		<-b.Verdict()
		l.Release(start, b.Permit(), done)
	}
	cycle()
	if allocs := testing.AllocsPerRun(1000, cycle); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestSettings(t *testing.T) {
	good := []overload.Settings{defaults, {Concurrency: 1}, {Adaptive: true, Min: 1, Max: 1}}
	for _, s := range good {
		if err := s.Check(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	bad := []overload.Settings{
		{}, {Concurrency: overload.LimitMax + 1}, {Adaptive: true, Max: 1}, {Adaptive: true, Min: 2, Max: 1},
		{Adaptive: true, Min: 1, Max: overload.LimitMax + 1}, {Concurrency: 1, QueueSize: -1},
		{Concurrency: 1, QueueSize: overload.LimitMax + 1}, {Concurrency: 1, QueueWait: -1},
		{Concurrency: 1, Streams: -1}, {Concurrency: 1, Gateways: -1},
	}
	for _, s := range bad {
		if s.Check() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}

// TestCriticalIsLetInAtTheEnd: a critical request that fits and has waited in vain goes beyond an adaptive limit by a
// few calls, and beyond the highest one, a fixed one or that of one gateway of many never. Another request is shed, and
// so are critical ones that are too many.
func TestCriticalIsLetInAtTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		set  overload.Settings
		let  int
		what overload.Class
		come int
	}{
		"adaptive": {overload.Settings{Adaptive: true, Min: 4, Max: 1000, QueueSize: 20, QueueWait: 100 * ms}, 2,
			overload.Critical, 8},
		"too many": {overload.Settings{Adaptive: true, Min: 4, Max: 1000, QueueSize: 20, QueueWait: 100 * ms}, 0,
			overload.Critical, 2000},
		"many gateways": {overload.Settings{Adaptive: true, Min: 4, Max: 1000, QueueSize: 20, QueueWait: 100 * ms,
			Gateways: 3}, 0, overload.Critical, 8},
		"normal": {overload.Settings{Adaptive: true, Min: 4, Max: 1000, QueueSize: 20, QueueWait: 100 * ms}, 0,
			overload.Normal, 8},
		"highest": {overload.Settings{Adaptive: true, Min: 4, Max: 9, QueueSize: 20, QueueWait: 100 * ms}, 1,
			overload.Critical, 8},
		"fixed": {overload.Settings{Concurrency: 16, QueueSize: 20, QueueWait: 100 * ms}, 0, overload.Critical, 8},
	} {
		t.Run(name, func(t *testing.T) {
			l, now := overload.New(c.set, start, 1), start
			for range 400 { // a call takes 10 ms
				w := acquire(t, l, now, class(overload.Normal), overload.Admitted)
				now = now.Add(10 * ms)
				l.Release(now, w.Permit(), done)
			}
			full := l.Snapshot().Limit
			for l.Snapshot().InFlight < full {
				acquire(t, l, now, class(overload.Normal), overload.Admitted)
			}
			before := l.Snapshot().InFlight
			var waiters []*overload.Waiter
			for range c.come {
				w := new(overload.Waiter)
				if d, _ := l.Acquire(now, class(c.what), w); d == overload.Queued {
					waiters = append(waiters, w)
				}
			}
			l.Tick(now.Add(101 * ms))
			if let := l.Snapshot().InFlight - before; let != min(c.let, len(waiters)) || len(waiters) == 0 {
				t.Errorf("of %d waiters %d were let in beyond %d, want %d", len(waiters), let, full, c.let)
			}
		})
	}
}
