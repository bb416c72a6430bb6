package idempotency_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// simResult is what a step gives.
type simResult struct {
	rec idempotency.Record
	ok  bool
	err error
}

// simConn is a gateway's way to the store: an [idempotency.Store].
type simConn struct {
	s *simStore
	g *simGateway
}

// call takes a step at the store. The grant is the one that it is about, if any.
func (c *simConn) call(name string, g *simGrant, step func() simResult) simResult {
	r, fault := c.attempt(name, step)
	// by its gateway, and in good time
	givenBack := strings.HasPrefix(name, "claim ") && (fault == "not acknowledged" || fault == "late")
	if g != nil && fault != "" && !givenBack {
		c.s.w.mu.Lock()
		g.hindered = true
		c.s.w.mu.Unlock()
	}
	return r
}

// attempt goes there, takes the step, and comes back, with everything that can happen on the way;
// it says what did.
func (c *simConn) attempt(name string, step func() simResult) (_ simResult, fault string) {
	w := c.s.w
	name = c.g.name + " " + name
	d := w.dice(name)
	c.g.awake(name)
	if c.g.isDead() {
		time.Sleep(d.between(time.Millisecond, 5*time.Millisecond))
		return simResult{err: errSimDown}, "dead"
	}
	there, back, limit := d.between(20*time.Microsecond, 5*time.Millisecond), d.between(20*time.Microsecond,
		5*time.Millisecond), w.plan.limit+d.between(0, time.Millisecond)
	notTaken, notAcknowledged := false, false
	if p := w.plan.trouble; !w.isCalm() {
		switch {
		case d.chance(p):
			notTaken = true
		case d.chance(p):
			notAcknowledged = true
		case d.chance(p) && !w.plan.inProcess:
			there = d.between(limit/2, 4*limit)
		case d.chance(p):
			back = d.between(limit/2, 4*limit)
		}
	}
	if notTaken {
		w.trace("%s: not taken", name)
		c.blame(name, "not taken")
		time.Sleep(limit)
		return c.late(name), "not taken"
	}
	if there >= limit { // the caller gives up, and the step is taken all the same
		c.blame(name, "late")
		go func() {
			time.Sleep(there)
			_ = c.take(name, step)
		}()
		time.Sleep(limit)
		return c.late(name), "late"
	}
	time.Sleep(there)
	crashes := c.s.crashCount()
	r := c.take(name, step)
	if errors.Is(r.err, errSimDown) {
		time.Sleep(back)
		return c.late(name), "down"
	}
	if notAcknowledged || there+back >= limit {
		c.blame(name, "not acknowledged")
		time.Sleep(limit - there)
		return c.late(name), "not acknowledged"
	}
	time.Sleep(back)
	if c.s.crashCount() != crashes || c.g.isDead() {
		return c.late(name), "crash"
	}
	c.g.awake(name)
	return r, ""
}

func (c *simConn) late(name string) simResult {
	c.g.awake(name)
	return simResult{err: errSimStore}
}

// blame counts what befell a claim or an end.
func (c *simConn) blame(name, what string) {
	kind := ""
	switch step, _, _ := strings.Cut(strings.TrimPrefix(name, c.g.name+" "), " "); step {
	case "claim":
		kind = "claims "
	case "finish", "free", "mark-unknown":
		kind = "ends "
	default:
		return
	}
	switch what {
	case "late":
		c.s.w.saw("calls that arrive after their time-out")
	case "not taken":
		c.s.w.saw(kind + "not taken")
	default:
		c.s.w.saw(kind + "taken and not acknowledged")
	}
}

// take is the step itself.
func (c *simConn) take(name string, step func() simResult) simResult {
	s := c.s
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if time.Now().Before(s.downUntil) || s.w.plan.inProcess && c.g.deadLocked() {
		s.w.traceLocked("%s: store is down", name)
		return simResult{err: errSimDown}
	}
	r := step()
	s.w.traceLocked("%s: %s attempt %d, ok %v, error %v", name, r.rec.State, r.rec.Attempt, r.ok, r.err)
	return r
}

