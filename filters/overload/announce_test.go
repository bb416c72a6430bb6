package overload_test

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/overload"
)

// announce tells of a request, and wants it to be expected or shed for a cause.
func announce(t *testing.T, l *overload.Limiter, now time.Time, r overload.Request,
	want overload.Cause) overload.Announcement {
	t.Helper()
	a, cause := l.Announce(now, r)
	if cause != want || a.Valid() != (want == overload.NoCause) {
		t.Fatalf("Announce(%+v) = %v %v, want %v", r, a, cause, want)
	}
	return a
}

// busy returns a limiter of some calls that has shed somebody, and has so many in flight.
func busy(t *testing.T, concurrency, inFlight, queue int, wait time.Duration) (*overload.Limiter, []overload.Permit) {
	t.Helper()
	l := overload.New(overload.Settings{Concurrency: concurrency, QueueSize: queue, QueueWait: wait}, start, 1)
	var permits []overload.Permit
	for range concurrency {
		permits = append(permits, acquire(t, l, start, class(overload.Normal), overload.Admitted).Permit())
	}
	var waiters []*overload.Waiter
	for range queue {
		waiters = append(waiters, acquire(t, l, start, class(overload.Normal), overload.Queued))
	}
	acquire(t, l, start, class(overload.Normal), overload.Shed)
	for _, w := range waiters {
		l.Leave(start, w)
	}
	for _, p := range permits[inFlight:] {
		l.Release(start, p, overload.Sample{})
	}
	return l, permits[:inFlight]
}

// TestAnnouncesNothingWhileItShedsNobody: a limiter that has shed nobody of late counts on nobody.
func TestAnnouncesNothingWhileItShedsNobody(t *testing.T) {
	l := one(0, 0)
	for range 100 {
		if a, cause := l.Announce(start, class(overload.Low)); a.Valid() || cause != overload.NoCause {
			t.Fatalf("%v %v", a, cause)
		}
	}
	first := acquire(t, l, start, class(overload.Low), overload.Admitted)
	acquire(t, l, start, class(overload.Low), overload.Shed)
	if !l.Busy(start) {
		t.Error("it has just shed somebody")
	}
	announce(t, l, start, class(overload.Low), overload.QueueFull)
	l.Release(start, first.Permit(), done)
	if l.Busy(start.Add(2 * time.Second)) {
		t.Error("it has shed nobody for long")
	}
	if n := l.Snapshot().Shed[overload.Low][overload.QueueFull]; n != 2 {
		t.Errorf("%d are counted as shed, want 2", n)
	}
}

// TestExpectsNoMoreThanThereIsRoomFor: of those that were announced as many are expected as can be taken; each makes
// room again when it comes, and when it does not.
func TestExpectsNoMoreThanThereIsRoomFor(t *testing.T) {
	l, _ := busy(t, 5, 2, 0, 0)
	normal := class(overload.Normal)
	come := normal
	for range 3 {
		come.Announced = announce(t, l, start, normal, overload.NoCause)
	}
	announce(t, l, start, normal, overload.QueueFull)
	l.Withdraw(overload.Normal)
	announce(t, l, start, normal, overload.NoCause)
	announce(t, l, start, normal, overload.QueueFull)
	for range 3 {
		acquire(t, l, start, come, overload.Admitted)
	}
	announce(t, l, start, normal, overload.QueueFull)
	if got := l.Snapshot(); got.InFlight != 5 {
		t.Errorf("%d in flight, want 5", got.InFlight)
	}
}

// TestBetterClassesDoNotWaitForExpectedOnes: what is expected of a class does not count before a better one.
func TestBetterClassesDoNotWaitForExpectedOnes(t *testing.T) {
	l, _ := busy(t, 5, 4, 0, 0)
	announce(t, l, start, class(overload.Normal), overload.NoCause)
	announce(t, l, start, class(overload.Low), overload.QueueFull)
	announce(t, l, start, class(overload.High), overload.NoCause)
	announce(t, l, start, class(overload.High), overload.QueueFull)
	acquire(t, l, start, class(overload.Critical), overload.Admitted) // which was not announced
}

