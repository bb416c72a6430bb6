package idempotency_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// simService is what the gateways protect. It has no memory of keys where the route holds unknown
// outcomes; what it does is an effect each time. World.mu guards it.
type simService struct {
	w          *simWorld
	executions []*simExecution
}

// simExecution is an effect at the service.
type simExecution struct {
	n       int
	grant   *simGrant // nil: the gateway forwarded without a claim, as its route says
	id      string
	body    string
	attempt int
	at      time.Time
	ends    time.Time // its effect is there at the latest
	status  int       // of the response that belongs to it, whatever the gateway gets
	long    bool
	told    bool // the store has been told of the response, or did not listen
	unheard bool // the store did not listen: its gateway may give the response to the client all the same
}

func (e *simExecution) name(w *simWorld) string {
	return fmt.Sprintf("execution %d of %s/%s attempt %d", e.n, w.subjects[e.id], e.body, e.attempt)
}

// text is the body of its response.
func (e *simExecution) text(w *simWorld) string {
	if e.n%4 == 0 { // worth compressing
		return e.name(w) + strings.Repeat(" and so on", 60)
	}
	return e.name(w)
}

// executionIn reads the stored form of a response.
func (w *simWorld) executionIn(id string, stored []byte) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.executionInLocked(id, stored)
}

func (w *simWorld) executionInLocked(id string, stored []byte) int {
	a, err := w.codec.Open(id, stored)
	if err != nil {
		w.failLocked("a response of %s does not open: %v", w.subjects[id], err)
		return -1
	}
	n, err := strconv.Atoi(a.Header.Get("X-Execution"))
	if err != nil || n >= len(w.service.executions) {
		w.failLocked("a response of %s belongs to no execution: %+v", w.subjects[id], a)
		return -1
	}
	return n
}

// execute is the effect. False: the service has said of this claim that it was not done and will
// not be.
func (s *simService) execute(r *simRequest, g *simGrant, attempt int, d simDice) (*simExecution, bool) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &simExecution{n: len(s.executions), grant: g, id: r.subject.id, body: r.body, attempt: attempt, at: time.Now(),
		status: 201, long: d.chance(0.04) && !w.calm}
	if !w.calm && d.chance(0.1) {
		e.status, e.long = 400, false
	}
	if g != nil {
		if w.plan.mode == "probe" && g.order <= r.subject.fence {
			w.seen["refused by the service after a probe"]++
			return nil, false
		}
		s.judge(e, r)
		g.effects = max(g.effects, e.attempt)
	}
	s.executions = append(s.executions, e)
	w.traceLocked("service: %s, asked by %s", e.name(w), r.name)
	return e, true
}

// judge: each logical request happens once while its record lives, or again only where the route
// says that the service takes a higher attempt for what it is.
func (s *simService) judge(e *simExecution, r *simRequest) {
	w, g := s.w, e.grant
	if g.freed > 0 && e.attempt >= g.freed {
		w.failLocked("%s: %s was freed before", e.name(w), g.name)
	}
	if e.attempt < g.attempt || e.attempt > g.attempt && !g.repeated {
		w.failLocked("%s: %s was granted attempt %d", e.name(w), g.name, g.attempt)
	}
	forbids, first := "", s.firstOf(e.id, g.life) == nil
	for _, before := range s.executions {
		if before.grant == nil || before.id != e.id || !s.oneLife(before, e) || before.grant.life != g.life && !first {
			continue
		}
		higher := before.attempt < e.attempt && before.grant.order <= g.order || before.attempt > e.attempt &&
			before.grant.order >= g.order
		if before.body != e.body || w.plan.mode != "retry" || !higher {
			forbids = before.name(w)
		}
	}
	if forbids == "" {
		return
	}
	if r.subject.repeated++; r.subject.repeated > w.store.lost[e.id] { // each loss of an acknowledged step may cost one
		w.failLocked("%s after %s; that was the %d. time, and %d steps of the record were lost", e.name(w), forbids,
			r.subject.repeated, w.store.lost[e.id])
	}
}

// oneLife: the record of the first one cannot be over by the second, by the store's reckoning or by
// anybody's.
func (s *simService) oneLife(a, b *simExecution) bool {
	if a.grant.life == b.grant.life {
		return true
	}
	slack := 2*s.w.plan.settings.MaxInFlight + simJumpMax*4 + 30*time.Second
	return s.w.plan.settings.TTL > 2*slack && b.at.Sub(a.at) < s.w.plan.settings.TTL-slack && !s.w.plan.jumps
}

