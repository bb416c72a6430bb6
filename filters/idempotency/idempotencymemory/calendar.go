package idempotencymemory

import "time"

// calendar finds the records that have expired: those of one second are a list. To add one, or to move one,
// takes the same time however many there are, and touches no other record; a heap would touch a dozen. The
// price is that a record is removed up to a second late.
type calendar struct {
	seconds map[int64]*entry // the first of those that expire in that second (Unix time)
	from    int64            // none expires in an earlier second
}

func (c *calendar) add(e *entry) {
	e.second = e.rec.Expires.Unix()
	first := c.seconds[e.second]
	e.before, e.behind = nil, first
	if first != nil {
		first.before = e
	}
	if len(c.seconds) == 0 || e.second < c.from {
		c.from = e.second
	}
	c.seconds[e.second] = e
}

func (c *calendar) remove(e *entry) {
	switch {
	case e.before != nil:
		e.before.behind = e.behind
	case e.behind == nil:
		delete(c.seconds, e.second)
	default:
		c.seconds[e.second] = e.behind
	}
	if e.behind != nil {
		e.behind.before = e.before
	}
	e.before, e.behind = nil, nil
}

// move follows a change of the record's expiry.
func (c *calendar) move(e *entry) {
	if e.rec.Expires.Unix() != e.second {
		c.remove(e)
		c.add(e)
	}
}

// gapMax is how many seconds in which nothing expires one call walks over.
const gapMax = 1 << 10

// expired returns a record whose second has passed, nil when there is none.
func (c *calendar) expired(now time.Time) *entry {
	if len(c.seconds) == 0 {
		return nil
	}
	for until := min(now.Unix(), c.from+gapMax); c.from < until; c.from++ {
		if e := c.seconds[c.from]; e != nil {
			return e
		}
	}
	return nil
}