// TestAnnouncesIntoTheQueue: with a queue, as many are expected as would wait no longer than they may, and the bound is
// that of the queue.
func TestAnnouncesIntoTheQueue(t *testing.T) {
	l, permits := busy(t, 2, 2, 10, 100*ms)
	now := start.Add(20 * ms)
	for _, p := range permits { // 2 calls take 20 ms: 100 a second come back
		l.Release(now, p, done)
	}
	for range 2 {
		acquire(t, l, now, class(overload.Normal), overload.Admitted)
	}
	passed := 0
	for range 100 {
		if _, cause := l.Announce(now, class(overload.Normal)); cause == overload.NoCause {
			passed++
		}
	}
	if passed < 3 || passed > 10 {
		t.Errorf("%d are expected, want as many as wait up to 100 ms for 100 permits a second, or 10 that fit", passed)
	}
	shed := l.Snapshot().Shed[overload.Normal]
	if n := int(shed[overload.QueueFull] + shed[overload.QueueDelay]); n != 1+100-passed {
		t.Errorf("%d are counted, want %d", n, 1+100-passed)
	}
}

// TestAnnouncedDeadline: who could not be done in time is told so at once.
func TestAnnouncedDeadline(t *testing.T) {
	l, permits := busy(t, 2, 2, 0, 0)
	now := start.Add(20 * ms)
	l.Release(now, permits[0], done)
	announce(t, l, now, overload.Request{Class: overload.Low, Deadline: now.Add(10 * ms)}, overload.DeadlineShort)
	announce(t, l, now, overload.Request{Class: overload.Low, Deadline: now.Add(30 * ms)}, overload.NoCause)
}

// TestAnnouncesAtTheDoor: a transaction that the door would not let in is told so before, and those that are expected
// there count.
func TestAnnouncesAtTheDoor(t *testing.T) {
	l := overload.New(overload.Settings{Concurrency: 4}, start, 1)
	normal := class(overload.Normal)
	if expected, ok := l.AnnounceDoor(start, normal); expected || !ok {
		t.Error("somebody is expected though nobody was shed")
	}
	in := 0
	for {
		if _, ok := l.Reserve(start, normal); !ok {
			break
		}
		in++
	}
	if _, ok := l.AnnounceDoor(start, normal); ok {
		t.Error("the door is shut")
	}
	later := start.Add(40 * time.Second) // when the reservations have expired
	l.Reserve(later, normal)
	acquireUntilShed(t, l, later)
	expected := 0
	for {
		e, ok := l.AnnounceDoor(later, normal)
		if !ok {
			break
		}
		if !e {
			t.Fatal("it is not expected")
		}
		expected++
	}
	if expected == 0 || expected >= in {
		t.Errorf("%d are expected at a door that lets in %d when nothing is under way", expected, in)
	}
	l.WithdrawDoor()
	if _, ok := l.AnnounceDoor(later, normal); !ok {
		t.Error("one that did not come made no room")
	}
}

// acquireUntilShed fills a limiter, has one shed, and gives all but one permit back.
func acquireUntilShed(t *testing.T, l *overload.Limiter, now time.Time) {
	t.Helper()
	var permits []overload.Permit
	for {
		var w overload.Waiter
		if d, _ := l.Acquire(now, class(overload.Normal), &w); d != overload.Admitted {
			break
		}
		permits = append(permits, w.Permit())
	}
	for _, p := range permits[1:] {
		l.Release(now, p, overload.Sample{})
	}
}

func BenchmarkAnnounce(b *testing.B) {
	for name, shed := range map[string]bool{"not busy": false, "busy": true} {
		b.Run(name, func(b *testing.B) {
			l := overload.New(defaults, start, 1)
			now := start
			for range 400 {
				if shed {
					l.Acquire(now, overload.Request{Class: overload.Normal}, new(overload.Waiter))
				}
			}
			b.ReportAllocs()
			for range b.N {
				l.Announce(now, overload.Request{Class: overload.Low, Principal: 7})
			}
		})
	}
}