// forward is dispatch, and again where the route says that the service takes a higher attempt for
// what it is.
func (g *simGateway) forward(x *filters.Exchange, r *simRequest) filters.Outcome {
	w := g.w
	// so that a renewal that is overdue has begun for certain
	time.Sleep(w.dice("sending "+r.name).between(time.Microsecond, time.Millisecond))
	g.awake("sending " + r.name)
	if x.Logical.Claim != nil && !x.Logical.Claim.Valid(time.Now()) {
		w.mu.Lock()
		r.late = true
		w.seen["claims that ran out before anything was sent"]++
		w.mu.Unlock()
		return refuseExchange(x, filters.StoreUnavailable, filters.Refused)
	}
	o := g.dispatch(x, r)
	for o == filters.NoResponse && x.Logical.Resend && !g.isDead() && !w.isCalm() &&
		w.dice("repetition of "+r.name).chance(0.3) {
		if !x.BeginAttempt() {
			w.saw("repetitions that the store did not take")
			break
		}
		x.Inject.Set("Sluice-Attempt", strconv.Itoa(x.Logical.Attempt))
		if claim := x.Logical.Claim; claim != nil {
			w.mu.Lock()
			w.grants[claim.Claimed().Token].repeated = true
			w.seen["repetitions by the gateway"]++
			w.mu.Unlock()
		}
		o = g.dispatch(x, r)
	}
	return o
}

// dispatch sends the request on and fills the exchange with what comes back.
func (g *simGateway) dispatch(x *filters.Exchange, r *simRequest) filters.Outcome {
	w := g.w
	var grant *simGrant
	name := "unprotected " + r.name
	if claim := x.Logical.Claim; claim != nil {
		w.mu.Lock()
		grant = w.grants[claim.Claimed().Token]
		w.mu.Unlock()
		name = grant.name
	} else {
		w.saw("opened without protection")
	}
	if inject := x.Inject.Get("Sluice-Attempt"); inject != strconv.Itoa(x.Logical.Attempt) ||
		x.Inject.Get("Idempotency-Key") != r.subject.id {
		w.fail("%s: injected %v at attempt %d", name, x.Inject, x.Logical.Attempt)
	}
	g.awake("dispatch " + name)
	if g.isDead() {
		return refuseExchange(x, filters.UpstreamFailed, filters.NoResponse)
	}
	d := w.dice("service " + name)
	fate, calm := d.Float64(), w.isCalm()
	switch {
	case calm:
	case fate < 0.03:
		return refuseExchange(x, filters.BreakerOpen, filters.Refused)
	case fate < 0.06:
		time.Sleep(d.between(time.Millisecond, 50*time.Millisecond))
		return refuseExchange(x, filters.UpstreamUnreachable, filters.NotDispatched)
	}
	x.Dispatched = true
	time.Sleep(d.between(time.Millisecond, 30*time.Millisecond))
	attempt := x.Logical.Attempt
	switch {
	case calm:
	case fate < 0.10: // before it was read
		return refuseExchange(x, filters.UpstreamFailed, filters.NoResponse)
	case fate < 0.15:
		return respond(x, []int{503, 429, 425}[d.IntN(3)], nil)
	case fate < 0.19: // executed when the gateway has given up
		w.running.Add(1)
		wait := d.between(10*time.Millisecond, 5*time.Second)
		late := w.dice("late " + name)
		go func() {
			defer w.running.Done()
			time.Sleep(wait + late.between(time.Millisecond, 2*time.Second))
			w.saw("executions after the time-out")
			g.service().execute(r, grant, attempt, late)
		}()
		time.Sleep(wait)
		return refuseExchange(x, filters.UpstreamTimeout, filters.NoResponse)
	}
	e, done := g.service().execute(r, grant, attempt, d)
	if !done {
		return respond(x, 425, nil)
	}
	return g.executed(x, e, d, fate, calm)
}

