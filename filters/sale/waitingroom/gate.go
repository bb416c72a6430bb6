package waitingroom

import (
	"math"
	"slices"
	"time"
)

const (
	// period is how often a gateway that is asked exchanges with the store.
	period = 100 * time.Millisecond
	// gapMin is the least time between two exchanges, however many wait for one.
	gapMin = 20 * time.Millisecond
	// leaseFor is how long the tokens of a grant may be used, and numbers given out.
	leaseFor = time.Second
	// blockFor is how long numbers may be given out: who comes later must not get the places of those who came before
	// at another gateway.
	blockFor = 250 * time.Millisecond
	// retryAfterFailure is how long the store is left alone after it failed.
	retryAfterFailure = 250 * time.Millisecond
	// triesMax is how many exchanges one waits for to get a number, or to hear how far the line is.
	triesMax = 4
	// holdTries is how many one waits for that was called and lacks an admission. It evens out that many come at the
	// same moment of each second, since Retry-After is in whole seconds. At most holdersMax wait so.
	holdTries  = 50
	holdersMax = 256
	// aheadMax bounds the tokens that are asked for ahead of need.
	aheadMax = 100_000
)

// verdict is what a gate says to one request.
type verdict uint8

const (
	admitted verdict = iota + 1
	waits            // with a number, or before the sale has opened
	asks             // the store has to be asked first
	failed           // it was, and did not answer
	called           // of one that only looks: it need not wait for its turn
)

// gate is a gateway's part of a line: tokens and numbers that it was granted, and what it has to report. It is pure
// and not safe for concurrent use.
type gate struct {
	opens time.Time
	rate  float64

	grant    Grant
	at       time.Time // of the grant
	asked    time.Time // when the last report was made
	failedAt time.Time // when the store failed; zero: it did not, at the last call

	tokens int
	next   float64   // number to be given out
	left   int       // numbers left
	block  time.Time // when they were granted

	used      int // tokens used since the last report
	turned    int // who were called in vain since
	newcomers int // who wait for the next grant and have no number
	holders   int // who have a number and wait for it

	present  []float64 // the numbers of holders who wait for the next grant and are called
	waiting  []float64 // those for the grant under way
	reserved int       // tokens for those of them who have the lowest numbers,
	upTo     float64   // up to this one

	known    Known
	raised   []Register // not yet known to the store
	seen     *Sketch    // nil before the first who came early
	counted  float64    // of seen, at the last report
	reported int        // of raised, in the report under way
}

// lookNew is newcomer for one that is not to be admitted yet: called in place of admitted. One that has to wait gets
// its number.
func (g *gate) lookNew(now time.Time, tries int) (verdict, float64) {
	used, tokens := g.used, g.tokens
	d, number := g.newcomer(now, tries)
	if d == admitted {
		g.used, g.tokens = used, tokens
		d = called
	}
	return d, number
}

// look is holder for one that is not to be admitted yet: called in place of admitted, and for whoever need only wait
// for an admission.
func (g *gate) look(now time.Time, number, served float64, tries int) verdict {
	if g.leased(now) && number <= g.grant.Serving {
		return called
	}
	if d := g.holder(now, number, served, tries); d != admitted {
		return d
	}
	return called // any number is, without a rate
}

// newcomer decides on one without a number, which has waited for so many exchanges. The number is that of one
// who waits; 0 before the sale has opened.
func (g *gate) newcomer(now time.Time, tries int) (verdict, float64) {
	if !g.grant.Opened {
		return g.beforeOpening(now, tries), 0
	}
	if g.rate <= 0 {
		return admitted, 0
	}
	if !g.leased(now) {
		return g.ask(now, tries), 0
	}
	if g.grant.Direct && g.turned == 0 && g.tokens > 0 {
		g.tokens--
		g.used++
		return admitted, 0
	}
	if g.left > 0 && now.Sub(g.block) <= blockFor {
		g.next++
		g.left--
		return waits, g.next - 1
	}
	return g.ask(now, tries), 0
}

// beforeOpening decides while the store has not said that the sale has opened. Its clock opens the sale, not this
// gateway's.
func (g *gate) beforeOpening(now time.Time, tries int) verdict {
	if now.Before(g.opens) || tries > 0 && !g.down(now) {
		return waits
	}
	return g.ask(now, tries)
}

// holder decides on one with a number, whose ticket was signed when the line was at served.
func (g *gate) holder(now time.Time, number, served float64, tries int) verdict {
	// both are of a grant to another gateway, or of one before a restart
	g.known.Issued, g.known.Serving = max(g.known.Issued, number), max(g.known.Serving, served)
	switch {
	case g.rate <= 0 && g.grant.Opened:
		return admitted
	case !g.leased(now):
		return g.ask(now, tries)
	case number > g.grant.Serving:
		if tries == 0 && now.Sub(g.at) >= period {
			return g.ask(now, tries)
		}
		return waits
	case tries > 0 && g.reserved > 0 && number <= g.upTo:
		g.reserved--
		g.tokens--
		g.used++
		return admitted
	case g.tokens > g.reserved:
		g.tokens--
		g.used++
		return admitted
	case tries >= holdTries || tries == 1 && g.holders >= holdersMax:
		g.turned++
		return waits
	}
	if d := g.ask(now, 0); d != asks {
		return d
	}
	g.present = append(g.present, number)
	return asks
}

