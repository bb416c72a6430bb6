package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

const (
	saleUnits  = 100
	saleBuyers = 2000
)

func saleConfig(store, service, idempotency string) string {
	return fmt.Sprintf(`version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: %s
identity:
  - header: {name: X-User, trusted: [127.0.0.0/8]}
services:
  order: {endpoints: [%q], timeout: 30s}
routes:
  - name: buy
    match: {methods: [POST], path: /v1/orders}
    service: order
    idempotency: {required: true%s}
sales:
  flash:
    routes: [buy]
    item: body.sku
    quantity: body.qty
    stock: {SKU-1: %d}
`, store, service, idempotency, saleUnits)
}

// buyUnit sends one order of a unit.
func buyUnit(t *testing.T, url, user, key string) response {
	return send(t.Context(), http.MethodPost, url+"/v1/orders", `{"sku":"SKU-1","qty":1}`, "X-User", user,
		"Idempotency-Key", key)
}

// saleItem is what a gateway's status says of the item.
type saleItem struct{ Total, Taken, Reserved, Confirmed, Unknown, Returned int }

func saleStatus(t *testing.T, g *harness.Gateway) saleItem {
	t.Helper()
	a := send(t.Context(), http.MethodGet, g.AdminURL+"/api/status", "")
	var s struct {
		Sales map[string]struct{ Items []saleItem }
	}
	if err := json.Unmarshal([]byte(a.body), &s); err != nil || len(s.Sales["flash"].Items) != 1 {
		t.Fatalf("status: %v: %v", err, a)
	}
	return s.Sales["flash"].Items[0]
}

// awaitSale waits until the gateway has settled all units.
func awaitSale(t *testing.T, g *harness.Gateway, confirmed, unknown int) {
	t.Helper()
	var s saleItem
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if s = saleStatus(t, g); s.Confirmed == confirmed && s.Unknown == unknown && s.Taken == confirmed+unknown {
			return
		}
	}
	t.Errorf("the sale stands at %+v, want %d confirmed and %d unknown", s, confirmed, unknown)
}

// TestTwoGatewaysSellWhatThereIs: a demand of twenty times the stock over two gateways on one Redis. A part of the
// buyers is declined by the service, so that their units come back; duplicates take no second unit; and each buyer asks
// again, until it is told that all is sold. In the end each unit is sold once.
func TestTwoGatewaysSellWhatThereIs(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	orders := map[string]int{} // by injected key
	service := startService(t, func(n int, w http.ResponseWriter, r *http.Request) {
		user := r.Header.Get("Sluice-Principal")
		switch {
		case strings.HasSuffix(user, "7"): // a card that is declined: final
			w.WriteHeader(http.StatusPaymentRequired)
		case strings.HasSuffix(user, "3") && r.Header.Get("Sluice-Attempt") == "1" && n%2 == 0:
			w.WriteHeader(http.StatusServiceUnavailable) // nothing was done: the key is free
		default:
			mu.Lock()
			orders[r.Header.Get("Idempotency-Key")]++
			mu.Unlock()
			w.WriteHeader(http.StatusCreated)
		}
	})
	store := fmt.Sprintf("{redis: {addresses: [%q], timeout: 10s}}", redistest.Start(t))
	config := saleConfig(store, service.URL, "")
	gateways := []*harness.Gateway{harness.StartGateway(t, config), harness.StartGateway(t, config)}

	var sold, soldOut, declined atomic.Int64
	var running sync.WaitGroup
	buyers := make(chan int)
	for range 32 {
		running.Go(func() {
			for i := range buyers {
				user := fmt.Sprint("user", i)
				for again := true; again; {
					again = false
					switch a := buyUnit(t, gateways[i%2].URL, user, "key"); {
					case a.err != nil:
						t.Error(a.err)
					case a.status == http.StatusCreated:
						sold.Add(1)
						if b := buyUnit(t, gateways[(i+1)%2].URL, user, "key"); b.status != http.StatusCreated ||
							b.header.Get("Idempotent-Replayed") != "true" {
							t.Errorf("%s asks the other gateway again: %v", user, b)
						}
					case a.status == http.StatusPaymentRequired:
						declined.Add(1)
					case a.status == http.StatusServiceUnavailable:
						again = true
					case a.header.Get("Sluice-Reason") == "sold-out" && a.status == http.StatusConflict:
						soldOut.Add(1)
					default:
						t.Errorf("%s: %v", user, a)
					}
				}
			}
		})
	}
	for i := range saleBuyers {
		buyers <- i
	}
	close(buyers)
	running.Wait()
	for _, g := range gateways {
		awaitSale(t, g, int(sold.Load()), 0)
	}
	// what came back late, when nobody asked any more, is sold now
	for i := 0; sold.Load() < saleUnits && i < saleBuyers; i++ {
		if a := buyUnit(t, gateways[i%2].URL, fmt.Sprintf("late%d-0", i), "key"); a.status == http.StatusCreated {
			sold.Add(1)
		}
	}
	if n := len(orders); n != saleUnits || sold.Load() != saleUnits {
		t.Errorf("%d orders were made, and %d acknowledged, of %d units", n, sold.Load(), saleUnits)
	}
	for key, n := range orders {
		if n != 1 {
			t.Errorf("the order %s was made %d times", key, n)
		}
	}
	if soldOut.Load() == 0 || declined.Load() == 0 {
		t.Errorf("%d were told that all is sold, %d were declined: the test looks at too little",
			soldOut.Load(), declined.Load())
	}
	for _, g := range gateways {
		awaitSale(t, g, saleUnits, 0)
	}
}

