package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// planeStep is one request of a script that runs through the gateway and through `sluice envoy`.
type planeStep struct {
	name   string
	method string // POST
	target string // /keyed
	body   string
	header []string // in pairs

	status int
	reason string
	fields map[string]string // of the response; "" is absent
	calls  int               // of the service by then that this step causes
}

func keyOf(k string) []string { return []string{"Idempotency-Key", k, "X-User", "ann"} }

const planeText = `
services:
  a: {endpoints: ["%s"], timeout: 20s, retries: {attempts: 0}}
  none: {endpoints: ["http://127.0.0.1:1"], retries: {attempts: 0}}
  frail: {endpoints: ["%[1]s"], retries: {attempts: 0}, breaker: {errors: 50%%, window: 10s, minRequests: 2,
	openFor: 60s}}
  rationed: {endpoints: ["%[1]s"], limits: [of-service]}
limits:
  few: {scope: local, per: [principal], rate: 2/h, burst: 2}
  of-service: {scope: global, rate: 1/h, burst: 1}
  watched: {scope: local, rate: 1/h, burst: 1, mode: shadow}
routes:
  - {name: keyed, match: {methods: [POST], path: /keyed}, service: a,
     idempotency: {required: true, whileInFlight: reject, maxBody: 1KiB, notExecuted: [503]}}
  - {name: optional, match: {methods: [POST], path: /optional}, service: a, idempotency: {}}
  - {name: in-body, match: {methods: [POST], path: /in-body}, service: a, idempotency: {required: true,
	key: {body: order.no}}}
  - {name: limited, match: {path: "/limited/{item}"}, service: a, limits: [few]}
  - {name: watched, match: {path: /watched}, service: a, limits: [watched]}
  - {name: rationed, match: {path: /rationed}, service: rationed, idempotency: {}}
  - {name: frail, match: {path: /frail}, service: frail}
  - {name: away, match: {path: /away}, service: none, idempotency: {}}
  - {name: static, match: {path: /static/**}, respond: {status: 403, body: no, headers: {Content-Type: text/plain}}}
  - {name: instead, match: {path: /instead}, service: frail, fallback: {status: 200, body: "{}",
	headers: {Content-Type: text/plain}, on: [breaker-open]}}
  - {name: sale, match: {methods: [POST], path: /sale}, service: a, idempotency: {required: true}}
  - {name: early, match: {methods: [POST], path: /early}, service: a, idempotency: {required: true}}
  - {name: rest, match: {path: /rest/**}, service: a}
sales:
  s: {routes: [sale], opens: 2020-01-01T00:00:00Z, closes: 2120-01-01T00:00:00Z, item: body.sku, quantity: body.qty,
      stock: {A: 3}, perPrincipal: 2}
  later: {routes: [early], opens: 2120-01-01T00:00:00Z, closes: 2121-01-01T00:00:00Z, item: body.sku, stock: {A: 3}}
`

