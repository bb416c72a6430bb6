// Package openkeys counts the live records of each owner, for stores that keep their records in one process.
//
// Each owner has a count by expiry, and the expiries in a binary heap (Williams, "Algorithm 232: Heapsort",
// 1964), so that what has expired is dropped when the count matters, in time that does not depend on the
// number of live records. Invariant: an owner's count is the sum of its counts by expiry. It does not fail.
package openkeys

import (
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Counter counts by owner ([idempotency.Owner]). A record is in it under its expiry, so that one that has
// expired is not counted any more (17 ms later at the latest), whenever the store sweeps it. Memory: 30 bytes
// at most a counted record and 150 an owner. The zero value is ready; it is safe for concurrent use.
type Counter struct{ parts [parts]part }

// parts is a power of two.
const parts = 16

// part has some of the owners, so that processors do not wait for each other.
type part struct {
	mu     sync.Mutex
	owners map[string]*owner
	_      [64]byte // so that no two share a line
}

// of returns the part of an owner: the end of a digest is as good as a hash.
func (c *Counter) of(id string) *part {
	if id == "" {
		return &c.parts[0]
	}
	return &c.parts[id[len(id)-1]%parts]
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
	p := c.of(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owners[id]
	if o == nil {
		if most <= 0 {
			return false
		}
		if p.owners == nil {
			p.owners = map[string]*owner{}
		}
		o = &owner{open: map[int64]uint32{}}
		p.owners[strings.Clone(id)] = o
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
	p := c.of(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.owners[id]; o != nil && o.remove(tick(from)) {
		o.add(tick(to))
	}
}

// Remove no longer counts a record.
func (c *Counter) Remove(id string, expires time.Time) {
	p := c.of(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owners[id]
	if o != nil && o.remove(tick(expires)) && o.n == 0 {
		delete(p.owners, id)
	}
}

// Owners returns how many owners are counted for.
func (c *Counter) Owners() (n int) {
	for i := range c.parts {
		p := &c.parts[i]
		p.mu.Lock()
		n += len(p.owners)
		p.mu.Unlock()
	}
	return n
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
	for i, first := 0, rand.IntN(parts); i < parts && most > 0; i++ {
		most -= c.parts[(first+i)%parts].sweep(tick(now), most)
	}
}

// sweep returns how many owners it has looked at.
func (p *part) sweep(now int64, most int) (looked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, o := range p.owners { // begins anywhere, so that all have their turn
		if o.expire(now); o.n == 0 {
			delete(p.owners, id)
		}
		if looked++; looked == most {
			break
		}
	}
	return looked
}
