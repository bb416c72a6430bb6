package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// shown is what the status says of breakers and endpoints.
type shown struct {
	Breakers map[string]policy.BreakerStatus
	Services []struct {
		Name      string
		Endpoints []struct {
			Address, State string
			EjectedFor     string `json:"ejected_for"`
		}
	}
}

func (g *running) shown() (s shown) {
	g.t.Helper()
	r := fetch(g.t, "http://"+g.at.Admin+"/api/status", "GET", "")
	if err := json.Unmarshal([]byte(r.body), &s); err != nil {
		g.t.Fatalf("%v in %s", err, r.body)
	}
	return s
}

// force has the breaker of a service in a state.
func (g *running) force(service, body string) got {
	g.t.Helper()
	return fetch(g.t, "http://"+g.at.Admin+"/api/breakers/"+service, "POST", body)
}

const (
	stateOfA  = `sluice_breaker_state{service="a"}`
	forcedOfA = `sluice_breaker_forced{service="a"}`
)

// An operator's word goes before what the breaker counts, across reloads, until it is taken back.
func TestOperatorForcesBreaker(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if fails.Load() {
			w.WriteHeader(500)
		}
	})
	services := func(breaker string) string {
		return head + `
services:
  a: {endpoints: ["` + s.URL + `"]` + breaker + `}
  b: {endpoints: ["` + s.URL + `"]}` + allToA
	}
	const breaker = ", breaker: {minRequests: 2, openFor: 1h, probes: 1, ramp: 1ms}"
	g := start(t, services(breaker))
	expect := func(what string, status int, reason string, state, forced float64) {
		t.Helper()
		if r := g.do("GET", "/", ""); r.status != status || r.reason() != reason {
			t.Errorf("%s: got %d %s, want %d %s", what, r.status, r.reason(), status, reason)
		}
		if got := [2]float64{g.metric(stateOfA), g.metric(forcedOfA)}; got != [2]float64{state, forced} {
			t.Errorf("%s: state and forced are %v, want %v and %v", what, got, state, forced)
		}
	}
	expect("at first", 200, "", 0, 0)
	r := g.force("a", `{"state": "open"}`)
	if r.status != 200 || !strings.Contains(r.body, `"service": "a"`) || !strings.Contains(r.body, `"forced": true`) {
		t.Errorf("got %+v", r)
	}
	expect("forced open", 503, "breaker-open", 2, 1)
	if b := g.shown().Breakers["a"]; b.State != "open" || !b.Forced {
		t.Errorf("the status has %+v", b)
	}
	list := fetch(t, "http://"+g.at.Admin+"/api/breakers", "GET", "")
	if list.status != 200 || strings.Count(list.body, `"service"`) != 1 ||
		!strings.Contains(list.body, `"forced": true`) {
		t.Errorf("the list is %+v", list)
	}
	g.reloaded(services(breaker + ", timeout: 3s"))
	expect("forced open, behind a reload", 503, "breaker-open", 2, 1)
	g.force("a", `{"state": "closed"}`)
	fails.Store(true)
	for range 10 {
		expect("forced closed", 500, "", 0, 1)
	}
	g.force("a", `{"state": "auto"}`)
	expect("left to itself, once", 500, "", 0, 0)
	expect("twice", 500, "", 2, 0)
	expect("open by itself", 503, "breaker-open", 2, 0)
	g.force("a", `{"state": "open"}`)
	g.force("a", `{"state": "auto"}`)
	fails.Store(false)
	expect("a probe behind a forced open state", 200, "", 0, 0)
	if n := strings.Count(g.logs.String(), "an operator has decided on a breaker"); n != 5 {
		t.Errorf("%d decisions are logged", n)
	}
	g.force("a", `{"state": "open"}`)
	g.reloaded(services(""))
	expect("without a breaker", 200, "", -1, -1)
	if !strings.Contains(g.logs.String(), "a breaker that an operator had forced has left the configuration") {
		t.Error("nothing tells of the breaker that was forced and is gone")
	}
}

func TestForcingWhatCannotBeForced(t *testing.T) {
	t.Parallel()
	g := start(t, head+`
services: {a: {endpoints: ["http://127.0.0.1:1"], breaker: {}}, "b": {endpoints: ["http://127.0.0.1:1"]}}`+allToA)
	for _, c := range []struct {
		service, body string
		status        int
		says          string
	}{
		{"nobody", `{"state": "open"}`, 404, "no service of this name"},
		{"b", `{"state": "open"}`, 409, "services.b.breaker"},
		{"a", `{"state": "ajar"}`, 400, "auto"},
		{"a", `{}`, 400, "auto"},
		{"a", `open`, 400, "auto"},
		{"a", `{"state": "open", "x": "` + strings.Repeat("x", 8<<10) + `"}`, 400, "auto"},
	} {
		if r := g.force(c.service, c.body); r.status != c.status || !strings.Contains(r.body, c.says) {
			t.Errorf("%s %.40s: got %d %s", c.service, c.body, r.status, r.body)
		}
	}
	if n := g.metric(forcedOfA); n != 0 {
		t.Errorf("forced is %v", n)
	}
}

