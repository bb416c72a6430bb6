package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/weighted"
)

// order is a service that says its name, breaks the first attempt of a key where it is asked to, and knows which keys
// it has seen.
type order struct {
	*service
	name string
	mu   sync.Mutex
	keys map[string]string // injected key: attempts
}

func newOrder(t *testing.T, name string) *order {
	o := &order{name: name, keys: map[string]string{}}
	o.service = newService(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-From", name)
		if key, ok := strings.CutPrefix(r.URL.Path, "/by-key/"); ok {
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.keys[key] == "" {
				w.WriteHeader(404)
			}
			return
		}
		o.mu.Lock()
		key, attempt := r.Header.Get("Idempotency-Key"), r.Header.Get("Sluice-Attempt")
		o.keys[key] = strings.TrimSpace(o.keys[key] + " " + attempt)
		o.mu.Unlock()
		switch {
		case r.Header.Get("X-Fail") != "":
			w.WriteHeader(500)
		case r.Header.Get("X-Break") != "" && attempt == "1":
			panic(http.ErrAbortHandler)
		}
	})
	return o
}

// attempts returns those that the service has seen of all keys.
func (o *order) attempts() (list []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, attempts := range o.keys {
		list = append(list, attempts)
	}
	return list
}

// userOf returns a principal that goes to a service.
func userOf(t *testing.T, service string, list ...weighted.Choice) string {
	t.Helper()
	p := weighted.NewPicker(list)
	for i := range 10_000 {
		if name := fmt.Sprintf("user-%d", i); p.Pick(weighted.Hash(name)) == service {
			return name
		}
	}
	t.Fatal("nobody goes to " + service)
	return ""
}

// weights writes the configuration of a route to two services; extra is what the canary has besides.
func weights(store, service, extra string, main, canary *order) string {
	text := strings.Replace(head, "{memory: {}}", store, 1) + `
services:
  order: {endpoints: ["` + main.URL + `"], breaker: {errors: 50%, minRequests: 4, openFor: 10m}}
`
	if canary != nil {
		text += `  order-canary: {endpoints: ["` + canary.URL + `"], breaker: {errors: 50%, minRequests: 4, openFor: 10m}` +
			extra + "}\n"
	}
	return text + `routes:
  - {name: create, match: {methods: [POST], path: /orders}, service: ` + service + `, idempotency: {onUnknown: retry}}
  - {name: asked, match: {methods: [POST], path: /asked}, service: ` + service + `,
     idempotency: {onUnknown: probe, probe: {path: "/by-key/{key}"}}}
  - {name: read, match: {methods: [GET], path: /orders}, service: ` + service + `}
`
}

var most = []weighted.Choice{{Service: "order", Weight: 80}, {Service: "order-canary", Weight: 20}}

func TestWeightsAreSharesAndSticky(t *testing.T) {
	t.Parallel()
	main, canary := newOrder(t, "order"), newOrder(t, "order-canary")
	g := start(t, weights("{memory: {}}", "{order: 80, order-canary: 20}", "", main, canary))
	from, count := map[string]string{}, map[string]int{}
	for i := range 600 {
		user := fmt.Sprintf("user-%d", i%300)
		r := g.do([]string{"GET", "POST"}[i/300], "/orders", "", "X-User", user, "Idempotency-Key", "k-"+user)
		name := r.header.Get("X-From")
		if r.status != 200 || from[user] != "" && from[user] != name {
			t.Fatalf("%s went to %s before, and now: %+v", user, from[user], r)
		}
		from[user] = name
		count[name]++
	}
	if n := count["order-canary"]; n < 60 || n > 190 { // 120 are its share; four deviations are 80
		t.Errorf("the canary has %d of 600", n)
	}
	if user := userOf(t, "order-canary", most...); from[user] != "order-canary" {
		t.Errorf("%s went to %s", user, from[user])
	}
}

// reloadTo has the configuration put in force and waits for it.
func (g *running) reloadTo(text string) {
	g.t.Helper()
	const applied = `sluice_config_reloads_total{result="applied"}`
	before := g.metric(applied)
	g.configure(text)
	g.reload <- struct{}{}
	until(g.t, func() bool { return g.metric(applied) > before })
}

