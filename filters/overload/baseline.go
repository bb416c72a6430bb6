package overload

const (
	// sinking is how much the baseline sinks at a time when it may be too high, sinkingKnown how
	// much once it was measured while few calls were in flight.
	sinking      = 0.015
	sinkingKnown = 0.003
	// following is how much the baseline goes up at a time then.
	following = 0.03
	// risingRounds is for how many rounds after a lift the service is taken to become slower still.
	risingRounds = 40
	// farAway from the lowest baseline it takes more evidence to lift it.
	farAway = 4
)

// baseline is the latency of the service while no call waits inside, in ns. It is measured while few
// calls are in flight, and falls at once when the service is faster. What cannot lift it is latency as
// such: only evidence that fewer calls in flight are no faster does.
type baseline struct {
	value   float64 // 0: not known
	trusted float64 // as measured
	lowest  float64 // as measured while few calls were in flight, or lower
	known   bool    // it was measured so
	seen    float64 // calls that it was measured by
	rising  int     // rounds for which a lift is believed to go on
}

// learn is told the mean latency of n calls with its error, and whether few were in flight.
func (b *baseline) learn(latency, err, n float64, few bool) {
	switch {
	case b.trusted == 0:
		b.trusted, b.lowest = latency, latency
	case few:
		b.known = true
		if latency+3*err < 0.8*b.trusted {
			b.trusted = latency
		}
		b.seen = min(b.seen+n, 10*windowMost)
		b.trusted += max(0.1, n/b.seen) * (latency - b.trusted)
		b.lowest = b.trusted
	case latency+3*err < 0.8*b.trusted:
		b.trusted = latency
	case latency+3*err < b.trusted:
		b.trusted += 0.25 * (latency - b.trusted)
	default:
		return
	}
	b.lowest = min(b.lowest, b.trusted)
	b.value = b.trusted
}

// lift is called when the service became slower.
func (b *baseline) lift(latency float64) {
	b.trusted = max(b.trusted, latency)
	b.value, b.known, b.rising = b.trusted, true, risingRounds
}

// lower is called when calls wait inside even at the lower limit.
func (b *baseline) lower() {
	if b.known {
		b.value *= 1 - sinkingKnown
	} else {
		b.value *= 1 - sinking
	}
}

// restore takes back what lower did.
func (b *baseline) restore() { b.value = min(b.value*(1+sinking), b.trusted) }

// follow goes up a little towards a service that becomes slower and slower. It returns false when that
// is not so.
func (b *baseline) follow(low float64) bool {
	if b.rising == 0 || low < b.trusted {
		return false
	}
	b.trusted = min(low, b.trusted*(1+following))
	b.value = b.trusted
	return true
}

// caution is how many standard errors it takes to believe that the service became so slow: more the
// farther it is from what was measured while few calls were in flight, since then a queue that
// other gateways fill is more likely. So it is when there are others.
func (b *baseline) caution(latency float64, alone bool) float64 {
	switch {
	case !alone:
		return 3
	case latency > farAway*b.lowest:
		return 2
	}
	return 0.7
}
