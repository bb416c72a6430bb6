package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// Errors of [Bridge.Cancel].
var (
	ErrAllCalled = errors.New("every step has been called already: let it end, or have a step refused (resolve)")
	ErrRollsBack = errors.New("the transaction is rolled back already")
	ErrSubmitted = errors.New("all that may refuse has been done: it is delivered or confirmed, until that is done")
	ErrPrimary   = errors.New("the primary has been called: what it has done nobody takes back")
)

// cancelReason is what the coordinator says of a transaction that an operator has cancelled.
const cancelReason = "cancelled by an operator"

// Cancel has a transaction rolled back, where that is sound. A saga cannot be aborted at the coordinator: a step of it
// that was not called yet is settled as refused, by the claim that only one of the call and the cancel gets, so that
// the coordinator rolls back when it comes to it. In TCC and XA it is aborted as long as it is not decided, by whoever
// decides first; a message as long as its primary was not called. The error is [ErrNotFound], [ErrEnded],
// [ErrNotKnown], one of the above, the store's or the coordinator's.
func (b *Bridge) Cancel(ctx context.Context, gid string) error {
	v, found, err := b.Show(ctx, gid)
	switch {
	case err != nil:
		return err
	case !found:
		return ErrNotFound
	case v.State.Final():
		return ErrEnded
	case v.State == Unknown || v.mode == nil:
		return ErrNotKnown
	case v.State == Compensating:
		return ErrRollsBack
	}
	rec, ok, err := b.store.Get(ctx, recordOf(gid))
	if err != nil {
		return err
	}
	if !ok || rec.GID != gid {
		return ErrNotFound
	}
	_, saga := v.mode.(sagaMode)
	switch {
	case saga:
		err = b.cancelSaga(ctx, &v, &rec)
	case v.status != sagaclient.Prepared:
		return ErrSubmitted
	default:
		err = b.cancelPrepared(ctx, &v, &rec)
	}
	if err != nil {
		return err
	}
	b.logger.Info("transaction: an operator cancelled it", "gid", gid, "route", rec.Route)
	b.pollSoon(gid)
	return nil
}

// cancelSaga refuses the last step that was not called.
func (b *Bridge) cancelSaga(ctx context.Context, v *View, rec *idempotency.Record) error {
	for _, s := range slices.Backward(v.Steps) {
		out, err := b.ruleOutStep(ctx, rec, s.Name, opDo)
		if err != nil && !errors.Is(err, errNotRuledOut) {
			return err
		}
		if out {
			return nil
		}
	}
	return ErrAllCalled
}

// cancelPrepared aborts what is not decided.
func (b *Bridge) cancelPrepared(ctx context.Context, v *View, rec *idempotency.Record) error {
	if v.kind == string(sagaclient.Message) {
		out, err := b.ruleOutStep(ctx, rec, primaryName, opPrimary)
		switch {
		case err != nil && !errors.Is(err, errNotRuledOut):
			return err
		case !out:
			return ErrPrimary
		}
	}
	m := b.managers.get(v.ID)
	if m == nil { // of another gateway
		m = &manager{route: rec.Route, owner: rec.Principal, global: sagaclient.Global{GID: v.ID,
			Mode: sagaclient.Mode(v.kind)}}
	}
	settle, err := b.decide(ctx, m, decidedAbort, randomToken())
	switch {
	case errors.Is(err, errDecided):
		return ErrSubmitted
	case err != nil:
		return err
	}
	if err := b.client.Abort(ctx, &m.global, cancelReason); err != nil {
		return fmt.Errorf("it is decided, and aborted when the coordinator takes it: %w", err)
	}
	settle()
	return nil
}
