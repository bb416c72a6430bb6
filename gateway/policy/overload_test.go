package policy

import (
	"slices"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/overload"
)

func overloaded(t *testing.T, section string) *config.Config {
	t.Helper()
	return parse(t, `version: 1
store: {memory: {}}
limits: {l: {rate: 100/s}}
services: {s: {endpoints: ["http://127.0.0.1:1"], breaker: {}, limits: [l]`+section+`}}
routes: [{name: r, match: {path: /r}, service: s, priority: low}]
`)
}

// TestOverloadReload: the limiter of a service outlives a reload with whoever is in flight, takes other settings
// over when a build is committed and not before, and goes with its section.
func TestOverloadReload(t *testing.T) {
	s := New(testEnv(t))
	defer s.Close()
	build := func(cfg *config.Config) (*Build, *filters.Chain) {
		b := s.Begin(cfg, Material{})
		chain, err := b.Chain(ScopeOf(cfg, cfg.Routes[0]), ignorePanics)
		if err != nil {
			t.Fatal(err)
		}
		return b, chain
	}
	stands := func(when string, limit, inFlight int) {
		t.Helper()
		got := s.Status()[0].Value.(Overloads)["s"]
		if got.Limit != limit || got.InFlight != inFlight {
			t.Errorf("%s: limit %d with %d in flight, want %d and %d", when, got.Limit, got.InFlight, limit, inFlight)
		}
	}
	cfg := overloaded(t, ", overload: {concurrency: 7}")
	b, chain := build(cfg)
	b.Commit()
	if got := chain.Names(); !slices.Equal(got, []string{"identity", "service-limits", "overload", "breaker"}) {
		t.Errorf("the chain of the route: %v", got)
	}
	if got := s.Names(BranchScopeOf(cfg, "s")); !slices.Equal(got, []string{"service-limits", "overload", "breaker"}) {
		t.Errorf("the chain of the gateway's own calls: %v", got)
	}
	x := new(filters.Exchange)
	x.Begin(t.Context(), nil)
	if r, _ := chain.Request(x); r != nil {
		t.Fatalf("refused: %s", r.Body)
	}
	stands("at first", 7, 1)
	next, _ := build(overloaded(t, ", overload: {concurrency: 9}"))
	stands("while another one is built", 7, 1)
	next.Abort()
	stands("when that is dropped", 7, 1)
	next, _ = build(overloaded(t, ", overload: {concurrency: 9}"))
	next.Commit()
	stands("after the reload", 9, 1)
	chain.Done(x, filters.Refused)
	stands("at its end", 9, 0)
	next, _ = build(overloaded(t, ""))
	next.Commit()
	if got := s.Status(); got[0].Member == "overload" {
		t.Errorf("without the section: %+v", got[0])
	}
}

// overloads returns the limiters in force.
func (s *Set) overloads() map[string]*overload.Service {
	for _, p := range s.list {
		if p, ok := p.(*overloadPolicy); ok {
			return p.services.All()
		}
	}
	return nil
}

var lowRequest = overload.Request{Class: overload.Low}
