package sagaclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// branches responds to the coordinator's calls: 200, or what is set for a path. It keeps the order
// of the calls.
type branches struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []string
	bodies map[string]string
	status map[string]int
}

func newBranches(t *testing.T) *branches {
	b := &branches{bodies: map[string]string{}, status: map[string]int{}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.calls = append(b.calls, r.URL.Path)
		b.bodies[r.URL.Path] = r.Method + " " + string(body) + " " + r.URL.Query().Get("branch_id") + " " +
			r.URL.Query().Get("op")
		if s := b.status[r.URL.Path]; s != 0 {
			w.WriteHeader(s)
		}
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *branches) set(path string, status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status[path] = status
}

func (b *branches) called() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

func (b *branches) saga(gid string, names ...string) *sagaclient.Saga {
	s := &sagaclient.Saga{GID: gid, RetryEvery: time.Second}
	for _, n := range names {
		action := b.URL + "/" + gid + "/" + n
		s.Steps = append(s.Steps, sagaclient.Step{Name: n, Action: action, Compensate: action + "/undo"})
	}
	return s
}

func wait(t *testing.T, c *sagaclient.Client, gid string) sagaclient.Transaction {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tr, err := c.Wait(ctx, gid)
	if err != nil {
		t.Fatalf("%v; last known %+v", err, tr)
	}
	return tr
}

func TestWithCoordinator(t *testing.T) {
	t.Parallel()
	d := dtmtest.Start(t, dtmtest.Options{})
	c, err := sagaclient.New(sagaclient.Options{Endpoints: []string{d.URL}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := newBranches(t)
	ctx := context.Background()

	t.Run("succeeds in order", func(t *testing.T) {
		s := b.saga("order0000001", "a", "b", "c")
		s.Steps[0].Payload = []byte(`{"qty": 2, "name": "Ü<&>"}`)
		if err := c.Submit(ctx, s); err != nil {
			t.Fatal(err)
		}
		tr := wait(t, c, s.GID)
		if tr.Status != sagaclient.Succeeded || len(tr.Branches) != 6 || tr.CreateTime.IsZero() {
			t.Errorf("%+v", tr)
		}
		if got := b.called(); !slices.Equal(got, []string{"/order0000001/a", "/order0000001/b", "/order0000001/c"}) {
			t.Errorf("calls %v", got)
		}
		if got := b.bodies["/order0000001/a"]; got != `POST {"qty": 2, "name": "Ü<&>"} 01 action` {
			t.Errorf("first call %s", got)
		}
		if got := b.bodies["/order0000001/b"]; got != `POST {} 02 action` {
			t.Errorf("second call %s", got)
		}
		before := len(b.called())
		if err := c.Submit(ctx, s); !errors.Is(err, sagaclient.ErrRejected) {
			t.Errorf("the gid again: %v, want %v", err, sagaclient.ErrRejected)
		}
		if len(b.called()) != before {
			t.Error("the second submit ran something")
		}
	})

	t.Run("concurrent with orders", func(t *testing.T) {
		s := b.saga("fork00000001", "a", "b", "c")
		s.Steps[1].After = []int{}
		s.Steps[2].After = []int{0, 1}
		s.Wait = true
		if err := c.Submit(ctx, s); err != nil {
			t.Fatal(err)
		}
		if tr := wait(t, c, s.GID); tr.Status != sagaclient.Succeeded {
			t.Errorf("%+v", tr)
		}
		calls := b.called()
		if last := calls[len(calls)-1]; last != "/fork00000001/c" {
			t.Errorf("calls %v, want c last", calls)
		}
	})

	t.Run("rolls back", func(t *testing.T) {
		b.set("/back00000001/b", 409)
		s := b.saga("back00000001", "a", "b", "c")
		s.Wait = true
		if err := c.Submit(ctx, s); err != nil {
			t.Fatal(err)
		}
		tr := wait(t, c, s.GID)
		if tr.Status != sagaclient.Failed || tr.Reason == "" {
			t.Errorf("%+v", tr)
		}
		calls := b.called()
		if !slices.Contains(calls, "/back00000001/a/undo") || slices.Contains(calls, "/back00000001/c") {
			t.Errorf("calls %v", calls)
		}
		for _, br := range tr.Branches {
			if br.ID == "02" && br.Op == "action" && br.Status != sagaclient.Failed {
				t.Errorf("branch %+v, want it failed", br)
			}
		}
	})

	t.Run("result", func(t *testing.T) {
		good := b.saga("result000001", "a", "b")
		good.Steps[0].JSON = map[string]int{"qty": 2}
		if got, err := c.SubmitAndWait(ctx, good); err != nil || got.Outcome != sagaclient.OutcomeSucceeded ||
			got.Step != "" || len(got.Transaction.Branches) != 4 || got.Transaction.Type != "saga" {
			t.Errorf("%+v, %v", got, err)
		}
		if got := b.bodies["/result000001/a"]; got != `POST {"qty":2} 01 action` {
			t.Errorf("first call %s", got)
		}
		b.set("/result000002/b", 409)
		refused := b.saga("result000002", "a", "b", "c")
		if got, err := c.SubmitAndWait(ctx, refused); err != nil || got.Outcome != sagaclient.OutcomeFailed ||
			got.Step != "b" || got.Reason == "" {
			t.Errorf("refused: %+v, %v", got, err)
		}
		got, err := c.SubmitAndWait(ctx, refused)
		if !errors.Is(err, sagaclient.ErrRejected) || got.Outcome != sagaclient.OutcomeFailed || got.Step != "b" {
			t.Errorf("its gid again: %+v, %v", got, err)
		}
		var e *sagaclient.Error
		if !errors.As(err, &e) || e.Status != 409 || e.GID != refused.GID || e.Reason == "" {
			t.Errorf("%#v", e)
		}
	})

	t.Run("listing and stop", func(t *testing.T) {
		b.set("/stop00000001/a", 500)
		s := b.saga("stop00000001", "a")
		s.RetryEvery = time.Minute
		until, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		go func() {
			for !slices.Contains(b.called(), "/stop00000001/a") && until.Err() == nil {
				time.Sleep(5 * time.Millisecond)
			}
			cancel()
		}()
		// Unknown, where the caller goes before the submit is acknowledged.
		if got, err := c.SubmitAndWait(until, s); err != nil && !errors.Is(err, sagaclient.ErrUnknown) ||
			err == nil && got.Outcome != sagaclient.OutcomePending {
			t.Errorf("%+v, %v; want it pending, or unknown", got, err)
		}
		listed := func(f sagaclient.Filter) (found bool) {
			t.Helper()
			for tr, err := range c.All(ctx, f) {
				if err != nil {
					t.Fatal(err)
				}
				found = found || tr.GID == s.GID
			}
			return found
		}
		deadline := time.Now().Add(20 * time.Second)
		for !listed(sagaclient.Filter{Status: sagaclient.Submitted, Type: "saga", From: time.Now().Add(-time.Hour),
			To: time.Now().Add(time.Hour)}) {
			if time.Now().After(deadline) {
				t.Fatal("it is not listed")
			}
			time.Sleep(5 * time.Millisecond)
		}
		for _, f := range []sagaclient.Filter{{Status: sagaclient.Failed}, {Type: "tcc"},
			{To: time.Now().Add(-time.Hour)}, {From: time.Now().Add(time.Hour)}} {
			if listed(f) {
				t.Errorf("%+v lists it", f)
			}
		}
		if err := c.ForceStop(ctx, s.GID); err != nil {
			t.Error(err)
		}
		if tr := wait(t, c, s.GID); tr.Status != sagaclient.Failed {
			t.Errorf("stopped: %+v", tr)
		}
		if err := c.ForceStop(ctx, s.GID); !errors.Is(err, sagaclient.ErrRejected) {
			t.Errorf("stopped again: %v, want %v", err, sagaclient.ErrRejected)
		}
		if err := c.ForceStop(ctx, sagaclient.NewGID()); !errors.Is(err, sagaclient.ErrNotFound) {
			t.Errorf("nobody's gid: %v, want %v", err, sagaclient.ErrNotFound)
		}
		if slices.Contains(b.called(), "/stop00000001/a/undo") {
			t.Error("a stopped saga was undone")
		}
	})

	t.Run("unknown gid", func(t *testing.T) {
		if _, err := c.Query(ctx, "nobody000001"); !errors.Is(err, sagaclient.ErrNotFound) {
			t.Errorf("%v, want %v", err, sagaclient.ErrNotFound)
		}
		if _, err := c.Wait(ctx, "nobody000001"); !errors.Is(err, sagaclient.ErrNotFound) {
			t.Errorf("wait: %v, want %v", err, sagaclient.ErrNotFound)
		}
	})

	t.Run("unfinished", func(t *testing.T) {
		want := map[string]bool{}
		for i := range 3 {
			gid := fmt.Sprintf("stuck%07d", i)
			b.set("/"+gid+"/a", 500)
			s := b.saga(gid, "a")
			s.RetryEvery = time.Minute
			want[gid] = true
			if err := c.Submit(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
		got, err := c.Unfinished(ctx, 0)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%+v, %v; want %v", got, err, want)
		}
		for _, tr := range got {
			if !want[tr.GID] || tr.Status != sagaclient.Submitted {
				t.Errorf("%+v", tr)
			}
		}
		if got, err := c.Unfinished(ctx, 2); err != nil || len(got) != 2 {
			t.Errorf("limit 2: %+v, %v", got, err)
		}
	})
}

func TestCoordinatorKilled(t *testing.T) {
	t.Parallel()
	d := dtmtest.Start(t, dtmtest.Options{})
	c, err := sagaclient.New(sagaclient.Options{Endpoints: []string{d.URL}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := newBranches(t)
	b.set("/kill00000001/b", 500)
	if err := c.Submit(context.Background(), b.saga("kill00000001", "a", "b")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for ; !slices.Contains(b.called(), "/kill00000001/b"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("second step is not called")
		}
	}
	d.Kill()
	c.Close() // a dead connection that the transport has not noticed yet would make the next submit unknown
	err = c.Submit(context.Background(), b.saga("kill00000002", "a"))
	if !errors.Is(err, sagaclient.ErrCoordinatorDown) {
		t.Errorf("submit while down: %v, want %v", err, sagaclient.ErrCoordinatorDown)
	}
	b.set("/kill00000001/b", 200)
	d.Restart()
	if tr := wait(t, c, "kill00000001"); tr.Status != sagaclient.Succeeded {
		t.Errorf("%+v", tr)
	}
	if n := len(b.called()); b.called()[0] != "/kill00000001/a" || slices.Contains(b.called()[1:], "/kill00000001/a") {
		t.Errorf("%d calls %v; the first step must be called once", n, b.called())
	}
	d.Stop()
}

func TestUnfinishedOnRedis(t *testing.T) {
	t.Parallel()
	host, port, err := net.SplitHostPort(redistest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	d := dtmtest.Start(t,
		dtmtest.Options{Args: []string{"--store", "redis", "--store-host", host, "--store-port", port}})
	c, err := sagaclient.New(sagaclient.Options{Endpoints: []string{d.URL}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := newBranches(t)
	const done, stuck = 150, 30
	for i := range done + stuck {
		gid := fmt.Sprintf("redis%07d", i)
		s := b.saga(gid, "a")
		s.RetryEvery = time.Minute
		if i < stuck {
			b.set("/"+gid+"/a", 500)
		}
		if err := c.Submit(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if i >= stuck {
			if tr := wait(t, c, gid); tr.Status != sagaclient.Succeeded {
				t.Fatalf("%+v", tr)
			}
		}
	}
	got, err := c.Unfinished(context.Background(), 0)
	if err != nil || len(got) != stuck {
		t.Errorf("%d unfinished, %v; want %d", len(got), err, stuck)
	}
}
