package overload_test

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/overload"
)

// world is a service before limiters, in virtual time: workers with a queue, first in, first out. The
// simulator of bench/load/overload has more; this one keeps the core honest where it is changed.
type world struct {
	random   *rand.Rand
	now      time.Duration
	events   events
	workers  func(time.Duration) int
	mean     func(time.Duration) time.Duration
	queue    []func()
	busy     int
	limiters []*overload.Limiter
	claim    time.Duration // how long a request takes before it comes to its limiter; 0: nothing

	claims, claiming, claimingMost int // of requests that are not critical

	offered, served, shed map[int]*[4]int // by second, by class
	latest                []time.Duration // of those served
}

type event struct {
	at  time.Duration
	run func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newWorld(seed uint64, gateways int) *world {
	w := &world{
		random:  rand.New(rand.NewPCG(seed, 1)),
		workers: func(time.Duration) int { return 8 },
		mean:    func(time.Duration) time.Duration { return 25 * ms },
		offered: map[int]*[4]int{}, served: map[int]*[4]int{}, shed: map[int]*[4]int{},
	}
	s := defaults
	s.Gateways = gateways
	for i := range gateways {
		w.limiters = append(w.limiters, overload.New(s, start, seed+uint64(i)))
	}
	return w
}

func (w *world) at(d time.Duration, run func()) { heap.Push(&w.events, event{d, run}) }
func (w *world) time() time.Time                { return start.Add(w.now) }

func (w *world) count(m map[int]*[4]int, c overload.Class) {
	second := int(w.now / time.Second)
	if m[second] == nil {
		m[second] = new([4]int)
	}
	m[second][c]++
}

// work takes a call into the service.
func (w *world) work(done func()) {
	w.queue = append(w.queue, done)
	w.start()
}

func (w *world) start() {
	for len(w.queue) > 0 && w.busy < w.workers(w.now) {
		done := w.queue[0]
		w.queue = w.queue[1:]
		w.busy++
		w.at(w.now+time.Duration((0.5+w.random.Float64())*float64(w.mean(w.now))), func() {
			w.busy--
			done()
			w.start()
		})
	}
}

// request comes to one of the gateways, and claims its key first, where that takes time.
func (w *world) request(c overload.Class) {
	born, l := w.now, w.limiters[w.random.IntN(len(w.limiters))]
	w.count(w.offered, c)
	r := overload.Request{Class: c, Principal: (w.random.Uint64()%500 + 1) << 20}
	switch {
	case w.claim == 0:
		w.ask(born, l, r)
	case c == overload.Critical:
		w.at(w.now+w.claim, func() { w.ask(born, l, r) })
	default:
		var why overload.Cause
		if r.Announced, why = l.Announce(w.time(), r); why != overload.NoCause {
			w.count(w.shed, c)
			return
		}
		w.claims++
		w.claiming++
		w.claimingMost = max(w.claimingMost, w.claiming)
		w.at(w.now+time.Duration((0.5+w.random.Float64())*float64(w.claim)), func() {
			w.claiming--
			if w.random.Float64() < 0.1 { // it was done before, and is replayed
				if r.Announced.Valid() {
					l.Withdraw(c)
				}
				return
			}
			w.ask(born, l, r)
		})
	}
}

// ask asks a limiter for a permit.
func (w *world) ask(born time.Duration, l *overload.Limiter, r overload.Request) {
	begin := func(p overload.Permit) {
		w.work(func() {
			l.Release(w.time(), p, overload.Sample{Outcome: overload.Success})
			w.count(w.served, r.Class)
			w.latest = append(w.latest, w.now-born)
		})
	}
	waiter := &overload.Waiter{OnVerdict: func(waiter *overload.Waiter, v overload.Verdict) {
		if v.Decision == overload.Admitted {
			begin(waiter.Permit())
		} else {
			w.count(w.shed, r.Class)
		}
	}}
	switch d, _ := l.Acquire(w.time(), r, waiter); d {
	case overload.Admitted:
		begin(waiter.Permit())
	case overload.Shed:
		w.count(w.shed, r.Class)
	case overload.Queued:
		w.at(w.now+waiter.Deadline().Sub(w.time()), func() { l.Tick(w.time()) })
	}
}

// run lets requests come at a rate, 5 % of them critical and the rest normal or low.
func (w *world) run(end time.Duration, rate func(time.Duration) float64) {
	var arrive func()
	next := func() {
		at := w.now + time.Duration(w.random.ExpFloat64()/rate(w.now)*float64(time.Second))
		if at < end {
			w.at(at, arrive)
		}
	}
	arrive = func() {
		class := overload.Normal
		if of := w.random.Float64(); of < 0.05 {
			class = overload.Critical
		} else if of < 0.5 {
			class = overload.Low
		}
		w.request(class)
		next()
	}
	next()
	for w.events.Len() > 0 {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.run()
	}
}

// sum adds up some seconds.
func sum(m map[int]*[4]int, from, to int) (all, critical int) {
	for i := from; i < to; i++ {
		if m[i] != nil {
			for _, n := range m[i] {
				all += n
			}
			critical += m[i][overload.Critical]
		}
	}
	return all, critical
}

func constant(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

// flood is half of what the service can do for 5 s, ten times as much for 15 s, and a half again.
func flood(at time.Duration) float64 {
	if at >= 5*time.Second && at < 20*time.Second {
		return 3200
	}
	return 160
}

// TestTenTimesTheLoad: the limit is told nothing of the service.
func TestTenTimesTheLoad(t *testing.T) {
	for seed := range uint64(4) {
		w := newWorld(seed, 1)
		w.run(25*time.Second, flood)
		served, _ := sum(w.served, 5, 20)
		if good := float64(served) / (15 * 320); good < 0.97 {
			t.Errorf("seed %d: goodput is %.3f", seed, good)
		}
		_, came := sum(w.offered, 0, 25)
		_, got := sum(w.served, 0, 26)
		if share := float64(got) / float64(came); share < 0.998 {
			t.Errorf("seed %d: %.4f of the critical were served", seed, share)
		}
		late := 0
		for _, l := range w.latest {
			if l > 100*ms {
				late++
			}
		}
		if share := float64(late) / float64(len(w.latest)); share > 0.015 {
			t.Errorf("seed %d: %.3f of the served took long", seed, share)
		}
		before, _ := sum(w.shed, 0, 5)
		after, _ := sum(w.shed, 21, 26)
		if before+after > 0 {
			t.Errorf("seed %d: %d were shed at half the load before, %d after", seed, before, after)
		}
	}
}

// TestFloodOfClaims: requests claim their keys before they come to the limiter, in a store that is fast or slow. It has
// to take little more than what is let through, and the service is as busy as without claims.
func TestFloodOfClaims(t *testing.T) {
	for seed, claim := range []time.Duration{2 * ms, 20 * ms, 100 * ms, 400 * ms} {
		w := newWorld(uint64(seed), 1)
		w.claim = claim
		w.run(25*time.Second, flood)
		served, _ := sum(w.served, 6, 20)
		_, came := sum(w.offered, 0, 25)
		_, critical := sum(w.served, 0, 27)
		all, _ := sum(w.served, 0, 27)
		good := float64(served) / (14 * 320)
		vital := float64(critical) / float64(came)
		inVain := float64(w.claims)/float64(all-critical) - 1 // 0.11 are replays
		if good < 0.93 || claim <= 20*ms && good < 0.96 || vital < 0.998 || inVain > 1.2 {
			t.Errorf("claims of %v: goodput %.3f, critical %.4f, %d claims, %.2f of those served in vain, at most %d "+
				"at once", claim, good, vital, w.claims, inVain, w.claimingMost)
		}
	}
}

// TestCreepingCapacity: calls come to take twice as long, and in another run half of the workers go.
func TestCreepingCapacity(t *testing.T) {
	down := func(at time.Duration) float64 { // from 1 to a half, between 5 and 35 s
		return 1 - 0.5*min(max(at.Seconds()-5, 0), 30)/30
	}
	for seed := range uint64(3) {
		slower, fewer := newWorld(seed, 1), newWorld(seed, 1)
		slower.mean = func(at time.Duration) time.Duration { return time.Duration(float64(25*ms) / down(at)) }
		fewer.workers = func(at time.Duration) int { return int(8*down(at) + 0.999) }
		for name, w := range map[string]*world{"slower": slower, "fewer": fewer} {
			w.run(45*time.Second, constant(288))
			served, _ := sum(w.served, 0, 45)
			_, critical := sum(w.served, 0, 46)
			possible := 0.0
			for i := range 45 {
				at := time.Duration(i)*time.Second + 500*ms
				each := float64(w.workers(at)) / w.mean(at).Seconds()
				possible += min(each, 288)
			}
			if good := float64(served) / possible; good < 0.95 {
				t.Errorf("%s, seed %d: goodput is %.3f", name, seed, good)
			}
			if _, came := sum(w.offered, 0, 45); float64(critical) < 0.998*float64(came) {
				t.Errorf("%s, seed %d: %d of %d critical were served", name, seed, critical, came)
			}
		}
	}
}

// TestOverloadDoesNotLiftTheBaseline: after a minute of ten times the load the baseline is what it was.
func TestOverloadDoesNotLiftTheBaseline(t *testing.T) {
	w := newWorld(1, 1)
	baseline := func() time.Duration { return w.limiters[0].Snapshot().Baseline }
	var before, during time.Duration
	w.at(10*time.Second, func() { before = baseline() })
	w.at(70*time.Second, func() { during = baseline() })
	w.run(71*time.Second, func(at time.Duration) float64 {
		if at < 10*time.Second {
			return 160
		}
		return 3200
	})
	if before < 22*ms || before > 28*ms || during < 20*ms || during > 31*ms {
		t.Errorf("the baseline was %v, then %v", before, during)
	}
}

// TestGatewaysShareAService: their limits together come near what one alone would have, and their excursions
// do not come at the same time.
func TestGatewaysShareAService(t *testing.T) {
	w := newWorld(3, 3)
	limits, low, both := 0, 0, 0
	for at := 12 * time.Second; at < 20*time.Second; at += 5 * ms {
		w.at(at, func() {
			limits = 0
			down := 0
			for _, l := range w.limiters {
				s := l.Snapshot()
				limits += s.Limit
				if s.InFlight < s.Limit {
					down++
				}
			}
			if down > 0 {
				low++
			}
			if down == len(w.limiters) {
				both++
			}
		})
	}
	w.run(25*time.Second, flood)
	if limits > 24 {
		t.Errorf("the limits are %d together", limits)
	}
	if low == 0 || both*5 > low {
		t.Errorf("all were low at %d of %d times", both, low)
	}
}

// TestFastFailuresDoNotPassForSpeed: nine of ten calls fail at once. The limit must not grow.
func TestFastFailuresDoNotPassForSpeed(t *testing.T) {
	l := overload.New(defaults, start, 1)
	now := start
	var w overload.Waiter
	for i := range 5000 {
		now = now.Add(10 * ms)
		l.Acquire(now, class(overload.Normal), &w)
		s := overload.Sample{Outcome: overload.Failed, Latency: ms}
		if i%10 == 0 || i < 500 {
			s = overload.Sample{Outcome: overload.Success, Latency: 25 * ms}
		}
		l.Release(now.Add(s.Latency), w.Permit(), s)
	}
	if s := l.Snapshot(); s.Limit > 16 || s.Baseline < 24*ms {
		t.Errorf("limit %d, baseline %v", s.Limit, s.Baseline)
	}
}

// TestDropsTakeTheLimitDown: a service that says it is overloaded is believed, down to the least limit.
func TestDropsTakeTheLimitDown(t *testing.T) {
	l := overload.New(defaults, start, 1)
	now := start
	var w overload.Waiter
	for range 2000 {
		now = now.Add(10 * ms)
		l.Acquire(now, class(overload.Normal), &w)
		l.Release(now.Add(ms), w.Permit(), overload.Sample{Outcome: overload.Dropped, Latency: ms})
	}
	if s := l.Snapshot(); s.Limit != defaults.Min {
		t.Errorf("the limit is %d", s.Limit)
	}
}
