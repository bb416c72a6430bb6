package envoy_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
)

// preamble begins every configuration.
const preamble = `version: 1
listen: {http: HTTP, trustedProxies: [127.0.0.3/32]}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
control: {listen: {address: CONTROL}}
envoy: {listen: {address: SERVICES}}
identity: [{header: {name: X-User, trusted: [127.0.0.2/32]}}, {clientIP: {}}]
`

const shop = preamble + `
services:
  shop: {endpoints: ["http://SERVICE"], timeout: 400ms}
  gone: {endpoints: ["http://GONE"]}
  weak:
    endpoints: ["http://SERVICE"]
    breaker: {window: 1s, minRequests: 3, openFor: 60s}
limits:
  some: {scope: local, rate: 3/h}
  each: {scope: local, per: [path.sku, query.size], rate: 2/h}
  user: {per: [principal], rate: 2/h}
  all: {per: [client.ip, method, header.X-Shop], rate: 2/h}
  closed: {rate: 100/s, onStoreFailure: closed}
  watched: {scope: local, rate: 1/h, mode: shadow}
routes:
  - {name: some, match: {path: /v1/some}, service: shop, limits: [some]}
  - {name: some-too, match: {path: /v1/some-too}, respond: {status: 204}, limits: [some]}
  - {name: each, match: {path: "/v1/each/{sku}"}, service: shop, limits: [each]}
  - {name: user, match: {path: /v1/user}, service: shop, limits: [user]}
  - {name: all, match: {path: /v1/all}, service: shop, limits: [all, watched]}
  - {name: weak, match: {path: "/v1/do/{status}", methods: [POST]}, service: weak}
  - {name: calm, match: {path: "/v1/do/{status}", methods: [GET]}, service: weak, fallback: {status: 203, body: calm}}
  - {name: closed, match: {path: /v1/closed}, service: shop, limits: [closed]}
  - {name: gone, match: {path: /v1/gone}, service: gone}
  - {name: slow, match: {path: "/v1/slow/{time}"}, service: shop}
  - {name: stream, match: {path: "/v1/stream/{time}"}, service: shop}
  - name: keyed
    match: {methods: [POST], path: "/v1/orders/**"}
    service: shop
    idempotency: {required: true}
  - name: gate
    match: {methods: [POST], path: /v1/gate}
    service: shop
    timeout: 60s
    idempotency: {whileInFlight: reject}
  - {name: lost, match: {methods: [POST], path: /v1/lost}, service: gone, idempotency: {whileInFlight: reject}}
  - {name: exact, match: {methods: [GET], path: /v1/stock}, service: shop}
  - {name: put, match: {methods: [PUT], path: /v1/stock}, service: shop}
  - {name: sku, match: {methods: [GET], path: "/v1/stock/{sku}"}, service: shop}
  - {name: special, match: {methods: [DELETE], path: "/v1/stock/a:b"}, service: shop}
  - {name: rest, match: {path: "/static/**"}, service: shop}
  - {name: moved, match: {path: "/v1/moved/{a}/{b}"}, service: shop, rewrite: {path: "/v2/{b}/{a}", host: "moved:81"},
     headers: {request: {set: {X-Env: prod}, add: {X-Hop: envoy}, remove: [X-Debug]},
     response: {set: {X-Seen: "1"}}}}
  - {name: stripped, match: {path: "/api/**"}, service: shop, rewrite: {stripPrefix: /api}}
  - {name: hosted, match: {path: /v1/hosted, host: "*.shop.example"}, respond: {status: 201}}
  - {name: beta, match: {path: /v1/hosted, headers: {X-Beta: "1"}}, respond: {status: 202}}
  - {name: scripts, match: {methods: [POST], path: /v1/scripts}, service: shop,
     cors: {origins: ["https://shop.example"]}}
  - {name: shared, match: {path: /v1/shared}, service: {shop: 1, gone: 0}}
  - {name: shared-gone, match: {path: /v1/shared-gone}, service: {shop: 0, gone: 1}}
  - {name: shared-half, match: {path: /v1/shared-half}, service: {shop: 50, gone: 50}}
  - {name: shared-keyed, match: {path: /v1/shared-keyed}, service: {shop: 1, gone: 0}, idempotency: {required: true}}
  - {name: lost-keyed, match: {path: /v1/lost-keyed}, service: {shop: 0, gone: 1}, idempotency: {required: true}}
  - {name: secure, match: {path: /v1/secure}, redirect: {scheme: https}}
  - {name: secured, match: {path: /v1/secure}, respond: {status: 200}}
  - {name: elsewhere, match: {path: "/v1/else/{a}/{b}"}, redirect: {to: "https://h.example:81/x/{b}/{a}", status: 308}}
  - {name: away, match: {path: /v1/away/**}, redirect: {host: h.example, status: 301}}
  - {name: inside, match: {path: /v1/inside}, respond: {status: 200}, allow: [127.0.0.2/32]}
  - {name: internal, match: {path: "/internal/**"}, respond: {status: 403, headers: {X-Why: no}, body: "no"}}
`

