package gateway

import (
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestAdmissionOfTransactions: a transaction over three services of which the last is given a rest, or
// has no room, or no token left, is not begun. No service is called, nothing has to be undone, what the
// others gave is back, and the key is free.
func TestAdmissionOfTransactions(t *testing.T) {
	t.Parallel()
	coordinator := newCoordinator(t)
	stock, order, payment := newGate(t), newGate(t), newGate(t)
	service := func(s *gate, settings string) string {
		return "{endpoints: [" + strconv.Quote(s.URL) + "], timeout: 20s, breaker: {}, " + settings + "}\n"
	}
	step := func(name, service string) string {
		return "{name: " + name + ", do: {service: " + service + ", path: /do}, undo: {service: " + service +
			", path: /undo}}"
	}
	g := start(t, head+`
coordinator: {dtm: {endpoints: ["`+coordinator.URL+`"], branches: "127.0.0.1:0"}}
limits: {stock: {rate: 2/h}, payment: {rate: 4/h}}
services:
  stock: `+service(stock, "limits: [stock]")+`
  order: `+service(order, "overload: {}")+`
  payment: `+service(payment, "limits: [payment], overload: {concurrency: 1, queue: {size: 10, wait: 60s}}")+`
transactions:
  checkout:
    wait: 20s
    steps: [`+step("reserve", "stock")+", "+step("order", "order")+", "+step("pay", "payment")+`]
routes:
  - {name: checkout, match: {path: /checkout}, transaction: checkout, priority: low, idempotency: {required: true}}
  - {name: hold, match: {path: /hold}, service: payment, timeout: 60s}
  - {name: stock, match: {path: /stock}, service: stock}
`)
	checkout := func(key string) got {
		return g.do("POST", "/checkout", "{}", "Idempotency-Key", key, "X-User", "ann")
	}
	begun := 0
	refused := func(when string, a got, status int, reason string) {
		t.Helper()
		if a.status != status || a.reason() != reason || !strings.Contains(a.body, `"service":"payment"`) ||
			a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d, Retry-After %q, %s, want %d %s for payment", when, a.status,
				a.header.Get("Retry-After"), a.body, status, reason)
		}
		if stock.count() != begun || order.count() != begun {
			t.Fatalf("%s: stock saw %d calls and order %d, want %d", when, stock.count(), order.count(), begun)
		}
	}
	var held sync.WaitGroup
	for range 3 {
		held.Go(func() {
			if a := g.do("GET", "/hold", "", "X-User", "ben"); a.status != 200 {
				t.Errorf("what fills the service: %d %s", a.status, a.body)
			}
		})
	}
	until(t, func() bool { return g.metric(`sluice_overload_queued{class="normal",service="payment"}`) == 2 })
	refused("no room", checkout("k"), 503, "overloaded")
	payment.Open()
	held.Wait()

	if a := checkout("k"); a.status != 200 || a.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("the same key when there is room: %d %s, want it executed", a.status, a.body)
	}
	begun = 1
	if stock.count() != 1 || order.count() != 1 || payment.count() != 4 {
		t.Errorf("calls: %d, %d, %d, want one of each step", stock.count(), order.count(), payment.count())
	}
	refused("no token", checkout("k2"), 429, "rate-limited")
	a := fetch(t, "http://"+g.at.Admin+"/api/breakers/payment", "POST", `{"state":"open"}`,
		"Content-Type", "application/json")
	if a.status != 200 {
		t.Fatalf("the breaker was not forced open: %d %s", a.status, a.body)
	}
	refused("a breaker that is forced open", checkout("k2"), 503, "breaker-open")

	// Of the two tokens of stock one is spent, by the transaction that was executed.
	for i, want := range []int{200, 429} {
		if a := g.do("GET", "/stock", ""); a.status != want {
			t.Errorf("request %d to stock: %d, want %d", i+1, a.status, want)
		}
	}
	if n := g.metric(`sluice_overload_reserved{service="payment"}`); n != 0 {
		t.Errorf("%v places are still reserved", n)
	}
}