// TestKilledGatewayKeepsItsSale: on the embedded store. What was sold before stays sold, what was under way is unknown
// and stays taken, and comes back on the operator's word.
func TestKilledGatewayKeepsItsSale(t *testing.T) {
	t.Parallel()
	arrived, gate := newGate(), newGate()
	service := startService(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sluice-Principal") == "hung" {
			arrived.open()
			gate.passed(r)
		}
		w.WriteHeader(http.StatusCreated)
	})
	g := harness.StartGateway(t, saleConfig("{embedded: {dir: data}}", service.URL, ", lease: 1s"))
	for i := range saleUnits - 1 {
		if a := buyUnit(t, g.URL, fmt.Sprint("user", i), "key"); a.status != http.StatusCreated {
			t.Fatal(a)
		}
	}
	go buyUnit(t, g.URL, "hung", "key")
	arrived.wait(t, "the last purchase reaches the service")
	g.Kill()
	gate.open()
	g.Restart()
	if a := buyUnit(t, g.URL, "late", "key"); a.header.Get("Sluice-Reason") != "sold-out" {
		t.Errorf("after the restart: %v", a)
	}
	if a := buyUnit(t, g.URL, "user1", "key"); a.status != http.StatusCreated ||
		a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a buyer asks again: %v", a)
	}
	if a := buyUnit(t, g.URL, "hung", "key"); a.header.Get("Sluice-Reason") != "outcome-unknown" {
		t.Errorf("who was being served asks again: %v", a)
	}
	awaitSale(t, g, saleUnits-1, 1)
	resolve := send(t.Context(), http.MethodPost, g.AdminURL+"/api/idempotency/resolve",
		`{"route":"buy","principal":"hung","key":"key","as":"free"}`)
	if resolve.status/100 != 2 {
		t.Fatal(resolve)
	}
	awaitSale(t, g, saleUnits-1, 0)
	for deadline := time.Now().Add(settleLimit); ; time.Sleep(20 * time.Millisecond) {
		a := buyUnit(t, g.URL, "late", "key")
		if a.status == http.StatusCreated {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the unit is not on sale again: %v", a)
		}
	}
	g.Stop()
}

// TestRolledBackCheckoutGivesItsUnitBack: a sale that leads to a transaction.
func TestRolledBackCheckoutGivesItsUnitBack(t *testing.T) {
	t.Parallel()
	c := startCheckouts(t, `sales:
  flash: {routes: [checkout], item: body.sku, quantity: body.qty, stock: {SKU-1: 4}}
`)
	c.wantEnd(c.buy(t.Context(), "broke", "key-1"), "broke", "key-1")
	awaitSale(t, c.gateway, 0, 0)
	c.wantEnd(c.buy(t.Context(), "ann", "key-1"), "ann", "key-1")
	c.wantEnd(c.buy(t.Context(), "bob", "key-1"), "bob", "key-1")
	awaitSale(t, c.gateway, 4, 0)
	if a := c.buy(t.Context(), "eve", "key-1"); a.header.Get("Sluice-Reason") != "sold-out" {
		t.Errorf("the fifth unit: %v", a)
	}
	c.wantEnd(c.buy(t.Context(), "broke", "key-1"), "broke", "key-1") // replayed, though all is sold
	c.wantLedgers(2, 1)
	c.gateway.Stop()
}