func TestEnvoy(t *testing.T) {
	t.Parallel()
	w := start(t, shop, envoytest.Options{})
	for name, test := range map[string]func(*testing.T, *world){
		"Routes": routes, "Edits": edits, "Browsers": browsers, "Weights": weights, "Redirects": redirects,
		"Fields": fields, "Limits": limits,
		"Timeouts": timeouts, "Breaker": breaker, "Keys": keys,
	} {
		t.Run(name, func(t *testing.T) { test(t, w) })
	}
	t.Run("WithoutServices", func(t *testing.T) { withoutServices(t, w) })
}

// withoutServices: what needs `sluice envoy` is refused before it is sent, or passes, as is written.
func withoutServices(t *testing.T, w *world) {
	w.stopServices()
	calls := w.service.calls.Load()
	r := w.do(request{method: "POST", path: "/v1/orders/9", header: map[string]string{"Idempotency-Key": "gone"}})
	if r.StatusCode != 503 || r.reason() != "store-unavailable" || r.Header.Get("Retry-After") == "" {
		t.Errorf("a request with a key: %d %q %s", r.StatusCode, r.reason(), r.body)
	}
	if r := w.get("/v1/closed"); r.StatusCode != 503 || r.reason() != "store-unavailable" {
		t.Errorf("a limit that closes: %d %q %s", r.StatusCode, r.reason(), r.body)
	}
	if n := w.service.calls.Load() - calls; n != 0 {
		t.Errorf("%d requests came to the service", n)
	}
	if r := w.get("/v1/user"); r.StatusCode != 200 {
		t.Errorf("a limit that opens: %d %q", r.StatusCode, r.body)
	}
}

// edits: what the service sees in place of what the client sent, and which requests a route takes.
func edits(t *testing.T, w *world) {
	r := w.do(request{path: "/v1/moved/x%20y/2?q=1", header: map[string]string{"X-Debug": "1", "X-Hop": "client",
		"X-Env": "dev"}})
	got := r.seen(t)
	if got.Path != "/v2/2/x%20y?q=1" || got.Host != "moved:81" || got.Header.Get("X-Env") != "prod" ||
		got.Header.Get("X-Debug") != "" || strings.Join(got.Header.Values("X-Hop"), ",") != "client,envoy" ||
		r.Header.Get("X-Seen") != "1" {
		t.Errorf("the service saw %+v, the client %v", got, r.Header)
	}
	for path, want := range map[string]string{"/api/v1/x?a=b": "/v1/x?a=b", "/api": "/"} {
		if got := w.do(request{path: path}).seen(t); got.Path != want {
			t.Errorf("%s: the service saw %s", path, got.Path)
		}
	}
	for _, c := range []struct {
		host, beta string
		status     int
	}{
		{"a.Shop.example:80", "", 201}, {"shop.example", "", 404}, {"shop.example", "1", 202},
		{"shop.example", "0", 404},
	} {
		h := map[string]string{"Host": c.host}
		if c.beta != "" {
			h["X-Beta"] = c.beta
		}
		if r := w.do(request{path: "/v1/hosted", header: h}); r.StatusCode != c.status {
			t.Errorf("%+v: %d", c, r.StatusCode)
		}
	}
}

