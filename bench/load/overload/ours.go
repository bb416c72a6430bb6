package overload

import (
	"math/rand/v2"
	"time"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// ours is the gateway's own limiter with the settings that a configuration has by default.
type ours struct {
	limiter *limiter.Limiter
	decide  decide
}

func newOurs(now time.Time, seed uint64, _ told, d decide) controller {
	return &ours{decide: d, limiter: limiter.New(limiter.Settings{
		Adaptive: true, Min: 4, Max: 1000, QueueSize: 200, QueueWait: 100 * time.Millisecond,
	}, now, seed)}
}

func (o *ours) request(c *call) limiter.Request {
	return limiter.Request{
		Class: c.class, Principal: c.principal, Exempt: c.undo, Reserved: c.reserved, Reservation: c.reservation,
		// Branch calls of a transaction are not demoted.
		Demoted: c.demoted && !c.doored,
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
	switch decision, _ := o.limiter.Acquire(now, o.request(c), &c.waiter); decision {
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
	c.reservation, c.reserved = o.limiter.Reserve(now, o.request(c))
	return c.reserved
}

func (o *ours) cancel(now time.Time, c *call) { o.limiter.CancelReservation(now, c.reservation) }

func (o *ours) retryAfter(now time.Time, class limiter.Class, random *rand.Rand) time.Duration {
	after := o.limiter.RetryAfter(now, class)
	return after + time.Duration(random.Float64()*float64(after))
}

func (o *ours) tick(now time.Time) time.Time { return o.limiter.Tick(now) }

func (o *ours) state() state {
	s := o.limiter.Snapshot()
	return state{limit: float64(s.Limit), inFlight: float64(s.InFlight), queued: float64(s.Queued())}
}
