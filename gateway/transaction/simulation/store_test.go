package simulation

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

// store is what the gateways share. It never loses what it took; the network to it does.
type store struct {
	w         *world
	inner     *idempotencymemory.Store
	downUntil time.Time             // world.mu guards it
	branches  map[string]*operation // by the record's ID; world.mu guards it
	gids      map[string]string     // by the record's ID: what it is delegated under; world.mu guards it
}

func newStore(w *world) *store {
	return &store{w: w, inner: idempotencymemory.New(nil), branches: map[string]*operation{}, gids: map[string]string{}}
}

func (s *store) leave(d time.Duration) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.downUntil = time.Now().Add(d)
	s.w.seen["stores away"]++
	s.w.traceLocked("store is away for %v", d)
}

func (s *store) revive() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.downUntil = time.Time{}
}

func (s *store) away() bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return time.Now().Before(s.downUntil)
}

// conn is a gateway's way to the store.
type conn struct {
	*store
	g *gateway
}

var (
	errStore = errors.New("simulated store: no reply in time")
	errDown  = errors.New("simulated store: connection refused")
)

// step takes a step at the store, with everything that can happen on the way. It returns an error for a step of
// which the gateway does not hear.
func (c *conn) step(what, id string, take func()) error {
	w := c.w
	label := c.g.name + " " + what + " " + name(id)
	d, p := w.dice(label), w.trouble()/2
	there, back := d.between(20*time.Microsecond, 2*time.Millisecond), d.between(20*time.Microsecond,
		2*time.Millisecond)
	limit := w.plan.limit + d.between(0, time.Millisecond)
	notTaken, notHeard := d.chance(p), d.chance(p)
	if w.plan.slow {
		there = d.between(time.Millisecond, limit/2)
	}
	if d.chance(p) {
		there = d.between(limit/2, 4*limit)
	}
	switch {
	case c.g.isDead():
		time.Sleep(there)
		return errDown
	case notTaken:
		time.Sleep(limit)
		return errStore
	case there >= limit: // the gateway gives up, and the step is taken all the same
		w.running.Go(func() {
			time.Sleep(there)
			if !c.away() {
				take()
			}
		})
		time.Sleep(limit)
		return errStore
	}
	time.Sleep(there)
	if c.away() {
		time.Sleep(back)
		return errDown
	}
	if c.g.isDead() { // it was not sent any more
		return errDown
	}
	take()
	if notHeard {
		time.Sleep(limit)
		return errStore
	}
	time.Sleep(back)
	if c.g.isDead() {
		return errDown
	}
	return nil
}

// found is what a step gives. A step may be taken when its caller has gone, so it is no result of a method.
type found struct {
	rec    idempotency.Record
	list   []idempotency.Record
	secret []byte
	ok     bool
	err    error
}

func (c *conn) Claim(_ context.Context, q idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	q.ID, q.Route = strings.Clone(q.ID), strings.Clone(q.Route)
	q.Principal, q.ClientKey = strings.Clone(q.Principal), strings.Clone(q.ClientKey)
	if op := c.w.services.operationOf(q.ClientKey); op != nil && strings.HasSuffix(q.Route, "/branch") {
		c.w.mu.Lock()
		c.branches[q.ID] = op
		c.w.mu.Unlock()
	}
	var f found
	if err := c.step("claim", q.ID, func() {
		f.rec, f.ok, f.err = c.inner.Claim(context.Background(),
			q)
	}); err != nil {
		return idempotency.Record{}, false, err
	}
	return f.rec, f.ok, f.err
}

func (c *conn) Change(_ context.Context, id string, token uint64, ch idempotency.Change) error {
	id, ch.Response, ch.GID = strings.Clone(id), slices.Clone(ch.Response), strings.Clone(ch.GID)
	var f found
	if err := c.step(opNames[ch.Op], id, func() {
		f.err = c.inner.Change(context.Background(), id, token, ch)
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		c.w.traceLocked("%s %s %s: %v", c.g.name, opNames[ch.Op], c.subjectLocked(id), f.err)
		if op := c.branches[id]; op != nil && ch.Op == idempotency.Finish && f.err == nil {
			op.stored = true
		}
		switch gid := c.gids[id]; {
		case f.err != nil:
		case ch.Op == idempotency.Delegate:
			c.gids[id] = ch.GID
			if c.w.begun[ch.GID].IsZero() { // a key that was free again may go on with what is prepared
				c.w.begun[ch.GID] = time.Now()
			}
		case ch.Op == idempotency.Finish && gid != "" && c.w.recorded[gid].IsZero():
			c.w.recorded[gid] = time.Now()
		}
	}); err != nil {
		return err
	}
	return f.err
}

// subjectLocked is what a record is of, for the trace.
func (s *store) subjectLocked(id string) string {
	if op := s.branches[id]; op != nil {
		return op.String()
	}
	return name(id)
}

var opNames = map[idempotency.Op]string{
	idempotency.Renew: "renew", idempotency.Finish: "finish", idempotency.Free: "free",
	idempotency.MarkUnknown: "mark-unknown", idempotency.Delegate: "delegate",
}

func (c *conn) Get(_ context.Context, id string) (idempotency.Record, bool, error) {
	id = strings.Clone(id)
	var f found
	if err := c.step("get", id, func() { f.rec, f.ok, f.err = c.inner.Get(context.Background(), id) }); err != nil {
		return idempotency.Record{}, false, err
	}
	return f.rec, f.ok, f.err
}

// Wait looks for itself, now and then.
func (c *conn) Wait(ctx context.Context, id string, token uint64) error {
	id = strings.Clone(id)
	for {
		rec, ok, err := c.Get(ctx, id)
		if err != nil || !ok || rec.Token != token || rec.State != idempotency.InFlight {
			return err
		}
		timer := time.NewTimer(c.w.dice(c.g.name+" waits for "+id).between(100*time.Millisecond, 400*time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (c *conn) Page(
	_ context.Context, q idempotency.Query, cursor string, limit int,
) (list []idempotency.Record, next string, err error) {
	var f found
	err = c.step("list", "", func() { f.list, next, f.err = c.inner.Page(context.Background(), q, cursor, limit) })
	if err != nil {
		return nil, "", err
	}
	return f.list, next, f.err
}

func (c *conn) List(_ context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	var f found
	what := "list"
	if strings.HasSuffix(q.Route, "/notice") { // comes at the same moment as the other one
		what = "list notices"
	}
	if err := c.step(what, "", func() { f.list, f.err = c.inner.List(context.Background(), q, limit) }); err != nil {
		return nil, err
	}
	slices.SortFunc(f.list, func(a, b idempotency.Record) int { return cmp.Compare(a.ID, b.ID) })
	return f.list, f.err
}

func (c *conn) Resolve(_ context.Context, id string, response []byte, force bool) (bool, error) {
	id, response = strings.Clone(id), slices.Clone(response)
	var f found
	if err := c.step("resolve", id, func() {
		f.ok, f.err = c.inner.Resolve(context.Background(), id, response, force)
	}); err != nil {
		return false, err
	}
	return f.ok, f.err
}

func (c *conn) Secret(_ context.Context, what string, n int) ([]byte, error) {
	var f found
	if err := c.step("secret", what, func() {
		f.secret, f.err = c.inner.Secret(context.Background(), what, n)
	}); err != nil {
		return nil, err
	}
	return f.secret, f.err
}

func (c *conn) Ping(context.Context) error { return nil }
func (c *conn) Close() error               { return nil }
