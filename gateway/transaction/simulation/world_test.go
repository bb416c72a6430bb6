package simulation

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// world is one seed at work. mu guards what its actors share, the books among them.
type world struct {
	seed    uint64
	plan    plan
	tracing bool

	mu       sync.Mutex
	began    time.Time
	calm     bool // nothing goes wrong any more
	drawn    map[string]int
	seen     map[string]int
	events   []event
	failures []string

	store    *store
	dtm      *coordinator
	services *services
	gateways []*gateway // the present incarnations; nil is down
	all      []*gateway
	running  sync.WaitGroup // whatever has to end before the seed does
	keys     map[string]*keyBook
	told     map[string]string    // by gid: the final state that a client was told
	notified map[string]string    // by gid: the final state that the receiver was told
	begun    map[string]time.Time // by gid: when its record was delegated
	recorded map[string]time.Time // by gid: when its end was recorded

	cancels   map[string]bool // by gid: an operator asked for it, in vain perhaps
	cancelled map[string]bool // by gid: an operator was told that it will fail
	forgotten map[string]bool // by gid: its record was forgotten by force
}

type event struct {
	at   time.Time
	text string
}

// dice are the draws for one event.
type dice struct{ *rand.Rand }

func (d dice) chance(p float64) bool { return d.Float64() < p }

func (d dice) between(from, to time.Duration) time.Duration {
	return from + time.Duration(d.Int64N(int64(to-from)))
}

// dice returns the draws for the next event of that name.
func (w *world) dice(name string) dice {
	w.mu.Lock()
	n := w.drawn[name]
	w.drawn[name]++
	w.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return dice{rand.New(rand.NewPCG(w.seed, h.Sum64()+uint64(n)*0x9e3779b97f4a7c15))}
}

func newWorld(seed uint64, mode string) *world {
	w := &world{
		seed: seed, drawn: map[string]int{}, seen: map[string]int{}, keys: map[string]*keyBook{},
		told: map[string]string{}, notified: map[string]string{},
		begun: map[string]time.Time{}, recorded: map[string]time.Time{},
		cancels: map[string]bool{}, cancelled: map[string]bool{}, forgotten: map[string]bool{},
	}
	w.plan = w.draw(w.dice("plan"), mode)
	w.store = newStore(w)
	w.dtm = newCoordinator(w)
	w.services = newServices(w)
	w.gateways = make([]*gateway, w.plan.gateways)
	return w
}

// endsWithin is the time within which every transaction has to end when nothing goes wrong any more.
const endsWithin = 60 * time.Second

// run plays the seed from the first request to the audit.
func (w *world) run() {
	w.began = time.Now()
	w.dtm.start()
	for i := range w.gateways {
		w.start(i)
	}
	over := make(chan struct{})
	var trouble, clients sync.WaitGroup
	for _, f := range []func(<-chan struct{}){w.crashes, w.outages, w.thief, w.operator} {
		trouble.Go(func() { f(over) })
	}
	for i := range w.plan.clients {
		clients.Go(func() { w.client(fmt.Sprint("client", i)) })
	}
	clients.Wait()
	time.Sleep(w.dice("aftermath").between(time.Second, w.plan.timeout))
	close(over)
	trouble.Wait()
	w.calmDown()
	time.Sleep(w.plan.endsWithin())
	w.audit()
	if w.plan.notify {
		time.Sleep(toldWithin)
		w.auditNotices()
	}
	w.stop()
}

// calmDown ends all trouble: who was down is up.
func (w *world) calmDown() {
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.trace("nothing goes wrong any more")
	w.store.revive()
	w.dtm.revive()
	for i := range w.gateways {
		if w.gateway(i) == nil {
			w.start(i)
		}
	}
}

// stop ends everything that runs; the seed's goroutines have to be gone before it is over.
func (w *world) stop() {
	w.dtm.stop()
	for _, g := range w.all {
		g.stop()
	}
	w.running.Wait()
}

func (w *world) gateway(i int) *gateway {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gateways[i]
}

func (w *world) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

// trouble is the chance that a step over a network goes wrong in one way.
func (w *world) trouble() float64 {
	if w.isCalm() {
		return 0
	}
	return w.plan.trouble
}

func (w *world) saw(what string) {
	w.mu.Lock()
	w.seen[what]++
	w.mu.Unlock()
}

func (w *world) trace(format string, args ...any) {
	if w.tracing {
		w.mu.Lock()
		w.traceLocked(format, args...)
		w.mu.Unlock()
	}
}

func (w *world) traceLocked(format string, args ...any) {
	if w.tracing {
		w.events = append(w.events, event{time.Now(), fmt.Sprintf(format, args...)})
	}
}

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(format, args...)
}

const failuresMax = 8

func (w *world) failLocked(format string, args ...any) {
	w.traceLocked("DOES NOT HOLD: "+format, args...)
	if len(w.failures) < failuresMax {
		w.failures = append(w.failures, fmt.Sprintf("%12v  "+format, append([]any{time.Since(w.began)}, args...)...))
	}
}

// history returns the last lines of the trace, in an order that does not depend on which came first within an
// instant. most 0: all of them.
func (w *world) history(most int) string {
	slices.SortStableFunc(w.events, func(a, b event) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.text, b.text)
	})
	list := w.events
	if i := slices.IndexFunc(list, func(e event) bool { return strings.HasPrefix(e.text, "DOES NOT HOLD") }); i >= 0 &&
		most > 0 {
		list = list[max(0, i+1-most) : i+1]
	}
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "%16v  %s\n", e.at.Sub(w.began), e.text)
	}
	return b.String()
}

// name shortens a gid in traces: what tells them apart.
func name(gid string) string {
	if len(gid) < 12 {
		return gid
	}
	return gid[:4] + ".." + gid[len(gid)-8:]
}
