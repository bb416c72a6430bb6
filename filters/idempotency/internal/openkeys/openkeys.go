// Package openkeys counts the live records of each owner, for stores that keep their records in one process.
package openkeys

import (
	"strings"
	"sync"
	"time"
)

// Counter counts by owner ([idempotency.Owner]). A record is in it under its expiry, so that one that has expired is not counted any more (17 ms later at the
// latest), whenever the store sweeps it. Memory: 30 bytes at most a counted record and 150 an owner. The zero value is ready; it is safe for concurrent use.
type Counter struct {
	mu     sync.Mutex
	owners map[string]*owner
}

type owner struct {
	open map[int64]uint32 // how many, by expiry (ticks); 0 of those that have been moved or removed
	n    int
	idle int     // entries of 0
	due  []int64 // the expiries in open, as a heap: the earliest first
}

// tick is a time in units of 2²⁴ ns: the records that one owner claims in a burst share an entry then.
func tick(t time.Time) int64 { return t.UnixNano() >> 24 }

// Add counts one more record unless the owner has max live ones, and reports whether it did.
func (b *Counter) Add(id string, expires, now time.Time, max int) bool {
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
	if o.n >= max || o.idle > len(o.open)/2+idleMax {
		o.expire(tick(now))
	}
	if o.n >= max {
		return false
	}
	o.add(tick(expires))
	return true
}

// Keep counts a record whatever the number: one that is there already.
func (b *Counter) Keep(id string, expires time.Time) {
	b.Add(id, expires, expires, int(^uint(0)>>1))
}

// Move follows a change of a record's expiry.
func (b *Counter) Move(id string, from, to time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.owners[id]; o != nil && o.remove(tick(from)) {
		o.add(tick(to))
	}
}

// Remove counts a record no more.
func (b *Counter) Remove(id string, expires time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.owners[id]
	if o != nil && o.remove(tick(expires)) && o.n == 0 {
		delete(b.owners, id)
	}
}

// Owners returns how many owners are counted for.
func (b *Counter) Owners() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.owners)
}

func (o *owner) add(expires int64) {
	n, there := o.open[expires]
	switch {
	case !there:
		o.push(expires)
	case n == 0:
		o.idle--
	}
	o.open[expires] = n + 1
	o.n++
}

// remove reports whether it was counted still.
func (o *owner) remove(expires int64) bool {
	n := o.open[expires]
	if n == 0 { // expired, and dropped before the store swept it
		return false
	}
	o.open[expires] = n - 1
	o.n--
	if n == 1 {
		o.idle++
	}
	return true
}

// expire drops what has expired, and what is idle where that is most of it.
func (o *owner) expire(now int64) {
	for len(o.due) > 0 && o.due[0] < now {
		expires := o.pop()
		n := o.open[expires]
		delete(o.open, expires)
		if o.n -= int(n); n == 0 {
			o.idle--
		}
	}
	if o.idle <= len(o.open)/2+idleMax {
		return
	}
	o.due, o.idle = o.due[:0], 0
	for expires, n := range o.open {
		if n == 0 {
			delete(o.open, expires)
			continue
		}
		o.push(expires)
	}
}

const idleMax = 64

func (o *owner) push(expires int64) {
	o.due = append(o.due, expires)
	i := len(o.due) - 1
	for up := (i - 1) / 2; i > 0 && o.due[i] < o.due[up]; up = (i - 1) / 2 {
		o.due[i], o.due[up] = o.due[up], o.due[i]
		i = up
	}
}

func (o *owner) pop() int64 {
	first, last := o.due[0], len(o.due)-1
	o.due[0] = o.due[last]
	o.due = o.due[:last]
	for i := 0; ; {
		down := 2*i + 1
		if down+1 < last && o.due[down+1] < o.due[down] {
			down++
		}
		if down >= last || o.due[i] <= o.due[down] {
			return first
		}
		o.due[i], o.due[down] = o.due[down], o.due[i]
		i = down
	}
}

// Sweep looks at some of the owners, most at most, and drops those whose records have all expired. A store that removes expired records without looking at them
// calls it now and then.
func (b *Counter) Sweep(now time.Time, most int) {
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
