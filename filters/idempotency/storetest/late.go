package storetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// takenOver claims a key, lets the lease lapse and has a second claim take it over.
func takenOver(t *testing.T, h Harness) (first, second idempotency.ClaimRequest) {
	t.Helper()
	first = request(newID())
	first.Lease = h.short()
	mustClaim(t, h.Store, first)
	h.lapse()
	second = request(first.ID)
	second.Retry = true
	mustClaim(t, h.Store, second)
	return first, second
}

// lateResponse is the end of a claim that was taken over. (A harness may shift the times of records.)
func lateResponse(t *testing.T, h Harness, id string, status int) idempotency.Change {
	t.Helper()
	rec, ok, err := h.Store.Get(background(t), id)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return idempotency.Change{Op: idempotency.Finish, Response: response(status), Created: rec.Created}
}

// testLateOwner: an owner whose record was taken over settles it when the claim that took it over has ended
// without a response; from then on it is that claim that is fenced off.
func testLateOwner(t *testing.T, h Harness) {
	for name, end := range map[string]func(second idempotency.ClaimRequest){
		"not executed": func(second idempotency.ClaimRequest) {
			mustChange(t, h.Store, second.ID, second.Token, idempotency.Change{Op: idempotency.Free})
		},
		"unknown": func(second idempotency.ClaimRequest) {
			mustChange(t, h.Store, second.ID, second.Token, idempotency.Change{Op: idempotency.MarkUnknown})
		},
		"lapsed": func(second idempotency.ClaimRequest) { h.lapseNow(t, second) },
	} {
		t.Run(name, func(t *testing.T) {
			first, second := takenOver(t, h)
			// The second one may be executing.
			mustLose(t, h.Store, first.ID, first.Token, lateResponse(t, h, first.ID, 201))
			end(second)
			mustGet(t, h.Store, first.ID, idempotency.Unknown)
			late, own := lateResponse(t, h, first.ID, 201), lateResponse(t, h, first.ID, 200)
			for _, op := range []idempotency.Op{
				idempotency.Renew, idempotency.Free, idempotency.MarkUnknown, idempotency.Delegate,
			} {
				ch := idempotency.Change{Op: op, Lease: time.Minute, Created: late.Created}
				mustLose(t, h.Store, first.ID, first.Token, ch)
			}
			for range 2 { // again: an acknowledgement may be lost
				mustChange(t, h.Store, first.ID, first.Token, late)
			}
			mustLose(t, h.Store, first.ID, second.Token, own)
			mustLose(t, h.Store, first.ID, second.Token, idempotency.Change{Op: idempotency.Free})
			rec := mustNotClaim(t, h.Store, request(first.ID), idempotency.Answered)
			if !bytes.Equal(rec.Response, response(201)) || rec.Token != first.Token ||
				!rec.Created.Equal(late.Created) {
				t.Errorf("settled as %+v", rec)
			}
		})
	}
	first, second := takenOver(t, h)
	mustChange(t, h.Store, first.ID, second.Token, idempotency.Change{Op: idempotency.Finish, Response: response(200)})
	mustLose(t, h.Store, first.ID, first.Token, lateResponse(t, h, first.ID, 201))
}

// testLateOwnerOfAnotherRecord: a record that came after the owner's own is none of its business.
func testLateOwnerOfAnotherRecord(t *testing.T, h Harness) {
	first := request(newID())
	created := mustClaim(t, h.Store, first).Created
	mustChange(t, h.Store, first.ID, first.Token, idempotency.Change{Op: idempotency.Free})
	h.tick()
	second := request(first.ID)
	mustClaim(t, h.Store, second)
	mustChange(t, h.Store, second.ID, second.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	for _, of := range []time.Time{created, {}} {
		ch := idempotency.Change{Op: idempotency.Finish, Response: response(201), Created: of}
		mustLose(t, h.Store, first.ID, first.Token, ch)
	}
	mustGet(t, h.Store, first.ID, idempotency.Unknown)
}

// testTakeOverLapses: a further attempt of which nothing was sent does not make the key free when its lease is
// over: the outcome of the one before is still unknown.
func testTakeOverLapses(t *testing.T, h Harness) {
	first := request(newID())
	mustClaim(t, h.Store, first)
	mustChange(t, h.Store, first.ID, first.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	second := request(first.ID)
	second.Retry, second.NotDispatched, second.Lease = true, true, h.short()
	if rec := mustClaim(t, h.Store, second); rec.NotDispatched {
		t.Errorf("claimed as %+v", rec)
	}
	h.lapse()
	mustGet(t, h.Store, first.ID, idempotency.Unknown)
	mustNotClaim(t, h.Store, request(first.ID), idempotency.Unknown)
}
