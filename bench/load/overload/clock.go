package overload

import "time"

// clock is virtual time with the events that are due. Its zero value is ready.
type clock struct {
	now    time.Duration // since the start of the run
	events []event       // a binary heap
	seq    uint64
	// Those that were set for the same time ahead are due in the order in which they were set. The
	// time-outs of clients are most of all events.
	timeouts []event
	first    int // of timeouts that is not past
}

type event struct {
	at  time.Duration
	seq uint64 // keeps the order of events of one moment
	run func()
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// at has run called at that time, or now if it is past.
func (c *clock) at(at time.Duration, run func()) {
	c.seq++
	c.events = append(c.events, event{max(at, c.now), c.seq, run})
	for i := len(c.events) - 1; i > 0; {
		parent := (i - 1) / 2
		if !c.events[i].before(c.events[parent]) {
			break
		}
		c.events[i], c.events[parent] = c.events[parent], c.events[i]
		i = parent
	}
}

// timeout has run called after the time that clients wait.
func (c *clock) timeout(run func()) {
	c.seq++
	if c.first > len(c.timeouts)/2 {
		c.timeouts = append(c.timeouts[:0], c.timeouts[c.first:]...)
		c.first = 0
	}
	c.timeouts = append(c.timeouts, event{c.now + clientTimeout, c.seq, run})
}

// next moves the clock to the next event and returns it, false where there is none.
func (c *clock) next() (event, bool) {
	late := c.first < len(c.timeouts)
	switch {
	case late && (len(c.events) == 0 || c.timeouts[c.first].before(c.events[0])):
		e := c.timeouts[c.first]
		c.timeouts[c.first] = event{}
		c.first++
		c.now = e.at
		return e, true
	case len(c.events) == 0:
		return event{}, false
	}
	first := c.events[0]
	last := len(c.events) - 1
	c.events[0] = c.events[last]
	c.events[last] = event{}
	c.events = c.events[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if c.events[child].before(c.events[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		c.events[i], c.events[least] = c.events[least], c.events[i]
		i = least
	}
	c.now = first.at
	return first, true
}
