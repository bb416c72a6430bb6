package waitingroom

import (
	"math"
	"time"
)

const (
	// burstQueued and burstIdle are how much of the rate may be caught up at once: after a call that came late while
	// buyers wait, and after a time in which nobody came.
	burstQueued = 500 * time.Millisecond
	burstIdle   = 100 * time.Millisecond
	// advanceMax bounds what a time without any call advances the line by. It is longer than who waits stays away.
	advanceMax = 30 * time.Second
	// holdDirect is how long nobody passes those who were called and came in vain.
	holdDirect = 2 * time.Second

	// lead is how far ahead of the rate the line begins: who is called takes about as long to come.
	lead = time.Second
	// backlogWant is how many of those who were called should be on their way or have come in vain, in seconds of the
	// rate: so many that there is always one for whom there is an admission.
	backlogWant = 0.6
	backlogFor  = 1e6 // how long one who was sent away stays away, and the mean of the others is over, in microseconds

	paceGain   = 0.4  // of the backlog, on the speed
	trendGain  = 0.05 // of the backlog, on the trend, a second
	unusedGain = 0.25 // of admissions that nobody used, on the trend
	trendMin   = 0.5
	paceMax    = 8
)

// Line is what the fleet shares of one sale's waiting room: the numbers that were given out, the number that is being
// served, and what is left of the rate. It is pure: a store runs [Line.Exchange] as one step, by its own clock. The
// zero value is one that has not opened. All counts are whole numbers below 2^53 but for Serving, Credit and Pace.
type Line struct {
	Opened  bool
	Early   float64 // who came before it opened; an estimate
	Issued  float64 // the last number that was given out
	Serving float64 // up to this number all are called
	Credit  float64 // admissions that the rate allows now
	Trend   float64 // the line moves at Trend × the rate in the long run; 0 reads as 1
	Lead    float64 // so many more may be called at once
	Backlog float64 // about how many were called and wait for an admission
	Granted float64 // admissions that were given out, less those that came back
	At      float64 // of all this, in microseconds since 1970
	Held    float64 // until then nobody is admitted without a number, in microseconds
	Seen    Sketch  // those who came before it opened
}

// Known is what a gateway knows of a line. A store that lost its memory takes it over, so that a place stays what it
// was.
type Known struct {
	Opened                 bool
	Early, Issued, Serving float64
}

// Report is what a gateway tells a line and asks of it.
type Report struct {
	Opens time.Time // zero: it is open
	Rate  float64   // admissions a second, 0: any number

	Newcomers int // who wait for the reply and have no number
	Tokens    int // admissions that are wanted

	Returned int     // admissions of the grants before that were not used
	Turned   int     // who were called, found no admission and were sent away
	Waited   float64 // seconds that those who were called waited at the gateway since the last report, all together

	Known     Known
	Registers []Register // that were raised by who came early
}

// Grant is the reply of a line.
type Grant struct {
	Opened  bool
	Direct  bool    // who comes may be admitted without a number, while there are tokens
	Tokens  int     // admissions that the gateway may make
	First   float64 // the first of the numbers that it may give out, of which there are
	Numbers int
	Early   float64 // who came early; final when it has opened
	Issued  float64
	Serving float64
	Speed   float64 // by so many numbers a second the line moves
	Granted float64
}

// Exchange takes one report at that moment and replies.
func (l *Line) Exchange(now time.Time, r *Report) Grant {
	t := float64(now.UnixMicro())
	opened := !now.Before(r.Opens) || r.Known.Opened // a clock that stepped back closes nothing
	if !opened && l.Opened {
		*l = Line{} // the next sale of this name
	}
	if !l.Opened {
		for _, reg := range r.Registers {
			l.Seen.Raise(reg)
		}
		l.Early = math.Round(l.Seen.Estimate())
	}
	if !opened {
		return Grant{Early: l.Early}
	}
	if !l.Opened {
		l.open(t, r)
	}
	l.restore(r.Known)
	direct := l.advance(t, r)
	return l.grant(r, direct)
}

