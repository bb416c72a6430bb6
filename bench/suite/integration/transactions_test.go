package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/shop"
)

// settleLimit is how long a transaction may take to its end after a crash: DTM doubles its pause
// between tries.
const settleLimit = 90 * time.Second

const checkoutConfig = `version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: {embedded: {dir: data}}
identity:
  - header: {name: X-User, trusted: [127.0.0.0/8]}
  - clientIP: {}
services:
  stock: {endpoints: ["%s"], timeout: 20s}
  order: {endpoints: ["%s"], timeout: 20s}
  payment: {endpoints: ["%s"], timeout: 20s}
  points: {endpoints: ["%s"], timeout: 20s}
  shipping: {endpoints: ["%s"], timeout: 20s}
routes:
  - name: checkout
    match: {methods: [POST], path: /v1/checkouts}
    idempotency: {required: true, lease: 2s}
    transaction: checkout
    status: "/v1/checkouts/{id}"
coordinator:
  dtm: {endpoints: ["%s"], branches: "@branches@"}
transactions:
  checkout:
    mode: saga
    wait: 5s
    timeout: 60s
    retry: {every: 1s}
    steps:
      - name: reserve
        do:   {service: stock, method: POST, path: /v1/reservations, body: {id: "{gid}", sku: "{body.sku}", qty: "{body.qty}"}}
        undo: {service: stock, method: POST, path: "/v1/reservations/{gid}/release"}
        failOn: [409, 422]
      - name: order
        do:   {service: order, method: POST, path: /v1/orders, body: {id: "{gid}", user: "{principal}", sku: "{body.sku}", qty: "{body.qty}"}}
        undo: {service: order, method: POST, path: "/v1/orders/{gid}/cancel"}
      - name: pay
        do:   {service: payment, method: POST, path: /v1/payments, body: {id: "{gid}", user: "{principal}", amount: "{body.amount}"}}
        undo: {service: payment, method: POST, path: "/v1/payments/{gid}/refund"}
        failOn: [402, 409, 422]
      - name: reward
        do:   {service: points, method: POST, path: /v1/points, body: {id: "{gid}", user: "{principal}", amount: "{body.amount}"}}
        undo: {service: points, method: POST, path: "/v1/points/{gid}/revoke"}
      - name: ship
        do:   {service: shipping, method: POST, path: /v1/shipments, body: {id: "{gid}", user: "{principal}"}}
        undo: {service: shipping, method: POST, path: "/v1/shipments/{gid}/cancel"}
`

// checkouts is a gateway with the shop and the coordinator.
type checkouts struct {
	*testing.T
	gateway     *harness.Gateway
	shop        *harness.Shop
	coordinator *dtmtest.Coordinator
}

// startCheckouts starts all of it; more is added to the gateway's configuration.
func startCheckouts(t *testing.T, more ...string) *checkouts {
	t.Helper()
	return startCheckoutsWith(t, checkoutConfig+strings.Join(more, ""))
}

// startCheckoutsWith starts all of it with a configuration of its own.
func startCheckoutsWith(t *testing.T, config string) *checkouts {
	t.Helper()
	c := &checkouts{T: t, shop: harness.StartShop(t, t.TempDir()), coordinator: dtmtest.Start(t,
		dtmtest.Options{Args: []string{"--cron", "1s"}})}
	c.gateway = harness.StartGateway(t, fmt.Sprintf(config, c.shop.URL("stock"), c.shop.URL("order"),
		c.shop.URL("payment"), c.shop.URL("points"), c.shop.URL("shipping"), c.coordinator.URL))
	return c
}

// buy sends a checkout of two units. The card of the user "broke" is always declined.
func (c *checkouts) buy(ctx context.Context, user, key string) response {
	return send(ctx, http.MethodPost, c.gateway.URL+"/v1/checkouts", `{"sku":"SKU-1","qty":2,"amount":1998}`,
		"X-User", user, "Idempotency-Key", key)
}

