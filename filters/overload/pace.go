package overload

import "time"

// pace judges how the queue stands: whether it has been standing for a while (CoDel's and Facebook's
// rule), and how fast it moves.
type pace struct {
	hold             float64 // how long a call has its permit of late, in ns
	lastRelease      int64
	ended            counter // calls that ended of late
	emptySince       int64
	promptAt         int64 // when somebody of the last level waited less than the target, or nobody waited
	standing         bool
	fast, fastBefore int64 // the fastest success of this while and of the one before; 0: none
	fastSince        int64
	sliceSince       int64
	counts           [levels]passage
}

// passage is how many came at a level in this slice of time and in the one before, and had permits.
type passage struct{ granted, grantedBefore, offered, offeredBefore int32 }

// began is called when a waiter comes into an empty queue.
func (p *pace) began(now, interval int64) {
	if now-p.emptySince >= interval/10 {
		p.standing = false
	}
	if !p.standing {
		p.promptAt = now
	}
}

// stands tells whether even those that waited least waited longer than the target for an interval.
func (p *pace) stands(now, interval int64) bool { return now-p.promptAt >= interval }

func (p *pace) released(now, held int64, limit float64) {
	weight := 1 / min(max(limit, 8), 64)
	if p.hold == 0 {
		weight = 1
	}
	p.hold += weight * (float64(held) - p.hold)
	p.lastRelease = now
	p.ended.add(now)
}

// grant counts a permit, offer a request that came.
func (p *pace) grant(v level) { p.counts[v].granted++ }
func (p *pace) offer(v level) { p.counts[v].offered++ }

// turn begins a new slice when it is time.
func (p *pace) turn(now, slice int64) {
	past := now - p.sliceSince
	if past < slice {
		return
	}
	for i := range p.counts {
		n := &p.counts[i]
		if past < 2*slice {
			*n = passage{grantedBefore: n.granted, offeredBefore: n.offered}
		} else {
			*n = passage{}
		}
	}
	p.sliceSince = now - past%slice
}

// better is how many permits a nanosecond the levels below v get of late.
func (p *pace) better(now, slice int64, v level) float64 {
	var some, old int32
	for i := range p.counts[:v] {
		some += p.counts[i].granted
		old += p.counts[i].grantedBefore
	}
	return p.lately(now, slice, some, old)
}

// wanted is how many requests a nanosecond come of late up to level v.
func (p *pace) wanted(now, slice int64, v level) float64 {
	var some, old int32
	for i := range p.counts[:v+1] {
		some += p.counts[i].offered
		old += p.counts[i].offeredBefore
	}
	return p.lately(now, slice, some, old)
}

// lately is how many a nanosecond that is, of some in this slice and of old ones in the one before.
func (p *pace) lately(now, slice int64, some, old int32) float64 {
	share := 1 - float64(now-p.sliceSince)/float64(slice)
	return (float64(some) + share*float64(old)) / float64(slice)
}

// rate is how many permits come back a nanosecond while the limit is reached; 0: not known.
func (p *pace) rate(now int64, limit float64) float64 {
	if p.hold <= 0 {
		return 0
	}
	rate := limit / p.hold
	if silent := now - p.lastRelease; silent > 0 {
		rate = min(rate, 4/float64(silent))
	}
	return rate
}

// fastLong is how long a while is.
const fastLong = int64(10 * time.Second)

func (p *pace) succeeded(now, latency int64) {
	if now-p.fastSince > fastLong {
		p.fastBefore, p.fast, p.fastSince = p.fast, 0, now
	}
	if p.fast == 0 || latency < p.fast {
		p.fast = latency
	}
}

// fastest is how fast a call can be; 0: not known.
func (p *pace) fastest() int64 {
	if p.fastBefore == 0 {
		return p.fast
	}
	return min(p.fast, p.fastBefore)
}

// counter counts events over the last second or so.
type counter struct {
	count, before int32
	since         int64
}

func (c *counter) turn(now int64) {
	past := now - c.since
	if past < int64(time.Second) {
		return
	}
	c.before = c.count
	if past >= 2*int64(time.Second) {
		c.before = 0
	}
	c.count, c.since = 0, now-past%int64(time.Second)
}

func (c *counter) add(now int64) {
	c.turn(now)
	c.count++
}

// rate is how many came a second of late.
func (c *counter) rate(now int64) float64 {
	c.turn(now)
	return float64(c.count) + float64(c.before)*(1-float64(now-c.since)/float64(time.Second))
}

func nanos(d time.Duration) int64 { return int64(d) }
