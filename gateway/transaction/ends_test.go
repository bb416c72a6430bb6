package transaction

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// awayStore takes no changes while it is away.
type awayStore struct {
	idempotency.Store
	away atomic.Bool
}

var errAway = errors.New("the store is away")

func (s *awayStore) Change(ctx context.Context, id string, token uint64, c idempotency.Change) error {
	if s.away.Load() {
		return errAway
	}
	return s.Store.Change(ctx, id, token, c)
}

// TestAnEndOutlivesAStoreThatIsAway: what a service has answered is given to the coordinator, and given again, while
// the store takes nothing, the service is not called again, and the end is written when the store is back.
func TestAnEndOutlivesAStoreThatIsAway(t *testing.T) {
	payload := []byte(strings.Replace(string(bothCalls), `"do":`, `"failOn":[[402,402]],"do":`, 1))
	for name, c := range map[string]struct{ service, want int }{
		"done":    {201, 200},
		"refused": {402, 409},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &fixture{known: map[string]string{}}
				d.openInMemory(t)
				store := &awayStore{Store: d.store}
				d.store = store
				calls := 0
				d.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
					calls++
					store.away.Store(true)
					return c.service, "", filters.Completed
				}
				g := gid('d')
				d.delegate(t, g)
				d.setState(g, "submitted")
				target := d.url(t, g, opDo, payload)
				for range 3 {
					if got := d.branch(t, target, "action", payload); got != c.want {
						t.Fatalf("status %d, want %d", got, c.want)
					}
				}
				d.setState(g, "aborting")
				if c.want == 409 {
					undo := d.url(t, g, opUndo, payload)
					if got := d.branch(t, undo, "compensate", payload); got != 425 && got != 200 {
						t.Errorf("the undo of a refused do: %d", got)
					}
				}
				time.Sleep(1500 * time.Millisecond)
				store.away.Store(false)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				rec, ok, err := store.Get(t.Context(), branchRecord(g, "pay", opDo))
				if err != nil || !ok || rec.State != idempotency.Answered || len(d.ends.known) != 0 {
					t.Errorf("the end was not written: %v %v %v, %d are kept", rec.State, ok, err, len(d.ends.known))
				}
				if got := d.branch(t, target, "action", payload); got != c.want || calls != 1 {
					t.Errorf("afterwards: %d, %d calls", got, calls)
				}
			})
		})
	}
}

// TestAnEndIsNotKeptForEver: the store stays away.
func TestAnEndIsNotKeptForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fixture{known: map[string]string{}}
		d.openInMemory(t)
		store := &awayStore{Store: d.store}
		d.store = store
		d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
			store.away.Store(true)
			return 200, "", filters.Completed
		}
		g := gid('d')
		d.delegate(t, g)
		d.setState(g, "submitted")
		if got := d.branch(t, d.url(t, g, opDo, bothCalls), "action", bothCalls); got != 200 {
			t.Fatal(got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), endLife+time.Minute)
		defer cancel()
		if err := d.Wait(ctx); err != nil || len(d.ends.known) != 0 {
			t.Errorf("%v, %d are kept", err, len(d.ends.known))
		}
		d.ends.known = map[string]end{}
		for i := range endsMax {
			d.ends.known[gid('e')+string(rune(i))] = end{status: 200}
		}
		if d.ends.put("one more", end{}) {
			t.Error("there is no limit")
		}
	})
}
