package idempotencymemory

import (
	"math"
	"time"
)

// calendar finds the records that have expired. Each is on the list of a second before which it does not expire. To
// add one takes the same time however many there are; a heap would touch a dozen others. The price is that a record
// is removed up to a second late.
//
// A record whose expiry moves on stays where it is, and is put where it belongs when its second has passed: so the end
// of a request, which moves it by less than a second as a rule, touches no list.
type calendar struct {
	entries *entries
	seconds map[int32]ref // the first of a second's list, from the store's beginning
	from    int32         // seconds before it have passed
	passed  ref           // the first of those whose second has
}

func secondOf(t time.Duration) int32 { return int32(min(max(t, 0)/time.Second, math.MaxInt32)) }

// add puts a record on the list of a second.
func (c *calendar) add(r ref, second int32) {
	e := c.entries.at(r)
	e.second, e.before, e.behind = second, 0, 0
	first := c.passed
	if second >= c.from {
		first = c.seconds[second]
	}
	switch {
	case first != 0: // behind it: the table need not be told
		f := c.entries.at(first)
		e.before, e.behind = first, f.behind
		if f.behind != 0 {
			c.entries.at(f.behind).before = r
		}
		f.behind = r
	case second < c.from:
		c.passed = r
	default:
		c.seconds[second] = r
	}
}

func (c *calendar) remove(r ref) {
	e := c.entries.at(r)
	switch {
	case e.before != 0:
		c.entries.at(e.before).behind = e.behind
	case e.second < c.from:
		c.passed = e.behind
	case e.behind == 0:
		delete(c.seconds, e.second)
	default:
		c.seconds[e.second] = e.behind
	}
	if e.behind != 0 {
		c.entries.at(e.behind).before = e.before
	}
}

// move follows a change of the record's expiry.
func (c *calendar) move(r ref, second int32) {
	if second < c.entries.at(r).second {
		c.remove(r)
		c.add(r, second)
	}
}

// gapMax is how many seconds of which no record is one call walks over.
const gapMax = 1 << 10

// due returns a record whose second has passed, 0 when there is none. now is counted as expiries are.
func (c *calendar) due(now time.Duration) ref {
	if c.passed == 0 {
		c.pass(secondOf(now))
	}
	return c.passed
}

// pass goes on to a second, or to one before it that has records.
func (c *calendar) pass(until int32) {
	if len(c.seconds) == 0 {
		c.from = max(c.from, until)
	}
	for until = min(until, c.from+gapMax); c.passed == 0 && c.from < until; c.from++ {
		if first := c.seconds[c.from]; first != 0 {
			c.passed = first
			delete(c.seconds, c.from)
		}
	}
}
