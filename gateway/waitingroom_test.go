package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/pagetest"
)

// saleConfig is a sale by POST /buy/{sku}, with a form or with JSON, and members of its own.
func saleConfig(service, sale string) string {
	return head + `
services: {shop: {endpoints: ["` + service + `"]}}
routes:
  - name: buy
    match: {methods: [POST], path: "/buy/{sku}"}
    service: shop
    idempotency: {required: true}
sales:
  sale: {routes: [buy], item: path.sku, ` + sale + `}
`
}

// shopper buys with a key of its own.
func (g *running) buy(user, key string, header ...string) got {
	g.t.Helper()
	return g.do("POST", "/buy/hat", "", append([]string{"X-User", user, "Idempotency-Key", key}, header...)...)
}

// firstWaiting lets buyers in until one has to wait, and returns its name and what it was told.
func (g *running) firstWaiting(header ...string) (user string, a got) {
	g.t.Helper()
	for i := range 1000 {
		user = fmt.Sprint("user-", i)
		if a = g.buy(user, "key-"+user, header...); a.status == http.StatusAccepted {
			return user, a
		}
		if a.status != 200 || a.header.Get("Sluice-Ticket") == "" || a.header.Get("Set-Cookie") == "" {
			g.t.Fatalf("%s: %d %s %v", user, a.status, a.body, a.header)
		}
	}
	g.t.Fatal("nobody had to wait")
	return "", a
}

// TestWaitingRoom: a program that has to wait is told its place, comes back with its ticket and the same key, and buys
// once.
func TestWaitingRoom(t *testing.T) {
	t.Parallel()
	var bought atomic.Int64
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sluice-Ticket") != "" {
			t.Error("the service got the ticket")
		}
		bought.Add(1)
	})
	g := start(t, saleConfig(s.URL, `stock: {hat: 1000}, admit: 20/m`))
	user, a := g.firstWaiting()
	before := bought.Load()
	var told struct {
		Reason     string
		Status     int
		Place      int
		Estimate   int `json:"estimate_seconds"`
		RetryAfter int `json:"retry_after"`
		Ticket     string
	}
	if err := json.Unmarshal([]byte(a.body), &told); err != nil {
		t.Fatal(err)
	}
	if a.reason() != "waiting-room" || told.Reason != "waiting-room" || told.Status != 202 || told.Place != 1 ||
		told.Ticket == "" || a.header.Get("Sluice-Ticket") != told.Ticket ||
		a.header.Get("Retry-After") != strconv.Itoa(told.RetryAfter) || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %v", a.body, a.header)
	}
	if forged := g.buy("forger", "key", "Sluice-Ticket", told.Ticket); forged.status != 202 ||
		!strings.Contains(forged.body, "was not issued to you") {
		t.Errorf("with another's ticket: %d %s", forged.status, forged.body)
	}
	deadline := time.Now().Add(40 * time.Second)
	for a.status != 200 {
		if time.Now().After(deadline) {
			t.Fatalf("not admitted: %d %s", a.status, a.body)
		}
		a = g.buy(user, "key-"+user, "Sluice-Ticket", told.Ticket)
	}
	if replay := g.buy(user, "key-"+user); replay.status != 200 || replay.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("its retry: %d %v", replay.status, replay.header)
	}
	if n := bought.Load(); n != before+1 {
		t.Errorf("%d purchases reached the service, want one more than %d", n, before)
	}
	if n := g.metric(`sluice_sale_waiting_room_total{outcome="refused-ticket",sale="sale"}`); n != 1 {
		t.Errorf("%v refused tickets", n)
	}
	status := fetch(t, "http://"+g.at.Admin+"/api/status", "GET", "").body
	if !strings.Contains(status, `"waiting_room"`) {
		t.Error(status)
	}
}

