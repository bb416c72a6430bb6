package transaction

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// neverSubmitted reports whether a transaction that the coordinator does not know was never
// submitted. False is also: that is not known yet, or never will be.
func (b *Bridge) neverSubmitted(ctx context.Context, gid string, f *followed) (bool, error) {
	if time.Since(f.missing) < neverSubmittedAfter {
		return false, nil
	}
	if time.Since(f.created) > coordinatorLostAfter {
		b.lose(gid, f, "transaction: the coordinator has lost it; its outcome is unknown until it is resolved")
		return false, nil
	}
	steps, defined := b.services.Steps(f.route)
	never := defined // without the names of its steps that cannot be told
	if defined {
		var err error
		if never, err = b.ruleOut(ctx, gid, f.route, steps); err != nil {
			return false, err
		}
	}
	if !never {
		b.lose(gid, f, "transaction: the coordinator has lost it, and steps of it may have been called; "+
			"its outcome is unknown until it is resolved")
	}
	return never, nil
}

// errNotRuledOut says that a step is being called, or ruled out by another gateway.
var errNotRuledOut = errors.New("transaction: a step is under way")

// ruleOut settles the steps of a transaction as refused before it is called failed: a submit may still be on
// its way, and a step that it brings would be done beside that verdict. False: a step was called. To look
// whether one was and then to write the verdict would not do, since one may come in between; a claim of a
// step's record is what only one of both gets. The gid is used up by it, so it is not submitted again.
func (b *Bridge) ruleOut(ctx context.Context, gid, route string, steps []string) (bool, error) {
	for _, step := range steps {
		if out, err := b.ruleOutStep(ctx, gid, route, step, opDo); !out || err != nil {
			return false, err
		}
	}
	return true, nil
}

// ruleOutStep settles an operation of a step as refused, unless it was called: then it returns false.
func (b *Bridge) ruleOutStep(ctx context.Context, gid, route, step, op string) (bool, error) {
	claim := idempotency.ClaimRequest{
		ID: branchRecord(gid, step, op), Token: randomToken(), Route: branchRoute(route),
		ClientKey: gid + "/" + step + "/" + op, Lease: branchLeaseMargin, Cap: branchLeaseMargin, TTL: branchTTL,
		NotDispatched: true, // a gateway that dies here leaves nothing
	}
	if b.ends.get(claim.ID).status != 0 { // its end is not written yet
		return false, nil
	}
	rec, claimed, err := b.store.Claim(ctx, claim)
	switch {
	case err != nil:
		return false, err
	case !claimed && rec.State == idempotency.InFlight:
		return false, errNotRuledOut
	case !claimed: // called, or ruled out before
		return b.isRefused(&rec), nil
	}
	response := &idempotency.Response{Status: http.StatusConflict, Replayable: true}
	response.Header.Add(resolvedField, string(Refused))
	err = b.store.Change(ctx, claim.ID, claim.Token, idempotency.Change{
		Op: idempotency.Finish, Response: b.codec.Append(nil, claim.ID, response),
	})
	return err == nil, err
}

// stopFailed has the coordinator give up a message that came to it when it had been called failed: no step of it was
// done, and none will be.
func (b *Bridge) stopFailed(ctx context.Context, call *branchCall) {
	rec, ok, err := b.store.Get(ctx, recordOf(call.gid))
	if err != nil {
		return // it comes again
	}
	var failed bool
	if ok && rec.GID == call.gid {
		v, ended := recordedView(b.codec, &rec)
		failed = ended && v.State == Failed
	} else { // that has expired
		do, ok, err := b.store.Get(ctx, branchRecord(call.gid, call.step, call.op))
		failed = err == nil && ok && b.isRefused(&do)
	}
	if !failed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
	defer cancel()
	err = b.client.ForceStop(ctx, call.gid)
	b.logger.Warn("transaction: the coordinator got a message when it had been called failed, and is told to give it up",
		"gid", call.gid, "error", err)
}

// isRefused reports whether a do's record says that it was settled as refused, and not by its service.
func (b *Bridge) isRefused(rec *idempotency.Record) bool {
	response, err := b.codec.Open(rec.ID, rec.Response)
	return rec.State == idempotency.Answered && err == nil && resolved(&response) == http.StatusConflict
}