// buyToTheEnd sends the same checkout again, as a client does that wants to know, until it has
// ended. It is for any goroutine.
func (c *checkouts) buyToTheEnd(user, key string) (a response, ended bool) {
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		a = c.buy(c.Context(), user, key)
		if a.err == nil && (a.status == http.StatusOK || a.header.Get("Sluice-Reason") == "transaction-failed") {
			return a, true
		}
	}
	return a, false
}

// wantEnd checks how a checkout ended, that it is replayed so, and that its status resource says
// the same.
func (c *checkouts) wantEnd(a response, user, key string) {
	c.Helper()
	status, state := http.StatusOK, "succeeded"
	if user == "broke" {
		status, state = http.StatusConflict, "failed"
	}
	if a.status != status || state == "failed" && (a.member("step") != "pay" ||
		a.header.Get("Sluice-Reason") != "transaction-failed") {
		c.Errorf("%s of %s: %v, want %s", key, user, a, state)
		return
	}
	again := c.buy(c.Context(), user, key)
	if again.status != a.status || again.body != a.body || again.header.Get("Idempotent-Replayed") != "true" {
		c.Errorf("%s of %s again: %v, want a replay of %v", key, user, again, a)
	}
	id := a.member("id")
	if got := c.status(user, id); got.status != http.StatusOK || got.member("state") != state || id == "" ||
		got.member("id") != id {
		c.Errorf("%s of %s: its status is %v, want %s", key, user, got, state)
	}
	if got := c.status("mallory", id); got.status != http.StatusNotFound {
		c.Errorf("somebody else sees the status: %v", got)
	}
}

func (c *checkouts) status(user, id string) response {
	return send(c.Context(), http.MethodGet, c.gateway.URL+"/v1/checkouts/"+id, "", "X-User", user)
}

// wantLedgers checks that the services' ledgers agree and how many checkouts they sold and undid.
func (c *checkouts) wantLedgers(sold, undone int) {
	c.Helper()
	r, err := shop.Audit(c.Context(), c.shop.Addresses())
	if err != nil {
		c.Fatal(err)
	}
	if !r.Balanced || r.Sold != sold || r.Undone != undone {
		c.Errorf("%v; want %d sold and %d undone", r, sold, undone)
	}
}

// arrivals returns how many payments were asked for.
func (c *checkouts) arrivals() int64 {
	c.Helper()
	a := send(c.Context(), http.MethodGet, c.shop.URL("payment")+"/stats", "")
	var s shop.Stats
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		c.Fatalf("stats: %v: %v", a, err)
	}
	return s.Requests["POST /v1/payments"]
}

func TestRefusedPaymentUndoesTheCheckout(t *testing.T) {
	t.Parallel()
	c := startCheckouts(t)
	c.wantEnd(c.buy(t.Context(), "ann", "key-1"), "ann", "key-1")
	c.wantEnd(c.buy(t.Context(), "broke", "key-2"), "broke", "key-2")
	c.wantLedgers(1, 1)
	c.gateway.Stop()
}

// crashes are the ways in which a checkout is hit while its payment is under way.
var crashes = map[string]func(c *checkouts){
	"gateway":     func(c *checkouts) { c.gateway.Kill(); c.shop.Heal(c, "payment"); c.gateway.Restart() },
	"coordinator": func(c *checkouts) { c.coordinator.Kill(); c.shop.Heal(c, "payment"); c.coordinator.Restart() },
	"both": func(c *checkouts) {
		c.coordinator.Kill()
		c.gateway.Kill()
		c.shop.Heal(c, "payment")
		c.gateway.Restart() // a gateway without its coordinator is ready
		c.coordinator.Restart()
	},
}

