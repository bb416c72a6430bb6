package idempotency_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// The simulator runs the real filter, its calls, renewals and background steps, on the real core,
// in gateways that share a simulated store and a simulated service, on a fake clock
// ([testing/synctest]). Everything that can go wrong is drawn from the seed: delays, lost requests
// and acknowledgements, crashes, pauses, fail-overs that lose steps, a store's clock that drifts
// and jumps, services that hang or break off, clients that leave and come again. The same seed
// gives the same history: each delay is drawn by the name of what is delayed and how often it was
// before, never by which comes first, and is long enough in nanoseconds that no two ends meet.
//
// What must hold is kept in books of the simulator's own (sim_book_test.go), and judged where the
// effects are: at the service and at the clients.
var (
	simSeeds = flag.Int("sim.seeds", simShort, "how many seeds the simulator runs")
	simFrom  = flag.Uint64("sim.from", 1, "the first seed")
	simSeed  = flag.Uint64("sim.seed", 0, "the one seed to run, with a trace under -v")
)

// simShort is how many seeds every run of the tests takes.
const simShort = 600

// simCovered are the things that the short run must have seen, each in one seed at least; otherwise
// it proves nothing about them.
var simCovered = []string{
	"responses", "replays", "joins", "in progress", "outcome unknown", "mismatches", "too many open", "not replayable",
	"store unavailable",
	"claims not taken", "claims taken and not acknowledged", "ends not taken", "ends taken and not acknowledged",
	"calls that arrive after their time-out",
	"late owners fenced", "late owners settle after a take-over that was not executed",
	"late owners settle after a take-over of unknown outcome",
	"late owners given the recorded response", "late owners without a response, of an answered record",
	"late responses of a lapsed lease", "take-overs after a lapse",
	"renewals",
	"renewals past the cap",
	"frees", "frees of a later attempt", "retries", "probes: done", "probes: not done", "probes: undecided",
	"refused by the service after a probe",
	"store crashes", "fail-overs with loss", "gateway crashes", "gateway pauses", "clock jumps", "restarts that settle",
	"clients gone", "expired records",
	"executions after the time-out", "opened without protection", "settled by an operator",
	"repetitions by the gateway",
	"claims that ran out before anything was sent",
}

func TestSim(t *testing.T) {
	if *simSeed != 0 {
		w := simulate(t, *simSeed, true)
		t.Logf("history of seed %d:\n%s", *simSeed, w.history())
		return
	}
	seen := runSeeds(t, *simFrom, *simSeeds)
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%6d seeds saw: %s", seen[what], what)
	}
	if *simSeeds < simShort || t.Failed() {
		return
	}
	for _, what := range simCovered {
		if seen[what] == 0 {
			t.Errorf("no seed saw: %s", what)
		}
	}
}

// simFailedMax is how many failing seeds of a worker are enough.
const simFailedMax = 5

// runSeeds runs the seeds on all processors and returns how many of them saw what.
func runSeeds(t *testing.T, from uint64, n int) map[string]int {
	var mu sync.Mutex
	seen := map[string]int{}
	workers := runtime.GOMAXPROCS(0)
	t.Run("seeds", func(t *testing.T) {
		for worker := range workers {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				failed := 0
				for i := worker; i < n && failed < simFailedMax; i += workers {
					w := simulate(t, from+uint64(i), false)
					if len(w.failures) > 0 {
						failed++
					}
					mu.Lock()
					for what := range w.seen {
						seen[what]++
					}
					mu.Unlock()
				}
			})
		}
	})
	return seen
}

// simulate runs one seed and reports what did not hold.
func simulate(t *testing.T, seed uint64, tracing bool) *simWorld {
	t.Helper()
	w := newSimWorld(seed)
	w.tracing = tracing
	defer func() {
		// a goroutine that never ends is a panic of synctest, which does not know the seed
		if v := recover(); v != nil {
			fmt.Fprintf(os.Stderr, "seed %d: %s\n%s\n", seed, strings.Join(w.failures, "\n"), simReplay(seed))
			panic(v)
		}
	}()
	synctest.Test(t, func(*testing.T) { w.run() })
	if len(w.failures) > 0 {
		t.Errorf("seed %d (%s):\n%s\n%s", seed, w.plan, strings.Join(w.failures, "\n"), simReplay(seed))
	}
	return w
}

func simReplay(seed uint64) string {
	return fmt.Sprintf("replay: go test ./filters/idempotency -run '^TestSim$' -v -sim.seed=%d", seed)
}

// TestSimRepeats: a seed is a history, to the nanosecond.
func TestSimRepeats(t *testing.T) {
	for seed := uint64(1); seed <= 12; seed++ {
		one, two := simulate(t, seed, true), simulate(t, seed, true)
		a, b := strings.Split(one.history(), "\n"), strings.Split(two.history(), "\n")
		if len(a) < 100 {
			t.Errorf("seed %d: %d events only", seed, len(a))
		}
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("seed %d: event %d of the first run is\n%s\nand of the second\n%s", seed, i, a[i], b[i])
			}
		}
		if len(a) != len(b) {
			t.Errorf("seed %d: %d events and %d", seed, len(a), len(b))
		}
	}
}