// A key stays with the service of its first dispatch: its retries and probes go there, whatever the weights are by
// now, also where the route does not name the service any more.
func TestKeysStayWithTheirService(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"{order: 100, order-canary: 0}", "order"} {
		for _, path := range []string{"/orders", "/asked"} {
			t.Run(path+" "+after, func(t *testing.T) {
				t.Parallel()
				main, canary := newOrder(t, "order"), newOrder(t, "order-canary")
				g := start(t, weights("{memory: {}}", "{order: 80, order-canary: 20}", "", main, canary))
				user := userOf(t, "order-canary", most...)
				ask := func() got {
					return g.do("POST", path, "{}", "X-User", user, "Idempotency-Key", "k", "X-Break", "1")
				}
				r := ask()
				if r.reason() != "upstream-failed" || !strings.Contains(r.body, `"service":"order-canary"`) {
					t.Fatalf("the first attempt: %+v", r)
				}
				g.reloadTo(weights("{memory: {}}", after, "", main, canary))
				if r := ask(); r.status != 200 || r.header.Get("X-From") != "order-canary" {
					t.Errorf("after the reload: %+v", r)
				}
				if r := ask(); r.status != 200 || r.header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("the replay: %+v", r)
				}
				if main.count() != 0 {
					t.Errorf("the other service saw %d requests", main.count())
				}
				want := map[string]string{"/orders": "1 2", "/asked": "1"}[path]
				if got := canary.attempts(); len(got) != 1 || got[0] != want {
					t.Errorf("the service saw attempts %q, want %q", got, want)
				}
				r = g.do("POST", path, "{}", "X-User", user, "Idempotency-Key", "new")
				if r.header.Get("X-From") != "order" {
					t.Errorf("a new key: %+v", r)
				}
			})
		}
	}
}

// Where the service is not in the configuration any more its keys are held: another service may not know them. They
// go on when it is back.
func TestKeysOfAServiceThatIsGoneAreHeld(t *testing.T) {
	t.Parallel()
	main, canary := newOrder(t, "order"), newOrder(t, "order-canary")
	both := weights("{memory: {}}", "{order: 80, order-canary: 20}", "", main, canary)
	g := start(t, both)
	user := userOf(t, "order-canary", most...)
	ask := func(path string) got {
		return g.do("POST", path, "{}", "X-User", user, "Idempotency-Key", "k"+path, "X-Break", "1")
	}
	paths := []string{"/orders", "/asked"}
	for _, path := range paths {
		ask(path)
	}
	g.reloadTo(weights("{memory: {}}", "order", "", main, nil))
	for _, path := range paths {
		for range 2 {
			if r := ask(path); r.status != 409 || r.reason() != "outcome-unknown" {
				t.Errorf("%s without its service: %+v", path, r)
			}
		}
	}
	if main.count() != 0 {
		t.Errorf("the other service saw %d requests", main.count())
	}
	logs := g.logs.String()
	if !strings.Contains(logs, "not in the configuration any more") || !strings.Contains(logs, "service=order-canary") {
		t.Errorf("the log does not say which service is gone:\n%s", logs)
	}
	g.reloadTo(strings.Replace(both, "order-canary: 20", "order-canary: 0", 2))
	for _, path := range paths {
		if r := ask(path); r.status != 200 || r.header.Get("X-From") != "order-canary" {
			t.Errorf("%s with its service again: %+v", path, r)
		}
	}
}

// The record keeps the service over a restart, and for another gateway.
func TestServiceOfAKeyOutlivesTheGateway(t *testing.T) {
	t.Parallel()
	redis := redistest.Run(t, redistest.Options{})
	for name, store := range map[string]string{
		"embedded": "{embedded: {dir: " + strconv.Quote(t.TempDir()) + "}}",
		"redis":    `{redis: {addresses: ["` + redis.Addr() + `"], timeout: 10s}}`,
	} {
		t.Run(name, func(t *testing.T) {
			main, canary := newOrder(t, "order"), newOrder(t, "order-canary")
			user := userOf(t, "order-canary", most...)
			ask := func(g *running) got {
				return g.do("POST", "/orders", "{}", "X-User", user, "Idempotency-Key", "k", "X-Break", "1")
			}
			first := start(t, weights(store, "{order: 80, order-canary: 20}", "", main, canary))
			if r := ask(first); r.reason() != "upstream-failed" {
				t.Fatalf("the first attempt: %+v", r)
			}
			if name == "embedded" { // one gateway has it
				if err := first.stop(); err != nil {
					t.Fatal(err)
				}
			}
			second := start(t, weights(store, "{order: 1, order-canary: 0}", "", main, canary))
			if r := ask(second); r.status != 200 || r.header.Get("X-From") != "order-canary" || main.count() != 0 {
				t.Errorf("at the second gateway: %+v", r)
			}
		})
	}
}