var planeScript = []planeStep{
	{name: "a key", body: `{"a":1}`, header: keyOf("k1"), status: 200, calls: 1,
		fields: map[string]string{"X-Service": "1", "Sluice-Reason": "", "Idempotent-Replayed": ""}},
	{name: "its replay", body: `{"a":1}`, header: keyOf("k1"), status: 200,
		fields: map[string]string{"Idempotent-Replayed": "true", "X-Service": "1", "Set-Cookie": ""}},
	{name: "a replay in other words", body: `{"a":1}`, header: []string{"Idempotency-Key", `"k1"`, "X-User", "ann"},
		status: 200,
		fields: map[string]string{"Idempotent-Replayed": "true"}},
	{name: "another request under it", body: `{"a":2}`, header: keyOf("k1"), status: 422,
		reason: "idempotency-key-reused"},
	{name: "the key of somebody else", body: `{"a":1}`, header: []string{"Idempotency-Key", "k1", "X-User", "bob"},
		status: 200, calls: 1},
	{name: "no key", body: `{"a":1}`, header: []string{"X-User", "ann"}, status: 400,
		reason: "idempotency-key-missing"},
	{name: "two keys", body: `{}`, header: []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, status: 400,
		reason: "idempotency-key-invalid"},
	{name: "no body", header: keyOf("k2"), status: 200, calls: 1},
	{name: "no body again", header: keyOf("k2"), status: 200, fields: map[string]string{"Idempotent-Replayed": "true"}},
	{name: "a 4xx is final", target: "/keyed?status=404", body: "x", header: keyOf("k3"), status: 404, calls: 1},
	{name: "its replay is it too", target: "/keyed?status=404", body: "x", header: keyOf("k3"), status: 404,
		fields: map[string]string{"Idempotent-Replayed": "true"}},
	{name: "429 frees", target: "/keyed?status=429", body: "x", header: keyOf("k4"), status: 429, calls: 1},
	{name: "and runs again", target: "/keyed?status=429", body: "x", header: keyOf("k4"), status: 429, calls: 1},
	{name: "503 frees where the route says so", target: "/keyed?status=503", body: "x", header: keyOf("k5"),
		status: 503,
		calls:  1},
	{name: "and runs again too", target: "/keyed?status=503", body: "x", header: keyOf("k5"), status: 503, calls: 1},
	{name: "500 is unknown", target: "/keyed?status=500", body: "x", header: keyOf("k6"), status: 500, calls: 1},
	{name: "and is held", target: "/keyed?status=500", body: "x", header: keyOf("k6"), status: 409,
		reason: "outcome-unknown"},
	{name: "a broken connection", target: "/keyed?cut", body: "x", header: keyOf("k7"), status: 502,
		reason: "upstream-failed", calls: 1},
	{name: "is held", target: "/keyed?cut", body: "x", header: keyOf("k7"), status: 409, reason: "outcome-unknown"},
	{name: "a long response", target: "/keyed?long=2000", body: "x", header: keyOf("k8"), status: 200, calls: 1},
	{name: "is not replayable", target: "/keyed?long=2000", body: "x", header: keyOf("k8"), status: 409,
		reason: "response-not-replayable"},
	{name: "204", target: "/keyed?status=204", body: "x", header: keyOf("k9"), status: 204, calls: 1},
	{name: "204 again", target: "/keyed?status=204", body: "x", header: keyOf("k9"), status: 204,
		fields: map[string]string{"Idempotent-Replayed": "true"}},
	{name: "a body too long", body: strings.Repeat("x", 70000), header: keyOf("k10"), status: 413,
		reason: "body-too-large"},
	{name: "a key in the body", target: "/in-body", body: `{"order":{"no":"7"}}`, status: 200, calls: 1},
	{name: "its replay from the body", target: "/in-body", body: `{"order":{"no":"7"}}`, status: 200,
		fields: map[string]string{"Idempotent-Replayed": "true"}},
	{name: "none in it", target: "/in-body", body: `{"order":{}}`, status: 400, reason: "idempotency-key-missing"},
	{name: "one that comes twice", target: "/in-body", body: `{"order":{"no":"7","no":"8"}}`, status: 400,
		reason: "idempotency-key-invalid"},
	{name: "a service that is away", target: "/away", body: "x", header: keyOf("k"), status: 502,
		reason: "upstream-unreachable"},
	{name: "leaves the key free", target: "/away", body: "x", header: keyOf("k"), status: 502,
		reason: "upstream-unreachable"},
	{name: "an optional key that is not there", target: "/optional", body: "x", status: 200, calls: 1},

	{name: "within a limit", method: "GET", target: "/limited/a", header: []string{"X-User", "ann"},
		status: 200,
		calls:  1,
		fields: map[string]string{"RateLimit-Policy": `"few";q=2;w=3600`}},
	{name: "the last of it", method: "GET", target: "/limited/b", header: []string{"X-User", "ann"},
		status: 200,
		calls:  1},
	{name: "beyond it", method: "GET", target: "/limited/c", header: []string{"X-User", "ann"}, status: 429,
		reason: "rate-limited"},
	{name: "somebody else", method: "GET", target: "/limited/c", header: []string{"X-User", "bob"}, status: 200,
		calls: 1},
	{name: "a limit in shadow", method: "GET", target: "/watched", status: 200, calls: 1},
	{name: "a limit in shadow, beyond it", method: "GET", target: "/watched", status: 200, calls: 1},
	{name: "the limit of a service", target: "/rationed", body: "x", header: keyOf("r1"), status: 200, calls: 1},
	{name: "beyond that", target: "/rationed", body: "x", header: keyOf("r2"), status: 429, reason: "rate-limited"},
	{name: "a replay costs none of it", target: "/rationed", body: "x", header: keyOf("r1"), status: 200,
		fields: map[string]string{"Idempotent-Replayed": "true"}},

	{name: "an error", method: "GET", target: "/frail?status=500", status: 500, calls: 1},
	{name: "another error", method: "GET", target: "/frail?status=500", status: 500, calls: 1},
	{name: "the breaker is open", method: "GET", target: "/frail", status: 503, reason: "breaker-open"},
	{name: "a fallback", method: "GET", target: "/instead", status: 200,
		fields: map[string]string{"Sluice-Fallback": "breaker-open"}},

	{name: "a purchase", target: "/sale", body: `{"sku":"A","qty":2}`, header: keyOf("s1"), status: 200, calls: 1},
	{name: "too many for one", target: "/sale", body: `{"sku":"A","qty":1}`, header: keyOf("s2"), status: 403,
		reason: "purchase-limit"},
	{name: "more than there are", target: "/sale", body: `{"sku":"A","qty":2}`,
		header: []string{"Idempotency-Key", "s3",
			"X-User", "bob"}, status: 409, reason: "sold-out"},
	{name: "the buyer again", target: "/sale", body: `{"sku":"A","qty":2}`, header: keyOf("s1"), status: 200,
		fields: map[string]string{"Idempotent-Replayed": "true"}},
	{name: "no quantity", target: "/sale", body: `{"sku":"A","qty":"x"}`, header: keyOf("s4"), status: 400,
		reason: "bad-request"},
	{name: "a sale that has not opened", target: "/early", body: `{"sku":"A"}`, header: keyOf("e1"), status: 403,
		reason: "sale-not-open"},

	{name: "a static response", method: "GET", target: "/static/x", status: 403,
		fields: map[string]string{"Sluice-Reason": ""}},
	{name: "no route", method: "GET", target: "/nowhere", status: 404, reason: "no-route"},
	{name: "another method", method: "PUT", target: "/keyed", status: 405, reason: "method-not-allowed",
		fields: map[string]string{"Allow": "POST"}},
	{name: "a path that is none", method: "GET", target: "/rest/%2f", status: 400, reason: "bad-request"},
	{name: "fields that are the gateway's", method: "GET", target: "/rest//a/../b?q=1", status: 200, calls: 1,
		header: []string{"Sluice-Op", "x", "X-Real-IP", "192.0.2.1", "X-Forwarded-For", "192.0.2.2",
			"Sluice-Principal", "eve",
			"Traceparent", "bad", "Tracestate", "a=b", "X-User", "ann"}},
	{name: "a proxy's fields", method: "GET", target: "/rest/x", status: 200, calls: 1,
		header: []string{"Forwarded", "for=192.0.2.1", "X-Forwarded-Proto", "https", "Cookie", "a=b"}},
}

