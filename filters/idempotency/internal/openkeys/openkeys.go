// Package openkeys counts the live records of each owner, for stores that keep their records in one process.
package openkeys

import (
	"container/heap"
	"strings"
	"sync"
	"time"
)

// Book counts by owner ([idempotency.Owner]). A record is in it under its expiry, so that one that has expired is not counted any more (17 ms later at the
// latest), whenever the store sweeps it. Memory: 30 bytes at most a counted record and 150 an owner. The zero value is ready; it is safe for concurrent use.
type Book struct {
	mu     sync.Mutex
	owners map[string]*owner
}

type owner struct {
	open map[int64]uint32 // how many, by expiry (ticks)
	n    int
	due  ticks // of all that are in open, and of some that are not any more: the earliest first
}

// tick is a time in units of 2²⁴ ns: the records that one owner claims in a burst share an entry then.
func tick(t time.Time) int64 { return t.UnixNano() >> 24 }

// Add counts one more record unless the owner has max live ones, and reports whether it did.
func (b *Book) Add(id string, expires, now time.Time, max int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.owners[id]
	if o == nil {
		if max <= 0 {
			return false
		}
		if b.owners == nil {
			b.owners = map[string]*owner{}
		}
		o = &owner{open: map[int64]uint32{}}
		b.owners[strings.Clone(id)] = o
	}
	if o.n >= max || len(o.due) > 2*len(o.open)+64 {
		o.expire(tick(now))
	}
	if o.n >= max {
		return false
	}
	o.add(tick(expires))
	return true
}

// Keep counts a record whatever the number: one that is there already.
func (b *Book) Keep(id string, expires time.Time) {
	b.Add(id, expires, expires, int(^uint(0)>>1))
}

// Move follows a change of a record's expiry.
func (b *Book) Move(id string, from, to time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.owners[id]; o != nil && o.remove(tick(from)) {
		o.add(tick(to))
	}
}

// Remove counts a record no more.
func (b *Book) Remove(id string, expires time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.owners[id]
	if o != nil && o.remove(tick(expires)) && o.n == 0 {
		delete(b.owners, id)
	}
}

// Owners returns how many owners are counted for.
func (b *Book) Owners() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.owners)
}

func (o *owner) add(expires int64) {
	if o.open[expires]++; o.open[expires] == 1 {
		heap.Push(&o.due, expires)
	}
	o.n++
}

// remove reports whether it was counted still.
func (o *owner) remove(expires int64) bool {
	switch o.open[expires] {
	case 0: // expired, and dropped before the store swept it
		return false
	case 1:
		delete(o.open, expires)
	default:
		o.open[expires]--
	}
	o.n--
	return true
}

// expire drops what has expired.
func (o *owner) expire(now int64) {
	for len(o.due) > 0 && o.due[0] < now {
		expires := heap.Pop(&o.due).(int64)
		o.n -= int(o.open[expires])
		delete(o.open, expires)
	}
	if len(o.due) > 2*len(o.open)+64 { // most of them were removed before their time
		o.due = o.due[:0]
		for expires := range o.open {
			o.due = append(o.due, expires)
		}
		heap.Init(&o.due)
	}
}

// ticks is a heap.
type ticks []int64

func (t ticks) Len() int           { return len(t) }
func (t ticks) Less(i, j int) bool { return t[i] < t[j] }
func (t ticks) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *ticks) Push(x any)        { *t = append(*t, x.(int64)) }
func (t *ticks) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// Sweep looks at some of the owners, most at most, and drops those whose records have all expired. A store that removes expired records without looking at them
// calls it now and then.
func (b *Book) Sweep(now time.Time, most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, o := range b.owners { // begins anywhere, so that all have their turn
		if o.expire(tick(now)); o.n == 0 {
			delete(b.owners, id)
		}
		if most--; most <= 0 {
			return
		}
	}
}
