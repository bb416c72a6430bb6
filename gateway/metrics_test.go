package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// scrape returns what a gateway publishes.
func (g *running) scrape() string {
	g.t.Helper()
	return fetch(g.t, "http://"+g.at.Admin+"/metrics", "GET", "").body
}

func (g *running) status() (s admin.Status) {
	g.t.Helper()
	body := fetch(g.t, "http://"+g.at.Admin+"/api/status", "GET", "").body
	s, _, err := admin.ParseStatus([]byte(body))
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// withEverything is a configuration in which next to every part of a gateway has something to count.
const withEverything = `version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0"}
store: {embedded: {dir: "DIR"}}
log: {access: {format: json, output: "DIR/access.log"}}
identity: [{header: {name: X-User, trusted: [127.0.0.1/32]}}]
coordinator: {dtm: {endpoints: ["COORDINATOR"], branches: "127.0.0.1:0"}}
limits:
  l: {scope: local, rate: 1000/s}
  tight: {scope: local, per: [principal], rate: 1/h}
services:
  a:
    endpoints: ["SERVICE"]
    limits: [l]
    retries: {attempts: 1}
    health: {path: /health, every: 100ms}
    breaker: {errors: 50%, minRequests: 1000}
    outlier: {errors: 1000, eject: 30s, max: 50%}
    overload: {concurrency: adaptive, min: 4, max: 1000, queue: {size: 200, wait: 100ms}}
    hedge: {after: 10s}
  gone: {endpoints: ["http://127.0.0.1:1"], connectTimeout: 200ms}
transactions:
  t: {mode: saga, wait: 20s, steps: [{name: s, do: {service: a, method: POST, path: /s}}]}
sales:
  sale: {routes: [buy], item: body.sku, stock: {SKU-1: 1}, perPrincipal: 1, admit: 1000/s}
routes:
  - {name: tight, match: {path: /tight}, service: a, limits: [tight], deny: [192.0.2.0/24]}
  - {name: buy, match: {methods: [POST], path: /buy}, service: a, idempotency: {required: true}}
  - {name: tx, match: {methods: [POST], path: /tx}, idempotency: {required: true}, transaction: t, status: "/tx/{id}"}
  - {name: gone, match: {path: /gone}, service: gone, fallback: {status: 200, body: "{}", on: [breaker-open]}}
  - {name: keyed, match: {methods: [POST], path: /keyed/**}, service: a, idempotency: {required: true}}
  - {name: all, match: {path: /all/**}, service: a, cors: {origins: ["http://shop.test"]}}
`

func everything(t *testing.T, service, coordinator string) string {
	return strings.NewReplacer("DIR", t.TempDir(), "SERVICE", service, "COORDINATOR", coordinator).
		Replace(withEverything)
}

// TestMetricsOfAWholeGateway: promtool has nothing to say of what a gateway with everything on publishes after it has
// worked, and the list of metrics has each as it is published.
func TestMetricsOfAWholeGateway(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/500") {
			w.WriteHeader(500)
		}
	})
	g := start(t, everything(t, s.URL, newCoordinator(t).URL))
	g.work()
	until(t, func() bool { return g.metric(`sluice_idempotency_unknown_keys`) == 1 })
	text := g.scrape()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	list := map[string]metric.Definition{}
	for _, d := range Metrics() {
		list[d.Name] = d
	}
	seen := 0
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (sluice_\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		seen++
		if d, ok := list[m[1]]; !ok || string(d.Kind) != m[2] {
			t.Errorf("%s is a %s; the list has %+v", m[1], m[2], d)
		}
	}
	if seen < 70 {
		t.Errorf("%d metrics are published, a gateway with everything on has more", seen)
	}
	for name, want := range map[string]float64{
		`sluice_upstream_responses_total{code="500",service="a"}`:                 1,
		`sluice_upstream_failures_total{reason="unreachable",service="gone"}`:     1,
		`sluice_upstream_connect_failures_total{service="gone"}`:                  1,
		`sluice_idempotency_claims_total{route="keyed"}`:                          2,
		`sluice_idempotency_claim_ends_total{end="answered",route="keyed"}`:       1,
		`sluice_idempotency_claim_ends_total{end="unknown",route="keyed"}`:        1,
		`sluice_idempotency_replays_total{route="keyed"}`:                         1,
		`sluice_idempotency_refusals_total{route="keyed",why="reused"}`:           1,
		`sluice_sale_requests_total{item="SKU-1",outcome="admitted",sale="sale"}`: 1,
		`sluice_sale_requests_total{item="SKU-1",outcome="sold-out",sale="sale"}`: 1,
		`sluice_sale_purchases_total{end="confirmed",item="SKU-1",sale="sale"}`:   1,
		`sluice_transaction_submits_total{result="acknowledged"}`:                 1,
		`sluice_transaction_coordinator_breaker_state`:                            0,
		`sluice_config_last_reload_successful`:                                    1,
		`sluice_ready`:                                                            1,
		`sluice_store_up`:                                                         1,
	} {
		if got := g.metric(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if age := g.metric("sluice_idempotency_unknown_oldest_seconds"); age < 0 || age > 600 {
		t.Errorf("the unknown key is %v s old", age)
	}
	checkWholeStatus(t, g.status())
}

// work has the gateway do some of everything.
func (g *running) work() {
	g.t.Helper()
	key := func(k string) []string { return []string{"Idempotency-Key", k, "X-User", "u"} }
	for _, c := range []struct {
		method, path, body string
		header             []string
		want               int
	}{
		{"GET", "/all/x", "", []string{"Origin", "http://shop.test"}, 200},
		{"OPTIONS", "/all/x", "", []string{"Origin", "http://shop.test", "Access-Control-Request-Method", "GET"}, 204},
		{"GET", "/nowhere", "", nil, 404}, {"GET", "/tight", "", nil, 200}, {"GET", "/tight", "", nil, 429},
		{"GET", "/gone", "", nil, 502},
		{"POST", "/keyed/1", "a", key("1"), 200}, {"POST", "/keyed/1", "a", key("1"), 200},
		{"POST", "/keyed/1", "b", key("1"), 422}, {"POST", "/keyed/500", "", key("2"), 500},
		{"POST", "/buy", `{"sku": "SKU-1"}`, key("3"), 200}, {"POST", "/buy", `{"sku": "SKU-1"}`, key("4"), 409},
		{"POST", "/tx", "{}", key("5"), 200},
	} {
		if r := g.do(c.method, c.path, c.body, c.header...); r.status != c.want {
			g.t.Errorf("%s %s: %d %s, want %d", c.method, c.path, r.status, r.body, c.want)
		}
	}
}

func checkWholeStatus(t *testing.T, s admin.Status) {
	t.Helper()
	if !s.Ready || s.Store.Kind != "embedded" || s.Store.State != admin.StoreUp || s.Store.Keys == nil ||
		s.Store.Keys.Unknown != 1 || s.Store.Keys.UnknownSince.IsZero() {
		t.Errorf("the store: %+v, keys %+v", s.Store, s.Store.Keys)
	}
	if len(s.Limits) != 2 || s.Limits[1].Name != "tight" || s.Limits[1].Allowed != 1 || s.Limits[1].Refused != 1 {
		t.Errorf("limits %+v", s.Limits)
	}
	if s.Coordinator == nil || s.Coordinator.State != "closed" || len(s.Coordinator.Endpoints) != 1 {
		t.Errorf("the coordinator: %+v", s.Coordinator)
	}
	if r := s.Resources; r.RequestsInFlight.Max != 10000 || r.BufferedBytes.Max != 256<<20 ||
		r.ClientConnections.Used < 1 {
		t.Errorf("resources %+v", r)
	}
	if len(s.Services) != 2 || len(s.Services[0].Endpoints) != 1 || s.Services[0].Endpoints[0].State != "up" {
		t.Errorf("services %+v", s.Services)
	}
	if c := s.Configuration; c.Version == "" || c.Loaded.IsZero() || c.Fault != "" || c.Refused != nil {
		t.Errorf("the configuration: %+v", c)
	}
}

// TestSeriesOfRemovedRoutesGo: with the reload, and for good, also when one of their requests ends afterwards.
func TestSeriesOfRemovedRoutesGo(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old/slow" {
			<-release
			w.WriteHeader(418)
		}
	})
	text := head + `
limits: {LIMIT: {scope: local, rate: 1000/s}}
services: {SERVICE: {endpoints: ["` + s.URL + `"], breaker: {errors: 50%}, overload: {concurrency: 10}}}
routes:
  - {name: ROUTE, match: {path: /old/**}, service: SERVICE, limits: [LIMIT], idempotency: {}}
`
	named := func(route, limit, service string) string {
		return strings.NewReplacer("ROUTE", route, "LIMIT", limit, "SERVICE", service).Replace(text)
	}
	g := start(t, named("old-route", "old-limit", "old-service"))
	g.do("GET", "/old/fast", "", "Idempotency-Key", "k")
	slow := make(chan int)
	go func() { slow <- g.do("GET", "/old/slow", "").status }()
	until(t, func() bool { return s.count() == 2 })
	for _, name := range []string{`route="old-route"`, `limit="old-limit"`, `service="old-service"`} {
		if !strings.Contains(g.scrape(), name) {
			t.Errorf("nothing is counted for %s", name)
		}
	}
	g.configure(named("new-route", "new-limit", "new-service"))
	g.reload <- struct{}{}
	until(t, func() bool { return g.metric(`sluice_config_reloads_total{result="applied"}`) == 1 })
	close(release)
	if status := <-slow; status != 418 {
		t.Errorf("the request under way ended with %d", status)
	}
	g.do("GET", "/old/fast", "")
	if text := g.scrape(); strings.Contains(text, `"old-`) || !strings.Contains(text, `route="new-route"`) {
		t.Errorf("what was removed is still published, or what is new is not:\n%s",
			regexp.MustCompile(`(?m)^.*old-.*$`).
				FindAllString(text, 5))
	}
}