// The same script through the gateway and through Envoy: the same responses, and the service sees the same requests.
func TestPlanesAgree(t *testing.T) {
	t.Parallel()
	text := func(s *service) string {
		return head + "envoy: {listen: {address: \"127.0.0.1:0\"}}" + fmt.Sprintf(planeText, s.URL)
	}
	nativeService, envoyService := newService(t, planeService), newService(t, planeService)
	native, behind := start(t, text(nativeService)), startEnvoy(t, text(envoyService), envoyService.URL)
	behind.proxy.elsewhere = map[string]string{"/away": "127.0.0.1:1"}
	for _, step := range planeScript {
		step.method, step.target = or(step.method, "POST"), or(step.target, "/keyed")
		n, e := nativeService.count(), envoyService.count()
		one := native.do(step.method, step.target, step.body, step.header...)
		two := behind.do(step.method, step.target, step.body, step.header...)
		step.check(t, "gateway", one, nativeService.count()-n)
		step.check(t, "Envoy", two, envoyService.count()-e)
		if a, b := comparable(one), comparable(two); a != b {
			t.Errorf("%s: the gateway responds\n%s\nand Envoy\n%s", step.name, a, b)
		}
		if step.calls == 0 || t.Failed() {
			continue
		}
		r1, b1 := nativeService.last(t)
		r2, b2 := envoyService.last(t)
		if a, b := forwarded(r1, b1), forwarded(r2, b2); a != b {
			t.Errorf("%s: of the gateway the service gets\n%s\nand of Envoy\n%s", step.name, a, b)
		}
	}
}

func (s *planeStep) check(t *testing.T, plane string, r got, calls int) {
	t.Helper()
	if r.status != s.status || r.reason() != s.reason {
		t.Errorf("%s: %s has %d %q, want %d %q\n%s", s.name, plane, r.status, r.reason(), s.status, s.reason, r.body)
	}
	if calls != s.calls {
		t.Errorf("%s: %s calls the service %d times, want %d", s.name, plane, calls, s.calls)
	}
	if id := r.header.Get("Sluice-Request-Id"); len(id) != 32 || len(r.header.Values("Sluice-Request-Id")) != 1 {
		t.Errorf("%s: %s has the request id %q, want one of 32 digits", s.name, plane, id)
	} else if r.header.Get("Content-Type") == "application/problem+json" {
		checkProblem(t, s.name+", "+plane, r)
	}
	for name, want := range s.fields {
		if v := r.header.Get(name); v != want {
			t.Errorf("%s: %s has %s: %q, want %q", s.name, plane, name, v, want)
		}
	}
}

// checkProblem asserts that a problem document names its request, and has the error as Stripe's libraries look for it.
func checkProblem(t *testing.T, what string, r got) {
	t.Helper()
	var p struct {
		Reason    string
		RequestID string `json:"request_id"`
		Error     struct{ Type, Code, Message string }
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Errorf("%s: %v in %s", what, err, r.body)
	}
	if p.RequestID != r.header.Get("Sluice-Request-Id") || p.Reason != r.reason() || p.Error.Code != p.Reason ||
		p.Error.Type == "" || p.Error.Message == "" {
		t.Errorf("%s: %s with %v", what, r.body, r.header)
	}
}