// A canary that fails opens its own breaker and no other one; its principals are refused, and are not sent elsewhere
// but by a fallback. Its limits are its own too.
func TestWeightsAndWhatIsAServicesOwn(t *testing.T) {
	t.Parallel()
	main, canary := newOrder(t, "order"), newOrder(t, "order-canary")
	text := weights("{memory: {}}", "{order: 80, order-canary: 20}", ", limits: [few]", main, canary) + `
  - {name: guarded, match: {path: /guarded}, service: {order: 80, order-canary: 20}, fallback: {service: order}}
limits: {few: {scope: local, rate: 5/h}}
`
	g := start(t, text)
	ours, theirs := userOf(t, "order-canary", most...), userOf(t, "order", most...)
	for range 5 {
		g.do("GET", "/orders", "", "X-User", ours, "X-Fail", "1")
	}
	for path, want := range map[string]string{"/orders": "rate-limited", "/guarded": "rate-limited"} {
		if r := g.do("GET", path, "", "X-User", ours); r.reason() != want {
			t.Errorf("beyond the limit of the canary %s: %+v", path, r)
		}
	}
	g.reloadTo(strings.Replace(text, ", limits: [few]", "", 1))
	if r := g.do("GET", "/orders", "", "X-User", ours); r.reason() != "breaker-open" ||
		!strings.Contains(r.body, `"service":"order-canary"`) {
		t.Errorf("the canary's breaker: %+v", r)
	}
	for range 20 {
		if r := g.do("GET", "/orders", "", "X-User", theirs); r.status != 200 || r.header.Get("X-From") != "order" {
			t.Fatalf("the main service: %+v", r)
		}
	}
	if r := g.do("GET", "/guarded", "", "X-User", ours); r.status != 200 || r.header.Get("X-From") != "order" ||
		r.header.Get("Sluice-Fallback") != "breaker-open" {
		t.Errorf("the fallback to the main service: %+v", r)
	}
	for service, want := range map[string]float64{"order": 0, "order-canary": 2} {
		if n := g.metric(`sluice_breaker_state{service="` + service + `"}`); n != want {
			t.Errorf("breaker of %s: %v, want %v", service, n, want)
		}
	}
	// The main one fails as well, and is no fallback for itself.
	for range 30 {
		g.do("GET", "/orders", "", "X-User", theirs, "X-Fail", "1")
	}
	if r := g.do("GET", "/guarded", "", "X-User", theirs); r.reason() != "breaker-open" ||
		r.header.Get("Sluice-Fallback") != "" {
		t.Errorf("a service as the fallback of itself: %+v", r)
	}
	until(t, func() bool { return strings.Contains(g.logs.String(), "service=order-canary") })
}

func TestExplainWeights(t *testing.T) {
	t.Parallel()
	main, canary := newOrder(t, "order"), newOrder(t, "order-canary")
	text := weights("{memory: {}}", "{order: 80, order-canary: 20}", "", main, canary)
	cfg, err := config.Parse("t.yaml", []byte(text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"order", "order-canary"} {
		user := userOf(t, service, most...)
		var b strings.Builder
		if err := Explain(&b, cfg, ExplainRequest{Method: "POST", Path: "/asked",
			Header: [][2]string{{"X-User", user}, {"Idempotency-Key", "k"}}}); err != nil {
			t.Fatal(err)
		}
		out := b.String()
		for _, want := range []string{
			"weights        order 80 of 100, order-canary 20 of 100",
			fmt.Sprintf("principal %q goes to %s; a key stays with the service of its first dispatch", user, service),
			"of service " + service + ", done", "breaker        " + service + ":",
			"target         service " + service + " at",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("explain lacks %q:\n%s", want, out)
			}
		}
	}
}
