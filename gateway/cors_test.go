package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const corsText = `
services: {a: {endpoints: [%q]}}
limits: {few: {scope: local, per: [route], rate: 1/h, burst: 2}}
routes:
  - {name: orders, match: {methods: [POST], path: /orders}, service: a, limits: [few], idempotency: {required: true},
     cors: {origins: ["https://shop.example"], credentials: true, expose: [X-Order-Id]}}
  - {name: others, match: {methods: [POST], path: /others}, service: a}
  - {name: all, match: {path: /all}, service: a, cors: {origins: ["*"]}}
`

// Preflights are answered without a key and at no cost of a limit, and every response of the route has the fields.
func TestScriptsOfOtherOrigins(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://another.example")
		w.WriteHeader(http.StatusCreated)
	})
	g := start(t, head+fmt.Sprintf(corsText, s.URL))
	const origin = "https://shop.example"
	preflight := func(path string, header ...string) got {
		return g.do("OPTIONS", path, "", append([]string{"Access-Control-Request-Method", "POST"}, header...)...)
	}
	for range 10 { // more than the limit has
		r := preflight("/orders", "Origin", origin, "Access-Control-Request-Headers", "idempotency-key")
		if r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != origin ||
			r.header.Get("Access-Control-Allow-Headers") != "idempotency-key" {
			t.Fatalf("%d %v", r.status, r.header)
		}
	}
	if r := preflight("/orders", "Origin", "https://evil.example"); r.status != 403 || r.reason() != "forbidden" ||
		r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin: %d %s", r.status, r.body)
	}
	if r := preflight("/others", "Origin", origin); r.status != 405 {
		t.Errorf("a route without cors: %d", r.status)
	}
	if r := preflight("/orders"); r.status != 405 {
		t.Errorf("no preflight: %d", r.status)
	}
	if n := s.count(); n != 0 {
		t.Fatalf("the service had %d calls", n)
	}
	for _, c := range []struct {
		what, key string
		status    int
		reason    string
	}{
		{"no key", "", 400, "idempotency-key-missing"},
		{"a request", `"k1"`, 201, ""},
		{"its replay", `"k1"`, 429, "rate-limited"},
	} {
		header := []string{"Origin", origin}
		if c.key != "" {
			header = append(header, "Idempotency-Key", c.key)
		}
		r := g.do("POST", "/orders", "{}", header...)
		if r.status != c.status || r.reason() != c.reason {
			t.Errorf("%s: %d %s", c.what, r.status, r.reason())
		}
		if v := r.header.Values("Access-Control-Allow-Origin"); len(v) != 1 || v[0] != origin ||
			r.header.Get("Access-Control-Allow-Credentials") != "true" || r.header.Get("Vary") != "Origin" ||
			!strings.Contains(r.header.Get("Access-Control-Expose-Headers"), "X-Order-Id") {
			t.Errorf("%s: %v", c.what, r.header)
		}
	}
	if r := g.do("GET", "/all", "", "Origin", origin); r.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("every origin: %v", r.header)
	}
	if n := g.metric(`sluice_cors_preflights_total{result="allowed",route="orders"}`); n != 10 {
		t.Errorf("%v preflights", n)
	}
}

// A replay is for the origin that asks now.
func TestReplayForAnotherOrigin(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	g := start(t, head+fmt.Sprintf(`
services: {a: {endpoints: [%q]}}
routes:
  - {name: orders, match: {methods: [POST], path: /orders}, service: a, idempotency: {required: true},
     cors: {origins: ["https://one.example", "https://two.example"]}}
`, s.URL))
	for i, origin := range []string{"https://one.example", "https://two.example", "https://evil.example", ""} {
		header := []string{"Idempotency-Key", `"k"`}
		want := origin
		if origin != "" {
			header = append(header, "Origin", origin)
		}
		if origin == "https://evil.example" {
			want = ""
		}
		r := g.do("POST", "/orders", "{}", header...)
		if r.status != 201 || (r.header.Get("Idempotent-Replayed") == "true") != (i > 0) ||
			r.header.Get("Access-Control-Allow-Origin") != want || r.header.Get("Vary") != "Origin" {
			t.Errorf("%q: %d %v", origin, r.status, r.header)
		}
	}
}
