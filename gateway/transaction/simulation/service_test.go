package simulation

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// longestCall is the longest that a gateway waits for a service.
const longestCall = 4 * time.Second

// services are the services of all steps. They keep the rules of PROTOCOL.md: a repeated call is done once, an undo
// without its do is accepted, and the do that comes after it is refused. World.mu guards them.
type services struct {
	w         *world
	steps     map[string]*step // by gid/step
	downUntil time.Time
	downStep  string
}

// step is what became of one step of one transaction.
type step struct {
	gid, name string
	executing int // dos that are being done
	undoing   int
	done      bool
	undone    bool // whether there was something to undo or not: no do is accepted any more
	confirmed bool
	forward   operation // do, try, primary
	back      operation // undo, cancel
	confirm   operation
	query     operation // of a primary
}

// effective reports whether something is left of the step: of TCC at least what it holds.
func (s *step) effective() bool { return s.done && !s.undone }

// operation is one of the operations of a step, as it was called.
type operation struct {
	of     *step
	op     string
	calls  []*serviceCall
	stored bool // the store has the end of it
}

func (o *operation) String() string { return name(o.of.gid) + "/" + o.of.name + "/" + o.op }

// serviceCall is one dispatch.
type serviceCall struct {
	by      *gateway
	attempt int
	open    bool // its gateway waits for the response
	status  int  // the final one that the gateway got; 0: none
}

func newServices(w *world) *services { return &services{w: w, steps: map[string]*step{}} }

// stepOf returns the step, made on first sight. World.mu is held.
func (s *services) stepOf(gid, name string) *step {
	st := s.steps[gid+"/"+name]
	if st == nil {
		st = &step{gid: gid, name: name}
		st.forward, st.back = operation{of: st, op: "do"}, operation{of: st, op: "undo"}
		st.confirm, st.query = operation{of: st, op: "confirm"}, operation{of: st, op: "query"}
		s.steps[gid+"/"+name] = st
	}
	return st
}

