package idempotency_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// simGateway is one life of a gateway's process: the real filter on its way to the store.
type simGateway struct {
	w     *simWorld
	name  string
	calls *idempotency.Calls
	chain *filters.Chain
	dead  chan struct{} // closed by a crash

	stopped time.Time // until then: SIGSTOP. World.mu guards it
}

// simCount counts what the filter reports, where the simulator has a word for it.
type simCount struct {
	w    *simWorld
	what string
}

func (c simCount) Inc() {
	if c.what != "" {
		c.w.saw(c.what)
	}
}

// start begins a life of the gateway at that place.
func (w *simWorld) start(place int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drawn["life"]++
	g := &simGateway{w: w, name: fmt.Sprintf("gateway %d.%d", place, w.drawn["life"]), calls: idempotency.NewCalls(),
		dead: make(chan struct{})}
	count := func(what string) filters.Counter { return simCount{w, what} }
	s := w.plan.settings
	options := idempotency.Options{
		Store: &simConn{w.store, g}, Codec: w.codec, Calls: g.calls, Logger: slog.New(slog.NewTextHandler(io.Discard,
			nil)),
		Metrics: idempotency.Metrics{
			Claims: count(""), Replays: count("replays"), Joins: count("joins"), Conflicts: count(""),
			Mismatches: count(""), Unknown: count(""),
			Answered: count(""), Freed: count(""),
			Lost: count(""), Failures: count(""), TooMany: count(""), Settled: count(""), Undecided: count(""),
			Untrusted: simUntrusted{w},
		},
	}
	if s.Probe != nil {
		options.Prober = g
	}
	var err error
	g.chain, err = filters.NewChain(func(_ *filters.Exchange, f string, v any,
		stack []byte) {
		w.fail("panic in %s: %v\n%s", f, v, stack)
	}, idempotency.New(s, options))
	if err != nil {
		panic(err)
	}
	if w.plan.inProcess {
		w.store.settle()
	}
	w.gateways[place] = g
	w.all = append(w.all, g)
	w.traceLocked("%s starts", g.name)
}

// simUntrusted: no response is damaged here.
type simUntrusted struct{ w *simWorld }

func (c simUntrusted) Inc() { c.w.fail("a recorded response was not trusted") }

// crash ends the gateway at that place: nothing that it begins from now on reaches anybody.
func (w *simWorld) crash(place int) {
	w.mu.Lock()
	g := w.gateways[place]
	w.gateways[place] = nil
	w.seen["gateway crashes"]++
	w.traceLocked("%s crashes", g.name)
	close(g.dead)
	w.mu.Unlock()
	w.running.Go(g.calls.Close)
}

// pause stops the process for a while: what comes in for it waits.
func (w *simWorld) pause(place int, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gateways[place]
	if until := time.Now().Add(d); until.After(g.stopped) {
		g.stopped = until
	}
	w.seen["gateway pauses"]++
	w.traceLocked("%s stops for %v", g.name, d)
}

// awake returns when the process runs. Calls that waited go on in an order that is drawn.
func (g *simGateway) awake(name string) {
	for {
		g.w.mu.Lock()
		left := time.Until(g.stopped)
		dead := g.deadLocked()
		g.w.mu.Unlock()
		if left <= 0 || dead {
			return
		}
		time.Sleep(left + g.w.dice("awake "+g.name+name).between(time.Microsecond, 20*time.Millisecond))
	}
}

func (g *simGateway) isDead() bool {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	return g.deadLocked()
}

// deadLocked is asked under world.mu, under which a gateway dies.
func (g *simGateway) deadLocked() bool {
	select {
	case <-g.dead:
		return true
	default:
		return false
	}
}

func (w *simWorld) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

// simContext is a request's. What looks at it itself has just been woken by the end of an in-flight
// call, together with others: their order is drawn, so that it is not the scheduler that makes one
// of them the next leader.
type simContext struct {
	context.Context
	g    *simGateway
	name string
}

func (c simContext) Err() error {
	time.Sleep(c.g.w.dice("context of "+c.name).between(time.Microsecond, time.Millisecond))
	return c.Context.Err()
}

// simReply is what a client gets.
type simReply struct {
	status    int
	reason    filters.Reason
	body      string
	execution string
	trailer   string
	replayed  bool
	own       bool // the service's response to this very exchange
	gone      bool // none: the gateway died, or the client left
}

// serve runs an exchange as the engine does.
func (g *simGateway) serve(ctx context.Context, r *simRequest, give func(simReply)) {
	x := new(filters.Exchange)
	fill(x, r.subject.key, r.body)
	x.Principal = r.subject.principal
	x.SetContext(simContext{ctx, g, r.name})
	reply, _ := g.chain.Request(x)
	outcome := filters.Refused
	if reply != nil {
		x.SetReply(reply)
	} else {
		r.dispatched = true
		if claim := x.Logical.Claim; claim != nil {
			g.w.mu.Lock()
			r.grant = g.w.grants[claim.Claimed().Token]
			g.w.mu.Unlock()
		}
		outcome = g.forward(x, r)
	}
	g.awake("response " + r.name)
	g.chain.Response(x)
	y := &x.Response
	give(simReply{
		status: y.Status, reason: y.Reason, body: string(y.Body), execution: strings.Clone(y.Header.Get("X-Execution")),
		trailer:  strings.Clone(y.Trailer.Get("X-End-Of")),
		replayed: y.Header.Get("Idempotent-Replayed") == "true", own: !y.Local,
	})
	g.chain.Done(x, outcome)
}
