package overload

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQueueOrder compares the queue with a sorted list under random pushes and removals.
func TestQueueOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var q queue
	var all []*Waiter
	for range 20000 {
		if len(all) > 0 && random.IntN(2) == 0 {
			i := random.IntN(len(all))
			q.remove(all[i])
			all = slices.Delete(all, i, i+1)
		} else {
			w := &Waiter{level: level(random.IntN(levels)), until: random.Int64N(1000)}
			q.push(w)
			all = append(all, w)
		}
		if q.size != len(all) {
			t.Fatalf("%d wait, not %d", q.size, len(all))
		}
		if len(all) == 0 {
			continue
		}
		byLevel := func(a, b *Waiter) int { return int(a.level) - int(b.level) }
		if first := q.first().head; first != slices.MinFunc(all, byLevel) { // the first of the least
			t.Fatalf("the first is of level %d", first.level)
		}
		soonest := slices.MinFunc(all, func(a, b *Waiter) int { return int(a.until - b.until) })
		if q.soonest().until != soonest.until {
			t.Fatalf("the soonest is at %d, not %d", q.soonest().until, soonest.until)
		}
		v, ahead := level(random.IntN(levels)), 0
		for _, w := range all {
			if w.level <= v {
				ahead++
			}
		}
		if q.ahead(v) != ahead || q.none(v+1) != (ahead == len(all)) {
			t.Fatalf("%d are ahead, not %d; none behind: %v", q.ahead(v), ahead, q.none(v+1))
		}
	}
}

// standing is a limiter with all its calls in flight and two waiters, the first of which has waited longer than
// a standing queue should make it.
func standing(wanted int32) (l *Limiter, now time.Time, p Permit, old, young *Waiter) {
	now = time.Unix(1e9, 0)
	l = New(Settings{Concurrency: 4, QueueSize: 10, QueueWait: 100 * time.Millisecond}, now, 1)
	var first Waiter
	old, young = new(Waiter), new(Waiter)
	for range 4 {
		l.Acquire(now, Request{Class: Normal}, &first)
	}
	l.Acquire(now, Request{Class: Normal}, old)
	now = now.Add(90 * time.Millisecond)
	l.Acquire(now, Request{Class: Normal}, young)
	l.pace.standing, l.pace.hold = true, 1e6
	l.pace.counts[levelOf(&Request{Class: Normal}, false)].offered = wanted
	return l, now, first.Permit(), old, young
}

// TestTurnsNewestFirst: when more come than fit and the queue stays long all the same.
func TestTurnsNewestFirst(t *testing.T) {
	l, now, p, old, young := standing(100_000)
	l.Release(now, p, Sample{})
	if old.permit.Valid() || !young.permit.Valid() {
		t.Errorf("old %v, young %v", old.permit.Valid(), young.permit.Valid())
	}
}

// TestStaysFirstComeWhenAllFit: what fits is served in order.
func TestStaysFirstComeWhenAllFit(t *testing.T) {
	l, now, p, old, young := standing(2)
	l.Release(now, p, Sample{})
	if !old.permit.Valid() || young.permit.Valid() {
		t.Errorf("old %v, young %v", old.permit.Valid(), young.permit.Valid())
	}
}
