package gateway

import (
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

const checkoutsOf = `
coordinator: {dtm: {endpoints: ["COORDINATOR"], branches: "127.0.0.1:0"}}
services: {a: {endpoints: ["SERVICE"], timeout: 20s}}
transactions:
  checkout: {wait: 20s, steps: [{name: do, do: {service: a, path: /do}}]}
routes:
  - {name: checkout, match: {path: /checkout}, transaction: checkout, idempotency: {required: true}}
`

func startCheckouts(t *testing.T, service string) *running {
	addresses := strings.NewReplacer("COORDINATOR", newCoordinator(t).URL, "SERVICE", service)
	return start(t, head+addresses.Replace(checkoutsOf))
}

// TestASucceededTransactionIsNotFreed: its key free, a repeat would get its outcome from the coordinator all the same.
func TestASucceededTransactionIsNotFreed(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := newService(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	g := startCheckouts(t, s.URL)
	checkout := func() got {
		return g.do("POST", "/checkout", "{}", "Idempotency-Key", "k", "X-User", "ann")
	}
	if a := checkout(); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	const record = `{"route":"checkout","principal":"ann","key":"k"`
	for _, force := range []string{"false", "true"} {
		a := fetch(t, "http://"+g.at.Admin+"/api/idempotency/resolve", "POST",
			record+`,"as":"free","force":`+force+`}`)
		if a.status != 409 || !strings.Contains(a.body, "has succeeded") {
			t.Errorf("resolved as free, force %s: %d %s", force, a.status, a.body)
		}
	}
	if a := checkout(); a.status != 200 || a.header.Get("Idempotent-Replayed") != "true" || calls.Load() != 1 {
		t.Errorf("again: %d %v, %d calls", a.status, a.header, calls.Load())
	}
}

// TestWhatWasSentIsSaidInTheLog: not-dispatched stands only where the service got nothing.
func TestWhatWasSentIsSaidInTheLog(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := newService(t, func(http.ResponseWriter, *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
	})
	g := startCheckouts(t, s.URL)
	if a := g.do("POST", "/checkout", "{}", "Idempotency-Key", "k", "X-User", "ann"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	log := g.logs.String()
	if !strings.Contains(log, "outcome=no-response") || strings.Contains(log, "not-dispatched") {
		t.Errorf("a call whose connection broke:\n%s", log)
	}

	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	g = startCheckouts(t, "http://"+address)
	done := make(chan got, 1)
	go func() { done <- g.do("POST", "/checkout", "{}", "Idempotency-Key", "k", "X-User", "ann") }()
	until(t, func() bool { return strings.Contains(g.logs.String(), "outcome=not-dispatched") })
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	late := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go late.Serve(ln)
	t.Cleanup(func() { late.Close() })
	if a := <-done; a.status != 200 {
		t.Errorf("when the service is there: %d %s", a.status, a.body)
	}
}

// TestAStepThatIsCalledInVainWaitsForNoDecision: what is listed as unknown is what an operator settles there.
func TestAStepThatIsCalledInVainWaitsForNoDecision(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	s := newService(t, func(http.ResponseWriter, *http.Request) {
		if !works.Load() {
			panic(http.ErrAbortHandler)
		}
	})
	g := startCheckouts(t, s.URL)
	done := make(chan got, 1)
	go func() { done <- g.do("POST", "/checkout", "{}", "Idempotency-Key", "k", "X-User", "ann") }()
	listed := func(query string) string {
		return fetch(t, "http://"+g.at.Admin+"/api/idempotency?state=unknown"+query, "GET", "").body
	}
	until(t, func() bool { // it is called again and again: its record is unknown before and behind the one that is read
		before := listed("&route=checkout/branch")
		all := listed("")
		if strings.Contains(all, "checkout/branch") {
			t.Fatalf("a step of a transaction is listed: %s", all)
		}
		return strings.Contains(before, "checkout/branch") && strings.Contains(listed("&route=checkout/branch"),
			"checkout/branch")
	})
	works.Store(true)
	if a := <-done; a.status != 200 {
		t.Errorf("when the service works: %d %s", a.status, a.body)
	}
}
