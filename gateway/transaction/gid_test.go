package transaction

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// TestADerivedKeyTakesAnotherGIDLater: when the coordinator and the records have forgotten a purchase, the next one of
// the same kind must not have its gid, by which the barriers of the services would take it for done.
func TestADerivedKeyTakesAnotherGIDLater(t *testing.T) {
	derived := filters.ClaimedRequest{TTL: 10 * time.Second, Derived: true}
	chosen := filters.ClaimedRequest{TTL: 10 * time.Second}
	now := time.Unix(1_700_000_000, 0)
	if FirstGID("", "r", &derived, now) == FirstGID("", "r", &derived, now.Add(branchTTL)) {
		t.Error("a derived key has the same gid when all has been forgotten")
	}
	if FirstGID("", "r", &chosen, now) != FirstGID("", "r", &chosen, now.Add(10*branchTTL)) {
		t.Error("the gid of a key that a client has chosen changes")
	}
	derived.TTL = 2 * branchTTL
	if first := FirstGID("", "r", &derived, time.Unix(0, 0)); first != FirstGID("", "r", &derived,
		time.Unix(0, 0).Add(derived.TTL-1)) {
		t.Error("the gid changes while the record lives")
	}
}

// TestADerivedKeyIsFoundBehindItsPeriod: the transaction that began before a period is still found when its record is
// lost.
func TestADerivedKeyIsFoundBehindItsPeriod(t *testing.T) {
	d := newFixture(t)
	record := idempotency.DigestOf("a", "record")
	request := &filters.ClaimedRequest{TTL: branchTTL, Derived: true} // so that it has always just begun
	before := FirstGID("", record, request, time.Now().Add(-request.TTL-firstBefore))
	if gid, known, err := d.chooseGID(t.Context(), record, request, nil, true); gid == before || known || err != nil {
		t.Fatalf("at first: %s %v %v", gid, known, err)
	}
	d.setState(before, "submitted", "reserve:prepared:prepared")
	if gid, known, err := d.chooseGID(t.Context(), record, request, nil, true); gid != before || !known || err != nil {
		t.Errorf("while it runs: %s %v %v, want %s", gid, known, err, before)
	}
	d.setState(before, "failed", "reserve:failed:prepared")
	if gid, known, err := d.chooseGID(t.Context(), record, request, nil, true); gid == before || known || err != nil {
		t.Errorf("after a failure: %s %v %v", gid, known, err)
	}
}

// TestTheQueryOfAMessageIsToldAnEndThatIsNotWritten: the refusal of a primary that the store has not taken yet.
func TestTheQueryOfAMessageIsToldAnEndThatIsNotWritten(t *testing.T) {
	d := newFixture(t)
	gid := strings.Repeat("a", gidLength)
	call := branchCall{
		branch: branch{gid, primaryName, opQuery, primaryID}, operation: *operationOf(messageMode{}, opQuery),
		env: &envelope{FailOn: [][2]int{{402, 402}}}, call: new(envelopeCall),
	}
	for status, want := range map[int]int{200: 200, 402: 409, 404: 409} {
		d.ends.put(branchRecord(gid, primaryName, opPrimary), end{status: status})
		if got := d.serveBranch(t.Context(), call); got != want {
			t.Errorf("an end with status %d: %d, want %d", status, got, want)
		}
	}
}
