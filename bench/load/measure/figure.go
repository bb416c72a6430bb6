package measure

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Setting is what every report says of where and how it was measured.
type Setting struct {
	At         time.Time     `json:"at"`
	Processors int           `json:"processors"`
	Apart      bool          `json:"apart"`         // contenders had a processor of their own
	Upstream   string        `json:"upstream"`      // program that answered
	Duration   time.Duration `json:"durationNanos"` // of a slice
	Rounds     int           `json:"rounds"`
	// Congestion is the kernel's congestion control. One that paces, as bbr does, sets a timer for each
	// segment also on the loopback device, which is a third of the CPU time of a long response.
	Congestion string `json:"congestionControl,omitempty"`
	// Others is what part of the processors' time programs had that are not of this run.
	Others    float64 `json:"others"`
	JudgeBusy bool    `json:"judgeBusy,omitempty"` // marks are judged all the same
}

// othersMax is how much of the machine others may have for a figure of time to be judged. With a
// twentieth the medians of two runs differ by a hundredth or two, with a third by a tenth and more.
const othersMax = 0.05

// Busy says in words how busy the machine was, "" where it was quiet enough to judge by.
func (s *Setting) Busy() string {
	if s.Others <= othersMax {
		return ""
	}
	return fmt.Sprintf("other programs had %.0f %% of the processors' time (at most %.0f %% to judge by)", 100*s.Others,
		100*othersMax)
}

// withholds reports whether nothing that is a time is judged.
func (s *Setting) withholds() bool { return s.Others > othersMax && !s.JudgeBusy }

// Where says which processors were used.
func (s *Setting) Where() string {
	where := "one processor for all"
	if s.Apart {
		where = fmt.Sprintf("%d processors, the contenders on one of their own", s.Processors)
	}
	if s.Congestion != "" {
		where += ", congestion control " + s.Congestion
	}
	return where
}

// Result is what was found of one contender.
type Result struct {
	Name      string           `json:"name"`
	Missing   string           `json:"missing,omitempty"` // why it was not measured
	Note      string           `json:"note,omitempty"`
	Figures   map[Load]*Figure `json:"figures,omitempty"` // by load
	IdleBytes *float64         `json:"idleBytes,omitempty"`
	IdleError string           `json:"idleError,omitempty"`
	Latency   *Latency         `json:"latency,omitempty"`
}

// Figure is one load on one contender; medians over the rounds.
type Figure struct {
	CPUMicros       float64   `json:"cpuMicros"`
	CPURounds       []float64 `json:"cpuRounds"`
	PerSecond       float64   `json:"perSecond"`
	PerSecondRounds []float64 `json:"perSecondRounds"`
	ToNginx         *float64  `json:"toNginx,omitempty"`
	ToRelay         *float64  `json:"toRelay,omitempty"`
	ToPlain         *float64  `json:"toPlain,omitempty"`     // bench idempotency: against the same POST without a key
	Added           *float64  `json:"addedMicros,omitempty"` // bench idempotency: the difference to it
	Mallocs         *float64  `json:"mallocs,omitempty"`
	Requests        int64     `json:"requests"` // of all rounds
	Errors          int64     `json:"errors"`
	FirstError      string    `json:"firstError,omitempty"`
	Failed          string    `json:"failed,omitempty"` // why the load was given up; the figures are not there then
}

// Latency is the open loop of one contender; medians over the rounds.
type Latency struct {
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	P999       float64 `json:"p999"`
	Curve      []Point `json:"curve,omitempty"`
	Requests   int64   `json:"requests"`
	Errors     int64   `json:"errors"`
	FirstError string  `json:"firstError,omitempty"`
	Failed     string  `json:"failed,omitempty"`
}

// Point is a latency that so many percent of the requests were not above.
type Point struct {
	Percent float64 `json:"percent"`
	Micros  float64 `json:"micros"`
}

// Mark is a bound that the gateway promises, and how it stands.
type Mark struct {
	What  string   `json:"what"`
	Limit float64  `json:"limit"`
	Least bool     `json:"least,omitempty"` // the limit is the least that will do; else the most
	Unit  string   `json:"unit"`
	Got   *float64 `json:"got,omitempty"` // nil: not measured; a median where there are rounds
	// Rounds is the figure by round, where it is one of CPU time or speed: then a busy machine makes
	// it void.
	Rounds []float64 `json:"rounds,omitempty"`
	Met    bool      `json:"met"`
	Why    string    `json:"why,omitempty"` // why a figure does not count, or there is none
}

