package idempotency_test

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// simWorld is one seed at work. mu guards all that its actors share, the books among them.
type simWorld struct {
	seed    uint64
	plan    simPlan
	codec   *idempotency.ResponseCodec
	tracing bool

	mu       sync.Mutex
	began    time.Time
	calm     bool // nothing goes wrong any more
	drawn    map[string]int
	seen     map[string]int
	events   []simEvent
	failures []string

	store    *simStore
	service  *simService
	gateways []*simGateway // the present incarnations; nil is down
	all      []*simGateway
	running  sync.WaitGroup // exchanges, also those of dead gateways
	grants   map[uint64]*simGrant
	requests []*simRequest
	subjects map[string]*simSubject // by the record's ID
	given    map[int]int            // by the record's life: the execution whose response clients got
}

type simEvent struct {
	at   time.Time
	text string
}

// simPlan is what a seed draws before anything happens.
type simPlan struct {
	mode      string // hold, retry, probe
	settings  idempotency.Settings
	inProcess bool          // the store lives and dies with its one gateway
	loses     time.Duration // what a crash or fail-over of the store may take with it; 0: it keeps all that it took
	limit     time.Duration // the store's time-out
	trouble   float64       // the chance of each fault
	jumps     bool          // the store's clock does
	gateways  int
	clients   int
	each      int // logical requests of a client
}

func (p simPlan) String() string {
	return fmt.Sprintf("%s, %d gateways, in process %v, loses %v, "+
		"wait %v, lease %v, cap %v, ttl %v, max open %d, open %v, jumps %v",
		p.mode, p.gateways, p.inProcess, p.loses, p.settings.Wait, p.settings.Lease, p.settings.MaxInFlight,
		p.settings.TTL, p.settings.MaxOpenKeys, p.settings.FailOpen, p.jumps)
}

// simDice are the draws for one event.
type simDice struct{ *rand.Rand }

func (d simDice) chance(p float64) bool { return d.Float64() < p }

func (d simDice) between(from, to time.Duration) time.Duration {
	return from + time.Duration(d.Int64N(int64(to-from)))
}

// dice returns the draws for the next event of that name.
func (w *simWorld) dice(name string) simDice {
	w.mu.Lock()
	n := w.drawn[name]
	w.drawn[name]++
	w.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return simDice{rand.New(rand.NewPCG(w.seed, h.Sum64()+uint64(n)*0x9e3779b97f4a7c15))}
}

func newSimWorld(seed uint64) *simWorld {
	w := &simWorld{
		seed: seed, codec: new(idempotency.ResponseCodec), drawn: map[string]int{}, seen: map[string]int{},
		grants: map[uint64]*simGrant{}, subjects: map[string]*simSubject{}, given: map[int]int{},
	}
	d := w.dice("plan")
	s := defaults()
	s.Lease = d.between(time.Second, 3*time.Second)
	s.MaxInFlight = s.Lease + d.between(time.Second, 6*time.Second)
	s.TTL = []time.Duration{24 * time.Hour, 10 * time.Minute, d.between(12*time.Second, 30*time.Second)}[d.IntN(3)]
	s.Wait = []time.Duration{0, d.between(100*time.Millisecond, time.Second),
		d.between(time.Second, 5*time.Second)}[d.IntN(3)]
	s.FailOpen = d.chance(0.06)
	if d.chance(0.2) {
		s.MaxOpenKeys = 2 + d.IntN(4)
	}
	p := simPlan{
		mode: []string{"hold", "retry", "probe"}[d.IntN(3)], gateways: 2 + d.IntN(2), clients: 3 + d.IntN(3), each: 6 +
			d.IntN(6),
		limit: d.between(100*time.Millisecond, s.Lease/4), trouble: []float64{0.005, 0.03,
			0.1}[d.IntN(3)], jumps: d.chance(0.3),
	}
	switch d.IntN(4) {
	case 0:
		p.inProcess, p.gateways = true, 1
	case 1:
		p.loses = d.between(100*time.Millisecond, 1500*time.Millisecond)
	}
	s.Retry = p.mode == "retry"
	if p.mode == "probe" {
		s.Probe = &idempotency.Probe{Done: []idempotency.StatusRange{{From: 200, To: 299}, {From: 400, To: 400}},
			NotDone: []idempotency.StatusRange{{From: 404, To: 404}}}
	}
	if d.chance(0.3) {
		key := []byte("a key of thirty-two bytes, sealed")[:idempotency.EncryptionKeyLength]
		if err := w.codec.SetKeys(key); err != nil {
			panic(err)
		}
	}
	p.settings = s
	w.plan = p
	w.store = newSimStore(w)
	w.service = &simService{w: w}
	w.gateways = make([]*simGateway, p.gateways)
	return w
}

