package admin

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
)

// fixed is a gateway that has a configuration and nothing else.
type fixed struct{ cfg *config.Config }

func (f fixed) CheckConfig([]config.File) (plan.Check, error) { return plan.Check{}, nil }

func (f fixed) Unready() string        { return "" }
func (f fixed) Status() Status         { return Status{Build: "test"} }
func (f fixed) Config() *config.Config { return f.cfg }

func newFixed(t *testing.T, admin string) (Options, *bytes.Buffer) {
	t.Helper()
	cfg, err := config.Parse("t.yaml", []byte("version: 1\nadmin: "+admin+"\n"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	return Options{
		Gateway: fixed{cfg}, Metrics: prometheus.NewRegistry(), PProf: cfg.Admin.PProf,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}, log
}

// ask sends one request; headers are pairs of name and value.
func ask(h http.Handler, method, target string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:9901"
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

const secretToken = "0123456789abcdef-secret"

func TestTokenIsAskedForAllButHealthAndMetrics(t *testing.T) {
	t.Parallel()
	o, log := newFixed(t, "{token: "+secretToken+", pprof: true}")
	h := New(o)
	open := []string{"/healthz", "/readyz", "/metrics"}
	for _, target := range open {
		for _, method := range []string{"GET", "HEAD"} {
			if r := ask(h, method, target); r.StatusCode != 200 {
				t.Errorf("%s %s: %s", method, target, r.Status)
			}
		}
	}
	shut := []string{
		"GET /api/status", "HEAD /api/status", "GET /api/config", "GET /api/idempotency", "GET /api/transactions",
		"GET /api/transactions/x", "GET /debug/pprof/", "GET /debug/pprof/heap", "POST /api/idempotency/resolve",
		"POST /api/idempotency/forget", "GET /", "GET /metrics/", "GET //metrics",
		"GET /api/../metrics", "GET /%6detrics/x",
	}
	for _, request := range shut {
		method, target, _ := strings.Cut(request, " ")
		for _, authorization := range []string{
			"", "Bearer", "Bearer ", "Bearer wrong", "Bearer " + secretToken + "x", "Bearer " + secretToken[1:],
			"Basic " + secretToken, secretToken,
		} {
			r := ask(h, method, target, "Authorization", authorization)
			if r.StatusCode != 401 || r.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s with %q: %s", request, authorization, r.Status)
			}
		}
	}
	for _, authorization := range []string{"Bearer " + secretToken, "bearer " + secretToken} {
		if r := ask(h, "GET", "/api/status", "Authorization", authorization); r.StatusCode != 200 {
			t.Errorf("with the token: %s", r.Status)
		}
	}
	r := ask(h, "GET", "/api/config", "Authorization", "Bearer "+secretToken)
	if body, err := io.ReadAll(r.Body); err != nil || strings.Contains(string(body), "secret") ||
		!strings.Contains(string(body), `"token": "***"`) {
		t.Errorf("the configuration shows %s, %v", body, err)
	}
	if !strings.Contains(log.String(), "has not the right token") || strings.Contains(log.String(), "secret") {
		t.Errorf("logged:\n%s", log)
	}
}

// TestHostsThatAreNotTheAddress: a page whose name was made to lead here asks with that name.
func TestHostsThatAreNotTheAddress(t *testing.T) {
	t.Parallel()
	o, _ := newFixed(t, "{hosts: [gateway.internal]}")
	h := New(o)
	for host, want := range map[string]int{
		"127.0.0.1:9901": 200, "127.0.0.1": 200, "10.1.2.3:9901": 200, "[::1]:9901": 200,
		"[::1]": 200, "localhost:9901": 200,
		"LocalHost": 200, "gateway.internal": 200, "Gateway.Internal.:9901": 200, "": 200,
		"evil.test": 421, "evil.test:9901": 421, "127.0.0.1.evil.test": 421, "localhost.evil.test": 421,
		"gateway.internal.evil.test": 421, "xgateway.internal": 421, "[evil.test]": 421,
		"0x7f000001": 421, "2130706433": 421,
	} {
		for _, request := range []string{"GET /healthz", "GET /metrics", "GET /api/status"} {
			method, target, _ := strings.Cut(request, " ")
			if r := ask(h, method, target, "Host", host); r.StatusCode != want {
				t.Errorf("%s for %q: %s, want %d", request, host, r.Status, want)
			}
		}
		forget := ask(h, "POST", "/api/idempotency/forget", "Host", host)
		if rebound := forget.StatusCode == 421; rebound != (want == 421) {
			t.Errorf("forget for %q: %s", host, forget.Status)
		}
	}
}

// TestPagesOfOtherSites: a browser says for whose page it asks.
func TestPagesOfOtherSites(t *testing.T) {
	t.Parallel()
	o, _ := newFixed(t, "{pprof: true}")
	h := New(o)
	for _, c := range []struct {
		request string
		headers []string
		want    int
	}{
		{"GET /api/status", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"GET /api/status", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, 403},
		{"GET /debug/pprof/", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"GET /api/status", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
		{"GET /api/status", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"GET /api/status", []string{"Sec-Fetch-Site", "none"}, 200},
		{"POST /api/idempotency/forget", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 403},
		{"POST /api/idempotency/forget", []string{"Origin", "http://evil.test"}, 403},
		{"POST /api/idempotency/forget", []string{"Origin", "null"}, 403},
		{"POST /api/idempotency/forget", []string{"Content-Type", "text/plain", "Referer", "http://evil.test/"}, 415},
		{"POST /api/idempotency/forget", []string{"Content-Type", "application/x-www-form-urlencoded", "Origin",
			"http://127.0.0.1"}, 415},
		{"POST /api/idempotency/forget", []string{"Content-Type", "text/plain", "Sec-Fetch-Site", "none"}, 415},
		// As curl -d sends what it is given.
		{"POST /api/idempotency/forget", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400},
		{"POST /api/idempotency/forget", []string{"Content-Type", "application/json; charset=utf-8"}, 400},
		{"POST /api/idempotency/forget", nil, 400},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		if r := ask(h, method, target, c.headers...); r.StatusCode != c.want {
			t.Errorf("%s with %q: %s, want %d", c.request, c.headers, r.Status, c.want)
		}
	}
}

// TestProbesAreAllThatTheyServe: the address for balancers has health and metrics, for anybody.
func TestProbesAreAllThatTheyServe(t *testing.T) {
	t.Parallel()
	o, _ := newFixed(t, "{token: "+secretToken+", pprof: true}")
	h := NewProbes(o)
	for target, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200, "/api/status": 404, "/api/config": 404, "/debug/pprof/": 404,
		"/": 404, "/api/idempotency": 404,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := ask(h, method, target, "Host", "gateway.prod.svc", "Authorization", "Bearer "+secretToken)
			if r.StatusCode != want {
				t.Errorf("%s %s: %s, want %d", method, target, r.Status, want)
			}
		}
		if r := ask(h, "POST", target); r.StatusCode == 200 {
			t.Errorf("POST %s: %s", target, r.Status)
		}
	}
}
