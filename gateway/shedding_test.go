package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// gate is a service that holds requests for /hold until it is opened.
type gate struct {
	*service
	open chan struct{}
}

func newGate(t *testing.T) *gate {
	g := &gate{open: make(chan struct{})}
	g.service = newService(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hold") {
			<-g.open
		}
		fmt.Fprint(w, "done")
	})
	t.Cleanup(g.Open) // before the server is closed, which waits
	return g
}

func (g *gate) Open() {
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

// hold sends a request that the service holds, and returns when it is there.
func (g *gate) hold(t *testing.T, gw *running, all *sync.WaitGroup, want int) {
	before := g.count()
	all.Go(func() {
		if a := gw.do("GET", "/hold", ""); a.status != want {
			t.Errorf("the request that is held: %d %s, want %d", a.status, a.body, want)
		}
	})
	until(t, func() bool { return g.count() > before })
}

// TestShedding: what is beyond the concurrency and the queue is 503 at once, frees its key, and is
// counted and shown.
func TestShedding(t *testing.T) {
	t.Parallel()
	svc := newGate(t)
	const routes = `
routes:
  - {name: hold, match: {path: /hold}, service: s}
  - {name: order, match: {path: /order}, service: s, priority: low,
     idempotency: {required: true, whileInFlight: {wait: 10s}}}
`
	config := func(overload string) string {
		return head + "services: {s: {endpoints: [" + strconv.Quote(svc.URL) + "], timeout: 60s, overload: " + overload +
			"}}" + routes
	}
	g := start(t, config("{concurrency: 1, queue: {size: 1, wait: 3s}}"))
	var held sync.WaitGroup
	svc.hold(t, g, &held, 200)

	// The first waits in the queue in vain, with a duplicate that joins it; nobody reaches the service.
	var pair sync.WaitGroup
	for range 2 {
		pair.Go(func() {
			a := g.do("POST", "/order", "{}", "Idempotency-Key", "k1")
			if a.status != 503 || a.reason() != "overloaded" {
				t.Errorf("in the queue: %d %s, want 503 overloaded", a.status, a.body)
			}
		})
	}
	until(t, func() bool { return g.metric(`sluice_overload_queued{class="low",service="s"}`) == 1 })
	a := g.do("POST", "/order", "{}", "Idempotency-Key", "k2")
	retry, _ := strconv.Atoi(a.header.Get("Retry-After"))
	var problem struct {
		Service    string `json:"service"`
		RetryAfter int    `json:"retry_after"`
	}
	if err := json.Unmarshal([]byte(a.body), &problem); err != nil || a.status != 503 || a.reason() != "overloaded" ||
		problem.Service != "s" || problem.RetryAfter != retry || retry < 1 {
		t.Errorf("beyond the queue: %d, Retry-After %d, %s", a.status, retry, a.body)
	}
	pair.Wait()
	if svc.count() != 1 {
		t.Errorf("the service saw %d requests, want the one that it holds", svc.count())
	}
	if n := g.metric(`sluice_overload_shed_total{cause="queue-full",class="low",service="s"}`); n < 1 {
		t.Errorf("%v shed by a full queue", n)
	}
	if n := g.metric(`sluice_overload_in_flight{service="s"}`); n != 1 {
		t.Errorf("%v in flight", n)
	}
	status := fetch(t, "http://"+g.at.Admin+"/api/status", "GET", "").body
	if !strings.Contains(status, `"overload"`) || !strings.Contains(status, `"queue-full"`) {
		t.Errorf("the status does not show what is shed: %s", status)
	}
	until(t, func() bool { return strings.Contains(g.logs.String(), "requests are shed") })

	// A reload keeps who is in flight and takes the new bound over.
	g.configure(config("{concurrency: 2, queue: {size: 0}}"))
	g.reload <- struct{}{}
	until(t, func() bool { return g.metric(`sluice_overload_limit{service="s"}`) == 2 })
	if n := g.metric(`sluice_overload_in_flight{service="s"}`); n != 1 {
		t.Errorf("%v in flight after the reload", n)
	}
	for _, key := range []string{"k1", "k2"} { // free, as if never sent
		if a := g.do("POST", "/order", "{}", "Idempotency-Key", key); a.status != 200 ||
			a.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%s again: %d %s, want it executed", key, a.status, a.body)
		}
	}
	if r, _ := svc.last(t); r.Header.Get("Sluice-Attempt") != "1" {
		t.Errorf("attempt %s after a request that was shed", r.Header.Get("Sluice-Attempt"))
	}
	svc.Open()
	held.Wait()
	until(t, func() bool { return g.metric(`sluice_overload_in_flight{service="s"}`) == 0 })
}

// TestServiceLimits: a limit of a service counts the requests of all routes that lead there.
func TestServiceLimits(t *testing.T) {
	t.Parallel()
	svc := newService(t, echo)
	g := start(t, head+`
limits: {stock-total: {rate: 3/h}, mine: {rate: 100/h}}
services: {s: {endpoints: [`+strconv.Quote(svc.URL)+`], limits: [stock-total]}}
routes:
  - {name: a, match: {path: /a}, service: s, limits: [mine]}
  - {name: b, match: {path: /b}, service: s, idempotency: {required: true}}
`)
	var statuses []int
	for _, path := range []string{"/a", "/b", "/a", "/b", "/a"} {
		key := "k" + strconv.Itoa(len(statuses))
		statuses = append(statuses, g.do("GET", path, "", "Idempotency-Key", key).status)
	}
	if !slices.Equal(statuses, []int{200, 200, 200, 429, 429}) {
		t.Errorf("statuses %v, want three and no more", statuses)
	}
	again := g.do("GET", "/b", "", "Idempotency-Key", "k1")
	if again.status != 200 || again.header.Get("Idempotent-Replayed") == "" {
		t.Errorf("a replay is charged: %d %s", again.status, again.body)
	}
	a := g.do("GET", "/a", "")
	for _, want := range []string{`"limit":"stock-total"`, `"service":"s"`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the refusal lacks %s: %s", want, a.body)
		}
	}
	if p, l := a.header.Get("RateLimit-Policy"), a.header.Get("RateLimit"); p !=
		`"stock-total";q=3;w=3600, "mine";q=100;w=3600` || !strings.HasPrefix(l, `"stock-total";r=0;t=`) ||
		!strings.Contains(l, `, "mine";r=`) {
		t.Errorf("RateLimit-Policy %s, RateLimit %s: the one that refused stands first", p, l)
	}
	if n := g.metric(`sluice_limit_decisions_total{decision="refused",limit="stock-total"}`); n != 3 {
		t.Errorf("%v refusals counted, want 3", n)
	}
}
