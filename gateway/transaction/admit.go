package transaction

import (
	"context"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// refuse returns the status for a call that its transaction does not allow now; 0 lets it pass. A
// signed URL is good for as long as the coordinator keeps it, and for whoever reads it there, so
// the signature alone allows nothing:
//
//	do      while the transaction runs and its record is delegated under this gid
//	undo    while it is rolled back, the step's do is not under way, and the steps behind it are undone
//
// A do that the service refused at its first call left nothing to undo: its undo is done without a call
// (200). Where a call before the refused one had no known outcome, that one may have been executed, now
// or yet to come: 409 is also what a service says while an earlier attempt still runs. Then the undo is sent.
//
// What the record does not say the coordinator is asked. When it does not answer, or does not know
// the transaction, nothing is done and the call may come again.
//
// A first do of a saga whose submit this process waits for is let pass without asking ([running]).
func (b *Bridge) refuse(ctx context.Context, call *branchCall, attempt int) (status int) {
	if call.operation.begins && attempt == 1 && b.running.allows(call, time.Now()) {
		return 0
	}
	if ended, err := b.ended(ctx, call); err != nil {
		b.later(call, "the store does not answer", err)
		return http.StatusTooEarly
	} else if ended {
		return b.notNow(call, "its record has ended")
	}
	t, err := b.queryCoordinator(ctx, call.gid)
	if err != nil {
		b.later(call, "the coordinator does not say how its transaction stands", err)
		return http.StatusTooEarly
	}
	switch {
	case t.Status != call.operation.state:
		return b.notNow(call, string(t.Status))
	case call.operation.undoes == "":
		call.retryDelay = t.RetryDelay
		return 0
	}
	call.retryDelay = t.RetryDelay
	if status := b.refuseUndo(ctx, call); status != 0 {
		return status
	}
	return b.behind(ctx, call)
}

// refuseUndo is [Bridge.refuse] by what the records say of the do that a call undoes.
func (b *Bridge) refuseUndo(ctx context.Context, call *branchCall) (status int) {
	record := branchRecord(call.gid, call.step, call.operation.undoes)
	if known := b.ends.get(record); known.status != 0 {
		if known.attempt <= 1 && call.env.refused(known.status) {
			return http.StatusOK
		}
		return 0
	}
	// The do has its claim before it asks for the state, so one that may still be let through is
	// seen here.
	do, ok, err := b.store.Get(ctx, record)
	switch {
	case err != nil:
		b.later(call, "the store does not answer", err)
		return http.StatusTooEarly
	case ok && do.State == idempotency.InFlight && time.Now().Before(do.LeaseUntil):
		return http.StatusTooEarly
	case ok && do.State == idempotency.Answered && b.refusedDo(call, &do):
		return http.StatusOK
	}
	return 0
}

// behind has an undo wait (425) until the steps behind it are undone that were called. The coordinator's own
// order is that; but two of its passes over one transaction may run at once, where a step takes longer than
// retry.every, and the one that finds the time over knows nothing of a step that the other one has begun
// meanwhile. It would undo the steps that it knows and call the transaction failed. Held here, it does not,
// and a later pass knows of all steps.
func (b *Bridge) behind(ctx context.Context, call *branchCall) (status int) {
	for _, step := range call.env.Behind {
		if b.ends.get(branchRecord(call.gid, step, call.op)).status != 0 { // it is undone; that is not written yet
			continue
		}
		do, called, err := b.store.Get(ctx, branchRecord(call.gid, step, call.operation.undoes))
		if err == nil && called && !(do.State == idempotency.Answered && b.leftNothing(&do)) {
			var undo idempotency.Record
			undo, called, err = b.store.Get(ctx, branchRecord(call.gid, step, call.op))
			if err == nil && !(called && undo.State == idempotency.Answered) {
				b.refusals.Warn(b.logger, time.Now(), "transaction: an undo waits for that of a step behind it",
					"gid", call.gid, "step", call.step, "behind", step)
				return http.StatusTooEarly
			}
		}
		if err != nil {
			b.later(call, "the store does not answer", err)
			return http.StatusTooEarly
		}
	}
	return 0
}

// leftNothing reports whether the record of a do that has ended says that it was refused, at its first call.
func (b *Bridge) leftNothing(do *idempotency.Record) bool {
	response, err := b.codec.Open(do.ID, do.Response)
	if err != nil {
		return false
	}
	if status := resolved(&response); status != 0 {
		return status == http.StatusConflict
	}
	return do.Attempt <= 1 && (response.Status < 200 || response.Status > 299)
}

// refusedDo reports whether the record of a do says that nothing of it was done: the service refused it
// at its first call, or an operator says so. One that cannot be read says nothing, so the undo is sent: a
// service takes one without a do.
func (b *Bridge) refusedDo(call *branchCall, do *idempotency.Record) bool {
	response, err := b.codec.Open(do.ID, do.Response)
	if err != nil {
		b.logger.Error("transaction: a branch's record cannot be read; its undo is sent",
			"gid", call.gid, "step", call.step, "record", do.ID, "error", err)
		return false
	}
	if status := resolved(&response); status != 0 {
		return status == http.StatusConflict
	}
	return do.Attempt <= 1 && call.env.refused(response.Status)
}

// ended reports whether the record of the transaction alone forbids the call. A do needs a record
// that is delegated under this gid: a submit that was delayed in a network or in the coordinator
// until the record was settled does nothing but roll back. For that an undo may come after the
// record has ended; but not after a success, and nothing is brought to its end after a failure.
func (b *Bridge) ended(ctx context.Context, call *branchCall) (bool, error) {
	rec, ok, err := b.store.Get(ctx, recordOf(call.gid))
	if err != nil {
		return false, err
	}
	own := ok && rec.GID == call.gid
	if call.operation.begins {
		return !own || rec.State != idempotency.Delegated, nil
	}
	if !own {
		return false, nil
	}
	v, ok := recordedView(b.codec, &rec)
	return ok && (v.State == Succeeded || v.State == Failed && call.operation.state == sagaclient.Submitted), nil
}

// notNow refuses a call for good: the coordinator, should it be the one who calls, rolls back.
func (b *Bridge) notNow(call *branchCall, state string) (status int) {
	b.refusals.Warn(b.logger, time.Now(), "transaction: a signed call was refused that its transaction does not allow",
		"gid", call.gid, "step", call.step, "op", call.op, "state", state)
	return http.StatusConflict
}

func (b *Bridge) later(call *branchCall, why string, err error) {
	b.refusals.Warn(b.logger, time.Now(), "transaction: a call has to come again: "+why,
		"gid", call.gid, "step", call.step, "op", call.op, "error", err)
}
