package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What the service sees in place of what the client asked for, and what the client sees in place of what it said.
func TestEdits(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Internal", "secret")
		w.Header().Set("Server", "tomcat")
		fmt.Fprintf(w, "%s %s %s env=%q debug=%q via=%q", r.Host, r.URL.EscapedPath(), r.URL.RawQuery,
			r.Header.Values("X-Env"), r.Header.Values("X-Debug"), r.Header.Values("X-Trace"))
	})
	g := start(t, head+fmt.Sprintf(`
services: {a: {endpoints: [%[1]q]}, gone: {endpoints: ["http://127.0.0.1:1"], breaker: {}}}
limits: {each: {scope: local, per: [header.X-Debug], rate: 1/h, burst: 1}}
routes:
  - {name: strip, match: {path: /api/**}, service: a, rewrite: {stripPrefix: /api}}
  - {name: path, match: {path: "/orders/{id}/lines/{line}"}, service: a,
     rewrite: {path: "/v2/lines/{line}/of/{id}", host: "orders.internal:8080"}}
  - {name: headers, match: {path: /h}, service: a, limits: [each], headers: {
     request: {set: {X-Env: prod}, add: {X-Trace: gateway}, remove: [x-debug]},
     response: {set: {Server: shop, Strict-Transport-Security: max-age=1}, remove: [X-Internal]}}}
  - {name: fallback, match: {path: /f}, service: gone, headers: {request: {add: {X-Trace: gateway}},
     response: {add: {X-Seen: "1"}}}, rewrite: {path: /of-fallback}, fallback: {service: a, on: [breaker-open]}}
  - {name: small, match: {path: /small}, service: a, maxBody: 8B}
  - {name: all, match: {path: /**}, service: a}
`, s.URL))
	for _, c := range []struct {
		target string
		header []string
		want   string
	}{
		{"/api/v1/x?a=b", nil, ` /v1/x a=b env=[] debug=[] via=[]`},
		{"/api", nil, ` /  env=[]`},
		{"/apis", nil, ` /apis  env=[]`},
		{"/orders/a%20b/lines/7?q=1", nil, `orders.internal:8080 /v2/lines/7/of/a%20b q=1`},
		{"/orders/%C3%A9/lines/..x", nil, `/v2/lines/..x/of/%C3%A9 `},
		{"/h", []string{"X-Env", "dev", "X-Debug", "one", "X-Trace", "client"},
			`env=["prod"] debug=[] via=["client" "gateway"]`},
	} {
		r := g.do("GET", c.target, "", c.header...)
		if r.status != 200 || !strings.Contains(r.body, c.want) {
			t.Errorf("%s: %d %q, want %q", c.target, r.status, r.body, c.want)
		}
	}
	// The limit counts by what the client sent, and its refusal has the response's fields too.
	r := g.do("GET", "/h", "", "X-Debug", "one")
	if r.status != 429 || r.header.Get("Strict-Transport-Security") == "" || r.header.Get("X-Internal") != "" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r = g.do("GET", "/h", "", "X-Debug", "two"); r.status != 200 || r.header.Get("Server") != "shop" ||
		r.header.Get("X-Internal") != "" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r = g.do("POST", "/small", "123456789"); r.status != 413 || !strings.Contains(r.body, "8B") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r = g.do("POST", "/small", "12345678"); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := fetch(t, "http://"+g.at.Admin+"/api/breakers/gone", "POST", `{"state":"open"}`,
		"Content-Type", "application/json"); r.status/100 != 2 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if r = g.do("GET", "/f", "", "X-Trace", "client"); !strings.Contains(r.body, "/of-fallback") ||
		!strings.Contains(r.body, `via=["client" "gateway"]`) || len(r.header.Values("X-Seen")) != 1 {
		t.Errorf("%d %s %v", r.status, r.body, r.header)
	}
}
