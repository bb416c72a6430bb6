package overload

import "math"

// The constants of the adaptive limit. They were chosen in the simulator (bench/load/overload).
const (
	// startLimit is the limit before anything is known.
	startLimit = 16
	// headroom is how far above the knee the limit stands, so that the service never runs out of work
	// between a response and the next call, and so that an excursion ends at the knee and not below.
	headroom = 1.25
	// excursion is how far the limit goes down to see what it does to the latency.
	excursion = 0.2
	// highShare is how much longer the limit stays up than down.
	highShare = 5
	// lowCalls is how many calls an excursion lasts at least.
	lowCalls = 15
	// slowerBelow: an elasticity below this share of the usual one says that the service works no faster
	// with fewer calls: it has become slower. queuedAbove: one above it says that calls wait inside
	// even at the lower limit.
	slowerBelow = 0.45
	queuedAbove = 0.85
	// forget is what is left of the evidence after each excursion.
	forget     = 0.85
	forgetLess = 0.97
	// enough evidence: an error of 0.2.
	enough = 25
	// usualStart is the usual elasticity before it is known, usualLeast the smallest that is believed.
	usualStart = 0.6
	usualLeast = 0.1
	// growMax and shrinkMax bound one step of the limit.
	growMax   = 1.25
	shrinkMax = 0.85
	// windowCalls is how many calls a window has at least, windowMost how many before it ends undecided.
	windowCalls = 20
	windowMost  = 500
	// windowError is the relative error of the mean latency at which a window ends.
	windowError = 0.08
	// freeBelow: as long as the latency is below so much of the baseline, the limit may grow.
	freeBelow = 1.1
	// droppedShare of calls dropped by the service takes the limit down.
	droppedShare = 0.1
)

// mean is a running mean with its variance.
type mean struct{ n, sum, square, load float64 }

func (m *mean) add(v, load float64) {
	m.n++
	m.sum += v
	m.square += v * v
	m.load += load
}

func (m *mean) value() float64 { return m.sum / m.n }

// spread is the squared coefficient of variation.
func (m *mean) spread() float64 {
	v := m.value()
	return max(m.square/(m.n*v*v)-1, 1e-4)
}

// fade forgets a part.
func (m *mean) fade(keep float64) {
	m.n, m.sum, m.square, m.load = m.n*keep, m.sum*keep, m.square*keep, m.load*keep
}

func (m *mean) merge(n *mean) {
	m.n, m.sum, m.square, m.load = m.n+n.n, m.sum+n.sum, m.square+n.square, m.load+n.load
}

// round is one excursion with what came before it.
type round struct {
	high, low mean
	pending   int // calls of the excursion that have not ended
	over      bool
}

// adaptive is a limit that follows what the service can do. Its caller holds the limiter's lock.
type adaptive struct {
	limit      float64
	least, top float64
	random     uint64

	allowed int // the limit as applied now
	low     bool
	left    int // calls until the next change between high and low
	turn    uint32
	rounds  [2]round // by turn

	base     float64 // latency while nothing waits inside the service, in ns; 0: not known
	window   mean
	full     float64 // calls of the window that were admitted with the limit reached
	dropped  float64
	elastic  float64 // how latency goes with concurrency: 0 not at all, 1 in proportion
	evidence float64 // inverse variance of elastic
	usual    float64 // elastic while calls wait inside for sure: the smaller, the more gateways there are
	lowMean  mean    // of late
	highMean mean
	long     mean // for the variation of the latency
}

func newAdaptive(s Settings, seed uint64) adaptive {
	a := adaptive{limit: startLimit, random: seed, usual: usualStart}
	a.configure(s)
	a.left = a.highCalls()
	return a
}

func (a *adaptive) configure(s Settings) {
	a.least, a.top = float64(s.Min), float64(s.Max)
	a.setLimit(a.limit)
}

func (a *adaptive) setLimit(limit float64) {
	limit = min(max(limit, a.least), a.top)
	if change := limit / a.limit; change > 1.08 || change < 0.92 {
		a.evidence *= 0.5
	}
	a.limit = limit
	a.apply()
}

// apply sets the limit in whole calls.
func (a *adaptive) apply() {
	high := int(math.Round(a.limit))
	a.allowed = high
	if a.low {
		a.allowed = max(1, high-max(1, int(math.Round(a.limit*excursion))))
	}
}

// lowCalls is how many calls an excursion lasts, highCalls how many are between two.
func (a *adaptive) lowCalls() int { return int(max(lowCalls, 1.5*a.limit)) }