// earlyNumber returns the number of one who came early and drew that lot, from 0 to 1; false: the store has to say
// first how many there are.
func (g *gate) earlyNumber(lot float64) (float64, bool) {
	if !g.grant.Opened {
		return 0, false
	}
	return math.Floor(lot*g.grant.Early) + 1, true
}

// ask has the store asked, if there is a point in it.
func (g *gate) ask(now time.Time, tries int) verdict {
	if tries >= triesMax || g.down(now) {
		return failed
	}
	return asks
}

// leased reports whether what the store granted last may be used.
func (g *gate) leased(now time.Time) bool {
	age := now.Sub(g.at)
	return g.grant.Opened && age >= 0 && age < leaseFor
}

// due reports whether the store should be asked, for the requests to come.
func (g *gate) due(now time.Time) bool {
	if g.rate <= 0 && g.grant.Opened {
		return false
	}
	return !g.down(now) && (now.Sub(g.asked) >= period || now.Before(g.asked))
}

// down reports whether the store failed just now and is left alone.
func (g *gate) down(now time.Time) bool {
	age := now.Sub(g.failedAt)
	return !g.failedAt.IsZero() && age >= 0 && age < retryAfterFailure
}

// early notes one who came before the sale opened.
func (g *gate) early(hash uint64) {
	if g.seen == nil {
		g.seen = new(Sketch)
	}
	if reg := registerOf(hash); g.seen.Raise(reg) {
		g.raised = append(g.raised, reg)
	}
}

// report makes the next report. It is followed by apply or fail.
func (g *gate) report(now time.Time) Report {
	elapsed := now.Sub(g.asked)
	if g.asked.IsZero() || elapsed > leaseFor || elapsed < 0 {
		elapsed = leaseFor
	}
	// what comes in the next period, if it is as much as since the last report, and a quarter more
	per := 1.25 * float64(period) / float64(max(elapsed, gapMin))
	ahead := min(int(math.Ceil(float64(g.used)*per)), aheadMax)
	if !g.grant.Direct { // what one gateway has in store, who waits at another one lacks
		ahead = 0
	}
	keep := min(g.tokens, ahead+g.newcomers+g.holders)
	if now.Sub(g.block) > blockFor {
		g.left = 0
	}
	r := Report{
		Opens: g.opens, Rate: g.rate, Newcomers: max(g.newcomers-g.left, 0),
		Tokens:   g.newcomers + g.holders + ahead - keep,
		Returned: g.tokens - keep, Turned: g.turned, Known: g.known, Registers: g.raised,
		Waited: float64(len(g.present)) * min(elapsed, 2*gapMin).Seconds(),
	}
	if g.seen != nil {
		g.counted = math.Round(g.seen.Estimate())
	}
	g.tokens, g.reserved, g.reported = keep, 0, len(g.raised)
	g.waiting, g.present = append(g.waiting[:0], g.present...), g.present[:0]
	g.used, g.turned, g.newcomers, g.holders = 0, 0, 0, 0
	g.asked = now
	return r
}

// apply takes the reply of the store over.
func (g *gate) apply(now time.Time, grant Grant) {
	g.grant, g.at, g.failedAt = grant, now, time.Time{}
	g.tokens += grant.Tokens
	if g.reserved = min(g.tokens, len(g.waiting)); g.reserved > 0 {
		slices.Sort(g.waiting)
		g.upTo = g.waiting[g.reserved-1]
	}
	if grant.Numbers > 0 { // the rest of those before, of who left while it waited, goes to nobody
		g.left, g.next, g.block = grant.Numbers, grant.First, now
	}
	g.raised = append(g.raised[:0], g.raised[g.reported:]...)
	g.reported = 0
	if grant.Opened {
		g.known = Known{Opened: true, Early: grant.Early, Issued: max(g.known.Issued, grant.Issued),
			Serving: max(g.known.Serving, grant.Serving)}
		g.seen, g.raised = nil, nil
	}
}

// fail notes that the store did not answer. What was returned to it is lost.
func (g *gate) fail(now time.Time) { g.failedAt, g.reported = now, 0 }

// place returns how many are before the holder of a number, it included, and when it will be called.
func (g *gate) place(number float64) (place int64, in time.Duration) {
	n := number - g.grant.Serving
	if n <= 0 {
		return 1, 0
	}
	place = int64(math.Ceil(n))
	if speed := g.grant.Speed; speed > 0 {
		in = time.Duration(min(n/speed, 365*24*3600) * float64(time.Second))
	}
	return place, in
}

// earlyCount returns about how many came early: those that the store counts, or those that came here since.
func (g *gate) earlyCount() float64 {
	if g.grant.Opened || g.seen == nil {
		return g.grant.Early
	}
	return max(g.grant.Early, g.counted)
}
