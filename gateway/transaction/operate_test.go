package transaction

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// TestAStuckUndoIsToldAndResolved: it shows in the step's state and reason, it is logged once at ERROR, it is counted,
// and an operator ends it.
func TestAStuckUndoIsToldAndResolved(t *testing.T) {
	d := newFixture(t)
	var log strings.Builder
	d.logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	calls := 0
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		calls++
		return 404, "", filters.Completed
	}
	g := gid('d')
	d.delegate(t, g)
	d.setState(g, "aborting", "pay:succeed:prepared")
	undo := d.url(t, g, opUndo, bothCalls)
	for range 7 {
		if got := d.branch(t, undo, "compensate", bothCalls); got == 200 {
			t.Fatal("a 404 counts as done")
		}
	}
	if n := strings.Count(log.String(), "in vain"); n != 1 || !strings.Contains(log.String(), "step=pay op=undo") {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	if s := d.Stuck(); len(s) != 1 || s[0].Step != "pay" || s[0].Attempts != 7 || s[0].Status != 404 ||
		s[0].Transaction != "checkout" {
		t.Errorf("stuck: %+v", s)
	}
	v, _, err := d.Show(t.Context(), g)
	if err != nil || len(v.Steps) != 1 || v.Steps[0].State != StepCompensating ||
		v.Steps[0].Reason != "called 7 times in vain, the last one with status 404" {
		t.Errorf("%+v %v", v, err)
	}
	if err := d.Resolve(t.Context(), g, "pay", Refused); !errors.Is(err, ErrNotRefused) {
		t.Errorf("an undo that was refused: %v", err)
	}
	if err := d.Resolve(t.Context(), g, "order", Done); !errors.Is(err, ErrNotCalled) {
		t.Errorf("a step that was not called: %v", err)
	}
	if err := d.Resolve(t.Context(), gid('e'), "pay", Done); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such transaction: %v", err)
	}
	if err := d.Resolve(t.Context(), g, "pay", Done); err != nil || d.retries != 1 {
		t.Errorf("%v, %d retries", err, d.retries)
	}
	if got := d.branch(t, undo, "compensate", bothCalls); got != 200 || calls != 7 || len(d.Stuck()) != 0 {
		t.Errorf("after it was resolved: %d, %d calls, stuck %+v", got, calls, d.Stuck())
	}
}

// TestADoIsResolvedAsRefused: the coordinator rolls back, and there is nothing to undo.
func TestADoIsResolvedAsRefused(t *testing.T) {
	d := newFixture(t)
	calls := 0
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		calls++
		return 500, "", filters.Completed
	}
	g := gid('d')
	d.delegate(t, g)
	d.setState(g, "submitted", "pay:prepared:prepared")
	do := d.url(t, g, opDo, bothCalls)
	d.branch(t, do, "action", bothCalls)
	if err := d.Resolve(t.Context(), g, "pay", Refused); err != nil {
		t.Fatal(err)
	}
	if got := d.branch(t, do, "action", bothCalls); got != 409 {
		t.Errorf("do: %d", got)
	}
	d.setState(g, "aborting", "pay:failed:prepared")
	if got := d.branch(t, d.url(t, g, opUndo, bothCalls), "compensate", bothCalls); got != 200 || calls != 1 {
		t.Errorf("undo: %d, %d calls", got, calls)
	}
	d.setState(g, "failed", "pay:failed:succeed")
	if err := d.Resolve(t.Context(), g, "pay", Done); !errors.Is(err, ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
}

// TestALostTransactionIsLoggedOnceAndCounted until an operator resolves it.
func TestALostTransactionIsLoggedOnceAndCounted(t *testing.T) {
	d := newFixture(t)
	var log strings.Builder
	d.logger = slog.New(slog.NewTextHandler(&log, nil))
	g := gid('d')
	d.delegate(t, g)
	d.scan(t.Context())
	f := d.followed[g]
	f.missing, f.created = time.Now().Add(-neverSubmittedAfter), time.Now().Add(-coordinatorLostAfter-time.Second)
	for range 3 {
		if done, err := d.reconcile(t.Context(), g, f); done || err != nil {
			t.Fatal(done, err)
		}
	}
	if n := strings.Count(log.String(), "has lost it"); n != 1 || d.Lost() != 1 || !d.IsLost(g) {
		t.Errorf("logged %d times, %d are counted", n, d.Lost())
	}
	response := d.codec.Append(nil, recordOf(g), &idempotency.Response{Status: 200, Body: []byte("{}")})
	if ok, err := d.store.Resolve(t.Context(), recordOf(g), response, true); err != nil || !ok {
		t.Fatal(ok, err)
	}
	d.followDue(t.Context(), time.Now().Add(time.Minute))
	if d.Lost() != 0 || d.Pending() != 0 {
		t.Errorf("%d are counted, %d followed", d.Lost(), d.Pending())
	}
}

