package transaction

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// Errors of what operators do.
var (
	ErrNotFound   = errors.New("there is no such transaction")
	ErrEnded      = errors.New("the transaction has ended")
	ErrNotKnown   = errors.New("the coordinator does not say whether the transaction runs or is rolled back")
	ErrNotCalled  = errors.New("the step was not called, or it has ended")
	ErrUnderWay   = errors.New("a call of the step is under way")
	ErrNotRefused = errors.New("only a do can be refused: an undo is done, or it is called again")
)

// retriesMax is how many transactions one retry advances.
const retriesMax = 10_000

// Retry has the coordinator call the branches of all unfinished transactions at once, those whose
// delay has grown long too. It returns how many there were. DTM knows no retry of one transaction.
func (b *Bridge) Retry(ctx context.Context) (int, error) {
	b.advances.byHand(time.Now())
	return b.client.RetryNow(ctx, retriesMax)
}

// StepEnd is how an operator says that a step's call has ended.
type StepEnd string

// The ends of a step's call.
const (
	Done    StepEnd = "done"    // what the call asks for is done; there is nothing to call any more
	Refused StepEnd = "refused" // of a do: nothing was done, and the transaction is rolled back
)

// resolvedField is the field of a branch's record that an operator has settled; the record has no
// response of the service then.
const resolvedField = "Sluice-Resolved"

// Resolve settles a step whose call is repeated in vain: its undo, while the transaction is rolled
// back, else its do. The coordinator reads it at its next call, which comes at once. The error is
// [ErrNotFound], [ErrEnded], [ErrNotKnown], [ErrNotCalled], [ErrUnderWay], [ErrNotRefused], or the store's.
func (b *Bridge) Resolve(ctx context.Context, gid, step string, as StepEnd) error {
	v, found, err := b.Show(ctx, gid)
	switch {
	case err != nil:
		return err
	case !found:
		return ErrNotFound
	case v.State.Final():
		return ErrEnded
	case v.State == Unknown: // then it is not known either which call of the step is meant
		return ErrNotKnown
	}
	now := operationIn(v.mode, v.status)
	if now == nil {
		return ErrNotCalled
	}
	if !now.refusable && as == Refused {
		return ErrNotRefused
	}
	op := now.name
	id := branchRecord(gid, step, op)
	rec, ok, err := b.store.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case !ok || rec.State == idempotency.Answered || b.ends.get(id).status != 0:
		return ErrNotCalled
	case rec.State == idempotency.InFlight && time.Now().Before(rec.LeaseUntil):
		return ErrUnderWay
	}
	response := &idempotency.Response{Status: http.StatusOK, Replayable: true}
	if as == Refused {
		response.Status = http.StatusConflict
	}
	response.Header.Add(resolvedField, string(as))
	settled, err := b.store.Resolve(ctx, id, b.codec.Append(nil, id, response), false)
	switch {
	case errors.Is(err, idempotency.ErrBusy):
		return ErrUnderWay
	case err != nil:
		return err
	case !settled:
		return ErrNotCalled
	}
	b.stuck.ended(gid, step, op)
	b.logger.Info("transaction: an operator settled a step", "gid", gid, "step", step, "op", op, "as", string(as))
	if _, err := b.Retry(ctx); err != nil {
		return fmt.Errorf("the step is settled, and the coordinator will read it later: %w", err)
	}
	b.pollSoon(gid)
	return nil
}

// resolved returns the status for the coordinator of a record that an operator has settled; 0: it is
// the service's.
func resolved(response *idempotency.Response) int {
	switch StepEnd(response.Header.Get(resolvedField)) {
	case Done:
		return http.StatusOK
	case Refused:
		return http.StatusConflict
	}
	return 0
}
