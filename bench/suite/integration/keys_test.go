package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// keyedConfig is a gateway with one keyed route to the service.
func keyedConfig(store, service, onUnknown string) string {
	return fmt.Sprintf(`version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: %s
identity:
  - header: {name: X-User, trusted: [127.0.0.0/8]}
  - clientIP: {}
services:
  order: {endpoints: [%q], timeout: 30s}
routes:
  - name: create-order
    match: {methods: [POST], path: /v1/orders}
    service: order
    idempotency: {required: true, lease: 2s, maxInFlight: 60s, whileInFlight: {wait: 30s}, onUnknown: %s}
`, store, service, onUnknown)
}

const embedded = "{embedded: {dir: data}}"

const order = `{"sku":"SKU-1","qty":1}`

func postOrder(ctx context.Context, gatewayURL, key string) response {
	return send(ctx, http.MethodPost, gatewayURL+"/v1/orders", order, "Idempotency-Key", key, "X-User", "ann")
}

// sameResponses checks that all responses are one and the same 201, all but one of them replays.
func sameResponses(t *testing.T, responses []response) {
	t.Helper()
	replays := 0
	for i, a := range responses {
		if a.status != http.StatusCreated || a.body != responses[0].body {
			t.Errorf("response %d: %v, the first is %v", i, a, responses[0])
		}
		if a.err == nil && a.header.Get("Idempotent-Replayed") == "true" {
			replays++
		}
	}
	if replays != len(responses)-1 {
		t.Errorf("%d of %d responses are replays, want all but one", replays, len(responses))
	}
}

// hundredAtOnce sends 100 requests with one key to the gateways in turn. The service answers the
// first only when all are under way.
func hundredAtOnce(t *testing.T, start func(serviceURL string) []string) {
	const n = 100
	var written sync.WaitGroup
	written.Add(n)
	service := startService(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		written.Wait()
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"order":%d}`, n)
	})
	urls := start(service.URL)
	responses := make([]response, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			wrote := sync.OnceFunc(written.Done)
			defer wrote()
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				WroteRequest: func(httptrace.WroteRequestInfo) { wrote() },
			})
			responses[i] = postOrder(ctx, urls[i%len(urls)], "key-1")
		})
	}
	running.Wait()
	sameResponses(t, responses)
	if got := service.requests(); len(got) != 1 {
		t.Errorf("the service saw %d requests, want 1", len(got))
	}
}

func TestHundredRequestsWithOneKeyAreExecutedOnce(t *testing.T) {
	t.Parallel()
	hundredAtOnce(t, func(service string) []string {
		return []string{harness.StartGateway(t, keyedConfig(embedded, service, "hold")).URL}
	})
}

// killInFlight sends a request, kills the gateway with SIGKILL while the service works on it, and
// starts it again. The service answers no request before that.
func killInFlight(t *testing.T, onUnknown string) (*harness.Gateway, *service) {
	t.Helper()
	arrived, killed := newGate(), newGate()
	service := startService(t, func(n int, w http.ResponseWriter, r *http.Request) {
		arrived.open()
		killed.passed(r)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"order":%d}`, n)
	})
	g := harness.StartGateway(t, keyedConfig(embedded, service.URL, onUnknown))
	first := make(chan response, 1)
	go func() { first <- postOrder(t.Context(), g.URL, "key-1") }()
	arrived.wait(t, "the request reaches the service")
	g.Kill()
	killed.open()
	if a := <-first; a.err == nil {
		t.Fatalf("the client of a killed gateway got %v", a)
	}
	g.Restart()
	return g, service
}

// settled sends the request again until the record does not read as in progress any more.
func settled(t *testing.T, g *harness.Gateway) response {
	t.Helper()
	var a response
	harness.Until(t, 20*time.Second, "the record of the killed request is settled", func() bool {
		a = postOrder(t.Context(), g.URL, "key-1")
		return a.err == nil && a.header.Get("Sluice-Reason") != "request-in-progress"
	})
	return a
}

func TestKilledGatewayHoldsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	g, service := killInFlight(t, "hold")
	if a := settled(t, g); a.status != http.StatusConflict || a.header.Get("Sluice-Reason") != "outcome-unknown" {
		t.Fatalf("a retry after the crash: %v, want 409 outcome-unknown", a)
	}
	if got := service.requests(); len(got) != 1 {
		t.Fatalf("the service saw %d requests, want 1", len(got))
	}

	record := []string{"--admin", strings.TrimPrefix(g.AdminURL, "http://"), "--route", "create-order", "--principal",
		"ann", "--key", "key-1"}
	keys := func(verb string, more ...string) string {
		t.Helper()
		stdout, stderr, code := sluice(t, append(append([]string{"keys", verb}, record...), more...)...)
		if code != 0 {
			t.Fatalf("keys %s: exit %d: %s", verb, code, stderr)
		}
		return stdout
	}
	if out := keys("get", "-o", "json"); !strings.Contains(out, `"state": "unknown"`) {
		t.Errorf("keys get shows %s", out)
	}
	keys("resolve", "--as", "answered", "--status", "201", "--body", `{"order":1}`)
	a := postOrder(t.Context(), g.URL, "key-1")
	if a.status != http.StatusCreated || a.body != `{"order":1}` || a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("after resolve: %v", a)
	}
	keys("forget")
	if _, _, code := sluice(t, append([]string{"keys", "get"}, record...)...); code != 1 {
		t.Errorf("keys get of a forgotten record: exit %d, want 1", code)
	}
	if a := postOrder(t.Context(), g.URL, "key-1"); a.status != http.StatusCreated || a.body != `{"order":2}` {
		t.Errorf("after forget: %v", a)
	}
}

func TestKilledGatewayRepeatsWhereTheServiceHonoursTheKey(t *testing.T) {
	t.Parallel()
	g, service := killInFlight(t, "retry")
	if a := settled(t, g); a.status != http.StatusCreated || a.body != `{"order":2}` {
		t.Fatalf("a retry after the crash: %v, want 201", a)
	}
	got := service.requests()
	if len(got) != 2 {
		t.Fatalf("the service saw %d requests, want 2", len(got))
	}
	if got[0].attempt != "1" || got[1].attempt != "2" || got[0].key == "" || got[0].key != got[1].key {
		t.Errorf("the service saw attempts %+v, want 1 and 2 with one Idempotency-Key", got)
	}
	a := postOrder(t.Context(), g.URL, "key-1")
	if a.status != http.StatusCreated || a.body != `{"order":2}` || a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("once more: %v, want the second attempt's response replayed", a)
	}
}

func TestAnswersOutliveAKilledGateway(t *testing.T) {
	t.Parallel()
	service := startService(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"order":%d}`, n)
	})
	g := harness.StartGateway(t, keyedConfig(embedded, service.URL, "hold"))
	responses := []response{postOrder(t.Context(), g.URL, "key-1")}
	g.Kill() // right after the response: it was stored before it was sent
	g.Restart()
	responses = append(responses, postOrder(t.Context(), g.URL, "key-1"))
	sameResponses(t, responses)
	g.Stop()
}