// open freezes how many came early: they have the first numbers.
func (l *Line) open(t float64, r *Report) {
	if r.Known.Opened {
		l.Early = r.Known.Early
	}
	l.Opened, l.Issued, l.At = true, l.Early, t
	l.Lead = bound(r.Rate, lead, 1)
	if l.Early == 0 {
		l.Credit = bound(r.Rate, burstIdle, 1)
	}
}

func (l *Line) restore(k Known) {
	if k.Opened {
		l.Issued = max(l.Issued, k.Issued, k.Serving)
		l.Serving = max(l.Serving, k.Serving)
	}
}

// advance moves the line on to the moment. It reports whether nobody waits.
func (l *Line) advance(t float64, r *Report) (direct bool) {
	dt := min(max(t-l.At, 0), float64(advanceMax/time.Microsecond)) / 1e6 // a clock that stepped back gives nothing
	l.At = t
	l.Granted -= float64(r.Returned)
	if r.Rate <= 0 {
		l.Serving, l.Trend, l.Backlog = l.Issued, 1, 0
		return true
	}
	if r.Turned > 0 || r.Waited > 0 {
		l.Held = t + float64(holdDirect/time.Microsecond)
	}
	queued := l.Issued > l.Serving || t < l.Held && l.Held <= t+float64(holdDirect/time.Microsecond)
	most := bound(r.Rate, burstIdle, 1)
	if queued {
		most = bound(r.Rate, burstQueued, 2)
	}
	credit := l.Credit + float64(r.Returned) + r.Rate*dt
	l.Credit = min(credit, most)
	if !queued {
		l.Serving, l.Trend, l.Backlog, l.Lead = l.Issued, 1, 0, bound(r.Rate, lead, 1)
		return true
	}
	serve := l.Serving + l.Lead + l.pace(r, dt, credit-l.Credit)*r.Rate*dt
	l.Serving = min(serve, l.Issued)
	l.Lead = min(serve-l.Serving, bound(r.Rate, lead, 1))
	return false
}

// pace returns by how many times the rate the line moves. Those who were called and do not come would leave
// admissions unused: then it moves faster. Those who come in vain wait longer than they were told: then it moves
// slower. It is a PI controller of the backlog.
func (l *Line) pace(r *Report, dt, unused float64) float64 {
	if l.Trend == 0 {
		l.Trend = 1
	}
	l.Backlog = l.Backlog*math.Exp(-dt*1e6/backlogFor) + float64(r.Turned) + r.Waited
	lack := max(backlogWant-l.Backlog/r.Rate, -1)
	l.Trend = min(max(l.Trend+trendGain*lack*dt+unusedGain*unused/r.Rate, trendMin), paceMax)
	return min(max(l.Trend+paceGain*lack, 0), paceMax)
}

// bound returns what the rate allows in a time, and at least the least.
func bound(rate float64, in time.Duration, least float64) float64 {
	return max(rate*in.Seconds(), least)
}

// grant gives tokens and numbers out.
func (l *Line) grant(r *Report, direct bool) Grant {
	g := Grant{Opened: true, Direct: direct, Tokens: r.Tokens, Early: l.Early, Serving: l.Serving,
		Speed: l.Trend * r.Rate}
	if r.Rate > 0 {
		g.Tokens = int(min(float64(r.Tokens), math.Floor(l.Credit)))
		l.Credit -= float64(g.Tokens)
	}
	l.Granted += float64(g.Tokens)
	g.Numbers = r.Newcomers
	if direct {
		g.Numbers = max(r.Newcomers-g.Tokens, 0)
	}
	g.First = l.Issued + 1
	l.Issued += float64(g.Numbers)
	g.Issued, g.Granted = l.Issued, l.Granted
	return g
}