// weights: Envoy chooses the service by weight, the same one for a principal; of a key ext_proc does.
func weights(t *testing.T, w *world) {
	for path, status := range map[string]int{"/v1/shared": 200, "/v1/shared-gone": 502, "/v1/shared-keyed": 200,
		"/v1/lost-keyed": 502} {
		header := map[string]string{"Idempotency-Key": "w", "Sluice-Cluster": "gone"}
		r := w.do(request{method: "POST", path: path, header: header})
		if r.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, r.StatusCode, status)
		}
		if status == 200 {
			if got := r.seen(t).Header.Get("Sluice-Cluster"); strings.HasSuffix(path, "-keyed") && got != "" {
				t.Errorf("%s: the service is told the cluster %q", path, got)
			}
		}
	}
	statuses := map[int]bool{}
	for i := range 40 {
		user := map[string]string{"X-User": "user-" + strconv.Itoa(i)}
		first := w.do(request{from: "127.0.0.2", path: "/v1/shared-half", header: user}).StatusCode
		statuses[first] = true
		for range 2 {
			r := w.do(request{from: "127.0.0.2", path: "/v1/shared-half", header: user})
			if r.StatusCode != first {
				t.Errorf("%v: %d and %d", user, first, r.StatusCode)
			}
		}
	}
	if len(statuses) != 2 {
		t.Errorf("40 principals all had %v", statuses)
	}
}

// redirects: as the gateway sends clients elsewhere, and nobody in circles.
func redirects(t *testing.T, w *world) {
	for _, c := range []struct {
		path, host, proto string
		status            int
		location          string
	}{
		{"/v1/secure?q=1", "a.example", "", 307, "https://a.example/v1/secure?q=1"},
		{"/v1/secure", "a.example", "https", 200, ""},
		{"/v1/else/1/2?q", "a.example", "", 308, "https://h.example:81/x/2/1?q"},
		{"/v1/away/x", "a.example", "", 301, "http://h.example/v1/away/x"},
		{"/v1/away/x", "h.example", "", 404, ""},
	} {
		header := map[string]string{"Host": c.host}
		r := request{path: c.path, header: header}
		if c.proto != "" {
			header["X-Forwarded-Proto"], r.from = c.proto, "127.0.0.3"
		}
		if got := w.do(r); got.StatusCode != c.status || got.Header.Get("Location") != c.location {
			t.Errorf("%+v: %d %s", c, got.StatusCode, got.Header.Get("Location"))
		}
	}
}