// executed waits for the end of an execution and fills the exchange with what the gateway gets of
// it.
func (g *simGateway) executed(
	x *filters.Exchange, e *simExecution, d simDice, fate float64, calm bool,
) filters.Outcome {
	s := &g.w.plan.settings
	takes := d.between(time.Millisecond, 400*time.Millisecond)
	switch {
	case calm:
	case fate < 0.30:
		takes = d.between(s.Lease, s.MaxInFlight)
	case fate < 0.35:
		takes = d.between(s.MaxInFlight, s.MaxInFlight+4*time.Second)
	}
	g.service().endsAt(e, time.Now().Add(takes))
	time.Sleep(takes)
	switch {
	case calm:
	case fate > 0.95:
		return refuseExchange(x, filters.UpstreamFailed, filters.NoResponse)
	case fate > 0.92:
		return refuseExchange(x, filters.UpstreamTimeout, filters.NoResponse)
	case fate > 0.88:
		return respond(x, 500, nil)
	}
	respond(x, e.status, g.service().response(e))
	x.Response.Whole = !e.long
	if e.long {
		x.Response.Body, x.Response.Trailer = nil, nil
	}
	return filters.Completed
}

func (g *simGateway) service() *simService { return g.w.service }

func (s *simService) endsAt(e *simExecution, t time.Time) {
	s.w.mu.Lock()
	e.ends = t
	s.w.mu.Unlock()
}

func (s *simService) response(e *simExecution) *idempotency.Response {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return e.response(s.w)
}

// response is what belongs to an execution, be it told by the service at once or when it is asked.
// World.mu is held.
func (e *simExecution) response(w *simWorld) *idempotency.Response {
	n := strconv.Itoa(e.n)
	return &idempotency.Response{
		Status: e.status, Body: []byte(e.text(w)), Replayable: true,
		Header:  filters.Header{{Name: "X-Execution", Value: n}, {Name: "Set-Cookie", Value: "s=1"}},
		Trailer: filters.Header{{Name: "X-End-Of", Value: n}},
	}
}

// firstOf returns the first execution under a record, nil without one. World.mu is held.
func (s *simService) firstOf(id string, life int) *simExecution {
	for _, e := range s.executions {
		if e.id == id && e.grant != nil && e.grant.life == life {
			return e
		}
	}
	return nil
}

func refuseExchange(x *filters.Exchange, reason filters.Reason, o filters.Outcome) filters.Outcome {
	x.SetReply(filters.Refuse(reason, filters.Problem{}))
	return o
}

func respond(x *filters.Exchange, status int, a *idempotency.Response) filters.Outcome {
	x.Response = filters.Response{Status: status, Whole: true}
	if a != nil {
		x.Response.Header, x.Response.Body, x.Response.Trailer = a.Header, a.Body, a.Trailer
	}
	return filters.Completed
}

const simProbeMax = 4 * time.Second

// Probe asks the service what became of a request; the gateway's way there is as bad as any. A
// service that says "not done" keeps its word: whatever was granted before and has not come yet it
// refuses.
func (g *simGateway) Probe(x *filters.Exchange, _ string, attempt int) (idempotency.Response, bool) {
	w := g.w
	id := strings.Clone(x.Logical.Key)
	name := fmt.Sprintf("%s probe %s", g.name, w.subject(id))
	d := w.dice(name)
	g.awake(name)
	time.Sleep(d.between(time.Millisecond, 30*time.Millisecond))
	if g.isDead() || !w.isCalm() && d.chance(0.1) {
		return idempotency.Response{}, false
	}
	e, status := g.service().find(id)
	if !w.isCalm() && d.chance(0.3) { // what it says is old when it comes
		time.Sleep(d.between(100*time.Millisecond, simProbeMax-100*time.Millisecond))
	}
	time.Sleep(d.between(time.Millisecond, 30*time.Millisecond))
	g.awake(name)
	w.trace("%s: %d", name, status)
	if e == nil {
		return idempotency.Response{Status: status}, true
	}
	return *g.service().response(e), true
}

// find returns what the service did under the present record of that ID.
func (s *simService) find(id string) (*simExecution, int) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.store.books[id]
	if b == nil || !b.live {
		return nil, 425
	}
	if e := s.firstOf(id, b.life); e != nil {
		if time.Now().Before(e.ends) {
			w.seen["probes: undecided"]++
			return nil, 425
		}
		w.seen["probes: done"]++
		return e, e.status
	}
	w.seen["probes: not done"]++
	w.subjects[id].fence = w.store.order
	return nil, 404
}
