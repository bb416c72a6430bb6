package idempotencymemory

import "time"

// calendar finds the records that have expired: those of one second are a list. To add one, or to move one,
// takes the same time however many there are, and touches no other record; a heap would touch a dozen. The
// price is that a record is removed up to a second late.
type calendar struct {
	entries *entries
	seconds map[int64]ref // the first of those that expire in that second, from the store's beginning
	from    int64         // none expires in an earlier second
}

func secondOf(e *entry) int64 { return int64(e.expires / time.Second) }

func (c *calendar) add(r ref) {
	e := c.entries.at(r)
	e.second = secondOf(e)
	first := c.seconds[e.second]
	e.before, e.behind = 0, first
	if first != 0 {
		c.entries.at(first).before = r
	}
	if len(c.seconds) == 0 || e.second < c.from {
		c.from = e.second
	}
	c.seconds[e.second] = r
}

func (c *calendar) remove(r ref) {
	e := c.entries.at(r)
	switch {
	case e.before != 0:
		c.entries.at(e.before).behind = e.behind
	case e.behind == 0:
		delete(c.seconds, e.second)
	default:
		c.seconds[e.second] = e.behind
	}
	if e.behind != 0 {
		c.entries.at(e.behind).before = e.before
	}
	e.before, e.behind = 0, 0
}

// move follows a change of the record's expiry.
func (c *calendar) move(r ref) {
	if e := c.entries.at(r); secondOf(e) != e.second {
		c.remove(r)
		c.add(r)
	}
}

// gapMax is how many seconds in which nothing expires one call walks over.
const gapMax = 1 << 10

// expired returns a record whose second has passed, 0 when there is none. now is counted as expiries are.
func (c *calendar) expired(now time.Duration) ref {
	if len(c.seconds) == 0 {
		return 0
	}
	for until := min(int64(now/time.Second), c.from+gapMax); c.from < until; c.from++ {
		if r := c.seconds[c.from]; r != 0 {
			return r
		}
	}
	return 0
}
