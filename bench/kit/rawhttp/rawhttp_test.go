package rawhttp_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/rawhttp"
)

func TestMain(m *testing.M) { harness.Main(m) }

const (
	runners = 8
	// strictMin is how many of the owner's cases are to be handled in the strictest way.
	strictMin = 165
)

func TestCases(t *testing.T) {
	cases := load(t, "cases.json")
	if strict := check(t, cases, run(t, cases)); strict < strictMin {
		t.Errorf("%d of %d cases are handled strictly, want %d", strict, len(cases), strictMin)
	}
}

func TestMoreCases(t *testing.T) {
	cases := load(t, "cases-more.json")
	if strict := check(t, cases, run(t, cases)); strict < len(cases) {
		t.Errorf("%d of %d cases are handled strictly, want all", strict, len(cases))
	}
}

func load(t *testing.T, path string) []rawhttp.Case {
	t.Helper()
	cases, err := rawhttp.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// check shows each result as a subtest and returns how many are strict.
func check(t *testing.T, cases []rawhttp.Case, results []rawhttp.Result) (strict int) {
	t.Helper()
	for i, c := range cases {
		r := results[i]
		if r.Strict {
			strict++
		}
		t.Run(c.Name, func(t *testing.T) {
			if !r.Passed() {
				t.Errorf("%s: %s; responses %d, the service got %q (%s)", r.Verdict, r.Detail, r.Statuses, r.Requests,
					c.Ref)
			} else if !r.Strict {
				t.Logf("not strict: %s (%s)", r.Detail, c.Ref)
			}
		})
	}
	return strict
}

// run fires all cases on several gateways at once; most of a case's time is waiting for what must
// not come. Where something did not come in time, the case is fired again alone: the machine may
// have been busy.
func run(t *testing.T, cases []rawhttp.Case) []rawhttp.Result {
	t.Helper()
	results := make([]rawhttp.Result, len(cases))
	fire := func(runner *rawhttp.Runner, i int) {
		r, err := runner.Run(&cases[i])
		if results[i] = r; err != nil {
			t.Error(err)
		}
	}
	next := make(chan int)
	var all []*rawhttp.Runner
	var wg sync.WaitGroup
	for range runners {
		runner := startRunner(t)
		all = append(all, runner)
		wg.Go(func() {
			for i := range next {
				fire(runner, i)
			}
		})
	}
	for i := range cases {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, r := range results {
		if r.TimedOut && !r.Passed() {
			fire(all[0], i)
		}
	}
	return results
}

// startRunner runs a gateway and the service behind it. Its time for a header is beyond the time
// after which a case counts as hanging, so that a hanging gateway is not saved by it.
func startRunner(t *testing.T) *rawhttp.Runner {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := harness.StartGateway(t, fmt.Sprintf(`version: 1
listen: {http: "@http@", headerTimeout: 60s, idleTimeout: 60s}
admin: {address: "@admin@"}
store: {memory: {}}
services:
  up: {endpoints: ["http://%s"], timeout: 2s}
routes:
  - {name: denied, match: {path: /deny/**}, respond: {status: 403}}
  - {name: all, match: {path: /**}, service: up}
`, l.Addr()))
	return rawhttp.NewRunner(strings.TrimPrefix(g.URL, "http://"), l)
}