// TestWaitingPage: a browser gets a page. After a GET it loads itself again; after a POST of the site's own form it
// has that form, and of a form from elsewhere it has none.
func TestWaitingPage(t *testing.T) {
	t.Parallel()
	s := newService(t, func(http.ResponseWriter, *http.Request) {})
	g := start(t, saleConfig(s.URL, `stock: {hat: 1000}, admit: 1/h`))
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html,*/*;q=0.8",
		"Sec-Fetch-Mode", "navigate"}
	g.firstWaiting()
	post := func(body string, header ...string) got {
		return g.do("POST", "/buy/hat", body, append(append(append([]string{}, form...), "X-User", "ann",
			"Idempotency-Key", "k"), header...)...)
	}
	const nasty = `a=1&%22%3E%3Cscript%3E=%3C%2Fform%3E%26`
	own := post(nasty, "Sec-Fetch-Site", "same-origin")
	pagetest.SelfContained(t, own.body)
	for _, want := range []string{`<html lang="en">`, `<form method="post">`, `name="a" value="1"`,
		`name="&#34;&gt;&lt;script&gt;" value="&lt;/form&gt;&amp;"`, "<button>"} {
		if !strings.Contains(own.body, want) {
			t.Errorf("%s is not in the page: %s", want, own.body)
		}
	}
	if strings.Contains(own.body, "http-equiv") {
		t.Error("a page that was posted loads itself, with GET")
	}
	policy := own.header.Get("Content-Security-Policy")
	if own.status != 202 || own.reason() != "waiting-room" || own.header.Get("Cache-Control") != "no-store" ||
		!strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") ||
		own.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%d %v", own.status, own.header)
	}
	cookie := regexp.MustCompile(`^sluice-ticket=([^;]+); Path=/; Max-Age=600; HttpOnly; SameSite=Lax$`).
		FindStringSubmatch(own.header.Get("Set-Cookie"))
	if cookie == nil {
		t.Fatalf("cookie %q", own.header.Get("Set-Cookie"))
	}
	secure := post(nasty, "Cookie", "x=y; sluice-ticket="+cookie[1], "Sec-Fetch-Site", "cross-site")
	if strings.Contains(secure.body, "<form") || strings.Contains(secure.body, "new one") {
		t.Errorf("a form from elsewhere would be sent as the site's own, or the ticket was not taken: %s", secure.body)
	}
	if foreign := post(nasty, "Origin", "http://evil.example"); strings.Contains(foreign.body, "<form") {
		t.Error("a form from another origin would be sent as the site's own")
	}
	program := g.buy("bob", "k2", "Accept", "*/*")
	if program.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a program gets %v", program.header)
	}
}

// TestOpeningSale: before the waiting room opens 403, then 202 with the opening, and after it the buyer is let in.
func TestOpeningSale(t *testing.T) {
	t.Parallel()
	s := newService(t, func(http.ResponseWriter, *http.Request) {})
	config := func(opens time.Time, before string) string {
		return saleConfig(s.URL, `stock: {hat: 1000}, opens: `+opens.Format(time.RFC3339)+
			`, waitingRoom: {opensBefore: `+before+`, secret: 0123456789abcdef}`)
	}
	opens := time.Now().Add(2 * time.Hour)
	g := start(t, config(opens, "1h"))
	if a := g.buy("ann", "k"); a.status != 403 || a.reason() != "sale-not-open" {
		t.Errorf("%d %s", a.status, a.body)
	}
	g.configure(config(opens, "3h"))
	g.reload <- struct{}{}
	var a got
	until(t, func() bool { a = g.buy("ann", "k"); return a.status == 202 })
	if !strings.Contains(a.body, `"opens":"`+opens.UTC().Format(time.RFC3339)) || strings.Contains(a.body, `"place"`) {
		t.Error(a.body)
	}
	ticket := a.header.Get("Sluice-Ticket")
	g.configure(config(time.Now().Add(-time.Second), "3h"))
	g.reload <- struct{}{}
	until(t, func() bool { a = g.buy("ann", "k", "Sluice-Ticket", ticket); return a.status == 200 })
}

// TestStockFrom: the units are the service's, what is sold out is told, and goes on sale again when there are more.
func TestStockFrom(t *testing.T) {
	t.Parallel()
	var units, bought atomic.Int64
	units.Store(2)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/stock/{item}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("item") != "hat" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"stock": {"available": %d}}`, units.Load())
	})
	mux.HandleFunc("POST /buy/hat", func(http.ResponseWriter, *http.Request) {
		bought.Add(1)
		if units.Add(-1) < 0 {
			t.Error("oversold")
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	g := start(t, saleConfig(s.URL,
		`stockFrom: {service: shop, path: "/v1/stock/{item}", field: stock.available, every: 100ms}`))
	n := 0
	buy := func() bool {
		n++
		a := g.buy("ann", fmt.Sprint("k", n))
		if a.status != 200 && (a.status != 409 || a.reason() != "sold-out") {
			t.Errorf("%d %s", a.status, a.body)
		}
		return a.status == 200
	}
	until(t, buy)
	until(t, buy) // a reading that raced with the first purchase may hold the second one back
	for range 5 {
		if buy() {
			t.Error("a third one was sold")
		}
	}
	units.Store(1)
	until(t, buy)
	if a := g.do("POST", "/buy/other", "", "X-User", "ann", "Idempotency-Key", "other"); a.status != 404 {
		t.Errorf("an item that the service does not have is not part of the sale: %d %s", a.status, a.body)
	}
}
