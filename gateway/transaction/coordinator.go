package transaction

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// Caller sends a branch's call to a service through its breaker. Reply is the service's answer; NotSent and Unanswered come without one.
type Caller func(ctx context.Context, service string, x *filters.Exchange, body []byte) (status int, answer []byte, o filters.Outcome)

// Metrics counts transactions. Every member is set.
type Metrics struct {
	Submitted    filters.Counter
	Succeeded    filters.Counter
	Failed       filters.Counter
	Doubts       filters.Counter // submits whose acknowledgement was lost
	BranchCalls  filters.Counter
	BranchErrors filters.Counter // answers to the coordinator that make it try again
}

// Options is what a coordinator's stand-in works with.
type Options struct {
	Client  *sagaclient.Client
	Store   idempotency.Store
	Codec   *idempotency.ResponseCodec // nil: without encryption
	Base    string                     // http://host:port of the branch address
	Call    Caller
	Longest func(service string) time.Duration           // the longest a call to the service takes
	Steps   func(route string) (names []string, ok bool) // of the transaction that a route leads to
	Metrics Metrics
	Logger  *slog.Logger
}

// Bridge is the gateway's side of the transaction coordinator: it serves the branch calls and follows what was handed. It
// belongs to the process and outlives a reload.
type Bridge struct {
	Options
	store idempotency.Store
	calls running // branch calls and submits that go on in the background

	mu      sync.Mutex
	secret  []byte // signs branch URLs; nil until the store has given it
	pending map[string]*followed
}

// followed is a handed transaction whose end is not recorded.
type followed struct {
	token   uint64
	route   string
	created time.Time
	next    time.Time // when to ask again
	pause   time.Duration
	missing time.Time // since when the coordinator says that it does not know it
}

const (
	secretBytes   = 32
	scanEvery     = 30 * time.Second
	scanMost      = 10000
	neverCame     = 30 * time.Second // handed and not known for so long: it was never submitted
	lostAfter     = 10 * time.Minute // unless the record is so old: then the coordinator lost it
	queryTimeout  = 2 * time.Second
	submitTimeout = 15 * time.Second // the coordinator answers after its first pass over the steps, at the latest after some 5 s
	answerBytes   = 64 << 10         // of a branch's answer that are read
	keptBytes     = 4 << 10          // and kept, for the reason
	branchTTL     = 72 * time.Hour
	branchPatient = 2500 * time.Millisecond // the coordinator waits 3 s for a branch
)

// New returns the stand-in.
func New(o Options) *Bridge {
	if o.Codec == nil {
		o.Codec = new(idempotency.ResponseCodec)
	}
	return &Bridge{Options: o, store: o.Store, pending: map[string]*followed{}}
}

// key returns the secret that signs branch URLs. It is the store's, so all gateways of a store share it; it is asked for when it is needed first, because a
// store may come up later than the gateway.
func (c *Bridge) key(ctx context.Context) ([]byte, error) {
	c.mu.Lock()
	secret := c.secret
	c.mu.Unlock()
	if secret != nil {
		return secret, nil
	}
	secret, err := c.store.Secret(ctx, "branch-hmac", secretBytes)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secret = secret
	return secret, nil
}

// Run follows what was handed until ctx ends: what this gateway handed, and what others left behind.
func (c *Bridge) Run(ctx context.Context) error {
	c.scan(ctx)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	lastScan := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if now.Sub(lastScan) >= scanEvery {
				lastScan = now
				c.scan(ctx)
			}
			c.follow(ctx, now)
		}
	}
}

// Wait returns nil when what runs in the background has ended, or the error of ctx when that ends first.
func (c *Bridge) Wait(ctx context.Context) error {
	return c.calls.Wait(ctx)
}

// Pending returns how many transactions are followed.
func (c *Bridge) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

func (c *Bridge) watch(rec idempotency.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.pending[rec.GID]; f == nil || f.token != rec.Token {
		c.pending[rec.GID] = &followed{token: rec.Token, route: rec.Route, created: rec.Created, pause: 250 * time.Millisecond, next: time.Now()}
	}
}

func (c *Bridge) unwatch(gid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, gid)
}