// operationOf returns the operation that the record of a branch is of, by its key; nil for another record.
func (s *services) operationOf(key string) *operation {
	p := strings.Split(key, "/")
	if len(p) != 3 {
		return nil
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if p[1] == "" { // the decision
		return nil
	}
	return s.stepOf(p[0], p[1]).operation(p[2])
}

// operation returns an operation by its name.
func (s *step) operation(name string) *operation {
	switch name {
	case "undo", "cancel", "rollback":
		return &s.back
	case "confirm", "commit":
		return &s.confirm
	case "query":
		return &s.query
	}
	return &s.forward // do, try, primary
}

// CallBranch implements transaction.Services: a call over the network to the service of the step.
func (g *gateway) CallBranch(ctx context.Context, service string, x *filters.Exchange, _ []byte) (
	int, []byte, filters.Outcome,
) {
	w := g.w
	gid := x.Inject.Get("Sluice-Transaction")
	attempt, _ := strconv.Atoi(x.Inject.Get("Sluice-Attempt"))
	label := fmt.Sprintf("%s to %s%s of %s", g.name, service, x.Path, name(gid))
	d, p := w.dice(label), w.trouble()
	ctx, cancel := context.WithTimeout(ctx, longestCall)
	defer cancel()
	if g.isDead() {
		time.Sleep(d.between(time.Microsecond, time.Millisecond))
		return 0, nil, filters.NotDispatched
	}
	if w.services.isDown(service) || d.chance(p/2) {
		time.Sleep(d.between(50*time.Microsecond, 2*time.Millisecond))
		return 502, nil, filters.NotDispatched
	}
	if d.chance(p / 2) {
		x.Response.Reason = filters.Overloaded
		return 503, nil, filters.NotDispatched
	}
	x.Dispatched = true
	op := strings.TrimPrefix(x.Path, "/")
	var register func() int
	if w.plan.mode == modeXA {
		q, err := url.ParseQuery(x.RawQuery)
		if err != nil {
			panic(err)
		}
		op = q.Get("op")
		register = func() int { return w.register(label, q) }
	}
	c := w.services.send(g, gid, service, op, attempt)
	got := make(chan int, 1)
	w.running.Go(func() { w.services.serve(label, c, d, p, register, got) })
	status := 0
	select {
	case status = <-got:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c.open = false
	w.traceLocked("%s, attempt %d: %d", label, attempt, status)
	if status == 0 {
		return 0, nil, filters.NoResponse
	}
	if w.plan.final(service, c.on.op, status) && !g.isDead() {
		c.status = status
	}
	return status, []byte(`{"id":"7"}`), filters.Completed
}

// final reports whether a status ends the operation, by the settings of the steps.
func (p *plan) final(step, op string, status int) bool {
	switch op {
	case "do":
		return status == 200 || p.mode == modeXA || status == 409 && !p.delivered(step)
	case "confirm":
		return status == 200
	}
	return status == 200 || status == 404
}

// dispatched is a call on its way.
type dispatched struct {
	*serviceCall
	on *operation
}

// send judges a call that a gateway makes now.
func (s *services) send(g *gateway, gid, service, op string, attempt int) dispatched {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	st := s.stepOf(gid, service)
	on := st.operation(op)
	w.traceLocked("%s sends %s, attempt %d", g.name, on, attempt)
	w.judgeSendLocked(g, on, attempt)
	c := &serviceCall{by: g, attempt: attempt, open: true}
	on.calls = append(on.calls, c)
	return dispatched{c, on}
}

// serve is the service at work on one call.
func (s *services) serve(
	label string, c dispatched, d dice, p float64, register func() int, got chan<- int,
) {
	there, back := d.between(50*time.Microsecond, 3*time.Millisecond), d.between(50*time.Microsecond,
		3*time.Millisecond)
	takes := d.between(time.Millisecond, 300*time.Millisecond)
	if d.chance(p) {
		there = d.between(100*time.Millisecond, 15*time.Second)
	}
	if d.chance(0.1) && !s.w.isCalm() {
		takes = d.between(time.Second, longestCall)
	}
	if d.chance(p) {
		takes = d.between(longestCall/2, 3*longestCall)
	}
	before, after, lost := d.chance(p/2), d.chance(p/2), d.chance(p/2)
	time.Sleep(there)
	status, goesOn := s.begin(c.on, before, d)
	if goesOn {
		time.Sleep(takes)
		if c.on.op == "do" && register != nil {
			status = register()
		}
		status = s.finish(c.on, status)
	}
	if after {
		status = 500
	}
	s.w.trace("%s: the service says %d", label, status)
	time.Sleep(back)
	if !lost {
		got <- status
	}
}

// begin decides about a call that has arrived. goesOn: it is being done, and finish has to follow.
func (s *services) begin(on *operation, fails bool, d dice) (status int, goesOn bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	st := on.of
	switch {
	case fails:
		return 500, false
	case on.op == "do" && (st.undone || st.undoing > 0):
		return 409, false
	case on.op == "do" && s.w.plan.mode == modeXA && (st.done || st.executing > 0): // the database has that branch
		return 500, false
	case on.op == "do" && st.done:
		return 200, false
	case on.op == "do" && st.executing > 0:
		return s.w.plan.busy, false
	case on.op == "do" && st.refusesNow(s.w):
		return 409, false
	case on.op == "do":
		st.executing++
		return 200, true
	case on.op == "confirm":
		return s.confirmLocked(st), false
	case on.op == "query" && st.executing > 0:
		return 503, false
	case on.op == "query" && st.done:
		return 200, false
	case on.op == "query": // from now on no primary is accepted
		st.undone = true
		return 404, false
	case st.executing > 0:
		return 503, false
	case st.undone && st.done:
		return 200, false
	case !st.done: // from now on no do is accepted
		st.undone = true
		if s.w.plan.mode == modeXA { // there is no branch of that name to roll back, which is well
			return 200, false
		}
		return []int{200, 404}[d.IntN(2)], false
	}
	st.undoing++
	return 200, true
}

// refusesNow: the service has a reason that lasts.
func (st *step) refusesNow(w *world) bool {
	return !w.plan.delivered(st.name) && w.refuses(st.gid, st.name)
}

// confirmLocked brings what a try holds to its end.
func (s *services) confirmLocked(st *step) int {
	switch {
	case !st.done || st.undone || st.undoing > 0:
		s.w.failLocked("%s/%s is confirmed; tried %v, cancelled %v", name(st.gid), st.name, st.done, st.undone)
		return 409
	case !st.confirmed:
		st.confirmed = true
		s.w.judgeEffectLocked(st, "confirm")
	}
	return 200
}

func (s *services) finish(on *operation, status int) int {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	st := on.of
	if on.op == "do" {
		st.executing--
		if status == 200 && !st.done {
			st.done = true
			s.w.judgeEffectLocked(st, "do")
		}
		return status
	}
	st.undoing--
	if !st.undone {
		st.undone = true
		s.w.judgeEffectLocked(st, "undo")
	}
	return status
}

func (s *services) isDown(service string) bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return !s.w.calm && s.downStep == service && time.Now().Before(s.downUntil)
}

func (s *services) takeDown(service string, d time.Duration) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.downStep, s.downUntil = service, time.Now().Add(d)
	s.w.seen["services down"]++
	s.w.traceLocked("service %s is down for %v", service, d)
}
