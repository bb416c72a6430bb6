package transaction

import (
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// reservations are the places that the services of a transaction keep for the calls of its steps,
// from its begin on. A call takes that of its step; what is left is given back when the transaction
// has ended, when it is rolled back, or after a while. They are in this process alone: a call that
// the coordinator sends to another gateway, or to this one after a restart, has none and is admitted
// as a critical one.
//
// At most [reservedMost] transactions have some, and no one for longer than [reservedFor], so the
// memory is bounded whatever becomes of them. The zero value is ready; it is safe for concurrent use.
type reservations struct {
	mu     sync.Mutex
	of     map[string]*reserved // by gid
	oldest *reserved            // a list by age: all are kept equally long
	latest *reserved
}

type reserved struct {
	gid         string
	until       time.Time
	steps       map[string]*filters.Reservation // by name
	older, next *reserved
}

const (
	reservedFor  = 30 * time.Second
	reservedMost = 50_000
)

// put keeps the places of a transaction.
func (v *reservations) put(now time.Time, gid string, steps map[string]*filters.Reservation) {
	v.mu.Lock()
	old := append(v.dueLocked(now, reservedMost-1), v.removeLocked(v.of[gid])...)
	r := &reserved{gid: gid, until: now.Add(reservedFor), steps: steps, older: v.latest}
	if v.of == nil {
		v.of = map[string]*reserved{}
	}
	v.of[gid] = r
	if v.latest == nil {
		v.oldest = r
	} else {
		v.latest.next = r
	}
	v.latest = r
	v.mu.Unlock()
	giveBack(old)
}

// take returns the place of a step; nil: there is none.
func (v *reservations) take(gid, step string) *filters.Reservation {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.of[gid]
	if r == nil {
		return nil
	}
	place := r.steps[step]
	if delete(r.steps, step); len(r.steps) == 0 {
		v.removeLocked(r)
	}
	return place
}

// drop gives back what is left of a transaction.
func (v *reservations) drop(gid string) {
	v.mu.Lock()
	left := v.removeLocked(v.of[gid])
	v.mu.Unlock()
	giveBack(left)
}

// expire gives back what was kept for too long.
func (v *reservations) expire(now time.Time) {
	v.mu.Lock()
	old := v.dueLocked(now, reservedMost)
	v.mu.Unlock()
	giveBack(old)
}

// dueLocked takes out whatever is over, and the oldest beyond a number.
func (v *reservations) dueLocked(now time.Time, most int) (list []*filters.Reservation) {
	for v.oldest != nil && (!now.Before(v.oldest.until) || len(v.of) > most) {
		list = append(list, v.removeLocked(v.oldest)...)
	}
	return list
}

// removeLocked takes a transaction out, which may be nil, and returns what it has left.
func (v *reservations) removeLocked(r *reserved) (left []*filters.Reservation) {
	if r == nil {
		return nil
	}
	delete(v.of, r.gid)
	if r.older == nil {
		v.oldest = r.next
	} else {
		r.older.next = r.next
	}
	if r.next == nil {
		v.latest = r.older
	} else {
		r.next.older = r.older
	}
	for _, place := range r.steps {
		left = append(left, place)
	}
	return left
}

func giveBack(list []*filters.Reservation) {
	for _, r := range list {
		r.Return()
	}
}
