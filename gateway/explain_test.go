package gateway

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

const explainedText = `version: 1
identity: [{header: {name: X-User, trusted: [127.0.0.0/8]}}]
services:
  order: {endpoints: ["http://127.0.0.1:1"], timeout: 3s, retries: {attempts: 2, on: [connect-failure]}, breaker: {}}
limits: {each: {per: [principal, path.id], rate: 5/m}}
routes:
  - {name: read, match: {methods: [GET], path: "/v1/orders/{id}"}, service: order}
  - {name: write, match: {methods: [PUT], path: "/v1/orders/{id}"}, service: order, limits: [each], priority: high,
     idempotency: {required: true, scope: [principal, route, header.X-Shop], fingerprint: [body.sku, query.v]}}
  - {name: fallen, match: {path: /f}, service: order, fallback: {status: 200, body: "{}"}}
  - {name: last, match: {path: /**}, respond: {status: 403}}
`

func explanationOf(t *testing.T, r ExplainRequest) *Explanation {
	t.Helper()
	cfg, err := config.Parse("t.yaml", []byte(explainedText), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e, err := Explained(cfg, r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestExplanation: an explanation names the route, why none before it is taken, and every key and setting.
func TestExplanation(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		r      ExplainRequest
		route  string
		status int
		passed []PassedOver
		holds  []string
	}{
		{"a keyed request", ExplainRequest{Method: "PUT", Path: "/v1/orders/7?v=2", Body: []byte(`{"sku":"S-1"}`),
			Header: [][2]string{{"X-User", "ann"}, {"Idempotency-Key", "k-1"}, {"X-Shop", "de"}}, At: at}, "write", 0,
			[]PassedOver{{"read", "it takes GET, HEAD only"}},
			[]string{`principal = "ann"`, `path.id = "7"`,
				`each: 5/m, burst 5, global, enforce, per principal = "ann", path.id = "7", store gone: local`,
				`key "k-1" over [principal route header.X-Shop], fingerprint of [body.sku query.v]`,
				`scope: principal = "ann", route = "write", header.X-Shop = "de"`,
				`fingerprint: body.sku = "S-1", query.v = "2"`,
				"order: open at 50% errors",
				"service order at http://127.0.0.1:1, timeout 3s, connect 500ms, 2 retries on connect-failure"}},
		{"no key", ExplainRequest{Method: "PUT", Path: "/v1/orders/7"}, "write", 400,
			[]PassedOver{{"read", "it takes GET, HEAD only"}}, []string{"400 idempotency-key-missing"}},
		{"a key that is none", ExplainRequest{Method: "PUT", Path: "/v1/orders/7",
			Header: [][2]string{{"Idempotency-Key", `"open`}}}, "write", 400,
			[]PassedOver{{"read", "it takes GET, HEAD only"}}, []string{"400 idempotency-key-invalid"}},
		{"a body that is two", ExplainRequest{Method: "PUT", Path: "/v1/orders/7", Body: []byte(`{"sku":1,"sku":2}`),
			Header: [][2]string{{"Idempotency-Key", "k"}}}, "write", 400,
			[]PassedOver{{"read", "it takes GET, HEAD only"}}, []string{"body.sku"}},
		{"the last one", ExplainRequest{Method: "GET", Path: "/x"}, "last", 0, []PassedOver{
			{"read", "its path is /v1/orders/{id}"}, {"write", "its path is /v1/orders/{id}"},
			{"fallen", "its path is /f"}},
			[]string{"static response 403"}},
		{"a fallback", ExplainRequest{Method: "GET", Path: "/f"}, "fallen", 0, []PassedOver{
			{"read", "its path is /v1/orders/{id}"}, {"write", "its path is /v1/orders/{id}"}},
			[]string{"on breaker-open, overloaded, timeout: response 200"}},
		{"a path that is none", ExplainRequest{Method: "GET", Path: "/a%zz"}, "", 400, nil, []string{"400 bad-request"}},
	} {
		e := explanationOf(t, c.r)
		var text bytes.Buffer
		if err := e.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if e.Route != c.route || e.Status != c.status || !slices.Equal(e.PassedOver, c.passed) {
			t.Errorf("%s: route %q, status %d, passed over %v", c.name, e.Route, e.Status, e.PassedOver)
		}
		for _, want := range c.holds {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, text.String())
			}
		}
	}
}

// TestExplanationOfNoRoute: of a request that no route takes it is told why each does not.
func TestExplanationOfNoRoute(t *testing.T) {
	t.Parallel()
	text := strings.Replace(explainedText, "  - {name: last, match: {path: /**}, respond: {status: 403}}\n", "", 1)
	cfg, err := config.Parse("t.yaml", []byte(text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/nowhere": 404, "/v1/orders/7": 405} {
		e, err := Explained(cfg, ExplainRequest{Method: "DELETE", Path: path})
		if err != nil || e.Route != "" || e.Status != want || len(e.PassedOver) != 3 {
			t.Errorf("%s: %v, %+v, want %d", path, err, e, want)
		}
	}
}
