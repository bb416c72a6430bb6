package overload_test

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/overload"
)

// TestTheDoorLetsInWhatTheServiceCompletes: sixty calls a second complete, each comes a tenth of
// a second after the door, and ten times as many ask.
func TestTheDoorLetsInWhatTheServiceCompletes(t *testing.T) {
	const (
		step    = time.Second / 600 // between two that ask
		latency = 100 * ms          // of six calls at a time
		lead    = 100 * ms
	)
	l := overload.New(overload.Settings{Concurrency: 6, QueueSize: 200, QueueWait: 100 * ms}, start, 1)
	type call struct {
		comes time.Time
		place overload.Reservation
	}
	var coming []call
	var busy []time.Time // when the calls in flight end
	permits := map[time.Time][]overload.Permit{}
	queue := []*overload.Waiter{}
	completed, late := 0, 0
	for i := range 600 * 10 {
		now := start.Add(time.Duration(i) * step)
		for len(busy) > 0 && !busy[0].After(now) {
			end := busy[0]
			busy = busy[1:]
			p := permits[end][0]
			permits[end] = permits[end][1:]
			l.Release(end, p, done)
			completed++
		}
		l.Tick(now)
		begin := func(w *overload.Waiter) {
			end := now.Add(latency)
			busy = append(busy, end)
			permits[end] = append(permits[end], w.Permit())
		}
		for len(queue) > 0 {
			v := verdict(queue[0])
			if v.Decision == 0 {
				break
			}
			begin(queue[0])
			queue = queue[1:]
		}
		for len(coming) > 0 && !coming[0].comes.After(now) {
			w := new(overload.Waiter)
			r := overload.Request{Class: overload.Normal, Reserved: true, Reservation: coming[0].place}
			coming = coming[1:]
			switch d, cause := l.Acquire(now, r, w); d {
			case overload.Admitted:
				begin(w)
			case overload.Queued:
				queue = append(queue, w)
			default:
				t.Fatalf("shed behind the door: %v", cause)
			}
		}
		if place, ok := l.Reserve(now, class(overload.Normal)); ok {
			coming = append(coming, call{now.Add(lead), place})
		}
		if n := l.Snapshot().InFlight; n > 7 {
			late++
		}
	}
	if completed < 570 || completed > 600 {
		t.Errorf("%d of 600 calls", completed)
	}
	if late > 60 {
		t.Errorf("too many in flight at %d of 6000 times", late)
	}
}

func TestReservationsAreGivenBackUsedOrForgotten(t *testing.T) {
	l := overload.New(overload.Settings{Concurrency: 8, QueueSize: 1, QueueWait: ms}, start, 1)
	open := func() int { return l.Snapshot().Reserved }
	reserve := func(now time.Time) overload.Reservation {
		r, ok := l.Reserve(now, class(overload.Normal))
		if !ok {
			t.Fatal("refused")
		}
		return r
	}
	a, b := reserve(start), reserve(start)
	reserve(start)
	if open() != 3 {
		t.Fatalf("%d are open", open())
	}
	l.CancelReservation(start, a)
	now := start.Add(time.Second)
	acquire(t, l, now, overload.Request{Reserved: true, Reservation: b}, overload.Admitted)
	acquire(t, l, now, overload.Request{Reserved: true}, overload.Admitted) // made elsewhere
	if open() != 1 {
		t.Fatalf("%d are open", open())
	}
	now = start.Add(time.Minute) // the third is not used any more
	c := reserve(now)
	if open() != 1 {
		t.Fatalf("%d are open", open())
	}
	l.CancelReservation(now, a)
	l.CancelReservation(now, overload.Reservation{})
	if open() != 1 {
		t.Fatalf("%d are open after a late cancellation", open())
	}
	l.CancelReservation(now, c)
	l.CancelReservation(now, c)
	if open() != 0 {
		t.Fatalf("%d are open", open())
	}
}

func TestTheDoorPrefersTheImportant(t *testing.T) {
	l := overload.New(overload.Settings{Concurrency: 20, QueueSize: 1, QueueWait: ms}, start, 1)
	in := map[overload.Class]int{}
	for _, c := range []overload.Class{overload.Low, overload.Normal, overload.High, overload.Critical} {
		for range 100 {
			if _, ok := l.Reserve(start, class(c)); ok {
				in[c]++
			}
		}
	}
	if in[overload.Low] < 10 || in[overload.Normal] == 0 || in[overload.High] == 0 || in[overload.Critical] == 0 {
		t.Errorf("let in: %v", in)
	}
	if s := l.Snapshot(); s.Shed[overload.Low][overload.DoorClosed] != uint64(100-in[overload.Low]) {
		t.Errorf("%+v", s)
	}
}
