// Package openkeys counts the live records of each owner, for stores that keep their records in one process.
//
// Each owner has a count by expiry, and the expiries in a binary heap (Williams, "Algorithm 232: Heapsort",
// 1964), so that what has expired is dropped when the count matters, in time that does not depend on the
// number of live records. Invariant: an owner's count is the sum of its counts by expiry. It does not fail.
package openkeys

import (
	"strings"
	"sync"
	"time"
)

// Counter counts by owner ([idempotency.Owner]). A record is in it under its expiry, so that one that has
// expired is not counted any more (17 ms later at the latest), whenever the store sweeps it. Memory: 30 bytes
// at most a counted record and 150 an owner. The zero value is ready; it is safe for concurrent use.
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

// Add counts one more record unless the owner has most live ones, and reports whether it did.
func (c *Counter) Add(id string, expires, now time.Time, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.owners[id]
	if o == nil {
		if most <= 0 {
			return false
		}
		if c.owners == nil {
			c.owners = map[string]*owner{}
		}
		o = &owner{open: map[int64]uint32{}}
		c.owners[strings.Clone(id)] = o
	}
	if o.n >= most || o.idle > len(o.open)/2+idleMax {
		o.expire(tick(now))
	}
	if o.n >= most {
		return false
	}
	o.add(tick(expires))
	return true
}

// Keep counts a record whatever the number: one that is there already.
func (c *Counter) Keep(id string, expires time.Time) {
	c.Add(id, expires, expires, int(^uint(0)>>1))
}

// Move follows a change of a record's expiry.
func (c *Counter) Move(id string, from, to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.owners[id]; o != nil && o.remove(tick(from)) {
		o.add(tick(to))
	}
}

// Remove no longer counts a record.
func (c *Counter) Remove(id string, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.owners[id]
	if o != nil && o.remove(tick(expires)) && o.n == 0 {
		delete(c.owners, id)
	}
}

// Owners returns how many owners are counted for.
func (c *Counter) Owners() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.owners)
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

// Sweep looks at some of the owners, most at most, and drops those whose records have all expired. A store that
// removes expired records without reading them calls it now and then.
func (c *Counter) Sweep(now time.Time, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, o := range c.owners { // begins anywhere, so that all have their turn
		if o.expire(tick(now)); o.n == 0 {
			delete(c.owners, id)
		}
		if most--; most <= 0 {
			return
		}
	}
}
