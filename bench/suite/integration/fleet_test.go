package integration_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

func TestTwoGatewaysOnOneRedisShareKeys(t *testing.T) {
	t.Parallel()
	store := fmt.Sprintf("{redis: {addresses: [%q], timeout: 5s}}", redistest.Start(t))
	hundredAtOnce(t, func(service string) []string {
		config := keyedConfig(store, service, "hold")
		return []string{harness.StartGateway(t, config).URL, harness.StartGateway(t, config).URL}
	})
}

func TestTwoGatewaysOnOneRedisShareALimit(t *testing.T) {
	t.Parallel()
	service := startService(t, func(_ int, w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "in stock") })
	// No token comes back while the test runs: the burst is all there is.
	config := fmt.Sprintf(`version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: {redis: {addresses: [%q], timeout: 5s}}
services:
  stock: {endpoints: [%q], timeout: 30s}
limits:
  all: {scope: global, rate: 1/h, burst: 20, onStoreFailure: closed}
routes:
  - name: stock
    match: {methods: [GET], path: "/v1/stock/{sku}"}
    service: stock
    limits: [all]
`, redistest.Start(t), service.URL)
	urls := []string{harness.StartGateway(t, config).URL, harness.StartGateway(t, config).URL}

	look := func(url string) response { return send(t.Context(), http.MethodGet, url+"/v1/stock/SKU-1", "") }
	for _, url := range urls { // each of them can spend of the burst
		if a := look(url); a.status != http.StatusOK {
			t.Fatalf("the first request to %s: %v", url, a)
		}
	}
	var mu sync.Mutex
	byStatus := map[int]int{}
	var running sync.WaitGroup
	for i := range 58 {
		running.Go(func() {
			a := look(urls[i%2])
			if a.err != nil {
				t.Error(a.err)
				return
			}
			if a.status == http.StatusTooManyRequests && (a.header.Get("Retry-After") == "" ||
				a.header.Get("RateLimit") == "") {
				t.Errorf("a refusal without Retry-After or RateLimit: %v", a.header)
			}
			mu.Lock()
			defer mu.Unlock()
			byStatus[a.status]++
		})
	}
	running.Wait()
	if byStatus[http.StatusOK] != 18 || byStatus[http.StatusTooManyRequests] != 40 {
		t.Errorf("responses by status: %v, want 18 more of 200 and 40 of 429 over both gateways", byStatus)
	}
	if n := len(service.requests()); n != 20 {
		t.Errorf("the service saw %d requests, want 20", n)
	}
}