// TestClientsMakeNoSeries: whatever clients send, and services respond, the number of series stays what the
// configuration and the statuses allow.
func TestClientsMakeNoSeries(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		status := 500
		if strings.HasSuffix(r.URL.Path, "/500") {
			w.WriteHeader(status)
		} else if _, err := fmt.Sscanf(r.URL.Query().Get("status"), "%d", &status); err == nil {
			w.WriteHeader(status)
		}
	})
	g := start(t, everything(t, s.URL, newCoordinator(t).URL))
	g.work()
	count := func() int { return strings.Count(g.scrape(), "\nsluice_") }
	attack := func(n int) {
		g.do("GET", fmt.Sprintf("/all/%d?q=%d", n, n), "", "X-User", fmt.Sprintf("user-%d", n), "Host", "h")
		g.do("POST", "/keyed/1", "", "Idempotency-Key", fmt.Sprintf("key-%d", n), "X-User", fmt.Sprintf("user-%d", n))
		g.do("POST", "/buy", fmt.Sprintf(`{"sku": "SKU-%d"}`, n+2), "Idempotency-Key", fmt.Sprintf("buy-%d", n))
		g.do(fmt.Sprintf("METHOD%d", n), fmt.Sprintf("/nowhere/%d", n), "")
	}
	attack(0)
	before := count()
	for n := range 300 {
		attack(n + 1)
	}
	if after := count(); after > before {
		t.Errorf("%d series, %d before clients chose names", after, before)
	}
	for status := 200; status < 600; status++ {
		g.do("GET", fmt.Sprintf("/all/x?status=%d", status), "")
	}
	if after := count(); after > before+2*400+20 { // by route and by service
		t.Errorf("%d series after 400 statuses, %d before", after, before)
	}
}

