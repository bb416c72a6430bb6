package transaction

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// newOffering is a fixture whose coordinator refuses what it knows, and whose bridge knows that.
func newOffering(t *testing.T) *fixture {
	d := newFixture(t)
	d.offers = true
	d.submit = func(gid string) int {
		d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return http.StatusOK
	}
	d.learn(t)
	return d
}

// learn has the bridge ask what the coordinator is.
func (d *fixture) learn(t *testing.T) {
	t.Helper()
	d.refusesKnown(time.Now().Add(2 * newOnlyEvery))
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// forget loses the record of a transaction.
func (d *fixture) forget(t *testing.T, gid string) {
	t.Helper()
	if ok, err := d.store.Resolve(context.Background(), recordOf(gid), nil, true); err != nil || !ok {
		t.Fatal(ok, err)
	}
}

// TestAKnownGIDIsRefusedByTheCoordinator: with no query before, what it has is followed where it is this request, and
// a key that was used before gets a new gid at its second try. Nothing is submitted twice.
func TestAKnownGIDIsRefusedByTheCoordinator(t *testing.T) {
	d := newOffering(t)
	gid := idOf(t, d.checkout(t, "k", `{"qty":2}`))
	before := d.asked()
	d.forget(t, gid)
	if r := d.checkout(t, "k", `{"qty":2}`); r.Status != 200 || idOf(t, r) != gid || len(d.submits) != 1 {
		t.Errorf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	if d.asked() == before {
		t.Error("the coordinator was not asked what it has")
	}
	for _, status := range []string{"submitted", "aborting"} {
		d.forget(t, gid)
		d.setState(gid, status, "reserve:prepared:prepared", "pay:prepared:prepared")
		s := settings
		s.Wait = askedBelow
		if r := d.checkoutWith(t, s, "k", `{"qty":2}`); r.Status != 202 || idOf(t, r) != gid || len(d.submits) != 1 {
			t.Errorf("%s: %d %s, %d submits", status, r.Status, r.Body, len(d.submits))
		}
		if len(d.running.byGID) != 0 {
			t.Errorf("%s: the submit of a saga that was refused has not ended", status)
		}
	}
	d.forget(t, gid)
	d.setState(gid, "failed", "reserve:succeed:succeed", "pay:failed:prepared")
	r := d.checkout(t, "k", `{"qty":2}`)
	if r.Status != 503 || r.Reason != filters.CoordinatorUnavailable || r.Header.Get("Retry-After") == "" {
		t.Fatalf("used before: %d %s", r.Status, r.Body)
	}
	if _, ok, err := d.store.Get(context.Background(), recordOf(gid)); ok || err != nil {
		t.Errorf("the key is not free: %v %v", ok, err)
	}
	if r = d.checkout(t, "k", `{"qty":2}`); r.Status != 200 || idOf(t, r) == gid || len(d.submits) != 2 {
		t.Errorf("then: %d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
}

// TestABegunTransactionWithoutItsRecord: the record of the key is lost, those of its branches are not, which lie on
// another shard. It is followed all the same, and no other one begins.
func TestABegunTransactionWithoutItsRecord(t *testing.T) {
	d := newOffering(t)
	gid := idOf(t, d.checkout(t, "k", `{"qty":2}`))
	d.called1st(t, gid)
	d.forget(t, gid)
	if r := d.checkout(t, "k", `{"qty":2}`); r.Status != 200 || idOf(t, r) != gid || len(d.submits) != 1 {
		t.Errorf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	d.forget(t, gid)
	d.setState(gid, "submitted", "reserve:succeed:prepared", "pay:prepared:prepared")
	s := settings
	s.Wait = askedBelow
	if r := d.checkoutWith(t, s, "k", `{"qty":2}`); r.Status != 202 || idOf(t, r) != gid || len(d.submits) != 1 {
		t.Errorf("it runs: %d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	d.forget(t, gid)
	d.setState(gid, "failed", "reserve:succeed:succeed", "pay:failed:prepared")
	if r := d.checkout(t, "k", `{"qty":2}`); r.Status != 200 || idOf(t, r) == gid || len(d.submits) != 2 {
		t.Errorf("it has failed: %d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
}

// called1st leaves the record of the do of the first step, which was done.
func (d *fixture) called1st(t *testing.T, gid string) {
	t.Helper()
	c := idempotency.ClaimRequest{
		ID: branchRecord(gid, "reserve", opDo), Token: randomToken(), Route: branchRoute("checkout"), Principal: "ann",
		ClientKey: gid + "/reserve/" + opDo, Lease: time.Minute, Cap: time.Minute, TTL: branchTTL, Retry: true,
	}
	if _, claimed, err := d.store.Claim(t.Context(), c); err != nil || !claimed {
		t.Fatal(claimed, err)
	}
	response := d.codec.Append(nil, c.ID, &idempotency.Response{Status: 200, Replayable: true})
	err := d.store.Change(t.Context(), c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnotherCoordinatorAfterAll: behind the same address is DTM by now, which submits whatever it gets. So it is asked
// as long as it is not known to be sluice-dtm, also by the request that finds out.
func TestAnotherCoordinatorAfterAll(t *testing.T) {
	d := newOffering(t)
	gid := idOf(t, d.checkout(t, "k", `{"qty":2}`))
	d.forget(t, gid)
	d.offers = false
	if r := d.checkout(t, "k", `{"qty":2}`); r.Status != 200 || idOf(t, r) != gid || len(d.submits) != 1 {
		t.Errorf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	if d.newOnly.offered.Load() || d.refusesKnown(time.Now()) {
		t.Error("it is still taken for sluice-dtm")
	}
	if r := d.checkout(t, "other", `{"qty":2}`); r.Status != 200 || len(d.submits) != 2 {
		t.Errorf("another request: %d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	d.newOnly.offered.Store(true) // once more, with a gid that it does not have
	if r := d.checkout(t, "third", `{"qty":2}`); r.Status != 200 || len(d.submits) != 3 {
		t.Errorf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	d.offers = true
	if d.learn(t); !d.newOnly.offered.Load() {
		t.Error("sluice-dtm is not found out again")
	}
}

// TestAUsedKeyWithAShortWait: a client that is not kept waiting is not told of the transaction that its key began
// before.
func TestAUsedKeyWithAShortWait(t *testing.T) {
	d := newOffering(t)
	gid := idOf(t, d.checkout(t, "k", `{"qty":2}`))
	d.forget(t, gid)
	d.setState(gid, "failed", "reserve:succeed:succeed", "pay:failed:prepared")
	s := settings
	s.Wait = time.Millisecond
	r := d.checkoutWith(t, s, "k", `{"qty":2}`)
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.Status > 202 || idOf(t, r) == gid || len(d.submits) != 2 {
		t.Errorf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
}

// TestAUsedKeyWithoutAStore: when its first step cannot be marked, the request comes again and nothing was submitted.
func TestAUsedKeyWithoutAStore(t *testing.T) {
	d := newOffering(t)
	gid := idOf(t, d.checkout(t, "k", `{"qty":2}`))
	d.forget(t, gid)
	d.setState(gid, "failed", "reserve:succeed:succeed", "pay:failed:prepared")
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.store = &branchless{d.store}
	r := d.checkout(t, "k", `{"qty":2}`)
	if r.Status != 503 || r.Reason != filters.StoreUnavailable || len(d.submits) != 1 {
		t.Errorf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
}

// branchless is a store that takes no claim of a branch.
type branchless struct{ idempotency.Store }

func (s *branchless) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	if IsBranchRoute(c.Route) {
		return idempotency.Record{}, false, context.DeadlineExceeded
	}
	return s.Store.Claim(ctx, c)
}
