package overload

import "math"

const (
	// slowerBelow: an elasticity below this share of the usual one says that the service works no faster
	// with fewer calls: it has become slower. queuedAbove: one above it says that calls wait inside
	// even at the lower limit, and the baseline may be too high; it sinks until the elasticity is below
	// queuedBelow of the usual one.
	slowerBelow = 0.55
	queuedAbove = 0.93
	queuedBelow = 0.7
	// sureBelow: the error must be below this share of the usual elasticity to believe that.
	sureBelow = 0.6
	// cautionAlone and cautionOthers are by how many errors the elasticity must be below that.
	cautionAlone  = 0.7
	cautionOthers = 3.0
	// gatewaysSuspected is how many there are in the worst case that is guarded against.
	gatewaysSuspected = 4
	// forget is what is left of the evidence after each round, enough is the most that counts: an error
	// of 0.17. With other gateways they are forgetOfMany, and enoughOfMany by the square of the
	// usual elasticity. keepEvidence is what is left of it when the limit changes.
	forget       = 0.97
	enough       = 35
	forgetOfMany = 0.99
	enoughOfMany = 60
	keepEvidence = 0.1
	// spareMost: with more calls that did not reach the limit, for each that did, little follows.
	spareMost = 0.5
	// errorMost is the error above which no conclusion is drawn.
	errorMost = 0.4
	// usualAlone is the elasticity with one gateway while calls wait inside: a little less than 1, since the
	// excursion ends near the knee.
	usualAlone = 0.85
)

// phase is where a round stands. The excursion is in the middle, so that a trend of the latency does not
// look like its effect.
type phase uint8

const (
	before phase = iota
	down
	after
)

// prober moves the limit down a little now and then while it is reached, and measures the elasticity of the
// latency: 1 when it goes with the number of calls in flight, since all more of them wait inside the
// service; 0 when it does not.
type prober struct {
	spare int // calls of the round that did not reach the limit
	full  int // calls of the round that did
	left  int // calls until the next phase

	random   uint64
	gateways int // that use the service; 0: not known
	allowed  int
	phase    phase
	turn     uint32
	missed   int      // calls of the excursion that did not reach the limit
	rounds   [2]round // by turn

	elastic estimate
	usual   float64 // elastic while calls wait inside: the smaller, the more gateways there are
	low     mean    // of the last rounds
	high    mean
	latest  float64 // mean latency above the excursion in the last round
}

type round struct {
	high, low mean
	over      bool // all its calls are admitted, and the limit was reached most of the time
}

// estimate is a value with its inverse variance.
type estimate struct{ value, evidence float64 }

func (e *estimate) add(value, weight, keep, most float64) {
	e.evidence = min(e.evidence*keep, most)
	e.value = (e.value*e.evidence + value*weight) / (e.evidence + weight)
	e.evidence += weight
}

// error is the standard error.
func (e *estimate) error() float64 { return 1 / math.Sqrt(e.evidence) }

// know sets how many gateways use the service.
func (p *prober) know(gateways int) {
	p.gateways = gateways
	p.usual = usualAlone / float64(max(gateways, 1))
}

// apply sets the limit in whole calls.
func (p *prober) apply(limit float64) {
	p.allowed = int(math.Round(limit))
	if p.phase == down {
		p.allowed = max(1, p.allowed-max(1, int(math.Round(limit*excursion))))
	}
}

func (p *prober) lowCalls(limit float64) int { return int(max(lowCalls, 1.5*limit)) }