// TestAStoreThatTakesNoWritesIsNotUp: one out of memory and one that has become a replica answer everything that is
// asked of them, and serve nobody.
func TestAStoreThatTakesNoWritesIsNotUp(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	operator := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer operator.Close()
	g := start(t, `version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0", readyNeedsStore: true}
store: {redis: {addresses: ["`+server.Addr()+`"], timeout: 5s}}
routes: [{name: all, match: {path: /**}, respond: {status: 204}}]
`)
	until(t, func() bool { return g.metric("sluice_store_up") == 1 && g.metric("sluice_ready") == 1 })
	for _, c := range []struct{ command, back []any }{
		{[]any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		{[]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
	} {
		if err := operator.Do(t.Context(), c.command...).Err(); err != nil {
			t.Fatal(err)
		}
		until(t, func() bool { return g.status().Store.State == admin.StoreNoWrites })
		until(t, func() bool { return g.metric("sluice_store_up") == 0 && g.metric("sluice_ready") == 0 })
		s := g.status()
		if s.Store.Up || s.Store.State != admin.StoreNoWrites || s.Store.Fault == "" ||
			s.Reason != "the store takes no writes" {
			t.Errorf("%v: %+v, not ready because %q", c.command, s.Store, s.Reason)
		}
		if err := operator.Do(t.Context(), c.back...).Err(); err != nil {
			t.Fatal(err)
		}
		until(t, func() bool { return g.metric("sluice_store_up") == 1 && g.metric("sluice_ready") == 1 })
	}
	logs := g.logs.String()
	if strings.Count(logs, `msg="the store takes no writes"`) < 2 || !strings.Contains(logs, "OOM") {
		t.Errorf("the log does not say twice that the store takes no writes, and why:\n%s", logs)
	}
	s := g.status()
	if s.Store.State != admin.StoreUp || len(s.Store.Members) != 1 || s.Store.Gateways != 1 {
		t.Errorf("the store: %+v", s.Store)
	}
}

// TestRefusedConfigurationIsTold: what the newest was refused for and when, beside the one in force; and that there was
// one, when a sound one has followed it.
func TestRefusedConfigurationIsTold(t *testing.T) {
	t.Parallel()
	text := head + "routes: [{name: all, match: {path: /**}, respond: {status: 204}}]\n"
	g := start(t, text)
	first := g.status().Configuration
	applied := g.metric("sluice_config_last_applied_timestamp_seconds")
	g.configure(text + "nonsense: 1\n")
	g.reload <- struct{}{}
	until(t, func() bool { return g.metric("sluice_config_last_reload_successful") == 0 })
	c := g.status().Configuration
	if c.Version != first.Version || !c.Loaded.Equal(first.Loaded) || !strings.Contains(c.Fault, "nonsense") ||
		c.Refused == nil || c.Refused.Fault != c.Fault || time.Since(c.Refused.At) > time.Minute {
		t.Errorf("%+v, refused %+v", c, c.Refused)
	}
	if now := g.metric("sluice_config_last_applied_timestamp_seconds"); now != applied {
		t.Errorf("the configuration in force was applied at %v, and now at %v", applied, now)
	}
	g.configure(text + "x-note: 1\n")
	g.reload <- struct{}{}
	until(t, func() bool { return g.metric("sluice_config_last_reload_successful") == 1 })
	if c := g.status().Configuration; c.Fault != "" || c.Refused == nil {
		t.Errorf("%+v", c)
	}
}

// TestCertificatesAreTold: when each ends that the configuration names, in metrics and status.
func TestCertificatesAreTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", "localhost")
	g := start(t, strings.Replace(head, "listen: {", `listen: {https: {address: "127.0.0.1:0", cert: `+a.dir+
		`/server.crt, key: `+a.dir+`/server.key, clientCA: `+a.dir+`/ca.crt}, `, 1)+`
services: {a: {endpoints: ["https://127.0.0.1:1"], tls: {ca: `+a.dir+`/ca.crt}}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	list := g.status().Certificates
	settings := []string{"listen.https.cert", "listen.https.clientCA", "services.a.tls.ca"}
	if len(list) != len(settings) {
		t.Fatalf("certificates %+v", list)
	}
	for i, setting := range settings {
		ends := g.metric(`sluice_certificate_expiry_timestamp_seconds{setting="` + setting + `"}`)
		if list[i].Setting != setting || float64(list[i].Ends.Unix()) != ends || time.Until(list[i].Ends) < 0 {
			t.Errorf("%+v, in metrics %v", list[i], ends)
		}
	}
}

// TestStatusIsDocumented: its members are those of the types, and nothing in it is null that a program would range
// over.
func TestStatusIsDocumented(t *testing.T) {
	t.Parallel()
	g := start(t, head+"routes: [{name: all, match: {path: /**}, respond: {status: 204}}]\n")
	var document map[string]json.RawMessage
	body := fetch(t, "http://"+g.at.Admin+"/api/status", "GET", "").body
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"build", "since", "ready", "draining", "addresses", "configuration", "store",
		"resources", "routes", "services", "breakers"} {
		if v, ok := document[name]; !ok || string(v) == "null" {
			t.Errorf("%s is %s", name, v)
		}
	}
}