// sample is one slice.
type sample struct{ cpuMicros, perSecond, mallocs float64 }

// column returns one value of every sample.
func column(s []sample, value func(sample) float64) []float64 {
	values := make([]float64, len(s))
	for i := range s {
		values[i] = value(s[i])
	}
	return values
}

// settle takes the medians.
func (f *Figure) settle(s []sample, mallocs bool) {
	f.CPURounds = column(s, func(s sample) float64 { return s.cpuMicros })
	f.CPUMicros = Median(f.CPURounds)
	f.PerSecondRounds = column(s, func(s sample) float64 { return s.perSecond })
	f.PerSecond = Median(f.PerSecondRounds)
	if mallocs && len(s) > 0 {
		m := max(0, Median(column(s, func(s sample) float64 { return s.mallocs })))
		f.Mallocs = &m
	}
}

// curvePercents are where the latency curve is drawn.
var curvePercents = []float64{1, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99}

// NewLatency takes each percentile of each round and of these the median; requests and errors are
// those of all rounds.
func NewLatency(rounds []Tally) *Latency {
	var all Tally
	least := math.MaxInt
	for _, t := range rounds {
		slices.Sort(t.Latencies)
		least = min(least, len(t.Latencies))
		all.add(t)
	}
	micros := func(p float64) float64 {
		var values []float64
		for _, t := range rounds {
			values = append(values, float64(percentile(t.Latencies, p))/1e3)
		}
		return Median(values)
	}
	l := &Latency{P50: micros(50), P99: micros(99), P999: micros(99.9), Requests: all.Requests, Errors: all.Errors,
		FirstError: all.First}
	for _, p := range curvePercents {
		// A percentile is drawn where at least one request of each round lies above it.
		if float64(least)*(100-p)/100 >= 1 {
			l.Curve = append(l.Curve, Point{p, micros(p)})
		}
	}
	return l
}

// FigureOf returns the figure of the result with that name, nil unless the load was measured.
func FigureOf(results []Result, name string, load Load) *Figure {
	for i := range results {
		if f := results[i].Figures[load]; results[i].Name == name && f != nil && f.Failed == "" && f.Requests > 0 {
			return f
		}
	}
	return nil
}

// Ratio returns the median of the rounds' ratios, so that a machine that is slower for some rounds
// is so for both; nil where there is nothing to compare.
func Ratio(f, to *Figure) *float64 { return medianOf(Ratios(f, to)) }

// Ratios returns the ratio of each round.
func Ratios(f, to *Figure) []float64 {
	return compared(f, to, func(a, b float64) float64 { return a / b })
}

// Difference returns the median of what the rounds of one cost more than those of the other.
func Difference(f, to *Figure) *float64 { return medianOf(Differences(f, to)) }

// Differences returns the difference of each round.
func Differences(f, to *Figure) []float64 {
	return compared(f, to, func(a, b float64) float64 { return a - b })
}

func compared(f, to *Figure, compare func(a, b float64) float64) (rounds []float64) {
	if f == nil || to == nil || f.Failed != "" {
		return nil
	}
	for i := range min(len(f.CPURounds), len(to.CPURounds)) {
		if to.CPURounds[i] > 0 {
			rounds = append(rounds, compare(f.CPURounds[i], to.CPURounds[i]))
		}
	}
	return rounds
}

func medianOf(rounds []float64) *float64 {
	if len(rounds) == 0 {
		return nil
	}
	v := Median(rounds)
	return &v
}

// Judged returns the mark with its verdict. Errors in the figures that it rests on make it void.
func (m Mark) Judged(slack float64, figures ...*Figure) Mark {
	if len(m.Rounds) > 0 {
		m.Got = medianOf(m.Rounds)
	}
	m.Met = m.Got != nil && m.keeps(*m.Got, slack)
	if m.Got == nil {
		m.Why = "not measured"
	}
	for _, f := range figures {
		if m.Got != nil && f != nil && f.Errors > 0 {
			m.Met, m.Why = false, "there were errors"
		}
	}
	return m
}

func (m Mark) keeps(v, slack float64) bool {
	return m.Least && v >= m.Limit-slack || !m.Least && v <= m.Limit+slack
}

// Withhold takes the verdict of every mark away that rests on times, where the machine was too busy
// for them to say anything.
func (s *Setting) Withhold(marks []Mark) {
	if !s.withholds() {
		return
	}
	for i := range marks {
		if m := &marks[i]; len(m.Rounds) > 0 && m.Why == "" {
			m.Met, m.Why = false, "not judged: the machine was busy"
		}
	}
}