// highCalls is how many calls come before an excursion, and after. It differs from time to time and
// from replica to replica.
func (p *prober) highCalls(limit float64) int {
	p.random += 0x9e3779b97f4a7c15 // SplitMix64 (Steele, Lea, Flood 2014)
	z := (p.random ^ p.random>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	jitter := 0.75 + 0.5*float64((z^z>>31)>>11)/(1<<53)
	return int(highShare / 2.0 * jitter * float64(p.lowCalls(limit)))
}

// admitted is told of each call. It returns true when there is a round to judge.
func (p *prober) admitted(permit *Permit, inFlight int, limit float64) (judge bool) {
	permit.turn, permit.low = p.turn, p.phase == down
	permit.full = inFlight >= p.allowed-p.allowed/10
	if !permit.full {
		p.spare++
		if p.phase == down {
			p.missed++
			if p.missed > p.lowCalls(limit)/3 { // nothing can be learned
				p.nextTurn(limit)
			}
		}
		return false
	}
	p.full++
	p.left--
	if p.left > 0 {
		return false
	}
	switch p.phase {
	case before:
		p.phase, p.left = down, p.lowCalls(limit)
		// The calls of the last round have ended by now, but for those that hang.
		judge = p.rounds[(p.turn-1)&1].over
	case down:
		p.phase, p.left = after, p.highCalls(limit)
	case after:
		p.rounds[p.turn&1].over = float64(p.spare) < spareMost*float64(p.full)
		p.nextTurn(limit)
	}
	p.apply(limit)
	return judge
}

func (p *prober) nextTurn(limit float64) {
	p.turn++
	p.phase, p.left = before, p.highCalls(limit)
	p.missed, p.spare, p.full = 0, 0, 0
	p.rounds[p.turn&1] = round{}
	p.apply(limit)
}

// completed is told of each success.
func (p *prober) completed(permit *Permit, latency float64) {
	if !permit.full || permit.turn != p.turn && permit.turn != p.turn-1 {
		return
	}
	r := &p.rounds[permit.turn&1]
	if permit.low {
		r.low.add(latency, float64(permit.load))
	} else {
		r.high.add(latency, float64(permit.load))
	}
}

// conclude takes the last round into account. It returns false when too little is known.
func (p *prober) conclude(spread float64) bool {
	r := &p.rounds[(p.turn-1)&1]
	if r.high.n < 5 || r.low.n < 5 {
		return false
	}
	x := math.Log(r.high.load / r.high.n / (r.low.load / r.low.n))
	if x < 0.05 {
		return false
	}
	elastic := math.Log(r.high.value()/r.low.value()) / x
	weight := x * x / (max(spread, r.high.spread()) * (1/r.high.n + 1/r.low.n))
	p.latest = r.high.value()
	if change := p.latest / p.high.value(); p.high.n > 0 && (change > 1.3 || change < 0.75) {
		p.elastic, p.high, p.low = estimate{}, mean{}, mean{} // it is another service
	}
	if p.alone() {
		p.elastic.add(elastic, weight, forget, enough)
	} else {
		p.elastic.add(elastic, weight, forgetOfMany, enoughOfMany/(p.usual*p.usual))
	}
	p.low.fade(0.5)
	p.low.merge(&r.low)
	p.high.fade(0.5)
	p.high.merge(&r.high)
	return p.elastic.error() <= errorMost || !p.alone()
}

// slower tells whether the service became slower. That takes much more evidence when there are other
// gateways, and even more when they are suspected.
func (p *prober) slower(suspected bool) bool {
	below, errors := slowerBelow*p.usual, cautionAlone
	if !p.alone() || suspected {
		errors = cautionOthers
	}
	if suspected {
		below /= gatewaysSuspected
	}
	err := p.elastic.error()
	return p.elastic.value+errors*err < below && err < sureBelow*p.usual
}

// queues tells whether calls wait inside. With other gateways that is taken for granted until it is
// disproved, since there is little to be seen of it.
func (p *prober) queues() bool {
	if p.alone() {
		return p.elastic.value-0.5*p.elastic.error() > slowerBelow*p.usual
	}
	return p.elastic.value+p.elastic.error() > slowerBelow*p.usual
}

// alone tells whether no other gateway is known to use the service.
func (p *prober) alone() bool { return p.gateways <= 1 }
