package transaction

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// waiting is a bridge in which branches of two transactions at service a failed, with a long delay before the
// coordinator calls them again.
type waiting struct {
	*fixture
	status int // of the service
	first  string
	second string
	calls  []string // gids, in the order of the calls that reached the service
}

func (w *waiting) call(t *testing.T, gid string) int {
	return w.branch(t, w.url(t, gid, opDo, bothCalls), "action", bothCalls)
}

func newWaiting(t *testing.T) *waiting {
	w := &waiting{fixture: &fixture{known: map[string]string{}, broken: map[string]bool{}}, status: 500}
	w.openInMemory(t)
	w.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
		w.calls = append(w.calls, x.Logical.Key)
		return w.status, "", filters.Completed
	}
	w.first, w.second = gid('d'), gid('e')
	for _, g := range []string{w.first, w.second} {
		w.delegate(t, g)
		w.setState(g, "submitted")
		w.known[g] = strings.Replace(w.known[g], `"status"`, `"next_cron_interval":60,"status"`, 1)
		if got := w.call(t, g); got != 425 {
			t.Fatalf("the first call: %d", got)
		}
	}
	w.calls = nil
	return w
}

func (d *fixture) retried() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.retries
}

// tick is what Run does from time to time.
func (w *waiting) tick(t *testing.T) (advances int) {
	before := w.retried()
	w.advance(t.Context(), time.Now())
	return w.retried() - before
}

// TestAServiceThatIsBackIsCalledAtOnce: a branch call that succeeds again, or a breaker that closes, has the
// coordinator call what waits for that service.
func TestAServiceThatIsBackIsCalledAtOnce(t *testing.T) {
	t.Run("a call succeeds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWaiting(t)
			if w.tick(t) != 0 {
				t.Error("an advance while the service is gone")
			}
			time.Sleep(time.Second)
			w.status = 200
			if got := w.call(t, w.first); got != 200 {
				t.Fatalf("status %d", got)
			}
			if n := w.tick(t); n != 1 {
				t.Fatalf("%d advances when the service is back, want 1", n)
			}
			if got := w.call(t, w.second); got != 200 {
				t.Errorf("the one that waits for it: %d", got)
			}
			if n := w.tick(t); n != 0 {
				t.Errorf("%d more advances, and nothing waits", n)
			}
		})
	})
	t.Run("its breaker closes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWaiting(t)
			w.broken["a"] = true
			if w.tick(t) != 0 {
				t.Error("an advance when a breaker opens")
			}
			time.Sleep(time.Second)
			w.broken["a"] = false
			if n := w.tick(t); n != 1 {
				t.Fatalf("%d advances when the breaker has closed, want 1", n)
			}
			w.status = 200
			for _, g := range []string{w.first, w.second} {
				if got := w.call(t, g); got != 200 {
					t.Errorf("status %d", got)
				}
			}
		})
	})
}

// TestAnAdvanceSparesAServiceThatIsStillBroken: the coordinator calls everything, and what comes to the service that is
// gone before its time is not passed on; an operator's retry is.
func TestAnAdvanceSparesAServiceThatIsStillBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(t)
		for range 4 { // something else is back, again and again
			time.Sleep(11 * time.Second)
			w.advances.want()
			if n := w.tick(t); n != 1 {
				t.Fatalf("%d advances, want 1", n)
			}
			time.Sleep(time.Second)
			for _, g := range []string{w.first, w.second} {
				if got := w.call(t, g); got != 425 {
					t.Errorf("a call before its time: %d, want 425", got)
				}
			}
		}
		if len(w.calls) != 0 {
			t.Errorf("the broken service was called %d times", len(w.calls))
		}
		if _, err := w.Retry(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.call(t, w.first); len(w.calls) != 1 {
			t.Error("an operator's retry does not reach the service")
		}
		time.Sleep(time.Minute)
		if w.call(t, w.second); len(w.calls) != 2 {
			t.Error("a call at its time does not reach the service")
		}
	})
}

// TestABranchThatFailsAmongOthersIsNotHurried: the service is well but for one branch; each success of another counts
// as its return, and brings the one that fails no more than one call before its time.
func TestABranchThatFailsAmongOthersIsNotHurried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(t)
		for range 5 {
			time.Sleep(11 * time.Second)
			w.advances.failed("a")
			w.advances.reached("a", time.Now())
			w.advances.want()
			w.tick(t)
			time.Sleep(time.Second)
			w.call(t, w.first)
		}
		if len(w.calls) != 1 {
			t.Errorf("called %d times within a minute, want 1", len(w.calls))
		}
	})
}

// TestAdvancesAreRare: whatever comes and goes, one in ten seconds, and none of what is called soon.
func TestAdvancesAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(t)
		n := 0
		for range 400 { // 100 s
			w.advances.want()
			n += w.tick(t)
			time.Sleep(250 * time.Millisecond)
		}
		if n != 10 {
			t.Errorf("%d advances in 100 s, want 10", n)
		}
		if w.within != "5" {
			t.Errorf("advanced what is called within %q seconds, want 5 or later", w.within)
		}
	})
}

// TestAdvancesAtTheStartAndWhenTheCoordinatorIsBack.
func TestAdvancesAtTheStartAndWhenTheCoordinatorIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(t)
		w.advances.coordinator(nil)
		if w.tick(t) != 0 {
			t.Error("an advance, and nothing was gone")
		}
		w.down = true
		if _, err := w.queryCoordinator(t.Context(), w.first); err == nil {
			t.Fatal("it is not down")
		}
		if w.tick(t) != 0 {
			t.Error("an advance while the coordinator is gone")
		}
		w.down = false
		if _, err := w.queryCoordinator(t.Context(), w.first); err != nil {
			t.Fatal(err)
		}
		if n := w.tick(t); n != 1 {
			t.Errorf("%d advances when it is back, want 1", n)
		}

		next := &fixture{known: w.known} // another process, with the same store
		next.openInMemory(t)
		next.store = w.store
		go next.Run(t.Context())
		time.Sleep(time.Second)
		if n := next.retried(); n != 1 {
			t.Errorf("%d advances at the start, want 1", n)
		}
		idle := &fixture{known: map[string]string{}}
		idle.openInMemory(t)
		go idle.Run(t.Context())
		time.Sleep(time.Second)
		if idle.retried() != 0 {
			t.Error("an advance at the start, and nothing is delegated")
		}
	})
}