func (s *simStore) crashCount() int {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.crashes
}

func (c *simConn) Claim(_ context.Context, q idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	s := c.s
	q.ID, q.Route = strings.Clone(q.ID), strings.Clone(q.Route)
	q.Principal, q.ClientKey = strings.Clone(q.Principal), strings.Clone(q.ClientKey)
	s.w.mu.Lock()
	subject := s.w.subjects[q.ID]
	g := &simGrant{token: q.Token, id: q.ID, gateway: c.g, body: subject.bodies[q.Fingerprint]}
	s.w.grants[q.Token] = g
	s.w.mu.Unlock()
	name := fmt.Sprintf("claim %s/%s", subject, g.body)
	g.name = s.w.named(c.g.name + " " + name)
	r := c.call(name, g, func() simResult { return s.claim(g, q) })
	if r.err != nil && !errors.Is(r.err, idempotency.ErrTooManyOpen) {
		s.w.mu.Lock()
		subject.storeError[c.g.name] = time.Now()
		s.w.mu.Unlock()
	}
	return r.rec, r.ok, r.err
}

func (s *simStore) claim(g *simGrant, q idempotency.ClaimRequest) simResult {
	s.look(q.ID)
	now, b := s.clock(), s.books[q.ID]
	next, claimed := idempotency.Claim(s.records[q.ID], q, now)
	subject := s.w.subjects[q.ID]
	if !claimed {
		b.compare(s.w, subject, next, true, now)
		subject.read[next.State] = time.Now()
		return simResult{rec: next}
	}
	if q.MaxOpen > 0 && s.records[q.ID] == nil && s.open(q.ID, now) >= q.MaxOpen {
		s.w.seen["too many open"]++
		return simResult{err: idempotency.ErrTooManyOpen}
	}
	s.remember(q.ID)
	b.grant(s, g, q, &next, now)
	s.records[q.ID] = &next
	s.changedRecord(q.ID)
	return simResult{rec: next, ok: true}
}

// open counts the live records of an owner the hard way.
func (s *simStore) open(id string, now time.Time) (n int) {
	for _, rec := range s.records {
		if _, live := idempotency.View(rec, now); live && rec.Counted &&
			idempotency.Owner(rec.ID) == idempotency.Owner(id) {
			n++
		}
	}
	return n
}

func (s *simStore) changedRecord(id string) {
	s.w.subjects[id].note(s.books[id])
	s.wake(id)
}

var simOps = map[idempotency.Op]string{
	idempotency.Renew: "renew", idempotency.Finish: "finish", idempotency.Free: "free",
	idempotency.MarkUnknown: "mark-unknown", idempotency.Delegate: "delegate",
}

func (c *simConn) Change(_ context.Context, id string, token uint64, ch idempotency.Change) error {
	s := c.s
	id, ch.Response = strings.Clone(id), bytes.Clone(ch.Response)
	s.w.mu.Lock()
	g := s.w.grants[token]
	s.w.mu.Unlock()
	if g == nil && ch.Op == idempotency.Finish {
		g = s.probed(c.g, id, token, ch.Created)
	}
	if g == nil {
		s.w.fail("a step under token %d, which nobody drew", token)
		return idempotency.ErrLost
	}
	exec := -1
	if ch.Op == idempotency.Finish {
		exec = s.w.executionIn(id, ch.Response)
	}
	r := c.call(simOps[ch.Op]+" "+g.name, g, func() simResult { return s.change(g, id, ch, exec) })
	if exec >= 0 { // be it that the store did not listen
		s.w.mu.Lock()
		e := s.w.service.executions[exec]
		e.told = true
		e.unheard = e.unheard || r.err != nil && !errors.Is(r.err, idempotency.ErrLost)
		s.w.mu.Unlock()
	}
	if ch.Op == idempotency.Free || ch.Op == idempotency.MarkUnknown {
		s.w.mu.Lock()
		g.ends++
		if b := s.books[id]; g.ends == 1 && errors.Is(r.err, idempotency.ErrLost) && b.answeredFor(g) {
			g.outdone = time.Now()
		}
		s.w.mu.Unlock()
	}
	return r.err
}

