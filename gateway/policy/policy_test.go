package policy

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

const everything = `
version: 1
store: {memory: {}}
coordinator: {dtm: {endpoints: ["http://127.0.0.1:1"], branches: "127.0.0.1:0"}}
limits:
  l: {scope: local, rate: 10/s}
services:
  a: {endpoints: ["http://127.0.0.1:1"], breaker: {errors: 50%}}
  b: {endpoints: ["http://127.0.0.1:1"]}
transactions:
  t: {mode: saga, steps: [{name: s, do: {service: a, method: POST, path: /s}}]}
routes:
  - {name: all, match: {path: /all}, service: a, limits: [l], idempotency: {required: true}}
  - {name: bare, match: {path: /bare}, service: b}
  - {name: tx, match: {path: /tx, methods: [POST]}, transaction: t, limits: [l], idempotency: {required: true}, status: "/tx/{id}"}
  - {name: static, match: {path: /static}, respond: {status: 200}}
  - {name: limited, match: {path: /limited}, respond: {status: 200}, limits: [l]}
`

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("sluice.yaml", []byte(text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func testEnv(t *testing.T) *Env {
	t.Helper()
	calls := idempotency.NewCalls()
	t.Cleanup(calls.Close)
	codec, err := idempotency.NewResponseCodec()
	if err != nil {
		t.Fatal(err)
	}
	return &Env{Stores: Stores{Records: idempotencymemory.New(time.Now), Codec: codec, Calls: calls,
		LiveGateways: func() int { return 1 }}}
}

func ignorePanics(*filters.Exchange, string, any, []byte) {}

// TestChainsWalkTheList: what a chain consists of, what Names says and what explain visits is the
// same list in the same order.
func TestChainsWalkTheList(t *testing.T) {
	cfg := parse(t, everything)
	s := New(testEnv(t))
	b := s.Begin(cfg, Material{})
	scopes := map[string]Scope{"status": StatusScopeOf(cfg.Routes[2]), "branch a": BranchScopeOf(cfg, "a"),
		"branch b": BranchScopeOf(cfg, "b")}
	for _, r := range cfg.Routes {
		scopes[r.Name] = ScopeOf(cfg, r)
	}
	want := map[string][]string{
		"all":      {"identity", "ratelimit", "idempotency", "breaker"},
		"bare":     {"identity"},
		"tx":       {"identity", "ratelimit", "idempotency"},
		"static":   {},
		"limited":  {"identity", "ratelimit"},
		"status":   {"identity"},
		"branch a": {"breaker"},
		"branch b": {},
	}
	for name, scope := range scopes {
		chain, err := b.Chain(scope, ignorePanics)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := chain.Names(); !slices.Equal(got, want[name]) {
			t.Errorf("%s: the chain is %v, want %v", name, got, want[name])
		}
		if got := s.Names(scope); !slices.Equal(got, want[name]) {
			t.Errorf("%s: Names says %v, want %v", name, got, want[name])
		}
	}
	b.Commit()
}

// TestReloadKeepsState: limiters and breakers go on where their keys are the same.
func TestReloadKeepsState(t *testing.T) {
	cfg := parse(t, everything)
	s := New(testEnv(t))
	build := func(cfg *config.Config) (chain *filters.Chain) {
		b := s.Begin(cfg, Material{})
		for _, r := range cfg.Routes {
			c, err := b.Chain(ScopeOf(cfg, r), ignorePanics)
			if err != nil {
				t.Fatal(err)
			}
			if r.Name == "limited" {
				chain = c
			}
		}
		b.Commit()
		return chain
	}
	spend := func(c *filters.Chain) bool {
		x := new(filters.Exchange)
		x.Begin(t.Context(), nil)
		x.Received = time.Unix(1_700_000_000, 0) // no token comes back
		reply, _ := c.Request(x)
		c.Done(x, filters.Refused)
		return reply == nil
	}
	first := build(cfg)
	for range 6 {
		spend(first)
	}
	second := build(parse(t, everything))
	passed := 0
	for range 10 {
		if spend(second) {
			passed++
		}
	}
	if passed != 4 {
		t.Errorf("%d of 10 passed after the reload, want the 4 that the burst of 10 had left", passed)
	}
	if got := s.Status(); len(got) != 1 || got[0].Member != "breakers" {
		t.Errorf("status %+v, want the breakers alone", got)
	}
	if got := s.Status()[0].Value.(Breakers)["a"]; got.State != "closed" {
		t.Errorf("breaker a is %+v", got)
	}
}

// TestExplainerReportsWriting: the first error of writing is kept.
func TestExplainerReportsWriting(t *testing.T) {
	s := New(&Env{})
	r, w := io.Pipe()
	r.Close()
	e := NewExplainer(w, s.Begin(&config.Config{}, Material{}), new(filters.Exchange))
	e.Line("a", "b")
	e.Line("a", "b")
	if e.Err() != io.ErrClosedPipe {
		t.Errorf("error %v", e.Err())
	}
}

// TestEventsByName: each event of the keys is counted under its own name, and what a request can be only one of lies in
// one metric.
func TestEventsByName(t *testing.T) {
	env := testEnv(t)
	env.Metrics = NewMetrics()
	p := newIdempotency(env).(*idempotencyPolicy)
	m := p.metrics("orders")
	events := map[string]filters.Counter{
		"claims_total": m.Claims, "claims_lost_total": m.Lost, "replays_total": m.Replays, "joins_total": m.Joins,
		"store_failures_total":            m.Failures,
		`claim_ends_total end="answered"`: m.Answered, `claim_ends_total end="free"`: m.Freed,
		`claim_ends_total end="unknown"`:          m.Unknown,
		`refusals_total why="in-progress"`:        m.Conflicts,
		`refusals_total why="reused"`:             m.Mismatches,
		`refusals_total why="too-many-open-keys"`: m.TooMany,
		`refusals_total why="untrusted-record"`:   m.Untrusted,
		`probes_total result="settled"`:           m.Settled,
		`probes_total result="undecided"`:         m.Undecided,
	}
	want := map[string]float64{}
	for event, counter := range events {
		want[event] = float64(len(want) + 1)
		for range len(want) {
			counter.Inc()
		}
	}
	if got := routeSeries(t, env.Metrics, "orders"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p.metrics("orders").Claims.Inc() // as a reload does: the same counter
	if got := routeSeries(t, env.Metrics, "orders")["claims_total"]; got != want["claims_total"]+1 {
		t.Error("a reload begins a new count")
	}
}

// routeSeries returns the values of the metrics of keys of a route, by their names and other labels.
func routeSeries(t *testing.T, m *Metrics, route string) map[string]float64 {
	t.Helper()
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]float64{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			name, of := strings.TrimPrefix(f.GetName(), "sluice_idempotency_"), ""
			for _, l := range s.GetLabel() {
				if l.GetName() == "route" {
					of = l.GetValue()
					continue
				}
				name += fmt.Sprintf(" %s=%q", l.GetName(), l.GetValue())
			}
			if of == route {
				series[name] = s.GetCounter().GetValue()
			}
		}
	}
	return series
}

// TestPoliciesOfServicesAreLast: the end of a chain is what its service has of its own.
func TestPoliciesOfServicesAreLast(t *testing.T) {
	t.Parallel()
	own := ""
	for _, p := range New(&Env{}).list {
		switch {
		case ownOfService(p):
			own += p.Name() + " "
		case own != "":
			t.Errorf("%s stands behind %s", p.Name(), own)
		}
	}
	if own != "service-limits overload breaker " {
		t.Errorf("the services' own are %s", own)
	}
}
