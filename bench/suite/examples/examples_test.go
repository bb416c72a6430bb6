//go:build !race

package examples_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
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
	// audit compares the books, when nothing is under way.
	audit func(r *running, ends []end)
}

// kill is one kind of process.
type kill struct {
	name          string
	down, restart func(w *world)
}

var kills = []kill{
	{"gateways", func(w *world) { w.each(func(r *running) { r.gateway.Kill() }) },
		func(w *world) { w.each(func(r *running) { r.gateway.Restart() }) }},
	{"services", func(w *world) { w.eachService(func(p *harness.Program) { p.Kill() }) },
		func(w *world) { w.eachService(func(p *harness.Program) { p.Restart() }) }},
	{"coordinator", func(w *world) { w.coordinator.Kill() }, func(w *world) { w.coordinator.Restart() }},
	{"redis", func(w *world) { w.redis.Kill() }, func(w *world) { w.redis.Restart() }},
	{"mariadb", func(w *world) { w.mariadb.Kill() }, func(w *world) { w.mariadb.Restart() }},
}

func (w *world) each(do func(r *running)) {
	for _, r := range w.examples {
		do(r)
	}
}

func (w *world) eachService(do func(p *harness.Program)) {
	w.each(func(r *running) {
		for _, p := range r.services {
			do(p)
		}
	})
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

// survive runs examples beside each other.
func survive(t *testing.T, examples []example) {
	w := startWorld(t, examples)
	w.each((*running).tryAll)
	if t.Failed() {
		return
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i, r := range w.examples {
		r.begin(ctx, *seed+uint64(i))
	}
	lastFault := w.killAll()
	for _, r := range w.examples {
		ends := r.finish()
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
			here.world = &world{T: t}
			r.audit(&here, ends)
			t.Logf("%d orders, the last ended %v after the last fault", len(ends), lastEnd(ends).Sub(lastFault))
		})
	}
	w.wantNothingUnderWay()
}

func lastEnd(ends []end) (last time.Time) {
	for _, e := range ends {
		if e.at.After(last) {
			last = e.at
		}
	}
	return last
}

// killAll kills each kind of process while the load runs, and returns when the last one was back. In one round each is
// killed once, and the gateways first: what dies with them in the middle waits longest.
func (w *world) killAll() time.Time {
	random := rand.New(rand.NewPCG(*seed, 0))
	for round := range *rounds {
		order := random.Perm(len(kills))
		for i, k := range order {
			if k == 0 && round == 0 {
				order[0], order[i] = order[i], order[0]
			}
		}
		for _, k := range order {
			w.awaitProgress(1 + random.IntN(2))
			down := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
			kills[k].down(w)
			pause(w.Context(), down)
			kills[k].restart(w)
			w.Logf("round %d: %s killed, down for %v more", round, kills[k].name, down)
		}
	}
	return time.Now()
}

// awaitProgress returns when so many more orders of each example have ended: the moment is one of the load's, so that
// something is under way.
func (w *world) awaitProgress(n int) {
	w.Helper()
	targets := make([]int, len(w.examples))
	for i, r := range w.examples {
		targets[i] = r.load.count() + n
	}
	harness.Until(w, endLimit, "orders of all examples end", func() bool {
		for i, r := range w.examples {
			if r.load.count() < targets[i] {
				return false
			}
		}
		return true
	})
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
