package idempotency_test

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// simSubject is a key of a principal, and what the simulator knows about the requests with it.
// World.mu guards all but the first three and bodies.
type simSubject struct {
	principal string
	key       string
	id        string
	bodies    map[[32]byte]string // by fingerprint

	fence      int                             // what was granted up to here the service will not do any more
	read       map[idempotency.State]time.Time // when a claim last found that
	storeError map[string]time.Time            // by gateway: when a claim last failed
	history    []simChange
	repeated   int // executions that should not have been
}

// simChange is since when the record belongs to which request; "" is none.
type simChange struct {
	at   time.Time
	body string
	life int
}

func (s *simSubject) String() string { return s.principal + "/" + s.key }

func (w *simWorld) subject(id string) *simSubject {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.subjects[id]
}

func (s *simSubject) note(b *simBook) {
	now := simChange{time.Now(), "", 0}
	if b.live {
		now.body, now.life = b.body, b.life
	}
	if n := len(s.history); n == 0 || s.history[n-1].body != now.body || s.history[n-1].life != now.life {
		s.history = append(s.history, now)
	}
}

// named makes a name that no other event has.
func (w *simWorld) named(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drawn["named "+name]++
	return name + "#" + strconv.Itoa(w.drawn["named "+name])
}

// know returns the subject of a key, made on first sight.
func (w *simWorld) know(principal, key string) *simSubject {
	s := &simSubject{
		principal: principal, key: key, bodies: map[[32]byte]string{}, read: map[idempotency.State]time.Time{},
		storeError: map[string]time.Time{},
	}
	for _, body := range []string{"a", "b"} {
		x := new(filters.Exchange)
		fill(x, key, body)
		x.Principal = principal
		_, id, fingerprint, refused := w.plan.settings.Inspect(x)
		if refused != nil {
			panic(refused.Reason)
		}
		s.id, s.bodies[fingerprint] = id, body
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := w.subjects[s.id]; known != nil {
		return known
	}
	w.subjects[s.id] = s
	return s
}

// simRequest is one exchange of a client.
type simRequest struct {
	name    string
	subject *simSubject
	body    string
	gateway *simGateway
	began   time.Time
	ended   time.Time // zero: it runs
	left    bool      // its client has
	late    bool      // its claim ran out before anything was sent

	grant      *simGrant // its claim; nil without one
	dispatched bool      // it went on to the service, its exchange alone knows before the end
}

// client sends what it wants done, again and again until it gets a response, gives up, or forgets
// about it.
func (w *simWorld) client(name string) {
	for i := range w.plan.each {
		d := w.dice(name)
		time.Sleep(d.between(0, 3*time.Second))
		era := int(time.Since(w.began) / (12 * time.Second))
		principal := []string{"ann", "bob"}[d.IntN(2)]
		key, body := fmt.Sprintf("k%d.%d", era, d.IntN(2)), "a"
		if d.chance(0.12) {
			body = "b"
		}
		if d.chance(0.1) { // an old one
			key = fmt.Sprintf("k%d.%d", d.IntN(era+1), d.IntN(2))
		}
		for try := 0; try < 6; try++ {
			leaves := time.Duration(0)
			if d.chance(0.12) {
				leaves = d.between(time.Millisecond, 3*time.Second)
			}
			request, place := fmt.Sprintf("%s request %d.%d", name, i, try), d.IntN(len(w.gateways))
			if d.chance(0.2) { // it, or a balancer before the gateways, sends it twice
				wait, other := d.between(time.Microsecond, 300*time.Millisecond), d.IntN(len(w.gateways))
				w.running.Go(func() {
					time.Sleep(wait)
					w.ask(request+" hedged", principal, key, body, other, 0)
				})
			}
			r := w.ask(request, principal, key, body, place, leaves)
			if !r.gone && r.reason == "" && r.status < 425 && d.chance(0.7) {
				break
			}
			time.Sleep(d.between(time.Millisecond, 2500*time.Millisecond))
		}
	}
}

// ask sends one request to the gateway at that place, and judges what comes back.
func (w *simWorld) ask(name, principal, key, body string, place int, leaves time.Duration) simReply {
	subject := w.know(principal, key)
	w.mu.Lock()
	g := w.gateways[place]
	r := &simRequest{name: name, subject: subject, body: body, gateway: g, began: time.Now()}
	if g == nil {
		w.mu.Unlock()
		return simReply{gone: true}
	}
	w.requests = append(w.requests, r)
	w.mu.Unlock()
	w.trace("%s: %s/%s to %s", name, subject, body, g.name)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make(chan simReply, 1)
	w.running.Go(func() {
		g.serve(ctx, r, func(y simReply) {
			w.mu.Lock()
			r.ended = time.Now()
			if !g.deadLocked() {
				w.judge(r, y)
			}
			w.mu.Unlock()
			got <- y
		})
	})
	var left <-chan time.Time
	if leaves > 0 {
		left = time.After(leaves)
	}
	select {
	case y := <-got:
		return y
	case <-g.dead:
	case <-left:
		w.mu.Lock()
		r.left = true
		w.seen["clients gone"]++
		w.mu.Unlock()
	}
	return simReply{gone: true}
}

// judge: a duplicate gets the recorded response or a clear refusal, and the right one. World.mu is
// held.
func (w *simWorld) judge(r *simRequest, y simReply) {
	s := r.subject
	w.traceLocked("%s: %s/%s gets %d %s %s, replayed %v", r.name, s, r.body, y.status, y.reason, y.execution,
		y.replayed)
	fail := func(format string, args ...any) {
		w.failLocked("%s (%s/%s, to %s %v ago) gets %d %s (execution %s): %s", r.name, s, r.body, r.gateway.name,
			time.Since(r.began), y.status, y.reason, y.execution, fmt.Sprintf(format, args...))
	}
	from := w.joinedSince(r)
	if y.reason == "" && y.execution != "" {
		w.judgeResponse(r, y, fail)
	}
	if most := w.waitBudget(); !r.dispatched && time.Since(r.began) > most && r.gateway.stopped.Before(r.began) {
		fail("that took more than %v", most)
	}
	switch y.reason {
	case filters.KeyReused:
		w.seen["mismatches"]++
		if !s.belonged(from, func(body string) bool { return body != "" && body != r.body }) {
			fail("there is no record of another request")
		}
	case filters.RequestInProgress:
		w.seen["in progress"]++
		if r.dispatched {
			w.seen["late owners told that the request is in progress"]++
		}
		if !w.busy(r, from) {
			fail("nothing runs")
		}
	case filters.OutcomeUnknown:
		w.seen["outcome unknown"]++
		if r.dispatched { // a late owner
			w.seen["late owners told that the outcome is unknown"]++
		} else if w.plan.mode == "retry" {
			fail("it may be tried again")
		} else if s.read[idempotency.Unknown].Before(from) {
			fail("the store did not say so")
		}
	case filters.ResponseNotReplayable:
		w.seen["not replayable"]++
	case filters.StoreUnavailable:
		w.seen["store unavailable"]++
		if s.storeError[r.gateway.name].Before(from) && !r.late {
			fail("the store did reply")
		}
	case filters.TooManyOpenKeys:
		if w.plan.settings.MaxOpenKeys == 0 {
			fail("there is no quota")
		}
	}
	w.judgePromise(r, y, from, fail)
	w.judgeFailure(r, y, fail)
}

// judgeFailure: an owner without a response, whose claim was lost when the record was answered, is
// not told that the request failed.
func (w *simWorld) judgeFailure(r *simRequest, y simReply, fail func(string, ...any)) {
	s, g := r.subject, r.grant
	if g == nil || g.outdone.IsZero() {
		return
	}
	b := w.store.books[s.id]
	if !b.answeredFor(g) || !w.store.clock().Before(b.expires) || !w.store.lastLoss[s.id].Before(g.outdone) ||
		!s.storeError[r.gateway.name].Before(g.outdone) {
		return
	}
	w.seen["late owners without a response, of an answered record"]++
	e := w.service.executions[b.exec]
	if y.execution != strconv.Itoa(b.exec) && !(e.long && y.reason == filters.ResponseNotReplayable) {
		fail("recorded was %s when its claim was lost", e.name(w))
	}
}

// waitBudget is how long a request can take that the service does not see: the route's wait, the
// store's time-outs around it, and the question to the service.
func (w *simWorld) waitBudget() time.Duration {
	most := w.plan.settings.Wait + 5*w.plan.limit
	if w.plan.mode == "probe" {
		most += simProbeMax
	}
	return most
}

// judgeResponse: it is the service's response to that very request, and the store has it, or had
// its chance.
func (w *simWorld) judgeResponse(r *simRequest, y simReply, fail func(string, ...any)) {
	n, err := strconv.Atoi(y.execution)
	if err != nil || n < 0 || n >= len(w.service.executions) {
		fail("it belongs to no execution")
		return
	}
	e := w.service.executions[n]
	if e.id != r.subject.id || e.body != r.body {
		fail("it is the response to %s", e.name(w))
	}
	if e.status != y.status || !e.long && (y.body != e.text(w) || y.trailer != y.execution) {
		fail("the service's was %d %q", e.status, e.text(w))
	}
	if e.grant != nil && !e.told {
		fail("the store has not been told of it")
	}
	if !y.replayed && !y.own {
		fail("it does not say that it is a replay")
	}
	if r.dispatched && y.replayed {
		w.seen["late owners given the recorded response"]++
	}
	w.judgeOne(e, y, fail)
}

// judgeOne: all that clients get while a record lives is the response of one execution. Where the
// store did not listen, or has lost steps of the record, a client may have got what is not
// recorded.
func (w *simWorld) judgeOne(e *simExecution, y simReply, fail func(string, ...any)) {
	if e.grant == nil || y.own && e.unheard || w.store.lost[e.id] > 0 {
		return
	}
	given, ok := w.given[e.grant.life]
	if ok && given != e.n {
		fail("another client got that of execution %d, of the same record", given)
	}
	w.given[e.grant.life] = e.n
}

// judgePromise: what stood in the store for as long as the request ran decides what it gets.
func (w *simWorld) judgePromise(r *simRequest, y simReply, from time.Time, fail func(string, ...any)) {
	s, b := r.subject, w.store.books[r.subject.id]
	if b == nil || w.store.lastLoss[s.id].After(from) || !w.store.clock().Before(b.expires) ||
		w.plan.settings.FailOpen {
		return
	}
	excused := y.reason == filters.StoreUnavailable || r.left
	switch {
	case !b.live || excused:
	case b.body != r.body:
		if y.reason != filters.KeyReused && s.belonging(from, b.life) {
			fail("the key is that of request %s", b.body)
		}
	case b.answered && b.since.Before(from):
		e := w.service.executions[b.exec]
		if y.reason == filters.ResponseNotReplayable && e.long {
			return
		}
		if !y.replayed || y.execution != strconv.Itoa(b.exec) {
			fail("recorded was %s", e.name(w))
		}
	}
}

// joinedSince is since when a call may have been in flight that this request has joined.
func (w *simWorld) joinedSince(r *simRequest) time.Time {
	from := r.began
	for _, other := range w.requests {
		if other.gateway == r.gateway && other.subject == r.subject && other.body == r.body &&
			other.began.Before(from) && (other.ended.IsZero() || !other.ended.Before(r.began)) {
			from = other.began
		}
	}
	return from
}

// busy: another exchange with the key was under way, or a claim ran, at some moment since then.
func (w *simWorld) busy(r *simRequest, from time.Time) bool {
	if !r.subject.read[idempotency.InFlight].Before(from) {
		return true
	}
	for _, other := range w.requests {
		if other != r && other.subject == r.subject && (other.ended.IsZero() || !other.ended.Before(from)) {
			return true
		}
	}
	return false
}

// belonged: the record belonged to such a request at some moment since then.
func (s *simSubject) belonged(from time.Time, to func(body string) bool) bool {
	for i := len(s.history) - 1; i >= 0; i-- {
		if to(s.history[i].body) {
			return true
		}
		if s.history[i].at.Before(from) {
			return false
		}
	}
	return false
}

// belonging: the record of that life was there all the time since then.
func (s *simSubject) belonging(from time.Time, life int) bool {
	n := len(s.history)
	return n > 0 && s.history[n-1].life == life && s.history[n-1].at.Before(from)
}
