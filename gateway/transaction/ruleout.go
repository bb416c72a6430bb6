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
func (b *Bridge) neverSubmitted(ctx context.Context, rec *idempotency.Record, f *followed) (bool, error) {
	gid := rec.GID
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
		if never, err = b.ruleOut(ctx, rec, steps); err != nil {
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
func (b *Bridge) ruleOut(ctx context.Context, rec *idempotency.Record, steps []string) (bool, error) {
	for _, step := range steps {
		if out, err := b.ruleOutStep(ctx, rec, step, opDo); !out || err != nil {
			return false, err
		}
	}
	return true, nil
}

// ruleOutStep settles an operation of a step as refused, unless it was called: then it returns false. of is the
// record of the transaction.
func (b *Bridge) ruleOutStep(ctx context.Context, of *idempotency.Record, step, op string) (bool, error) {
	gid := of.GID
	claim := idempotency.ClaimRequest{
		ID: branchRecord(gid, step, op), Token: randomToken(), Route: branchRoute(of.Route), Principal: of.Principal,
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
	b.logger.Warn("transaction: the coordinator got a message when it had been called failed, and is told to "+
		"give it up",
		"gid", call.gid, "error", err)
}

// isRefused reports whether a do's record says that it was settled as refused, and not by its service.
func (b *Bridge) isRefused(rec *idempotency.Record) bool {
	response, err := b.codec.Open(rec.ID, rec.Response)
	return rec.State == idempotency.Answered && err == nil && resolved(&response) == http.StatusConflict
}

// free makes the key of a transaction that was never submitted free again, as when the coordinator cannot be reached:
// a key may be the number of a payment, of which there is no other one, and nothing was done with it. What protects
// from a submit that is still on its way are the records of the steps that were ruled out, by which this gid is used
// up (useOf); and its steps need a record that is delegated under it ([Bridge.ended]). They also tell whoever asks for
// that gid how it ended ([Bridge.ruledOut]).
func (b *Bridge) free(ctx context.Context, rec *idempotency.Record, v View, token uint64) (done bool, err error) {
	if rec.Attempt > 1 { // it would not be free, but in doubt, because of an attempt before
		return b.recordEnd(ctx, v, token)
	}
	err = b.store.Change(ctx, rec.ID, token, idempotency.Change{Op: idempotency.Free})
	if err != nil && !errors.Is(err, idempotency.ErrLost) {
		return false, err
	}
	if err == nil {
		b.countEnd(v.State)
	}
	b.pollSoon(v.ID)
	return true, nil
}

// ruledOut reports whether all steps of a transaction were ruled out. principal is whose it is, empty: anybody's.
func (b *Bridge) ruledOut(ctx context.Context, gid, principal string, steps []string) (bool, error) {
	for _, name := range steps {
		rec, ok, err := b.store.Get(ctx, branchRecord(gid, name, opDo))
		if err != nil || !ok || principal != "" && rec.Principal != principal || !b.isRefused(&rec) {
			return false, err
		}
	}
	return len(steps) > 0, nil
}

// neverBegun returns the view of a transaction that has no record of its own, since it was never submitted.
func (b *Bridge) neverBegun(ctx context.Context, gid, route, principal string) (v View, found bool, err error) {
	steps, defined := b.services.Steps(route)
	if !defined {
		return View{}, false, nil
	}
	if out, err := b.ruledOut(ctx, gid, principal, steps); err != nil || !out {
		return View{}, false, err
	}
	return notBegun(gid, steps), true, nil
}

// notBegun is a transaction that was never submitted.
func notBegun(gid string, steps []string) View {
	v := newView(gid, Failed)
	for _, name := range steps {
		v.Steps = append(v.Steps, StepView{Name: name, State: StepSkipped, Reason: "it was never submitted"})
	}
	return v
}
