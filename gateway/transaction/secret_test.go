package transaction

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

// TestAConfiguredSecretOutlivesTheStore: after the store is lost the coordinator's calls are still known, what has no
// record is rolled back, and calls that were signed with the store's secret, before one was configured, stay good for
// as long as the store has it.
func TestAConfiguredSecretOutlivesTheStore(t *testing.T) {
	d := newFixture(t)
	calls := d.countCalls()
	before := d.url(t, gid('b'), opDo, bothCalls) // signed with the store's secret
	d.configured = []byte("a configured secret of some length")
	g := gid('d')
	do, undo := d.url(t, g, opDo, bothCalls), d.url(t, g, opUndo, bothCalls)
	if d.configured = []byte("another one"); d.branch(t, do, "action", bothCalls) != 403 {
		t.Error("a call that another secret signed was taken")
	}
	d.configured = []byte("a configured secret of some length")

	d.delegate(t, gid('b'))
	d.setState(gid('b'), "submitted")
	if got := d.branch(t, before, "action", bothCalls); got != 200 || *calls != 1 {
		t.Errorf("a call signed before a secret was configured: %d", got)
	}

	d.delegate(t, g)
	d.setState(g, "submitted")
	if err := d.Wait(t.Context()); err != nil { // the end of that call is written behind its answer
		t.Fatal(err)
	}
	d.store, d.secret = idempotencymemory.New(nil), nil // the store is lost
	if got := d.branch(t, do, "action", bothCalls); got != 409 || *calls != 1 {
		t.Errorf("a do without a record: %d, want 409: roll back", got)
	}
	d.setState(g, "aborting")
	if got := d.branch(t, undo, "compensate", bothCalls); got != 200 || *calls != 2 {
		t.Errorf("an undo without a record: %d", got)
	}
	if got := d.branch(t, before, "action", bothCalls); got != 403 {
		t.Errorf("a call that a lost secret signed: %d", got)
	}
}

// TestTheNameIsInTheGID: two deployments with the same routes and keys, which share a coordinator, never take each
// other's transactions for their own.
func TestTheNameIsInTheGID(t *testing.T) {
	one := newFixture(t)
	one.submit = func(gid string) int {
		one.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return 200
	}
	first := idOf(t, one.checkout(t, "k", `{"qty":2}`))
	if err := one.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	one.store, one.deployment = idempotencymemory.New(nil), "two" // another deployment, with a store of its own
	if second := idOf(t, one.checkout(t, "k", `{"qty":2}`)); second == first || len(one.submits) != 2 {
		t.Errorf("gids %s and %s, %d submits", first, second, len(one.submits))
	}
	request := new(filters.ClaimedRequest)
	if FirstGID("", "r", request, time.Now()) == FirstGID("shop", "r", request, time.Now()) {
		t.Error("the name is not in the gid")
	}
}
