package overload

import "math"

// The constants of the adaptive limit. They were chosen in the simulator (bench/load/overload).
const (
	// startLimit is the limit before anything is known.
	startLimit = 16
	// headroom is how far above the knee the limit stands, so that the service never runs out of work
	// between a response and the next call, and so that an excursion ends at the knee and not below.
	headroom = 1.3
	// excursion is how far the limit goes down to see what it does to the latency.
	excursion = 0.2
	// lowCalls is how many calls an excursion lasts at least, highShare how many times as many come
	// between two.
	lowCalls  = 20
	highShare = 3
	// growMax and shrinkMax bound one step of the limit. growAgain is a step up right after another.
	growMax   = 1.3
	growAgain = 1.5
	shrinkMax = 0.85
	// freeBelow: as long as the latency is below so much of the baseline, the limit may grow.
	freeBelow = 1.17
	// droppedShare of calls dropped by the service takes the limit down.
	droppedShare = 0.1

	// windowCalls is how many calls a window has at least, windowMost how many at most, and windowError the
	// relative error of the mean latency at which it ends between.
	windowCalls = 20
	windowMost  = 500
	windowError = 0.04
)

// adaptive is a limit that follows what the service can do. Its caller holds the limiter's lock.
type adaptive struct {
	window mean
	peak   float64 // most calls in flight of late
	prober prober

	limit      float64
	least, top float64
	baseline   baseline
	grew       bool    // the last window made the limit grow
	full       float64 // calls of the window that were admitted with the limit reached
	dropped    float64 // calls of the window that the service dropped
	long       mean    // of many windows, for the variation of the latency
}

func newAdaptive(s Settings, seed uint64) adaptive {
	a := adaptive{limit: startLimit}
	a.prober.random = seed
	a.configure(s)
	a.prober.left = a.prober.highCalls(a.limit)
	return a
}

func (a *adaptive) configure(s Settings) {
	a.least, a.top = float64(s.Min), float64(s.Max)
	a.prober.know(s.Gateways)
	a.setLimit(a.limit)
}

func (a *adaptive) setLimit(limit float64) {
	limit = min(max(limit, a.least), a.top)
	if change := limit / a.limit; change > 1.08 || change < 0.92 {
		a.prober.elastic.evidence *= keepEvidence // it was about another limit
	}
	a.limit = limit
	a.prober.apply(limit)
}

// whole is the limit without its excursions.
func (a *adaptive) whole() int { return int(math.Round(a.limit)) }

// allowed is the limit as applied now.
func (a *adaptive) allowed() int { return a.prober.allowed }

// admitted is told of each call with how many are in flight then.
func (a *adaptive) admitted(p *Permit, inFlight int) {
	p.load = float32(inFlight)
	a.peak = max(a.peak, float64(inFlight))
	if a.prober.admitted(p, inFlight, a.limit) {
		a.judge()
	}
}

// completed is told of each call that ended, with its latency in ns.
func (a *adaptive) completed(p *Permit, latency float64, o Outcome) {
	if o == Failed && latency > a.baseline.value && a.baseline.value > 0 {
		o = Success // a slow failure is as slow as a slow success
	}
	switch {
	case o == Dropped:
		a.dropped++
	case o == Success:
		a.prober.completed(p, latency)
		if !p.low {
			a.window.add(latency, float64(p.load))
			if p.full {
				a.full++
			}
		}
	}
	if a.window.n+a.dropped >= max(windowCalls, a.limit) {
		a.turnWindow()
	}
}

// turnWindow looks at the calls since the last time: it moves the limit up while nothing waits in
// the service, and teaches the baseline.
func (a *adaptive) turnWindow() {
	w, base := &a.window, a.baseline.value
	if a.dropped > droppedShare*(w.n+a.dropped) {
		a.setLimit(a.limit * shrinkMax)
		a.endWindow()
		return
	}
	if w.n < 5 {
		a.endWindow()
		return
	}
	latency, load, full := w.value(), w.load/w.n, a.full/w.n
	relative := math.Sqrt(max(w.spread(), a.long.spread()) / w.n) // a few calls may all be fast ones
	err := relative * latency
	switch {
	case full > 0.8 && latency+2*err < base*freeBelow:
		grow := min(growMax, base*headroom/latency)
		if a.grew {
			grow = growAgain
		}
		a.setLimit(a.limit * grow)
		a.endWindow()
		a.grew = true
		return
	case !a.clear(relative) && latency+3*err > 0.8*base:
		return
	case base > 0 && full < 0.2 && latency-err > 2*base && load*headroom < a.limit:
		// The limit is not reached, but the service is slow: bring it to where it can be judged.
		a.setLimit(max(a.limit*shrinkMax, load*headroom))
	case a.peak*headroom < a.limit && a.limit > startLimit/2:
		// Nobody knows whether a limit is right that is not used.
		a.setLimit(max(a.limit*0.95, startLimit/2, a.peak*headroom))
	}
	a.grew = false
	a.baseline.learn(latency, err, w.n, load < a.limit/2)
	a.peak *= 0.95
	a.endWindow()
}

// clear tells whether the mean of the window is known well enough. With few calls in flight that has
// to do with less, since it takes longer.
func (a *adaptive) clear(relative float64) bool {
	n := a.window.n
	return relative <= windowError || n >= windowMost || n >= 5*a.limit && relative <= 2*windowError
}

// endWindow begins a new window. What was known of the variation is forgotten when the service has
// clearly become another one.
func (a *adaptive) endWindow() {
	w := &a.window
	if a.long.n > 0 && w.n >= windowCalls {
		change := w.value()/a.long.value() - 1
		if (change > 0.3 || change < -0.25) && change*change > 9*a.long.spread()/w.n {
			a.long = mean{}
		}
	}
	a.long.fade(0.95)
	a.long.merge(w)
	a.window, a.full, a.dropped = mean{}, 0, 0
}

// judge draws the conclusions from a round with an excursion.
func (a *adaptive) judge() {
	p := &a.prober
	if !p.conclude(a.long.spread()) {
		return
	}
	base := a.baseline.value
	low, high := p.low.value(), p.high.value()
	a.baseline.rising = max(a.baseline.rising-1, 0)
	switch {
	case p.slower(a.baseline.suspects(low, p.gateways)):
		a.baseline.lift(low)
		p.elastic.evidence = 0
		a.setLimit(a.limit * min(max(a.baseline.value*headroom/high, 1.1), growMax))
	case p.elastic.error() < 0.2 && p.elastic.value < queuedBelow*p.usual && a.baseline.follow(low, p.gateways):
	case p.latest > base*headroom*1.04:
		if p.queues() {
			a.setLimit(a.limit * max(shrinkMax, base*headroom/high))
		}
	case p.elastic.error() > 0.2:
	case p.elastic.value < queuedBelow*p.usual:
		a.baseline.restore()
	case high < base*headroom*0.96 && p.elastic.value < queuedAbove:
		a.setLimit(a.limit * min(1.05, base*headroom/high))
	case p.elastic.value > queuedAbove:
		a.baseline.lower()
	}
}
