package overload

import (
	"context"
	"math/rand/v2"
	"time"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// epoch is when virtual time begins.
var epoch = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

// world is one run of a scenario with one contender.
type world struct {
	clock
	scenario *scenario
	services []*service
	gateways []*gateway
	clients  *rand.Rand // what clients draw once they were refused
	record   *record
	open     int // attempts that are not over, and clients that will make another
}

// drainMost is how long a run goes on at most when no more requests begin.
const drainMost = 2 * time.Minute

// sampleEvery is how often the state of the controllers is recorded.
const sampleEvery = 100 * time.Millisecond

// simulator runs the scenario to its end. What comes, and what work it makes, depend on the seed only.
type simulator func(ctx context.Context, s *scenario, c contender, seed uint64) (*record, error)

func simulate(ctx context.Context, s *scenario, c contender, seed uint64) (*record, error) {
	return run(ctx, s, c, seed, nil)
}

// run simulates. It calls pass, if there is one, with the time that passes between two events.
func run(ctx context.Context, s *scenario, c contender, seed uint64, pass func(time.Duration)) (*record, error) {
	w := &world{scenario: s, record: newRecord(s), clients: rand.New(rand.NewPCG(seed, 1))}
	for i := range s.services {
		w.services = append(w.services, newService(&s.services[i], &w.clock, rand.New(rand.NewPCG(seed,
			100+uint64(i))), func(c *call, failed bool) { c.gateway.finished(c, failed) }))
	}
	for i := range max(s.gateways, 1) {
		w.gateways = append(w.gateways, newGateway(w, c, seed*16+uint64(i)*1000+1))
	}
	for i := range s.streams {
		w.arrivals(&s.streams[i], rand.New(rand.NewPCG(seed, 200+uint64(i))))
	}
	w.sample()
	for n := 0; ; n++ {
		if n%65536 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		before := w.now
		e, ok := w.next()
		if !ok || w.now > s.end && w.open == 0 || w.now > s.end+drainMost {
			break
		}
		if pass != nil && w.now > before {
			pass(w.now - before)
		}
		e.run()
	}
	w.close()
	for _, s := range w.services {
		w.record.busy = append(w.record.busy, s.busyTime)
	}
	w.record.unfinished, w.record.length = w.open, w.now
	return w.record, nil
}

// close ends what contenders still do.
func (w *world) close() {
	for _, g := range w.gateways {
		for _, guard := range g.guards {
			if c, ok := guard.controller.(interface{ close() }); ok {
				c.close()
			}
		}
	}
}

func (w *world) time() time.Time { return epoch.Add(w.now) }

// arrivals lets the stream's requests come: those of its highest rate, thinned.
func (w *world) arrivals(s *stream, random *rand.Rand) {
	most := s.rate.most()
	var arrive func()
	next := func() {
		w.at(w.now+time.Duration(random.ExpFloat64()/most*float64(time.Second)), arrive)
	}
	arrive = func() {
		if w.now >= w.scenario.end {
			return
		}
		if random.Float64()*most < s.rate.value(w.now) {
			r := s.request(random)
			r.born = w.now
			w.record.began(r)
			w.send(r)
		}
		next()
	}
	next()
}

// request draws a request.
func (s *stream) request(random *rand.Rand) *request {
	r := &request{stream: s, obeys: random.Float64() >= s.ignoring, draw: random.Uint64()}
	of := random.Float64()
	for class, share := range s.classes {
		if share > 0 {
			r.class = limiter.Class(class) //nolint:gosec // there are four
			if of < share {
				break
			}
			of -= share
		}
	}
	r.greedy = random.Float64() < s.greedy
	if r.greedy {
		r.principal = 1 + random.Uint64N(greedyPrincipals)
	} else {
		r.principal = 1000 + random.Uint64N(uint64(max(s.principals, 1)))
	}
	// The limiter takes hashes.
	r.principal *= 0x9e3779b97f4a7c15
	return r
}

// send makes the request's next attempt.
func (w *world) send(r *request) {
	r.attempts++
	g := w.gateways[(r.draw>>(8*uint(r.attempts&3)))%uint64(len(w.gateways))]
	a := &attempt{request: r, number: r.attempts, gateway: g, at: w.now, demoted: w.now < r.comeBack}
	w.open++
	w.record.attempted(a)
	w.timeout(func() {
		if !a.over {
			a.over = true
			w.open--
			w.record.timedOut(w.now, a)
			a.unknown = a.unknown || a.calls[a.step].stage == atService || a.step > 0
			g.timeout(a)
			w.again(a, backOffLeast, backOffMost)
		}
	})
	g.accept(a)
}

// served responds to the attempt with success.
func (w *world) served(a *attempt) {
	a.over = true
	w.open--
	w.record.served(w.now, a)
}

// refused responds that the attempt was shed.
func (w *world) refused(a *attempt, after time.Duration) {
	if a.over {
		return
	}
	a.over = true
	w.open--
	w.record.shed(w.now, a)
	a.comeBack = w.now + after
	if a.obeys {
		w.again(a, after, after+patienceMost)
	} else {
		w.again(a, backOffLeast, backOffMost)
	}
}

// failed responds with the service's failure.
func (w *world) failed(a *attempt) {
	if a.over {
		return
	}
	a.over = true
	w.open--
	w.record.failed(w.now, a)
	w.again(a, backOffLeast, backOffMost)
}

// again has the client try again, if it does.
func (w *world) again(a *attempt, least, most time.Duration) {
	if a.attempts > a.stream.retries {
		return
	}
	w.open++
	w.at(w.now+least+time.Duration(w.clients.Float64()*float64(most-least)), func() {
		w.open--
		w.send(a.request)
	})
}

func (w *world) compensated(byShedding bool) { w.record.compensated(w.now, byShedding) }

// sample records the state of the controllers, over and over.
func (w *world) sample() {
	var sum state
	for _, g := range w.gateways {
		for _, guard := range g.guards {
			s := guard.state()
			sum.limit += s.limit
			sum.inFlight += s.inFlight
			sum.queued += s.queued
		}
	}
	inside := 0
	for _, s := range w.services {
		inside += len(s.queue) + s.busy
	}
	w.record.sampled(w.now, sum, inside)
	if w.now < w.scenario.end {
		w.at(w.now+sampleEvery, w.sample)
	}
}