// scan looks for handed records, whoever handed them.
func (c *Bridge) scan(ctx context.Context) {
	list, err := c.store.List(ctx, idempotency.Query{State: idempotency.Delegated}, scanMost)
	if err != nil {
		if ctx.Err() == nil {
			c.Logger.Warn("transaction: the store was not searched for unfinished transactions", "error", err)
		}
		return
	}
	for _, rec := range list {
		c.watch(rec)
		if rec.TTL > 0 && time.Until(rec.Expires) < max(rec.TTL, idempotency.DelegatedLife)/2 {
			c.store.Change(ctx, rec.ID, rec.Token, idempotency.Change{Op: idempotency.Renew}) // the next scan is another chance
		}
	}
}

// follow asks for every transaction whose time has come.
func (c *Bridge) follow(ctx context.Context, now time.Time) {
	c.mu.Lock()
	due := map[string]*followed{}
	for gid, f := range c.pending {
		if !now.Before(f.next) {
			due[gid] = f
		}
	}
	c.mu.Unlock()
	for gid, f := range due {
		if ctx.Err() != nil {
			return
		}
		done, err := c.reconcile(ctx, gid, f)
		if done {
			c.unwatch(gid)
			continue
		}
		if err != nil && ctx.Err() == nil {
			c.Logger.Warn("transaction: its state could not be asked for", "gid", gid, "error", err)
		}
		c.mu.Lock()
		f.pause = min(2*f.pause, 5*time.Second)
		f.next = time.Now().Add(f.pause)
		c.mu.Unlock()
		if errors.Is(err, sagaclient.ErrCoordinatorDown) {
			return // the others would fare no better
		}
	}
}

// reconcile asks once how a handed transaction stands and records its end. done: there is nothing left to follow.
func (c *Bridge) reconcile(ctx context.Context, gid string, f *followed) (done bool, err error) {
	v, known, err := c.ask(ctx, gid)
	if err != nil {
		return false, err
	}
	if !known {
		if f.missing.IsZero() {
			f.missing = time.Now()
		}
		if time.Since(f.missing) < neverCame {
			return false, nil
		}
		if time.Since(f.created) > lostAfter {
			c.Logger.Error("transaction: the coordinator does not know it any more; its outcome is unknown until it is resolved", "gid", gid)
			return false, nil
		}
		steps, defined := c.Steps(f.route)
		traced, err := c.traced(ctx, gid, steps)
		if err != nil {
			return false, err
		}
		if traced || !defined { // without its definition nobody can tell
			c.Logger.Error("transaction: the coordinator does not know it, and steps of it may have been called; its outcome is unknown until it is resolved", "gid", gid)
			return false, nil
		}
		v = View{ID: gid, State: Failed, Steps: []StepView{}}
		c.Logger.Warn("transaction: handed, and never submitted; it ends as failed", "gid", gid)
	} else {
		f.missing = time.Time{}
	}
	if !v.State.Final() {
		return false, nil
	}
	return c.record(ctx, v, f.token)
}

// traced reports whether a step of the transaction was ever called, by the records of its branches.
func (c *Bridge) traced(ctx context.Context, gid string, steps []string) (bool, error) {
	for _, step := range steps {
		if _, ok, err := c.store.Get(ctx, branchRecord(gid, step, opDo)); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// record writes the final answer into the handed record.
func (c *Bridge) record(ctx context.Context, v View, token uint64) (done bool, err error) {
	id := recordOf(v.ID)
	answer := c.Codec.Append(nil, id, settled(v.answer(""), time.Now()))
	err = c.store.Change(ctx, id, token, idempotency.Change{Op: idempotency.Finish, Response: answer})
	if err != nil && !errors.Is(err, idempotency.ErrLost) {
		return false, err
	}
	if err == nil {
		c.ended(v.State)
	}
	return true, nil // lost: another one has recorded it
}

func (c *Bridge) ended(s State) {
	if s == Succeeded {
		c.Metrics.Succeeded.Inc()
	} else {
		c.Metrics.Failed.Inc()
	}
}

// ask asks the coordinator; known is false when it has no such gid.
func (c *Bridge) ask(ctx context.Context, gid string) (v View, known bool, err error) {
	t, err := c.query(ctx, gid)
	if errors.Is(err, sagaclient.ErrNotFound) {
		return View{ID: gid, State: Unknown, Steps: []StepView{}}, false, nil
	}
	if err != nil {
		return View{}, false, err
	}
	return c.view(ctx, t), true, nil
}
