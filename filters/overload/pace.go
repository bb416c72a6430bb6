package overload

import (
	"math"
	"time"
)

// pace judges how the queue stands: whether it has been standing for a while (CoDel's and Facebook's
// rule), and how fast it moves.
type pace struct {
	busySince, emptySince int64
	standing              bool
	hold                  float64 // how long a call has its permit of late, in ns
	lastRelease           int64
	fast, fastBefore      int64 // the fastest success of this while and of the one before; 0: none
	fastSince             int64
	share                 [levels]float64 // of the permits that waiters got of late
	lastGrant             int64
}

// began is called when a waiter comes into an empty queue.
func (p *pace) began(now, interval int64) {
	if now-p.emptySince >= interval/10 {
		p.busySince = now
		p.standing = false
	}
}

// stands tells whether the queue has not been empty for an interval.
func (p *pace) stands(now, interval int64) bool { return now-p.busySince >= interval }

func (p *pace) released(now, held int64, limit float64) {
	weight := 1 / min(max(limit, 8), 64)
	if p.hold == 0 {
		weight = 1
	}
	p.hold += weight * (float64(held) - p.hold)
	p.lastRelease = now
}

func (p *pace) granted(now int64, v level) {
	const weight = 1.0 / 64
	for i := range p.share {
		p.share[i] *= 1 - weight
	}
	p.share[v] += weight
	p.lastGrant = now
}

// rate is how many permits come back a nanosecond while the limit is reached; 0: not known.
func (p *pace) rate(now int64, limit int) float64 {
	if p.hold <= 0 {
		return 0
	}
	rate := float64(limit) / p.hold
	if silent := now - p.lastRelease; silent > 0 {
		rate = min(rate, 4/float64(silent))
	}
	return rate
}

// left is the share of the permits that better levels leave. What was is forgotten when nobody had to
// wait for an interval.
func (p *pace) left(now, interval int64, v level) float64 {
	if now-p.lastGrant > interval {
		return 1
	}
	left := 1.0
	for _, share := range p.share[:v] {
		left -= share
	}
	return max(left, 0.01)
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

// decaying counts events and forgets them with a time constant of one second.
type decaying struct {
	count float64
	at    int64
}

func (d *decaying) add(now int64) { d.count, d.at = d.rate(now)+1, now }

// rate is how many came a second of late.
func (d *decaying) rate(now int64) float64 {
	return d.count * math.Exp(-float64(now-d.at)/float64(time.Second))
}

func nanos(d time.Duration) int64 { return int64(d) }