// highCalls differs from time to time and from replica to replica.
func (a *adaptive) highCalls() int {
	a.random += 0x9e3779b97f4a7c15 // SplitMix64 (Steele et al. 2014)
	z := (a.random ^ a.random>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	jitter := 0.75 + 0.5*float64((z^z>>31)>>11)/(1<<53)
	return int(highShare * jitter * float64(a.lowCalls()))
}

// admitted is told of each call with how many are in flight then.
func (a *adaptive) admitted(p *Permit, inFlight int) {
	p.load = float32(inFlight)
	p.turn, p.low = a.turn, a.low
	p.full = inFlight >= a.allowed-a.allowed/10
	if !p.full {
		if a.low { // nothing can be learned while the limit is not reached
			a.low = false
			a.nextTurn()
			a.evidence *= 0.9
		}
		return
	}
	r := &a.rounds[a.turn&1]
	if a.low {
		r.pending++
	}
	a.left--
	if a.left > 0 {
		return
	}
	if a.low {
		r.over = true
		a.low = false
		a.nextTurn()
	} else {
		a.low = true
		a.left = a.lowCalls()
	}
	a.apply()
}

func (a *adaptive) nextTurn() {
	a.turn++
	r := &a.rounds[a.turn&1]
	if r.over { // some call of it hangs
		a.judge(r)
	}
	*r = round{}
	a.left = a.highCalls()
	a.apply()
}

// whole is the limit without its excursions.
func (a *adaptive) whole() int { return int(math.Round(a.limit)) }

// ignored is told of each call that ended and has shown nothing.
func (a *adaptive) ignored(p *Permit) {
	if p.full && p.low && (p.turn == a.turn || p.turn == a.turn-1) {
		a.rounds[p.turn&1].pending--
	}
}

// completed is told of each call that ended, with its latency in ns.
func (a *adaptive) completed(p *Permit, latency float64, o Outcome) {
	if o == Failed && latency > a.base && a.base > 0 {
		o = Success // a slow failure is as slow as a slow success
	}
	if o == Dropped {
		a.dropped++
	}
	if p.turn == a.turn || p.turn == a.turn-1 {
		r := &a.rounds[p.turn&1]
		if p.full && p.low {
			r.pending--
		}
		if o == Success && p.full {
			if p.low {
				r.low.add(latency, float64(p.load))
			} else {
				r.high.add(latency, float64(p.load))
			}
		}
		if r.over && r.pending == 0 {
			a.judge(r)
			r.over = false
		}
	}
	if o == Success && !p.low {
		a.window.add(latency, float64(p.load))
		if p.full {
			a.full++
		}
	}
	if a.window.n+a.dropped >= max(windowCalls, a.limit) {
		a.turnWindow()
	}
}

// turnWindow looks at the calls since the last time: it moves the baseline down, or either way
// while few calls are in flight, and the limit up.
func (a *adaptive) turnWindow() {
	w := &a.window
	if a.dropped > droppedShare*(w.n+a.dropped) {
		a.setLimit(a.limit * shrinkMax)
		a.endWindow()
		return
	}
	if w.n < 5 {
		a.endWindow()
		return
	}
	latency, load := w.value(), w.load/w.n
	relative := math.Sqrt(a.variation(w) / w.n)
	err := relative * latency
	full := a.full / w.n
	switch {
	case full > 0.8 && latency+err < a.base*freeBelow:
		a.setLimit(a.limit * min(growMax, a.base*headroom/latency))
	case relative > windowError && w.n < windowMost && latency+3*err > a.base*0.8:
		return // not clear yet
	case full < 0.2 && latency-err > 2*a.base && load*headroom < a.limit && a.base > 0:
		// The limit is not reached, but the service is slow: bring it to where it can be judged.
		a.setLimit(max(a.limit*shrinkMax, load*headroom))
	}
	a.learnBase(latency, err, load)
	a.endWindow()
}

// variation is the squared coefficient of variation, of the window or in the long run: a few calls
// may all be fast ones.
func (a *adaptive) variation(w *mean) float64 {
	if a.long.n == 0 {
		return w.spread()
	}
	return max(w.spread(), a.long.spread())
}

func (a *adaptive) endWindow() {
	a.long.fade(0.95)
	a.long.merge(&a.window)
	a.window, a.full, a.dropped = mean{}, 0, 0
}

func (a *adaptive) learnBase(latency, err, load float64) {
	switch {
	case a.base == 0 || latency+3*err < 0.8*a.base:
		a.base = latency
	case latency+2*err < a.base:
		a.base += 0.25 * (latency - a.base)
	case load < a.limit/2:
		a.base += 0.05 * (latency - a.base)
	}
}

// judge draws the conclusions from an excursion.
func (a *adaptive) judge(r *round) {
	if r.high.n < 5 || r.low.n < 5 {
		return
	}
	x := math.Log(r.high.load / r.high.n / (r.low.load / r.low.n))
	if x < 0.05 {
		return
	}
	elastic := math.Log(r.high.value()/r.low.value()) / x
	weight := x * x / (max(a.long.spread(), r.high.spread()) * (1/r.high.n + 1/r.low.n))
	if a.evidence > enough {
		a.evidence *= forget
	} else {
		a.evidence *= forgetLess
	}
	a.elastic = (a.elastic*a.evidence + elastic*weight) / (a.evidence + weight)
	a.evidence += weight
	a.lowMean.fade(0.5)
	a.lowMean.merge(&r.low)
	a.highMean.fade(0.5)
	a.highMean.merge(&r.high)
	unsure := 1 / math.Sqrt(a.evidence)
	if unsure > 0.3 {
		return
	}
	low, high := a.lowMean.value(), a.highMean.value()
	if unsure < 0.2 && high > 1.12*a.base && low < 1.35*a.base {
		a.learnUsual()
	}
	switch {
	case a.elastic < slowerBelow*a.usual && low > a.base:
		a.base = low
		a.evidence = 0
		a.setLimit(a.limit * min(growMax, a.base*headroom/high))
	case r.high.value() > a.base*headroom*1.04 && a.elastic > slowerBelow*a.usual:
		a.setLimit(a.limit * max(shrinkMax, a.base*headroom/high))
	case a.elastic > queuedAbove*a.usual && unsure < 0.2:
		a.base *= 0.98
	}
}

// learnUsual: the more gateways use the service, the less the latency follows the limit of one. It goes
// up fast and down slowly, since the elasticity is smaller also when the service becomes slower.
func (a *adaptive) learnUsual() {
	weight := 0.03
	if a.elastic > a.usual {
		weight = 0.3
	}
	a.usual += weight * (a.elastic - a.usual)
	a.usual = min(max(a.usual, usualLeast), 1)
}
