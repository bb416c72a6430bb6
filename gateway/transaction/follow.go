package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// followed is a delegated transaction whose end is not recorded.
type followed struct {
	token   uint64
	route   string
	created time.Time
	next    time.Time // when to ask again; guarded by Bridge.mu, as is pause
	pause   time.Duration
	missing time.Time // since when the coordinator does not know it; of the goroutine of Run
	lost    bool      // its outcome is unknown until an operator resolves it; guarded by Bridge.mu
}

func (b *Bridge) follow(rec idempotency.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.followed[rec.GID]; f == nil || f.token != rec.Token {
		b.followed[rec.GID] = &followed{
			token: rec.Token, route: rec.Route, created: rec.Created, pause: followTick, next: time.Now(),
		}
	}
}

// unfollow is called when a transaction has ended.
func (b *Bridge) unfollow(gid string) {
	b.reservations.drop(gid)
	b.backoffs.drop(gid)
	b.stuck.drop(gid)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.followed, gid)
}

// scan looks for delegated records of this gateway and of others. False: the store did not answer.
func (b *Bridge) scan(ctx context.Context) bool {
	list, err := b.store.List(ctx, idempotency.Query{State: idempotency.Delegated}, scanRecordsMax)
	if err != nil {
		if ctx.Err() == nil {
			b.logger.Warn("transaction: the store was not searched for unfinished transactions", "error", err)
		}
		return false
	}
	for _, rec := range list {
		b.follow(rec)
		if rec.TTL > 0 && time.Until(rec.Expires) < max(rec.TTL, idempotency.DelegatedLife)/2 {
			// Without looking at the error: the next scan tries again.
			_ = b.store.Change(ctx, rec.ID, rec.Token, idempotency.Change{Op: idempotency.Renew})
		}
	}
	return true
}

// followDue asks for every transaction whose time has come.
func (b *Bridge) followDue(ctx context.Context, now time.Time) {
	b.mu.Lock()
	due := map[string]*followed{}
	for gid, f := range b.followed {
		if !now.Before(f.next) {
			due[gid] = f
		}
	}
	b.mu.Unlock()
	for gid, f := range due {
		if ctx.Err() != nil {
			return
		}
		done, err := b.reconcile(ctx, gid, f)
		if done {
			b.unfollow(gid)
			continue
		}
		if err != nil && ctx.Err() == nil {
			b.logger.Warn("transaction: its state could not be queried", "gid", gid, "error", err)
		}
		b.mu.Lock()
		f.pause = min(2*f.pause, followPauseMax)
		f.next = time.Now().Add(f.pause)
		b.mu.Unlock()
		if errors.Is(err, sagaclient.ErrCoordinatorDown) {
			return // so would the others fail
		}
	}
}

// reconcile queries a delegated transaction once and records its end. done: there is nothing left
// to follow.
func (b *Bridge) reconcile(ctx context.Context, gid string, f *followed) (done bool, err error) {
	v, known, err := b.query(ctx, gid)
	if err != nil {
		return false, err
	}
	if known {
		f.missing = time.Time{}
		if v.State == Unknown {
			b.lose(gid, f, "transaction: the coordinator lost its branches before it was submitted, and calls it "+
				"succeeded; what its steps hold is held until it is resolved")
			return false, nil
		}
		b.mu.Lock()
		f.lost = false
		b.mu.Unlock()
	} else {
		if f.missing.IsZero() {
			f.missing = time.Now()
		}
		return b.endUnknown(ctx, gid, f)
	}
	if !v.State.Final() {
		// The coordinator doubles its delay for calls too that reached no gateway, which cannot hold it then.
		if most := b.services.RetryMax(f.route); most > 0 && v.retryDelay > most {
			b.advances.want()
		}
		b.resumePrepared(ctx, &v)
		return false, nil
	}
	done, err = b.recordEnd(ctx, v, f.token)
	if done {
		b.tell(f.route, v)
	}
	return done, err
}

