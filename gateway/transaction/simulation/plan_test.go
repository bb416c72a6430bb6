package simulation

import (
	"fmt"
	"time"
)

// plan is what a seed draws before anything happens.
type plan struct {
	mode       string // saga, tcc, xa, message, or primary: a message with one
	notify     bool   // a receiver is told how transactions ended
	gateways   int
	clients    int
	each       int // logical requests of a client
	steps      []stepPlan
	trouble    float64       // the chance of each fault
	balanced   bool          // the coordinator reaches the gateways at one address, through a load balancer
	secret     bool          // signs branch calls; else the store's does
	wait       time.Duration // of a client
	timeout    time.Duration // of a transaction
	retryEvery time.Duration
	retryMax   time.Duration
	ttl        time.Duration
	limit      time.Duration // the store's time-out
	refusals   float64       // the share of calls that a service has reason to refuse
	busy       int           // what a service says while an earlier attempt runs
	forgets    bool          // the coordinator loses what it knows, once
	newOnly    bool          // it is sluice-dtm, which refuses a saga that it knows
	slow       bool          // submits come to the coordinator after half a minute, and the store takes its time
}

// stepPlan is one step.
type stepPlan struct {
	name  string
	after []string // nil: the step before it
	undo  bool
	late  bool // of TCC: its confirm needs the response of its try
}

// The modes of plans, as the flag sim.mode names them.
const (
	modeSaga    = "saga"
	modeTCC     = "tcc"
	modeXA      = "xa"
	modeMessage = "message"
	modePrimary = "primary"
)

// nameOfPrimary is the primary's among the steps, and serviceOfPrimary its service.
const nameOfPrimary = "primary"

// transType is the coordinator's word for the mode.
func (p *plan) transType() string {
	switch p.mode {
	case modeMessage, modePrimary:
		return "msg"
	}
	return p.mode
}

// names are those of the steps, and of the primary.
func (p *plan) names() (names []string) {
	for _, s := range p.steps {
		names = append(names, s.name)
	}
	if p.mode == modePrimary {
		names = append(names, nameOfPrimary)
	}
	return names
}

// phases reports whether what the first phase holds is confirmed or cancelled.
func (p *plan) phases() bool { return p.mode == modeTCC || p.mode == modeXA }

// delivered reports whether a step is a delivery of a message, which nothing refuses.
func (p *plan) delivered(step string) bool { return p.transType() == "msg" && step != nameOfPrimary }

// endsWithin is how long after the last fault every transaction has ended. The coordinator rolls back what is only
// prepared, or asks for it, when its time-out is over, and that counts from when it got it: at the last fault, or
// by a prepare that was on its way then. So it comes on top.
func (p *plan) endsWithin() time.Duration {
	if p.phases() || p.mode == modePrimary {
		return endsWithin + p.timeout + prepareLate
	}
	return endsWithin
}

func (p plan) String() string {
	return fmt.Sprintf("%s, %d gateways, steps %v, trouble %v, balanced %v, secret %v, wait %v, timeout %v, "+
		"retry %v to %v, ttl %v, forgets %v, new only %v, notify %v, slow %v", p.mode, p.gateways,
		p.steps, p.trouble, p.balanced, p.secret,
		p.wait, p.timeout, p.retryEvery, p.retryMax, p.ttl, p.forgets, p.newOnly, p.notify, p.slow)
}

func (w *world) draw(d dice, mode string) plan {
	p := plan{
		gateways: 1 + d.IntN(3), clients: 1 + d.IntN(3), each: 1 + d.IntN(2),
		trouble:  []float64{0.01, 0.03, 0.06, 0.12}[d.IntN(4)],
		balanced: d.chance(0.5), secret: d.chance(0.5), forgets: d.chance(0.08),
		slow:       d.chance(0.1),
		wait:       d.between(500*time.Millisecond, 6*time.Second),
		timeout:    time.Duration(3+d.IntN(20)) * time.Second,
		retryEvery: time.Duration(1+d.IntN(3)) * time.Second,
		retryMax:   time.Duration(4+d.IntN(12)) * time.Second,
		ttl:        []time.Duration{time.Hour, d.between(5*time.Second, 40*time.Second)}[d.IntN(2)],
		limit:      d.between(50*time.Millisecond, 400*time.Millisecond),
		refusals:   []float64{0, 0.15, 0.4}[d.IntN(3)],
		busy:       []int{409, 425, 503}[d.IntN(3)],
	}
	if p.gateways == 1 {
		p.balanced = false
	}
	names := []string{"a", "b", "c", "d"}[:2+d.IntN(3)]
	for i, n := range names {
		s := stepPlan{name: n, undo: true}
		switch shape := d.IntN(3); {
		case i == 0 || shape == 0:
		case shape == 1:
			s.after = []string{}
		default:
			s.after = []string{names[d.IntN(i)]}
		}
		p.steps = append(p.steps, s)
	}
	modes := []string{modeSaga, modeSaga, modeTCC, modeTCC, modeMessage, modePrimary, modeXA}
	if p.mode = modes[d.IntN(len(modes))]; mode != "" {
		p.mode = mode
	}
	for i := range p.steps {
		p.steps[i].late = d.chance(0.3)
		if p.transType() == "msg" {
			p.steps[i].after, p.steps[i].undo = nil, false
		}
	}
	p.newOnly, p.notify = d.chance(0.5), d.chance(0.5)
	for i := range p.steps {
		p.steps[i].undo = p.steps[i].undo && p.mode != modeXA // the same call is all of its calls
	}
	return p
}