// probed is what a gateway has that was told by the service what became of a request: no claim, and
// the right to settle an unknown outcome of the record that it asked about.
func (s *simStore) probed(gateway *simGateway, id string, token uint64, created time.Time) *simGrant {
	name := s.w.named(fmt.Sprintf("%s probe's response %s", gateway.name, s.w.subject(id)))
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	g := &simGrant{name: name, token: token, id: id, gateway: gateway}
	if b := s.books[id]; b != nil && b.live && b.created.Equal(created) {
		g.life = b.life
	}
	s.w.grants[token] = g
	return g
}

func (s *simStore) change(g *simGrant, id string, ch idempotency.Change, exec int) simResult {
	s.look(id)
	now, b := s.clock(), s.books[id]
	next, remove, err := idempotency.Apply(s.records[id], g.token, ch, now)
	if err == nil {
		s.remember(id)
		if exec >= 0 {
			s.w.service.executions[exec].told = true
		}
	}
	b.change(s, g, ch, exec, &next, remove, err, now)
	switch {
	case err != nil:
		return simResult{err: err}
	case remove:
		delete(s.records, id)
	default:
		s.records[id] = &next
	}
	b.compare(s.w, s.w.subjects[id], next, !remove, now)
	if ch.Op != idempotency.Renew {
		s.changedRecord(id)
	}
	return simResult{rec: next}
}

func (c *simConn) Get(_ context.Context, id string) (idempotency.Record, bool, error) {
	id = strings.Clone(id)
	r := c.get("get", id)
	if r.err != nil {
		c.s.w.mu.Lock()
		c.s.w.subjects[id].storeError[c.g.name] = time.Now()
		c.s.w.mu.Unlock()
	}
	return r.rec, r.ok, r.err
}

func (c *simConn) get(why, id string) simResult {
	s := c.s
	return c.call(fmt.Sprintf("%s %s", why, s.w.subject(id)), nil, func() simResult {
		s.look(id)
		rec, ok := idempotency.View(s.records[id], s.clock())
		if ok {
			s.w.subjects[id].read[rec.State] = time.Now()
		}
		return simResult{rec: rec, ok: ok}
	})
}

// Wait is woken by a message, which may get lost, and looks for itself now and then, as a client of
// Redis does.
func (c *simConn) Wait(ctx context.Context, id string, token uint64) error {
	s := c.s
	id = strings.Clone(id)
	for {
		changed := s.watch(id)
		r := c.get("wait", id)
		if r.err != nil || !r.ok || r.rec.Token != token || r.rec.State != idempotency.InFlight {
			return r.err
		}
		d := s.w.dice(fmt.Sprintf("%s waits for %s", c.g.name, s.w.subject(id)))
		if d.chance(s.w.plan.trouble) {
			changed = nil
		}
		if err := ctx.Err(); err != nil { // the select below may choose, and that is not for it to do
			return err
		}
		timer := time.NewTimer(d.between(100*time.Millisecond, 600*time.Millisecond))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

func (s *simStore) watch(id string) <-chan struct{} {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.changed[id] == nil {
		s.changed[id] = make(chan struct{})
	}
	return s.changed[id]
}

func (c *simConn) List(context.Context, idempotency.Query, int) ([]idempotency.Record, error) {
	return nil, errSimDown
}

func (c *simConn) Page(context.Context, idempotency.Query, string, int) ([]idempotency.Record, string, error) {
	return nil, "", errSimDown
}

func (c *simConn) Resolve(context.Context, string, []byte, bool) (bool, error) {
	return false, errSimDown
}

func (c *simConn) Secret(context.Context, string, int) ([]byte, error) { return nil, errSimDown }
func (c *simConn) Ping(context.Context) error                          { return nil }
func (c *simConn) Close() error                                        { return nil }