// run plays the seed from the first request to the audit after the last one.
func (w *simWorld) run() {
	w.began = time.Now()
	w.store.began = w.began
	for i := range w.gateways {
		w.start(i)
	}
	over := make(chan struct{})
	var chaos, clients sync.WaitGroup
	chaos.Go(func() { w.trouble(over) })
	for i := range w.plan.clients {
		clients.Go(func() { w.client(fmt.Sprint("client", i)) })
	}
	clients.Wait()
	close(over)
	chaos.Wait()
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.running.Wait()
	s := &w.plan.settings
	time.Sleep(2*(s.MaxInFlight+s.Lease) + simJumpMax + 10*time.Second)
	w.audit()
	for _, g := range w.all {
		if n := g.calls.InFlight(); n != 0 {
			w.fail("%d calls are open in %s at the end", n, g.name)
		}
		g.calls.Close()
	}
}

// audit asks for every key once more when all is quiet, and then again.
func (w *simWorld) audit() {
	w.mu.Lock()
	for id := range w.subjects {
		w.store.look(id)
		if b := w.store.books[id]; b != nil && b.state(w.store.clock()) == simRunning {
			w.failLocked("%s is in flight long after its cap", w.subjects[id])
		}
	}
	subjects := w.sortedSubjects()
	w.mu.Unlock()
	for i, s := range subjects {
		body := "a"
		w.mu.Lock()
		if b := w.store.books[s.id]; b != nil && b.live {
			body = b.body
		}
		w.mu.Unlock()
		first := w.ask(fmt.Sprint("audit", i), s.principal, s.key, body, 0, 0)
		if first.reason == filters.OutcomeUnknown && w.plan.mode != "hold" {
			w.fail("%s/%s stays unknown though it may be %s", s, body, w.plan.mode)
		}
		final := first.reason == "" && (first.replayed || first.status == 201)
		second := w.ask(fmt.Sprint("audit again", i), s.principal, s.key, body, 0, 0)
		switch {
		case final && (!second.replayed || second.body != first.body):
			w.fail("%s/%s was answered with %q and then with %d %s %q", s, body, first.body, second.status,
				second.reason, second.body)
		case !final && second.reason != first.reason && first.reason != filters.TooManyOpenKeys:
			w.fail("%s/%s was refused with %s and then with %d %s", s, body, first.reason, second.status, second.reason)
		}
	}
}

func (w *simWorld) sortedSubjects() []*simSubject {
	return slices.SortedFunc(maps.Values(w.subjects),
		func(a, b *simSubject) int { return strings.Compare(a.String(), b.String()) })
}

// trouble is what befalls gateways, the store and its clock.
func (w *simWorld) trouble(over <-chan struct{}) {
	for {
		d := w.dice("trouble")
		select {
		case <-over:
			w.revive()
			return
		case <-time.After(d.between(500*time.Millisecond, 6*time.Second)):
		}
		i := d.IntN(len(w.gateways))
		switch what := d.IntN(6); {
		case what == 0:
			w.crash(i)
			time.Sleep(d.between(10*time.Millisecond, 2*time.Second))
			w.start(i)
		case what <= 2:
			w.pause(i, d.between(50*time.Millisecond, w.plan.settings.MaxInFlight+2*time.Second))
		case what <= 4 && !w.plan.inProcess:
			w.store.crash(d)
		case what <= 4:
			w.store.resolve(d)
		case w.plan.jumps:
			w.store.jump(d.between(-simJumpMax, simJumpMax))
		default:
			w.store.resolve(d)
		}
	}
}

const simJumpMax = 4 * time.Second

func (w *simWorld) revive() {
	for i := range w.gateways {
		w.mu.Lock()
		down := w.gateways[i] == nil
		w.mu.Unlock()
		if down {
			w.start(i)
		}
	}
}

func (w *simWorld) saw(what string) {
	w.mu.Lock()
	w.seen[what]++
	w.mu.Unlock()
}

func (w *simWorld) trace(format string, args ...any) {
	if w.tracing {
		w.mu.Lock()
		w.traceLocked(format, args...)
		w.mu.Unlock()
	}
}

func (w *simWorld) traceLocked(format string, args ...any) {
	if w.tracing {
		w.events = append(w.events, simEvent{time.Now(), fmt.Sprintf(format, args...)})
	}
}

func (w *simWorld) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(format, args...)
}

const simFailuresMax = 12

func (w *simWorld) failLocked(format string, args ...any) {
	w.traceLocked("DOES NOT HOLD: "+format, args...)
	if len(w.failures) < simFailuresMax {
		w.failures = append(w.failures, fmt.Sprintf("%12v  "+format, append([]any{time.Since(w.began)}, args...)...))
	}
}

// history returns the trace in an order that does not depend on which came first within an instant.
func (w *simWorld) history() string {
	slices.SortStableFunc(w.events, func(a, b simEvent) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.text, b.text)
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", w.plan)
	for _, e := range w.events {
		fmt.Fprintf(&b, "%16v  %s\n", e.at.Sub(w.began), e.text)
	}
	return b.String()
}
