package overload

import (
	"math"
	"math/rand/v2"
	"time"
)

// gateway is one of the gateways before the services. It has a controller for each of them.
type gateway struct {
	world  *world
	guards []*guard // by service
	random *rand.Rand
}

// guard is a controller with its timer and with what it decided.
type guard struct {
	controller
	verdicts []late
	timer    time.Time // when tick is due; zero: never
}

// late is the verdict on a queued call.
type late struct {
	call    *call
	verdict verdict
}

func newGateway(w *world, c contender, seed uint64) *gateway {
	g := &gateway{world: w, random: rand.New(rand.NewPCG(seed, 4))}
	for i := range w.services {
		guard := &guard{}
		told := told{workers: int(w.services[i].workers.value(0)), gateways: max(w.scenario.gateways, 1)}
		guard.controller = c.new(w.time(), seed+uint64(i), told, func(c *call, v verdict) {
			guard.verdicts = append(guard.verdicts, late{c, v})
		})
		g.guards = append(g.guards, guard)
	}
	return g
}

// accept begins an attempt.
func (g *gateway) accept(a *attempt) {
	route := g.world.scenario.routes[a.stream.route]
	a.steps = len(route.steps) > 1
	_, hasDoor := g.guards[0].controller.(door)
	if !a.steps || !hasDoor {
		g.next(a)
		return
	}
	for _, service := range route.steps {
		a.calls = append(a.calls, &call{attempt: a, service: service, asked: g.world.now})
	}
	for i, c := range a.calls {
		if !g.guards[c.service].controller.(door).reserve(g.world.time(), c) {
			g.cancel(a, a.calls[:i])
			g.shed(a, c.service)
			return
		}
	}
	a.doored = true
	g.next(a)
}

// cancel gives back the reservations of calls that are not made.
func (g *gateway) cancel(a *attempt, calls []*call) {
	for _, c := range calls {
		g.guards[c.service].controller.(door).cancel(g.world.time(), c)
	}
}

// next makes the call of the attempt's next step, or responds after the last.
func (g *gateway) next(a *attempt) {
	steps := g.world.scenario.routes[a.stream.route].steps
	if a.step == len(steps) {
		g.world.served(a)
		return
	}
	if !a.doored {
		a.calls = append(a.calls, &call{attempt: a, service: steps[a.step]})
	}
	g.ask(a.calls[a.step])
}

// ask brings a call to the controller of its service.
func (g *gateway) ask(c *call) {
	c.asked = g.world.now
	guard := g.guards[c.service]
	c.stage = waiting
	switch guard.acquire(g.world.time(), c) {
	case admitted:
		g.dispatch(c)
	case shed:
		g.refuse(c)
	}
	g.settle(guard)
}

// settle acts on what the controller decided late, and sets its timer.
func (g *gateway) settle(guard *guard) {
	for len(guard.verdicts) > 0 {
		v := guard.verdicts[0]
		guard.verdicts = guard.verdicts[1:]
		if v.verdict == admitted {
			g.dispatch(v.call)
		} else {
			g.refuse(v.call)
		}
	}
	next := guard.tick(g.world.time())
	if next.IsZero() || next.Equal(guard.timer) || !guard.timer.IsZero() && guard.timer.Before(next) {
		return
	}
	guard.timer = next
	g.world.at(next.Sub(epoch), func() {
		if guard.timer.Equal(next) {
			guard.timer = time.Time{}
			g.settle(guard)
		}
	})
}

// dispatch sends the call to its service.
func (g *gateway) dispatch(c *call) {
	c.stage, c.sent = atService, g.world.now
	g.world.record.dispatched(c)
	g.world.services[c.service].take(c)
}

// undoAgain is how long after it was shed an undo is tried again.
const undoAgain = 50 * time.Millisecond

// refuse ends the attempt of a call that was shed. What its transaction has done is undone.
func (g *gateway) refuse(c *call) {
	c.stage = ended
	if c.undo { // it has to be made
		g.world.at(g.world.now+undoAgain, func() { g.ask(c) })
		return
	}
	a := c.attempt
	g.undo(a, true)
	g.shed(a, c.service)
}

// undo calls the services of the steps that were done.
func (g *gateway) undo(a *attempt, byShedding bool) {
	if a.doored {
		g.cancel(a, a.calls[min(a.step+1, len(a.calls)):])
	}
	for i := a.step - 1; i >= 0; i-- {
		g.world.compensated(byShedding)
		g.ask(&call{attempt: a, service: a.calls[i].service, undo: true})
	}
}

// shed responds that the attempt was shed, and when to come back.
func (g *gateway) shed(a *attempt, service int) {
	after := time.Second
	if adviser, ok := g.guards[service].controller.(adviser); ok {
		after = adviser.retryAfter(g.world.time(), a, g.random)
	}
	// Retry-After is in whole seconds.
	after = time.Duration(math.Ceil(after.Seconds())) * time.Second
	g.world.refused(a, after)
}

// An adviser says when who is shed should come back.
type adviser interface {
	retryAfter(now time.Time, a *attempt, random *rand.Rand) time.Duration
}

// finished hears from a service that a call is done.
func (g *gateway) finished(c *call, hasFailed bool) {
	if c.stage != atService {
		return // nobody waits any more
	}
	o := succeeded
	if hasFailed {
		o = failed
	}
	g.release(c, o)
	switch {
	case c.undo:
	case hasFailed:
		g.undo(c.attempt, false)
		g.world.failed(c.attempt)
	default:
		c.attempt.step++
		g.next(c.attempt)
	}
}

func (g *gateway) release(c *call, o outcome) {
	c.stage = ended
	guard := g.guards[c.service]
	guard.release(g.world.time(), c, o, g.world.now-c.sent)
	g.settle(guard)
}

// timeout ends the attempt of a client that has gone.
func (g *gateway) timeout(a *attempt) {
	c := a.calls[a.step]
	switch c.stage {
	case waiting:
		c.stage = ended
		guard := g.guards[c.service]
		guard.leave(g.world.time(), c)
		g.settle(guard)
	case atService:
		g.release(c, abandoned)
	}
	g.undo(a, false)
}