// browsers: preflights are answered, and an address list holds.
func browsers(t *testing.T, w *world) {
	const origin = "https://shop.example"
	r := w.do(request{method: "OPTIONS", path: "/v1/scripts", header: map[string]string{"Origin": origin,
		"Access-Control-Request-Method": "POST"}})
	if r.StatusCode != 204 || r.Header.Get("Access-Control-Allow-Origin") != origin {
		t.Errorf("a preflight: %d %v", r.StatusCode, r.Header)
	}
	r = w.do(request{method: "OPTIONS", path: "/v1/scripts", header: map[string]string{
		"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}})
	if r.StatusCode != 403 || r.reason() != "forbidden" {
		t.Errorf("a preflight of another origin: %d %s", r.StatusCode, r.reason())
	}
	r = w.do(request{method: "POST", path: "/v1/scripts", header: map[string]string{"Origin": origin}})
	if r.StatusCode != 200 || r.Header.Get("Access-Control-Allow-Origin") != origin {
		t.Errorf("a request: %d %v", r.StatusCode, r.Header)
	}
	for from, status := range map[string]int{"127.0.0.1": 403, "127.0.0.2": 200} {
		if r := w.do(request{path: "/v1/inside", from: from}); r.StatusCode != status {
			t.Errorf("from %s: %d", from, r.StatusCode)
		}
	}
}

func routes(t *testing.T, w *world) {
	for _, c := range []struct {
		method, path string
		status       int
		want         string // the path that the service saw, the reason, or what is allowed
	}{
		{"GET", "/v1/stock", 200, "/v1/stock"},
		{"HEAD", "/v1/stock", 200, ""},
		{"GET", "/v1/stock?a=b", 200, "/v1/stock?a=b"},
		{"GET", "/v1/stock/SKU-1", 200, "/v1/stock/SKU-1"},
		{"GET", "/v1//stock/./x/../SKU-1", 200, "/v1/stock/SKU-1"},
		{"GET", "/v1/%73tock", 200, "/v1/stock"},
		{"GET", "/v1/stock/", 404, "no-route"},
		{"GET", "/v1/stock/a/b", 404, "no-route"},
		{"DELETE", "/v1/stock/a:b", 200, "/v1/stock/a:b"},
		{"DELETE", "/v1/stock/a%3Ab", 405, "GET, HEAD"},
		{"POST", "/v1/stock", 405, "GET, HEAD, PUT"},
		{"PUT", "/v1/stock/a:b", 405, "DELETE, GET, HEAD"},
		{"PUT", "/v1/stock/SKU-1", 405, "GET, HEAD"},
		{"GET", "/static", 200, "/static"},
		{"GET", "/static/", 200, "/static/"},
		{"POST", "/static/a/b", 200, "/static/a/b"},
		{"GET", "/staticky", 404, "no-route"},
		{"GET", "/static/a;b", 400, "bad-request"},
		{"GET", "/static/a%3bb", 400, "bad-request"},
		{"GET", "/internal/a", 403, "no"},
		{"GET", "/static/../internal/a", 403, "no"},
		{"GET", "/%69nternal/a", 403, "no"},
		{"GET", "/static%2f..%2finternal", 400, ""},
	} {
		r := w.do(request{method: c.method, path: c.path})
		got := r.reason()
		switch r.StatusCode {
		case 200:
			got = ""
			if c.method != "HEAD" {
				got = r.seen(t).Path
			}
		case 403:
			got = r.Header.Get("X-Why")
			if r.body != "no" || r.Header.Get("Content-Type") != "" {
				t.Errorf("%s: %q, %v", c.path, r.body, r.Header)
			}
		case 405:
			got = r.Header.Get("Allow")
		}
		if r.StatusCode != c.status || got != c.want {
			t.Errorf("%s %s: %d %q, want %d %q: %s", c.method, c.path, r.StatusCode, got, c.status, c.want, r.body)
		}
		if got := r.Header.Get("Content-Type"); r.reason() != "" && got != "application/problem+json" {
			t.Errorf("%s %s: content type %q", c.method, c.path, got)
		}
	}
}

func fields(t *testing.T, w *world) {
	send := map[string]string{
		"Sluice-Principal": "root", "Sluice_Op": "x", "X-Sluice-Route": "x", "X-Envoy-Max-Retries": "9",
		"X_User": "root", "X-User": "alice", "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "shop",
		"X_Forwarded-For": "192.0.2.9",
		"X-Real-Ip":       "192.0.2.1", "Idempotency_Key": "k", "X-Kept": "yes",
	}
	for _, c := range []struct {
		name, from string
		want       map[string]string
	}{
		{"a client", "", map[string]string{
			"X-User": "", "Sluice-Principal": "ip:127.0.0.1", "X-Forwarded-For": "127.0.0.1",
			"X-Forwarded-Host": w.http, "X-Real-Ip": ""}},
		{"a peer that names users", "127.0.0.2", map[string]string{
			"X-User": "alice", "Sluice-Principal": "alice", "X-Forwarded-For": "127.0.0.2"}},
		{"a trusted proxy", "127.0.0.3", map[string]string{
			"X-User": "", "Sluice-Principal": "ip:192.0.2.1", "X-Forwarded-For": "192.0.2.1, 127.0.0.3",
			"X-Forwarded-Host": "shop", "X-Real-Ip": "192.0.2.1"}},
	} {
		r := w.do(request{path: "/v1/stock", header: send, from: c.from})
		got := r.seen(t).Header
		for name, want := range c.want {
			// Envoy writes the list without a space.
			if v := strings.ReplaceAll(got.Get(name), ",", ", "); strings.ReplaceAll(v, "  ", " ") != want {
				t.Errorf("%s: %s is %q, want %q", c.name, name, got.Get(name), want)
			}
		}
		for _, name := range []string{"Sluice_op", "Sluice_Op", "X-Sluice-Route", "X-Sluice-Client",
			"X-Envoy-Max-Retries", "X_user", "X_User",
			"X_forwarded-For", "X_Forwarded-For", "Idempotency_key", "Idempotency_Key"} {
			if got[name] != nil {
				t.Errorf("%s: the service sees %s: %q", c.name, name, got[name])
			}
		}
		if got.Get("X-Kept") != "yes" || got.Get("X-Forwarded-Proto") != "http" {
			t.Errorf("%s: %v", c.name, got)
		}
		id := got.Get("Sluice-Request-Id")
		if id == "" || r.Header.Get("Sluice-Request-Id") != id || r.Header.Get("Sluice-Reason") != "" {
			t.Errorf("%s: request id %q of the service, %v", c.name, id, r.Header)
		}
	}
}

func limits(t *testing.T, w *world) {
	statuses := func(q request, n int) (all []int, last response) {
		for range n {
			last = w.do(q)
			all = append(all, last.StatusCode)
		}
		return all, last
	}
	expect := func(what string, got []int, want ...int) {
		t.Helper()
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %v, want %v", what, got, want)
				return
			}
		}
	}
	got, _ := statuses(request{path: "/v1/some"}, 2)
	expect("a local limit", got, 200, 200)
	got, r := statuses(request{path: "/v1/some-too"}, 2)
	expect("the same limit on another route", got, 204, 429)
	if r.reason() != "rate-limited" || r.Header.Get("Retry-After") == "" ||
		!strings.Contains(r.body, "urn:sluice:rate-limited") {
		t.Errorf("a refusal by Envoy's own limit: %v %q", r.Header, r.body)
	}
	got, _ = statuses(request{path: "/v1/each/a?size=1"}, 3)
	expect("a local limit for each", got, 200, 200, 429)
	got, _ = statuses(request{path: "/v1/each/a?x=y&size=1"}, 1)
	expect("the same values in another query", got, 429)
	got, _ = statuses(request{path: "/v1/each/a?size=2"}, 1)
	expect("another value", got, 200)
	got, _ = statuses(request{path: "/v1/each/b"}, 3)
	expect("no value", got, 200, 200, 429)

	got, r = statuses(request{path: "/v1/user", header: map[string]string{"X-User": "u1"}, from: "127.0.0.2"}, 3)
	expect("a global limit", got, 200, 200, 429)
	if r.reason() != "rate-limited" || r.Header.Get("RateLimit") == "" || !strings.Contains(r.body, `"limit":"user"`) {
		t.Errorf("a refusal by the rate-limit service: %v %q", r.Header, r.body)
	}
	got, _ = statuses(request{path: "/v1/user", header: map[string]string{"X-User": "u2"}, from: "127.0.0.2"}, 1)
	expect("another user", got, 200)
	got, _ = statuses(request{path: "/v1/user", header: map[string]string{"X-User": "u1"}}, 1)
	expect("a forged user", got, 200)

	got, _ = statuses(request{path: "/v1/all", header: map[string]string{"X-Shop": "s"}}, 3)
	expect("three references, and a limit that only watches", got, 200, 200, 429)
	got, _ = statuses(request{method: "POST", path: "/v1/all", header: map[string]string{"X-Shop": "s"}}, 1)
	expect("another method", got, 200)
	got, _ = statuses(request{path: "/v1/all"}, 3)
	expect("a field that is absent", got, 200, 200, 429)
}

func timeouts(t *testing.T, w *world) {
	if r := w.get("/v1/slow/30s"); r.StatusCode != 504 || r.reason() != "upstream-timeout" {
		t.Errorf("a slow head: %d %q", r.StatusCode, r.reason())
	}
	if r := w.get("/v1/stream/900ms"); r.StatusCode != 200 || !strings.Contains(r.body, "stream") {
		t.Errorf("a stream that is longer than the timeout: %d %q", r.StatusCode, r.body)
	}
	if r := w.get("/v1/gone"); r.StatusCode != 502 || r.reason() != "upstream-unreachable" {
		t.Errorf("nobody there: %d %q %s", r.StatusCode, r.reason(), r.body)
	}
	long := strings.Repeat("x", 8<<20+1)
	r := w.do(request{method: "POST", path: "/static/x", body: long})
	if r.StatusCode != 413 || r.reason() != "body-too-large" {
		t.Errorf("a body that is too long: %d %q %s", r.StatusCode, r.reason(), r.body)
	}
}

func breaker(t *testing.T, w *world) {
	await(t, "the breaker to open", func() bool {
		r := w.do(request{method: "POST", path: "/v1/do/500"})
		return r.StatusCode == http.StatusServiceUnavailable && r.reason() == "breaker-open"
	})
	calls := w.service.calls.Load()
	if r := w.do(request{method: "POST", path: "/v1/do/200"}); r.reason() != "breaker-open" {
		t.Errorf("%d %q while it is open", r.StatusCode, r.reason())
	}
	r := w.get("/v1/do/200")
	if r.StatusCode != 203 || r.body != "calm" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the fallback: %d %q %v", r.StatusCode, r.body, r.Header)
	}
	if got := w.service.calls.Load(); got != calls {
		t.Errorf("%d calls of the service while the breaker is open", got-calls)
	}
}

