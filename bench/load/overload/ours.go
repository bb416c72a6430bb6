package overload

import (
	"math/rand/v2"
	"time"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// ours is the gateway's own limiter with the settings that a configuration has by default, asked as
// the gateway's filter asks it.
type ours struct {
	limiter *limiter.Limiter
	memory  *limiter.ShedMemory // of keys and principals
	decide  decide
}

// memoryEntries are more than the principals and requests of a scenario within their Retry-After.
const memoryEntries = 1 << 17

func newOurs(now time.Time, seed uint64, t told, d decide) controller {
	return &ours{decide: d, memory: limiter.NewShedMemory(memoryEntries, now), limiter: limiter.New(limiter.Settings{
		Adaptive: true, Min: 4, Max: 1000, QueueSize: 200, QueueWait: 100 * time.Millisecond,
		Gateways: t.gateways,
	}, now, seed)}
}

// request is what a client asks for, at the door of a transaction too.
func (o *ours) request(now time.Time, c *call) limiter.Request {
	shed := o.memory.Shed(now, c.principal) || o.memory.Shed(now, c.draw)
	return limiter.Request{Class: c.class, Principal: c.principal, Demoted: shed && !c.unknown}
}

// step is a call of a transaction that has begun.
func (o *ours) step(c *call) limiter.Request {
	return limiter.Request{
		Class: limiter.Critical, Principal: c.principal, Exempt: c.undo, Reserved: c.reserved, Reservation: c.reservation,
	}
}

func (o *ours) acquire(now time.Time, c *call) verdict {
	c.waiter.OnVerdict = func(w *limiter.Waiter, v limiter.Verdict) {
		if v.Decision == limiter.Admitted {
			c.permit = w.Permit()
			o.decide(c, admitted)
			return
		}
		o.decide(c, shed)
	}
	var r limiter.Request
	if c.steps {
		r = o.step(c)
	} else {
		r = o.request(now, c)
	}
	switch decision, _ := o.limiter.Acquire(now, r, &c.waiter); decision {
	case limiter.Admitted:
		c.permit = c.waiter.Permit()
		return admitted
	case limiter.Queued:
		return queued
	}
	return shed
}

func (o *ours) leave(now time.Time, c *call) {
	if o.limiter.Leave(now, &c.waiter) {
		o.limiter.Release(now, c.waiter.Permit(), limiter.Sample{})
	}
}

func (o *ours) release(now time.Time, c *call, end outcome, latency time.Duration) {
	// That a client has gone says nothing of the service.
	sample := limiter.Sample{Latency: latency}
	switch end {
	case succeeded:
		sample.Outcome = limiter.Success
	case failed:
		sample.Outcome = limiter.Failed
	}
	o.limiter.Release(now, c.permit, sample)
}

func (o *ours) reserve(now time.Time, c *call) bool {
	c.reservation, c.reserved = o.limiter.Reserve(now, o.request(now, c))
	return c.reserved
}

func (o *ours) cancel(now time.Time, c *call) { o.limiter.CancelReservation(now, c.reservation) }

// retryAfter spreads who was shed as the filter does: whole seconds, up to as many again and two later.
func (o *ours) retryAfter(now time.Time, a *attempt, random *rand.Rand) time.Duration {
	whole := max(int64((o.limiter.RetryAfter(now, a.class)+time.Second-1)/time.Second), 1)
	after := time.Duration(whole+random.Int64N(whole+2)) * time.Second
	o.memory.Remember(now, a.principal, now.Add(after))
	o.memory.Remember(now, a.draw, now.Add(after))
	return after
}

func (o *ours) tick(now time.Time) time.Time { return o.limiter.Tick(now) }

func (o *ours) state() state {
	s := o.limiter.Snapshot()
	return state{limit: float64(s.Limit), inFlight: float64(s.InFlight), queued: float64(s.Queued())}
}