// A call of gRPC fails by its status, in the head or behind the body, where that says that the
// service failed.
func TestBreakerReadsTheStatusOfGRPC(t *testing.T) {
	t.Parallel()
	s := newHTTP2Service(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		where, code, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch where {
		case "head":
			w.Header().Set("Grpc-Status", code)
		default:
			w.Write(framed("message"))
			http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", code)
		}
	}))
	for _, c := range []struct {
		path string
		want float64
	}{
		{"/head/14", 2}, {"/behind/14", 2}, {"/head/13", 2}, {"/behind/2", 2}, {"/behind/15", 2}, {"/head/4", 2},
		{"/head/5", 0}, {"/behind/3", 0}, {"/behind/0", 0}, {"/head/1", 0},
	} {
		for _, idempotency := range []string{"", ", idempotency: {}"} { // in which the response is read whole
			g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"], breaker: {minRequests: 3, openFor: 1h}}}
routes: [{name: all, match: {path: /**}, service: a`+idempotency+`}]
`)
			client := http2Client(t)
			for range 3 {
				grpcCall(t, client, "http://"+g.at.HTTP+c.path, "")
			}
			until(t, func() bool { return g.metric(`sluice_requests_total{code="200",reason="",route="all"}`) == 3 })
			if n := g.metric(stateOfA); n != c.want {
				t.Errorf("%s%s: the state is %v behind three, want %v", c.path, idempotency, n, c.want)
			}
		}
	}
}

func TestExplainShowsBreakerAndOutlier(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("sluice.yaml", []byte(head+`
services: {a: {endpoints: ["http://a.test", "http://b.test"], outlier: {errors: 7, max: 25%},
  breaker: {slow: {over: 2s}, openFor: 3s, openMax: 12s, ramp: 4s}}}`+allToA), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := Explain(&out, cfg, ExplainRequest{Method: "GET", Path: "/"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"50% errors or 80% slower than 2s", "for 3s, 3 probes", "up to 12s when it opens again and again",
		"calls come back over 4s",
		"an endpoint that fails 7 times in a row is passed over for 30s, at most 25% of them",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

// An endpoint that fails again and again gets no more requests for a while, though its health check
// passes; which one, and for how long, can be seen.
func TestFailingEndpointIsEjected(t *testing.T) {
	t.Parallel()
	sound := newPatient(t)
	failing := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(503)
		}
	})
	services := func(outlier string) string {
		return head + `
services: {a: {endpoints: ["` + failing.URL + `", "` + sound.URL + `"], health: {path: /healthz, every: 100ms}` +
			outlier + `}}` + allToA
	}
	g := start(t, services(", outlier: {errors: 3, eject: 1h}"))
	address := strings.TrimPrefix(failing.URL, "http://")
	ejected := `sluice_upstream_ejected{endpoint="` + address + `",service="a"}`
	if n := g.metric(ejected); n != 0 {
		t.Errorf("at first ejected is %v", n)
	}
	until(t, func() bool { g.do("GET", "/", ""); return g.metric(ejected) == 1 })
	for range 30 {
		if r := g.do("GET", "/", ""); r.status != 200 {
			t.Fatalf("got %+v", r)
		}
	}
	for _, e := range g.shown().Services[0].Endpoints {
		if (e.State == "ejected") != (e.Address == address) || (e.EjectedFor != "") != (e.Address == address) {
			t.Errorf("the status has %+v", e)
		}
	}
	if n := g.metric(`sluice_upstream_ejections_total{service="a"}`); n != 1 {
		t.Errorf("%v ejections are counted", n)
	}
	g.reloaded(services(""))
	if n := g.metric(ejected); n != -1 {
		t.Errorf("without outlier ejected is %v", n)
	}
	until(t, func() bool { return g.do("GET", "/", "").status == 503 })
	for _, m := range []string{
		"an endpoint fails in a row and is ejected", "an endpoint that was ejected is used again",
	} {
		if !strings.Contains(g.logs.String(), m) {
			t.Errorf("%q is not logged", m)
		}
	}
}
