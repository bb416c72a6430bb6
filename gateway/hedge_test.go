package gateway

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

// A slow endpoint is hedged: the client has the other one's response, and the breaker hears of no
// failure. A request with a key, or one that is not safe, is sent once.
func TestHedgedRequests(t *testing.T) {
	t.Parallel()
	var once atomic.Int64 // requests that may be sent once only
	hedged := func(r *http.Request) bool {
		if r.Method == "GET" && r.Header.Get("Idempotency-Key") == "" {
			return true
		}
		once.Add(1)
		return false
	}
	slow := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if hedged(r) {
			<-r.Context().Done()
		}
	})
	fast := newService(t, func(w http.ResponseWriter, r *http.Request) {
		hedged(r)
		w.Write([]byte("fast"))
	})
	g := start(t, head+`
services:
  a:
    endpoints: ["`+slow.URL+`", "`+fast.URL+`"]
    timeout: 20s
    hedge: {after: 20ms}
    retries: {budget: 100%}
    breaker: {errors: 1%, minRequests: 1, openFor: 10m}
routes: [{name: a, match: {path: /a}, service: a, idempotency: {}}]
`)
	requests := 0
	for g.metric(`sluice_upstream_hedges_won_total{service="a"}`) < 3 {
		requests++
		if r := g.do("GET", "/a", ""); r.status != 200 || r.body != "fast" {
			t.Fatalf("%+v", r)
		}
	}
	// One that was cancelled early has been seen by no endpoint, and one that was cancelled late may be seen still.
	started := g.metric(`sluice_upstream_hedges_total{service="a"}`)
	if sent := slow.count() + fast.count(); started < 3 || float64(sent) > float64(requests)+started {
		t.Errorf("%v hedges of %d requests are counted, the endpoints saw %d", started, requests, sent)
	}
	for _, key := range []string{"k1", "k2", "k3"} {
		g.do("GET", "/a", "", "Idempotency-Key", key)
		g.do("POST", "/a", "")
	}
	if n := once.Load(); n != 6 {
		t.Errorf("6 requests were sent %d times", n)
	}
	if n := g.metric(`sluice_breaker_state{service="a"}`); n != 0 {
		t.Errorf("the breaker's state is %v", n)
	}
}

func TestExplainOfResilience(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("t.yaml", []byte(`version: 1
services:
  a: {endpoints: ["http://127.0.0.1:1"], hedge: {after: p99.9}, retries: {attempts: 2, budget: 10%}}
  b: {endpoints: ["http://127.0.0.1:2"], breaker: {}, timeout: 7s}
routes:
  - {name: a, match: {path: /a}, service: a, fallback: {service: b, on: [timeout]}}
  - {name: b, match: {path: /b}, service: b, fallback: {status: 204}}
`), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"/a": {"retries and hedges are 10% of the service's requests at most", "has a second attempt after p99.9",
			"on timeout: service b at http://127.0.0.1:2, timeout 7s", "through the breaker of that service"},
		"/b": {"on breaker-open, overloaded, timeout: response 204"},
	} {
		var out strings.Builder
		if err := Explain(&out, cfg, ExplainRequest{Method: "GET", Path: path}); err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(out.String(), line) {
				t.Errorf("%s: %q is not in\n%s", path, line, &out)
			}
		}
	}
}