func keys(t *testing.T, w *world) {
	key := func(k string) map[string]string {
		return map[string]string{"Idempotency-Key": k, "Content-Type": "application/json"}
	}
	order := request{method: "POST", path: "/v1/orders/1", header: key("k1"), body: `{"sku":"a"}`}
	if r := w.do(request{method: "POST", path: "/v1/orders/1"}); r.StatusCode != 400 ||
		r.reason() != "idempotency-key-missing" {
		t.Errorf("no key: %d %q %s", r.StatusCode, r.reason(), r.body)
	}
	first := w.do(order)
	s := first.seen(t)
	if first.StatusCode != 200 || s.Header.Get("Sluice-Attempt") != "1" || s.Body != order.body ||
		s.Header.Get("Idempotency-Key") == "" || s.Header.Get("Idempotency-Key") == "k1" {
		t.Errorf("the first request: %d, the service saw %+v", first.StatusCode, s)
	}
	again := w.do(order)
	if again.body != first.body || again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a repeat: %d %v %q", again.StatusCode, again.Header, again.body)
	}
	order.body = `{"sku":"b"}`
	if r := w.do(order); r.StatusCode != 422 || r.reason() != "idempotency-key-reused" {
		t.Errorf("another request with the key: %d %q", r.StatusCode, r.reason())
	}
	inFlight(t, w, request{method: "POST", path: "/v1/gate", header: key("k2")})
	localReply(t, w, request{method: "POST", path: "/v1/lost", header: key("k3")})
}

func inFlight(t *testing.T, w *world, q request) {
	calls := w.service.calls.Load()
	done := make(chan response, 1)
	go func() {
		r, _ := w.try(q)
		done <- r
	}()
	await(t, "the first request to arrive", func() bool { return w.service.calls.Load() > calls })
	if r := w.do(q); r.StatusCode != 409 || r.reason() != "request-in-progress" || r.Header.Get("Retry-After") == "" {
		t.Errorf("a request in flight: %d %q", r.StatusCode, r.reason())
	}
	close(w.service.gate)
	if r := <-done; r.Response == nil || r.StatusCode != 200 {
		t.Errorf("the first request: %+v", r)
	}
	if r := w.do(q); r.StatusCode != 200 || r.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a repeat of it: %d %v", r.StatusCode, r.Header)
	}
}

// localReply: ext_proc is told of a response that Envoy itself makes, so a key of which nothing was sent
// is free again.
func localReply(t *testing.T, w *world, q request) {
	for range 2 {
		if r := w.do(q); r.StatusCode != 502 || r.reason() != "upstream-unreachable" {
			t.Errorf("nobody there, with a key: %d %q %s", r.StatusCode, r.reason(), r.body)
		}
	}
}
