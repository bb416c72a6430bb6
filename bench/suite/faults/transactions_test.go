package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

const checkoutConfig = `version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: {memory: {}}
services:
  stock: {endpoints: [%q]}
routes:
  - name: checkout
    match: {methods: [POST], path: /checkout}
    idempotency: {required: true}
    transaction: buy
coordinator:
  dtm: {endpoints: [%q], branches: "@branches@"}
transactions:
  buy:
    wait: 100ms
    retry: {every: 1s, max: 1s}
    steps:
      - name: reserve
        do: {service: stock, path: /do}
        undo: {service: stock, path: /undo}
      - name: pay
        do: {service: stock, path: /refuse}
        undo: {service: stock, path: /undo}
`

// TestFaultsOfTransactions: a roll-back that never ends, and a coordinator that is not there.
func TestFaultsOfTransactions(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(map[string]int{"/do": 200, "/refuse": 409, "/undo": 500}[r.URL.Path])
	}))
	t.Cleanup(service.Close)
	coordinator := dtmtest.Start(t, dtmtest.Options{Args: []string{"--cron", "1s"}})
	g := harness.StartGateway(t, fmt.Sprintf(checkoutConfig, service.URL, coordinator.URL))

	a := send(t, http.MethodPost, g.URL+"/checkout", "Idempotency-Key", "k-1")
	var begun struct{ ID string }
	if err := json.Unmarshal([]byte(a.body), &begun); err != nil || begun.ID == "" {
		t.Fatalf("the client gets %d %s, %v", a.status, a.body, err)
	}
	logged(t, g, "level=ERROR", "called again and again in vain", "transaction=buy", "step=reserve", begun.ID,
		"status=500")
	measured(t, g.AdminURL, `sluice_transaction_stuck{step="reserve",transaction="buy"} 1`)
	shown(t, g.AdminURL, `"stuck": [`, begun.ID, `"step": "reserve"`)
	list := send(t, http.MethodGet, g.AdminURL+"/api/idempotency?state=unknown").body
	if !strings.Contains(list, begun.ID) || !strings.Contains(list, "sluice transactions resolve") {
		t.Errorf("what waits for somebody: %s", list)
	}

	coordinator.Kill()
	a = send(t, http.MethodPost, g.URL+"/checkout", "Idempotency-Key", "k-2")
	if a.status != http.StatusServiceUnavailable {
		t.Errorf("without a coordinator the client gets %d %s", a.status, a.reason)
	}
	logged(t, g, "level=WARN", "route=checkout", "reason=coordinator-unavailable", "connection refused",
		"request="+a.request)
}