// planeService does what the query says.
func planeService(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Has("cut") {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Sluice-Reason", "spoofed")
	w.Header().Set("Sluice-Request-Id", "spoofed")
	w.Header().Set("Idempotent-Replayed", "true")
	w.Header().Set("X-Service", "1")
	w.Header().Add("X-List", "a")
	w.Header().Add("X-List", "b")
	w.Header().Set("Content-Type", "application/json")
	status, length := 200, 10
	fmt.Sscan(q.Get("status"), &status)
	fmt.Sscan(q.Get("long"), &length)
	if status == 204 {
		w.Header().Del("Content-Type")
	}
	w.WriteHeader(status)
	if status != 204 {
		io.WriteString(w, strings.Repeat("x", length))
	}
}

// comparable is what both planes have to respond alike: all but what is different each time, and what belongs to the
// connection.
func comparable(r got) string {
	body := r.body
	if wait := r.header.Get("Retry-After"); wait != "" { // it is spread, or runs
		body = strings.Replace(body, `"retry_after":`+wait, `"retry_after":N`, 1)
	}
	if id := r.header.Get("Sluice-Request-Id"); id != "" {
		body = strings.Replace(body, id, "ID", 1)
	}
	lines := []string{fmt.Sprint(r.status, " ", body)}
	for name, values := range r.header {
		switch name {
		case "Sluice-Request-Id", "Date", "Idempotent-Original-Date", "Content-Length", "Connection":
			continue
		case "Ratelimit", "Retry-After":
			values = nil // how much is left changes with time
		}
		lines = append(lines, fmt.Sprintf("%s: %q", name, values))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// forwarded is what a service sees that has to be alike. The injected key is not: each plane names its records by its
// own scope.
func forwarded(r *http.Request, body string) string {
	c := *r // whose server still has it
	c.Body = io.NopCloser(strings.NewReader(body))
	return strings.ReplaceAll(seen(&c), c.Host, "HOST")
}

// envoyHasItself are requests that an Envoy refuses or makes sound before it shows them: they never come here.
func envoyHasItself(c *parityCase) bool {
	switch c.name {
	case "cookies", "the host alone": // it joins them, and makes it the authority
		return true
	case "absolute form by https": // it says by what the client came
		return true
	case "capitals", "absolute form and the host in other letters": // no filter may change the authority
		return true
	case "an empty query": // it stays where the path is canonical
		return true
	case "a body beyond the limit": // that is neither announced nor shown
		return true
	}
	return c.malformed
}

// asEnvoyShows returns the request as Envoy shows it.
func (c *parityCase) asEnvoyShows() proxied {
	in := proxied{body: []byte(c.body)}
	meta := []field{{":method", or(c.method, "GET")}, {":scheme", "http"}, {":authority", c.authority()},
		{":path", or(c.target, "/y")}}
	for _, f := range c.meta {
		if i := slices.IndexFunc(meta, func(m field) bool { return m.name == f.name && f.name[0] == ':' }); i >= 0 {
			meta[i] = f
			continue
		}
		meta = append(meta, f)
	}
	for _, f := range append(meta, c.fields...) {
		if f.value != "" || f.name[0] != ':' {
			in.fields = append(in.fields, field{strings.ToLower(f.name), f.value})
		}
	}
	for _, f := range c.trailer {
		in.trailer = append(in.trailer, field{strings.ToLower(f.name), f.value})
	}
	return in
}

// What HTTP/1.1 and HTTP/2 refuse is refused behind Envoy; and of what is not refused the service sees the same.
func TestEnvoyAgreesWithProtocols(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w,
			seen(r))
	}))
	t.Cleanup(s.Close)
	text := envoyHead + `
services: {a: {endpoints: ["` + s.URL + `"]}}
routes:
  - {name: all, match: {path: /**}, service: a}
`
	g, e := start(t, text), startEnvoy(t, text, s.URL)
	for _, c := range parityCases {
		if envoyHasItself(&c) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.status == 0 {
				c.status = 200
			}
			r, err := e.proxy.exchange(t.Context(), c.asEnvoyShows())
			if err != nil {
				t.Fatal(err)
			}
			if r.status != c.status || r.reason() != c.reason {
				t.Errorf("behind Envoy it has %d %q, want %d %q\n%s", r.status, r.reason(), c.status, c.reason, r.body)
			}
			if c.status != 200 {
				return
			}
			if two := c.overHTTP2(t, g.at.HTTP); two.body != r.body {
				t.Errorf("the service sees, by HTTP/2,\n%s\nand behind Envoy\n%s", two.body, r.body)
			}
		})
	}
}
