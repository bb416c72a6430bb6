//go:build !race

package examples_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

var (
	rounds = flag.Int("rounds", 1, "how often each kind of process is killed; above 1 the minute is judged")
	seed   = flag.Uint64("seed", 1, "of the moments and the orders")
	only   = flag.String("only", "", "run only the examples whose name contains this")
)

func TestMain(m *testing.M) { build.Main(m) }

// example is one file of deploy/examples and what its clients do.
type example struct {
	name, file string
	mariadb    bool // its services keep their books there, also where the header has them on SQLite
	// place sends one order, a new one for each key, until it has ended.
	place func(l *load, random *rand.Rand, key string)
	holds []string // ports of the services that hold things; see resource.go of the services
	// audit compares the books, when nothing is under way.
	audit func(r *running, ends []end)
}

// process is what can be killed and started again.
type process interface {
	Kill()
	Restart()
}

// kills are the kinds of process, the gateways first.
var kills = []struct {
	name      string
	processes func(w *world) []process
}{
	{"gateways", func(w *world) (list []process) {
		for _, r := range w.examples {
			list = append(list, r.gateway)
		}
		return list
	}},
	{"services", func(w *world) (list []process) {
		for _, r := range w.examples {
			for _, p := range r.services {
				list = append(list, p)
			}
		}
		return list
	}},
	{"coordinator", func(w *world) []process { return []process{w.coordinator} }},
	{"redis", func(w *world) []process { return []process{w.redis} }},
	{"mariadb", func(w *world) []process { return []process{w.mariadb} }},
}

// finalLimit is how long after the end of a fault a transaction may take to its own end.
const finalLimit = 60 * time.Second

// TestExamplesSurviveKills: what the headers say works; and whatever is killed, each order ends as its client is told.
func TestExamplesSurviveKills(t *testing.T) {
	var chosen []example
	for _, e := range examples {
		if strings.Contains(e.name, *only) {
			chosen = append(chosen, e)
		}
	}
	survive(t, chosen)
}

// TestEveryExampleIsRun: an example whose header has commands is one of those that run here or in java_test.go.
func TestEveryExampleIsRun(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(build.Root(t), "deploy", "examples", "*.yaml"))
	if err != nil || len(files) < len(examples) {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, path := range files {
		file := filepath.Base(path)
		h := readHeader(t, file, func(text string) string { return text })
		runs := file == "java-branches.yaml" ||
			slices.ContainsFunc(examples, func(e example) bool { return e.file == file })
		if (len(h.programs) > 0) != runs {
			t.Errorf("%s: its header starts %q, and it runs here: %t", file, h.programs, runs)
		}
	}
}

// survive runs examples beside each other.
func survive(t *testing.T, examples []example) {
	w := startWorld(t, examples)
	for _, r := range w.examples {
		r.tryAll()
	}
	if t.Failed() {
		return
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i, r := range w.examples {
		r.begin(ctx, *seed+uint64(i))
	}
	lastFault := w.killAll()
	all := make([][]end, len(w.examples))
	for i, r := range w.examples {
		all[i] = r.finish()
	}
	for i, r := range w.examples { // at once: what a client was told is at its end goes on nowhere
		r.wantNothingHeld(all[i])
	}
	w.wantNothingUnderWay()
	for i, r := range w.examples {
		ends := all[i]
		t.Run(r.name, func(t *testing.T) {
			for _, e := range ends {
				switch late := e.at.Sub(lastFault); {
				case !e.ended:
					t.Errorf("%s is not at its end within %v: %s", e.key, endLimit, e.said)
				case *rounds > 1 && late > finalLimit:
					t.Errorf("%s ended %v after the last fault's end, want at most %v", e.key, late, finalLimit)
				case e.succeeded && e.refuse:
					t.Errorf("%s should have been refused: %s", e.key, e.said)
				}
			}
			if len(ends) < 5 {
				t.Errorf("only %d orders: the load has not run", len(ends))
			}
			here := *r
			here.world = &world{T: t, mariadb: w.mariadb, shared: w.shared}
			r.audit(&here, ends)
			t.Logf("%d orders, the last ended %v after the last fault", len(ends), lastEnd(ends).Sub(lastFault))
		})
	}
}

func lastEnd(ends []end) (last time.Time) {
	for _, e := range ends {
		if e.at.After(last) {
			last = e.at
		}
	}
	return last
}

// killAll kills each kind of process while the load runs, and returns when the last one was back. In the first round
// all of a kind are killed, one kind after the other, and the gateways first: what dies with them in the middle waits
// longest. In later rounds some of a kind, and now and then two kinds at once.
func (w *world) killAll() time.Time {
	random := rand.New(rand.NewPCG(*seed, 0))
	for round := range *rounds {
		kinds := random.Perm(len(kills))
		if round == 0 {
			first := slices.Index(kinds, 0)
			kinds[0], kinds[first] = kinds[first], kinds[0]
		}
		for i, kind := range kinds {
			victims := kills[kind].processes(w)
			name := kills[kind].name
			if round > 0 {
				victims = someOf(random, victims)
				if other := kinds[(i+1)%len(kinds)]; oneIn(random, 3) {
					victims = append(victims, someOf(random, kills[other].processes(w))...)
					name += " and " + kills[other].name
				}
			}
			w.awaitProgress(1 + random.IntN(2))
			down := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
			for _, p := range victims {
				p.Kill()
			}
			pause(w.Context(), down)
			for _, p := range victims {
				p.Restart()
			}
			w.Logf("round %d: %d of %s killed, down for %v", round, len(victims), name, down)
		}
	}
	return time.Now()
}

// someOf is at least one of them.
func someOf(random *rand.Rand, all []process) []process {
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+random.IntN(len(all))]
}

// awaitProgress returns when so many more orders of each example have ended: the moment is one of the load's, so that
// something is under way.
func (w *world) awaitProgress(n int) {
	w.Helper()
	targets := make([]int, len(w.examples))
	for i, r := range w.examples {
		targets[i] = r.load.count() + n
	}
	for deadline := time.Now().Add(endLimit); ; pause(w.Context(), 10*time.Millisecond) {
		var slow []string
		for i, r := range w.examples {
			if n := r.load.count(); n < targets[i] {
				slow = append(slow, fmt.Sprintf("%s has ended %d of %d orders, under way: %s", r.name, n, targets[i],
					r.load.underWay()))
			}
		}
		if slow == nil {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("not within %v:\n%s", endLimit, strings.Join(slow, "\n"))
		}
	}
}

// wantNothingUnderWay asks the coordinator: nothing that a client was told is at its end still goes on.
func (w *world) wantNothingUnderWay() {
	w.Helper()
	var left string
	harness.Until(w, finalLimit, "nothing is under way at the coordinator", func() bool {
		left = ""
		for _, state := range []string{"prepared", "submitted", "aborting"} {
			status, body, err := get(w.Context(), "http://"+w.shared[coordinatorPort]+
				"/api/dtmsvr/all?limit=100&status="+state)
			if err != nil || status != http.StatusOK {
				left = fmt.Sprint(status, err)
			} else if strings.Contains(body, `"gid"`) {
				left += body
			}
		}
		return left == ""
	})
}