func TestCheckoutSurvivesACrashInTheMiddle(t *testing.T) {
	t.Parallel()
	for who, crash := range crashes {
		for _, user := range []string{"ann", "broke"} {
			t.Run(who+" killed, "+user+" pays", func(t *testing.T) {
				t.Parallel()
				c := startCheckouts(t)
				c.shop.Fault(t, "payment", `{"hang": true}`)
				first := make(chan response, 1)
				go func() { first <- c.buy(t.Context(), user, "key-1") }()
				harness.Until(t, requestLimit, "the payment is asked for", func() bool { return c.arrivals() > 0 })
				crash(c)
				<-first // whatever became of it, the client asks again
				a, ended := c.buyToTheEnd(user, "key-1")
				if !ended {
					t.Fatalf("not at its end within %v: %v", settleLimit, a)
				}
				c.wantEnd(a, user, "key-1")
				if user == "broke" {
					c.wantLedgers(0, 1)
				} else {
					c.wantLedgers(1, 0)
				}
			})
		}
	}
}

func TestManyCheckoutsSurviveRepeatedCrashes(t *testing.T) {
	t.Parallel()
	const n = 12 // every third is declined
	c := startCheckouts(t)
	for _, service := range shop.Names {
		c.shop.Fault(t, service, `{"latency": "20ms"}`)
	}
	user := func(i int) string {
		if i%3 == 0 {
			return "broke"
		}
		return fmt.Sprintf("user-%d", i)
	}
	key := func(i int) string { return fmt.Sprintf("key-%d", i) }
	var running sync.WaitGroup
	ends, ended := make([]response, n), make([]bool, n)
	for i := range n {
		running.Go(func() { ends[i], ended[i] = c.buyToTheEnd(user(i), key(i)) })
	}
	for round := range int64(2) {
		harness.Until(t, requestLimit, "some payments are asked for", func() bool { return c.arrivals() >= 2+4*round })
		c.gateway.Kill()
		c.gateway.Restart()
		harness.Until(t, requestLimit, "more payments are asked for", func() bool { return c.arrivals() >= 4+4*round })
		c.coordinator.Kill()
		c.coordinator.Restart()
	}
	running.Wait()
	for i := range n {
		if !ended[i] {
			t.Errorf("%s of %s is not at its end within %v: %v", key(i), user(i), settleLimit, ends[i])
			continue
		}
		c.wantEnd(ends[i], user(i), key(i))
	}
	c.wantLedgers(n-n/3, n/3)

	stdout, stderr, code := sluice(t, "transactions", "list", "-o", "json", "--admin",
		strings.TrimPrefix(c.gateway.AdminURL, "http://"))
	if code != 0 || strings.Count(stdout, `"state": "succeeded"`) != n-n/3 || strings.Count(stdout,
		`"state": "failed"`) != n/3 {
		t.Errorf("transactions list: exit %d, %s\n%s", code, stderr, stdout)
	}
	var listed struct{ Transactions []struct{ ID, State string } }
	if err := json.Unmarshal([]byte(stdout), &listed); err != nil {
		t.Fatal(err)
	}
	for _, l := range listed.Transactions[:min(3, len(listed.Transactions))] { // what list prints show takes
		stdout, stderr, code := sluice(t, "transactions", "show", l.ID, "-o", "json", "--admin",
			strings.TrimPrefix(c.gateway.AdminURL, "http://"))
		if code != 0 || !strings.Contains(stdout, l.ID) || !strings.Contains(stdout, `"state": "`+l.State+`"`) {
			t.Errorf("transactions show %s: exit %d, %s\n%s", l.ID, code, stderr, stdout)
		}
	}
}

func TestWithoutCoordinatorNothingIsSubmitted(t *testing.T) {
	t.Parallel()
	c := startCheckouts(t)
	c.coordinator.Kill()
	a := c.buy(t.Context(), "ann", "key-1")
	if a.status != http.StatusServiceUnavailable || a.header.Get("Sluice-Reason") != "coordinator-unavailable" ||
		a.header.Get("Retry-After") == "" {
		t.Errorf("without a coordinator: %v, want 503 coordinator-unavailable with Retry-After", a)
	}
	c.coordinator.Restart()
	a, ended := c.buyToTheEnd("ann", "key-1") // the key is free again
	if !ended {
		t.Fatalf("with the coordinator back: %v", a)
	}
	c.wantEnd(a, "ann", "key-1")
	c.wantLedgers(1, 0)
}
