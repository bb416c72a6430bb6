package transaction

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

func TestCoordinatorBreaker(t *testing.T) {
	failed := errors.New("no route to host")
	gone := fmt.Errorf("query: %w", context.Canceled)
	type call struct {
		status int
		err    error
	}
	for _, c := range []struct {
		name  string
		calls []call
		open  bool
	}{
		{"four failures", []call{{0, failed}, {0, failed}, {500, nil}, {503, nil}}, false},
		{"five failures", []call{{0, failed}, {0, context.DeadlineExceeded}, {500, nil}, {503, nil}, {0, failed}}, true},
		{"callers that gave up", []call{{0, gone}, {0, gone}, {0, gone}, {0, gone}, {0, gone}}, false},
		{"refusals", []call{{409, nil}, {409, nil}, {404, nil}, {425, nil}, {400, nil}, {409, nil}}, false},
		{"a success between", []call{{0, failed}, {0, failed}, {0, failed}, {200, nil}, {0, failed}, {0, failed}}, false},
		{"a request that it cannot take", []call{{500, nil}, {200, nil}, {500, nil}, {200, nil}, {500, nil}, {200, nil},
			{500, nil}, {200, nil}, {500, nil}, {200, nil}}, false},
	} {
		b := new(CoordinatorBreaker)
		now := time.Now()
		for i, call := range c.calls {
			b.done(call.status, call.err, now.Add(time.Duration(i)*100*time.Millisecond))
		}
		if open, _, _ := b.Open(); open != c.open || (b.Allow() != nil) != c.open {
			t.Errorf("%s: open %v, want %v", c.name, open, c.open)
		}
	}
}

// One probe at a time, one a second, and only its answer closes the breaker.
func TestCoordinatorProbes(t *testing.T) {
	b := new(CoordinatorBreaker)
	now := time.Now()
	if b.beginProbe(now) {
		t.Error("a closed one is probed")
	}
	for range 2 * coordinatorFailures {
		b.done(0, errors.New("down"), now)
	}
	if b.Allow() != nil {
		t.Error("what fails at one moment opens it")
	}
	b.done(0, errors.New("down"), now.Add(coordinatorFailing))
	if !b.beginProbe(now) || b.beginProbe(now.Add(2*time.Second)) {
		t.Error("want one probe at a time")
	}
	b.endProbe(errors.New("still down"))
	if b.beginProbe(now.Add(coordinatorProbe / 2)) {
		t.Error("probed again at once")
	}
	if b.Allow() == nil {
		t.Error("a failed probe closes it")
	}
	if !b.beginProbe(now.Add(2 * coordinatorProbe)) {
		t.Error("not probed again")
	}
	if refused := b.endProbe(nil); refused != 1 || b.Allow() != nil {
		t.Errorf("after a good probe: %v; %d were refused, want 1", b.Allow(), refused)
	}
}

// While the coordinator does not answer, nothing is sent to it but a probe a second, and the client is told at once;
// then all goes on.
func TestCoordinatorDownAndBack(t *testing.T) {
	var down atomic.Bool
	var asked atomic.Int64
	d := &fixture{known: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		d.dtm(w, r)
	}))
	defer server.Close()
	guard := new(CoordinatorBreaker)
	d.openWith(t, sagaclient.Options{Endpoints: []string{server.URL}, Breaker: guard})
	probe, err := sagaclient.New(sagaclient.Options{Endpoints: []string{server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	d.Bridge.coordinator.breaker, d.Bridge.coordinator.probe = guard, probe
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go d.Bridge.Run(ctx)

	down.Store(true)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err := d.Bridge.client.Query(ctx, "x")
		if errors.Is(err, sagaclient.ErrCoordinatorDown) {
			break
		}
		if !errors.Is(err, sagaclient.ErrResponse) || time.Now().After(deadline) {
			t.Fatalf("while it closes connections: %v", err)
		}
	}
	before := asked.Load()
	for range 100 {
		if _, err := d.Bridge.client.Query(ctx, "x"); !errors.Is(err, sagaclient.ErrCoordinatorDown) {
			t.Fatalf("with an open breaker: %v", err)
		}
	}
	if n := asked.Load() - before; n > 50 { // probes; a slow machine may have had time for several
		t.Errorf("%d calls of 100 went out", n)
	}
	if d.Bridge.CoordinatorUp() {
		t.Error("it counts as up")
	}
	down.Store(false)
	for deadline := time.Now().Add(30 * time.Second); !d.Bridge.CoordinatorUp(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no probe has closed the breaker")
		}
	}
	if _, err := d.Bridge.client.Query(ctx, "x"); !errors.Is(err, sagaclient.ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
}
