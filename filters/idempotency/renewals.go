package idempotency

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters/processor"
)

// renewals are the claims of one route whose leases are to be renewed, in lists by the processors that made them, so
// that neighbours on a list are claims of one processor, which has them in its caches. Most of ten thousand routes see
// no key for long, so the lists are made with the first claim. It is safe for concurrent use.
type renewals struct {
	every time.Duration
	lists atomic.Pointer[[renewalLists]renewalList]
}

// renewalLists is a power of two.
const renewalLists = 8

// renewalList has a part of the claims. The period is the same for all of them, so they are due in the order in
// which they came: a list and one timer do, and most claims come and go without the timer being touched.
type renewalList struct {
	every time.Duration

	mu          sync.Mutex
	first, last *Handle
	timer       *time.Timer // nil before the first claim
	set         bool        // the timer will fire
	_           [64]byte    // so that no two processors need one line for two lists
}

// here returns the list of the processor that this goroutine runs on.
func (r *renewals) here() *renewalList {
	lists := r.lists.Load()
	if lists == nil {
		lists = new([renewalLists]renewalList)
		for i := range lists {
			lists[i].every = r.every
		}
		if !r.lists.CompareAndSwap(nil, lists) {
			lists = r.lists.Load()
		}
	}
	return &lists[processor.Number()%renewalLists]
}

func (r *renewals) add(h *Handle, now time.Time) {
	h.renewal.list = r.here()
	h.renewal.list.add(h, now)
}

// renewAgain puts the claim behind the others, when it was renewed, or notes that it was lost. False: it has ended.
func (h *Handle) renewAgain(lost bool) bool { return h.renewal.list.again(h, lost) }

// stop takes the claim out of the renewals for good. One that only asked how a transaction stands was never there.
func (h *Handle) stop() {
	if list := h.renewal.list; list != nil {
		list.end(h)
	}
}

// renewal is a claim's place among the renewals. The mutex of its list guards what is behind list.
type renewal struct {
	list       *renewalList // from the claim on the same; nil before
	prev, next *Handle
	due        time.Time
	queued     bool
	begun      bool // one has been, and may be under way when the claim has ended
	over       bool // the claim is not renewed any more
}

// add puts a claim behind the others; now is at most the present.
func (r *renewalList) add(h *Handle, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pushLocked(h, now)
}

// again puts a claim behind the others that was renewed, or notes that it was lost. False: the
// claim has ended.
func (r *renewalList) again(h *Handle, lost bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.renewal.over {
		return false
	}
	if lost {
		h.renewal.over = true
	} else {
		r.pushLocked(h, time.Now())
	}
	return true
}

func (r *renewalList) pushLocked(h *Handle, now time.Time) {
	w := &h.renewal
	w.due, w.queued = now.Add(r.every), true
	w.prev, w.next = r.last, nil
	if r.last == nil {
		r.first = h
	} else {
		r.last.renewal.next = h
		// a little before its time is as good, and keeps the order
		if before := r.last.renewal.due; w.due.Before(before) {
			w.due = before
		}
	}
	r.last = h
	if r.set {
		return
	}
	r.set = true
	if wait := time.Until(w.due); r.timer == nil {
		r.timer = time.AfterFunc(wait, r.fire)
	} else {
		r.timer.Reset(wait)
	}
}

// end takes a claim out for good.
func (r *renewalList) end(h *Handle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.renewal.over = true
	if h.renewal.queued {
		r.unlinkLocked(h)
	}
}

func (r *renewalList) unlinkLocked(h *Handle) {
	w := &h.renewal
	if w.prev == nil {
		r.first = w.next
	} else {
		w.prev.renewal.next = w.next
	}
	if w.next == nil {
		r.last = w.prev
	} else {
		w.next.renewal.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
}

// fire begins the renewals that are due. Each has a goroutine, so that one that the store is slow
// with delays no other.
func (r *renewalList) fire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for r.first != nil && !r.first.renewal.due.After(now) {
		h := r.first
		r.unlinkLocked(h)
		h.renewal.begun = true
		go h.renew()
	}
	if r.set = r.first != nil; r.set {
		r.timer.Reset(r.first.renewal.due.Sub(now))
	}
}
