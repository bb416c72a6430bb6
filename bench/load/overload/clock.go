package overload

import "time"

// clock is virtual time with the events that are due. Its zero value is ready.
type clock struct {
	now    time.Duration // since the start of the run
	events []event       // a binary heap
	seq    uint64
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

// next moves the clock to the next event and returns it, false where there is none.
func (c *clock) next() (event, bool) {
	if len(c.events) == 0 {
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