// TestAStuckUndoOfAnUnknownDoIsTold: the coordinator knows nothing of the do, and undoes it all the same.
func TestAStuckUndoOfAnUnknownDoIsTold(t *testing.T) {
	d := newFixture(t)
	d.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
		if x.Call == filters.UndoCall {
			return 404, "", filters.Completed
		}
		return 0, "", filters.NoResponse
	}
	g := gid('d')
	d.delegate(t, g)
	d.setState(g, "submitted", "pay:prepared:prepared")
	d.branch(t, d.url(t, g, opDo, bothCalls), "action", bothCalls)
	d.setState(g, "aborting", "pay:prepared:prepared")
	view := func() StepView {
		t.Helper()
		v, _, err := d.Show(t.Context(), g)
		if err != nil || len(v.Steps) != 1 {
			t.Fatal(v, err)
		}
		return v.Steps[0]
	}
	if s := view(); s.State != StepPending {
		t.Errorf("before its undo: %+v", s)
	}
	for range 3 {
		d.branch(t, d.url(t, g, opUndo, bothCalls), "compensate", bothCalls)
	}
	if s := view(); s.State != StepCompensating || s.Reason != "called 3 times in vain, the last one with status 404" {
		t.Errorf("%+v", s)
	}
}

// TestNoStepIsResolvedWhileTheCoordinatorIsAway: an operator who means the undo must not settle the do.
func TestNoStepIsResolvedWhileTheCoordinatorIsAway(t *testing.T) {
	d := newFixture(t)
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		return 0, "", filters.NoResponse
	}
	g := gid('d')
	d.delegate(t, g)
	d.setState(g, "submitted", "pay:prepared:prepared")
	d.branch(t, d.url(t, g, opDo, bothCalls), "action", bothCalls)
	d.known[g] = "" // it does not know the transaction
	for _, as := range []StepEnd{Done, Refused} {
		if err := d.Resolve(t.Context(), g, "pay", as); !errors.Is(err, ErrNotKnown) {
			t.Errorf("as %s: %v", as, err)
		}
	}
	rec, _, err := d.store.Get(t.Context(), branchRecord(g, "pay", opDo))
	if err != nil || rec.State != idempotency.Unknown {
		t.Errorf("the do's record is %v, %v", rec.State, err)
	}
}

// TestAChangedBranchAddressIsTold: transactions that began under another address do not go on by themselves.
func TestAChangedBranchAddressIsTold(t *testing.T) {
	d := newFixture(t)
	var log strings.Builder
	d.logger = slog.New(slog.NewTextHandler(&log, nil))
	d.delegate(t, gid('d'))
	d.setState(gid('d'), "submitted", "pay:prepared:prepared") // at http://gateway.test
	for _, c := range []struct {
		advertised bool
		base       string
		want       int
	}{{false, "http://new.test", 0}, {true, "http://gateway.test", 0}, {true, "http://new.test", 1}} {
		d.advertised, d.baseURL = c.advertised, c.base
		for range 3 {
			if _, _, err := d.Show(t.Context(), gid('d')); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.String(), "address=http://gateway.test advertise=http://new.test"); n != c.want {
			t.Errorf("%+v: told %d times:\n%s", c, n, log.String())
		}
	}
}

// TestAStuckBranchIsForgotten that is not called here any more: its last call, or the end of its transaction, was
// another gateway's. Else this one would tell of it for ever, and have no room for others in the end.
func TestAStuckBranchIsForgotten(t *testing.T) {
	var s stuckBranches
	start := time.Now()
	call := func(gid, step string, retryMax time.Duration) *branchCall {
		return &branchCall{
			branch: branch{gid: gid, step: step, op: opUndo},
			env:    &envelope{Transaction: "checkout", RetryMax: retryMax.Milliseconds()},
			call:   &envelopeCall{Service: "order"},
		}
	}
	s.failed(call("one", "a", 30*time.Second), 5, 404, start)
	s.failed(call("one", "b", time.Hour), 5, 404, start)
	s.failed(call("two", "a", 0), 5, 404, start)
	s.failed(call("two", "a", 0), 6, 404, start.Add(stuckLife/2))
	for _, c := range []struct {
		after time.Duration
		want  string
	}{
		{stuckLife, "one a, one b, two a"},
		{stuckLife + time.Second, "one b, two a"},
		{2 * stuckLife, "one b"},
		{2 * time.Hour, "one b"},
		{2*time.Hour + time.Second, ""},
	} {
		s.expire(start.Add(c.after))
		var left []string
		for _, of := range [][2]string{{"one", "a"}, {"one", "b"}, {"two", "a"}} {
			if _, ok := s.get(of[0], of[1], opUndo); ok {
				left = append(left, of[0]+" "+of[1])
			}
		}
		if got := strings.Join(left, ", "); got != c.want {
			t.Errorf("after %s: %s, want %s", c.after, got, c.want)
		}
	}
	if len(s.byGID) != 0 {
		t.Errorf("%d transactions are kept", len(s.byGID))
	}
}