// endUnknown ends a transaction that the coordinator does not know, if it was never submitted.
func (b *Bridge) endUnknown(ctx context.Context, gid string, f *followed) (done bool, err error) {
	rec, ok, err := b.store.Get(ctx, recordOf(gid))
	switch {
	case err != nil:
		return false, err
	case !ok || rec.GID != gid || rec.State != idempotency.Delegated:
		return true, nil // an operator has resolved it
	}
	never, err := b.neverSubmitted(ctx, &rec, f)
	if !never || err != nil {
		return false, err
	}
	steps, _ := b.services.Steps(f.route)
	v := notBegun(gid, steps)
	if done, err = b.free(ctx, &rec, v, f.token); done {
		b.logger.Warn("transaction: delegated, and never submitted; it has failed, and its key is free again",
			"gid", gid, "route", f.route)
		b.tell(f.route, v)
	}
	return done, err
}

// lose notes that only an operator can say what became of a transaction. It is logged once, and
// counted for as long as it is so.
func (b *Bridge) lose(gid string, f *followed, why string) {
	b.mu.Lock()
	first := !f.lost
	f.lost = true
	b.mu.Unlock()
	if first {
		b.logger.Error(why, "gid", gid, "route", f.route, "record", recordOf(gid))
	}
}

// IsLost reports whether only an operator can say what became of a transaction.
func (b *Bridge) IsLost(gid string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.followed[gid]
	return f != nil && f.lost
}

// Lost returns how many transactions wait for an operator, since the coordinator has lost them.
func (b *Bridge) Lost() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, f := range b.followed {
		if f.lost {
			n++
		}
	}
	return n
}

// branchCalled reports whether a step of the transaction was ever called, by the records of its
// branches.
func (b *Bridge) branchCalled(ctx context.Context, gid string, steps []string) (bool, error) {
	for _, step := range steps {
		_, ok, err := b.store.Get(ctx, branchRecord(gid, step, opDo))
		if err != nil {
			err = fmt.Errorf("%w: %w", errStore, err)
		}
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// recordEnd writes the final response into the delegated record. done: it is there, by this gateway
// or by another.
func (b *Bridge) recordEnd(ctx context.Context, v View, token uint64) (done bool, err error) {
	id := recordOf(v.ID)
	response := b.codec.Append(nil, id, recordedResponse(v.response(""), time.Now()))
	err = b.store.Change(ctx, id, token, idempotency.Change{Op: idempotency.Finish, Response: response})
	if err != nil && !errors.Is(err, idempotency.ErrLost) {
		return false, err
	}
	if err == nil {
		b.countEnd(v.State)
	}
	return true, nil
}

func (b *Bridge) countEnd(s State) {
	if s == Succeeded {
		b.metrics.Succeeded.Inc()
	} else {
		b.metrics.Failed.Inc()
	}
}

// query asks the coordinator; known is false when it has no such gid.
func (b *Bridge) query(ctx context.Context, gid string) (v View, known bool, err error) {
	t, err := b.queryCoordinator(ctx, gid)
	if errors.Is(err, sagaclient.ErrNotFound) {
		return newView(gid, Unknown), false, nil
	}
	if err != nil {
		return View{}, false, err
	}
	if !t.Status.Ended() {
		b.checkAddress(t)
	}
	v = b.viewOf(ctx, t)
	v.retryDelay = t.RetryDelay
	return v, true, nil
}

// checkAddress warns when the coordinator calls the branches of a transaction at another address than the one
// that all gateways of the deployment have now: it began before the address was changed, and does not go on unless the
// old one still leads here. That is said once for each other address in a row.
func (b *Bridge) checkAddress(t sagaclient.Transaction) {
	if !b.advertised || len(t.Branches) == 0 {
		return
	}
	i := slices.IndexFunc(t.Branches, func(br sagaclient.Branch) bool { return br.URL != "" })
	if i < 0 || strings.HasPrefix(t.Branches[i].URL, b.baseURL+"/") {
		return
	}
	base, _, _ := strings.Cut(t.Branches[i].URL, "/branch/")
	b.mu.Lock()
	told := b.elsewhere == base
	b.elsewhere = base
	b.mu.Unlock()
	if !told {
		b.logger.Warn("transaction: the coordinator calls branches at another address than branches.advertise; "+
			"transactions that began with it wait until it leads here", "gid", t.GID, "address", base,
			"advertise", b.baseURL)
	}
}

func (b *Bridge) queryCoordinator(ctx context.Context, gid string) (sagaclient.Transaction, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	t, err := b.client.Query(ctx, gid)
	b.advances.coordinator(err)
	return t, err
}
