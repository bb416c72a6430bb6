package gateway

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// checkedService is a service with a health check that can be made to fail or hang, and counts what else
// it gets.
type checkedService struct {
	*service
	checks, other, requests atomic.Int64 // checks of /healthz and of /other
	sick, hangs             atomic.Bool
}

func newPatient(t *testing.T) *checkedService {
	p := &checkedService{}
	p.service = newService(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			p.checks.Add(1)
			if p.hangs.Load() {
				<-r.Context().Done()
			}
			if p.sick.Load() {
				w.WriteHeader(500)
			}
		case "/other":
			p.other.Add(1)
		default:
			p.requests.Add(1)
		}
	})
	return p
}

// healthy returns what the metric says of the endpoint.
func (p *checkedService) healthy(g *running) float64 {
	address := strings.TrimPrefix(p.URL, "http://")
	return g.metric(`sluice_upstream_healthy{endpoint="` + address + `",service="a"}`)
}

func TestHealthChecks(t *testing.T) {
	t.Parallel()
	one, two := newPatient(t), newPatient(t)
	g := start(t, head+`
services: {a: {endpoints: ["`+one.URL+`", "`+two.URL+`"], health: {path: /healthz, every: 100ms, timeout: 100ms}}}`+allToA)
	until(t, func() bool { return one.healthy(g) == 1 && two.healthy(g) == 1 })

	requests := func() {
		t.Helper()
		for range 20 {
			if r := g.do("GET", "/", ""); r.status != 200 {
				t.Fatalf("got %+v", r)
			}
		}
	}
	one.sick.Store(true)
	until(t, func() bool { return one.healthy(g) == 0 })
	if !strings.Contains(g.logs.String(), "fails its health check") {
		t.Error("nothing was logged")
	}
	before := one.requests.Load()
	requests()
	if n := one.requests.Load() - before; n != 0 {
		t.Errorf("%d requests went to an endpoint that is left out", n)
	}
	two.hangs.Store(true)
	until(t, func() bool { return two.healthy(g) == 0 })
	requests() // all are down, so all are used
	if one.requests.Load() == before {
		t.Error("with all down one of them is still left out")
	}
	one.sick.Store(false)
	two.hangs.Store(false)
	until(t, func() bool { return one.healthy(g) == 1 && two.healthy(g) == 1 })
	before = one.requests.Load()
	until(t, func() bool { requests(); return one.requests.Load() > before })
}

// One failed check is a lost packet. The time of a check is one that a busy machine keeps: two late ones are an end.
func TestOneFailedCheckLeavesNothingOut(t *testing.T) {
	t.Parallel()
	var checks atomic.Int64
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if checks.Add(1)%2 == 0 {
			w.WriteHeader(500)
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], health: {path: /healthz, every: 2s, timeout: 2s}}}`+allToA)
	until(t, func() bool { return checks.Load() >= 5 })
	if strings.Contains(g.logs.String(), "fails its health check") {
		t.Error("an endpoint was left out after one failed check")
	}
}

func TestHealthChecksFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	one, stays := newPatient(t), newPatient(t)
	services := func(of string) string {
		return head + `
services:
  ` + of + `
  stays: {endpoints: ["` + stays.URL + `"], health: {path: /healthz, every: 100ms}}
routes: [{name: all, match: {path: /**}, service: stays}]
`
	}
	g := start(t, services(`a: {endpoints: ["`+one.URL+`"], health: {path: /healthz, every: 100ms}}`))
	until(t, func() bool { return one.checks.Load() > 0 })
	// still reports that a counter stands still while another service, which stays, is checked five
	// times. One check may have been under way.
	still := func(n *atomic.Int64) bool {
		from, before := stays.checks.Load(), n.Load()
		until(t, func() bool { return stays.checks.Load() >= from+5 })
		return n.Load() <= before+1
	}
	g.reloaded(services(`a: {endpoints: ["` + one.URL + `"], health: {path: /other, every: 100ms}}`))
	if !still(&one.checks) || one.other.Load() == 0 {
		t.Errorf("with another path: %d checks of the old one, %d of the new one", one.checks.Load(), one.other.Load())
	}
	g.reloaded(services(`a: {endpoints: ["` + one.URL + `"]}`))
	if !still(&one.other) {
		t.Error("a service whose configuration has no health check is checked")
	}
	g.reloaded(services(`b: {endpoints: ["` + one.URL + `"], health: {path: /healthz, every: 100ms}}`))
	g.reloaded(services(""))
	if !still(&one.checks) || !still(&one.other) {
		t.Error("a service that has left the configuration is checked")
	}
}

// A check that nobody answers counts as failed after its own time, and one that is not even taken
// too.
func TestHealthOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	dead := nobodyAt(t)
	s := newPatient(t)
	g := start(t, head+`
services: {a: {endpoints: ["http://`+dead+`", "`+s.URL+`"], health: {path: /healthz, every: 100ms}}}`+allToA)
	until(t, func() bool {
		return g.metric(`sluice_upstream_healthy{endpoint="`+dead+`",service="a"}`) == 0
	})
	for range 20 {
		if r := g.do("POST", "/", "{}"); r.status != 200 {
			t.Fatalf("got %+v", r)
		}
	}
}
