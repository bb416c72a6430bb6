package simulation

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

var (
	simSeeds  = flag.Int("sim.seeds", seedsShort, "how many seeds the simulator runs")
	simFrom   = flag.Uint64("sim.from", 1, "the first seed")
	simFailed = flag.Int("sim.failed", 3, "how many failing seeds of a worker are enough")
	simMode   = flag.String("sim.mode", "", "the mode of all seeds: saga, tcc, xa, message or primary; empty: drawn")
	simSeed   = flag.Uint64("sim.seed", 0, "the one seed to run, with its whole trace under -v")
)

// seedsShort is how many seeds every run of the tests takes.
const seedsShort = 260

// covered are the things that the short run must have seen, each in one seed at least; otherwise it proves nothing
// about them.
var covered = []string{
	"branch calls told to come again", "cancelled by an operator", "cancels without a try", "confirm calls",
	"coordinator crashes", "coordinators that lose everything", "effective cancels", "effective rollbacks",
	"effective undos",
	"ends recorded: failed", "ends recorded: succeeded", "gateway crashes", "joins", "keys forgotten by force",
	"notifications tried again", "notified failed", "notified succeeded",
	"queries without a primary", "query calls", "replays", "responses 200 ", "responses 202 ",
	"responses 409 request-in-progress", "responses 409 transaction-failed",
	"responses 503 coordinator-unavailable", "responses 503 store-unavailable", "second attempts", "services down",
	"signed calls played back", "stores away", "submits", "submits not acknowledged", "told failed", "told succeeded",
	"undos without a do",
}

func TestSim(t *testing.T) {
	if *simSeed != 0 {
		w := simulate(t, *simSeed, *simMode, true)
		t.Logf("seed %d: %s\n%s", *simSeed, w.plan, w.history(0))
		return
	}
	seen := runSeeds(t, *simFrom, *simSeeds)
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%6d seeds saw: %s", seen[what], what)
	}
	for _, what := range covered {
		if seen[what] == 0 && *simSeeds >= seedsShort && *simMode == "" && !t.Failed() {
			t.Errorf("no seed saw: %s", what)
		}
	}
}

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
				for i := worker; i < n && failed < *simFailed; i += workers {
					w := simulate(t, from+uint64(i), *simMode, false)
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

// simulate runs one seed and reports what did not hold, with the end of its trace.
func simulate(t *testing.T, seed uint64, mode string, tracing bool) *world {
	t.Helper()
	w := runSeed(t, seed, mode, tracing)
	if len(w.failures) > 0 {
		again := w
		if !tracing {
			again = runSeed(t, seed, mode, true)
		}
		t.Errorf("seed %d (%s):\n%s\n%s\n%s", seed, w.plan, strings.Join(w.failures, "\n"), again.history(40),
			replay(seed, mode))
	}
	return w
}

func runSeed(t *testing.T, seed uint64, mode string, tracing bool) *world {
	w := newWorld(seed, mode)
	w.tracing = tracing
	defer func() {
		// a goroutine that never ends is a panic of synctest, which does not know the seed
		if v := recover(); v != nil {
			fmt.Fprintf(os.Stderr, "seed %d: %s\n%s\n", seed, strings.Join(w.failures, "\n"), replay(seed, mode))
			panic(v)
		}
	}()
	synctest.Test(t, func(*testing.T) { w.run() })
	return w
}

func replay(seed uint64, mode string) string {
	text := fmt.Sprintf("replay: go test ./gateway/transaction/simulation -run '^TestSim$' -v -sim.seed=%d", seed)
	if mode != "" {
		text += " -sim.mode=" + mode
	}
	return text
}

// TestKept: the seeds that found something once.
func TestKept(t *testing.T) {
	for _, kept := range []struct {
		seed uint64
		mode string
	}{
		{407, modeMessage}, // it comes to the coordinator when it has been called failed, and is called for ever
		{1242, modeTCC},    // the coordinator lost it; submitted then, it succeeds without a confirm
	} {
		simulate(t, kept.seed, kept.mode, false)
	}
}
