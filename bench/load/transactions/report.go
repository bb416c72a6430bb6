package transactions

import (
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// Report is what one run found.
type Report struct {
	At         time.Time      `json:"at"`
	Processors int            `json:"processors"`
	Duration   time.Duration  `json:"duration"` // of a slice
	Rounds     int            `json:"rounds"`
	Pairs      []*PairResult  `json:"pairs"`
	Marks      []measure.Mark `json:"marks"`
}

// PairResult is what was found with one pair of stores.
type PairResult struct {
	Name    string  `json:"name"`              // gateway/coordinator
	Missing string  `json:"missing,omitempty"` // why it was not measured
	Cells   []*Cell `json:"cells,omitempty"`
	// Of one saga through the gateway that goes well, counted over all of them.
	Queries *float64 `json:"queriesPerSaga,omitempty"`          // at the coordinator
	Calls   *float64 `json:"storeCallsPerSaga,omitempty"`       // of the gateway's store
	InARow  *float64 `json:"storeCallsInARowPerSaga,omitempty"` // without those that nothing waits for
}

// Cell is one kind of services with so many callers at once. Values are medians over the rounds.
type Cell struct {
	Statements int   `json:"statements"` // of a step, within the barrier; 0: the services do nothing
	Callers    int   `json:"callers"`
	Gateway    *Side `json:"gateway"`
	ByHand     *Side `json:"byHand"`
	// Medians over the ratios of the rounds, gateway to by hand.
	CPURatio  *float64 `json:"cpuRatio,omitempty"`
	RateRatio *float64 `json:"rateRatio,omitempty"`
	P50Ratio  *float64 `json:"p50Ratio,omitempty"`
}

// Side is one of the two.
type Side struct {
	PerSecond float64            `json:"perSecond"`
	CPUMicros float64            `json:"cpuMicrosPerSaga"` // of all processes
	Parts     map[string]float64 `json:"partsCPUMicros"`   // by process
	P50       float64            `json:"p50Micros"`
	P99       float64            `json:"p99Micros"`
	Sagas     int                `json:"sagas"`
	Errors    int                `json:"errors"`
	First     string             `json:"firstError,omitempty"`

	rounds []slice
}

// slice is what one slice found.
type slice struct {
	perSecond, cpuMicros, p50, p99 float64
	parts                          map[string]float64
}

// settle fills in the medians of a cell.
func (c *Cell) settle() {
	for _, s := range []*Side{c.Gateway, c.ByHand} {
		of := func(f func(slice) float64) float64 {
			var values []float64
			for _, r := range s.rounds {
				values = append(values, f(r))
			}
			return measure.Median(values)
		}
		if len(s.rounds) == 0 {
			continue
		}
		s.PerSecond = of(func(r slice) float64 { return r.perSecond })
		s.CPUMicros = of(func(r slice) float64 { return r.cpuMicros })
		s.P50, s.P99 = of(func(r slice) float64 { return r.p50 }), of(func(r slice) float64 { return r.p99 })
		s.Parts = map[string]float64{}
		for name := range s.rounds[0].parts {
			s.Parts[name] = of(func(r slice) float64 { return r.parts[name] })
		}
	}
	c.CPURatio = c.ratio(func(r slice) float64 { return r.cpuMicros })
	c.RateRatio = c.ratio(func(r slice) float64 { return r.perSecond })
	c.P50Ratio = c.ratio(func(r slice) float64 { return r.p50 })
}

func (c *Cell) ratio(f func(slice) float64) *float64 {
	var ratios []float64
	for i := range min(len(c.Gateway.rounds), len(c.ByHand.rounds)) {
		if of := f(c.ByHand.rounds[i]); of > 0 {
			ratios = append(ratios, f(c.Gateway.rounds[i])/of)
		}
	}
	if len(ratios) == 0 {
		return nil
	}
	v := measure.Median(ratios)
	return &v
}

func (c *Cell) errors() int { return c.Gateway.Errors + c.ByHand.Errors }

// The marks.
const (
	cpuMost     = 1.8 // times by hand, services that do nothing
	cpuMostSQL  = 1.3 // services that do SQL with a barrier
	queriesMost = 1
	inARowMost  = 8
	rateLeast   = 0.6 // of by hand, coordinator on Redis
	p50Most     = 1.5 // one caller
)

// judge fills in the marks. With quick they are those of the counts.
func (r *Report) judge(quick bool) {
	for _, p := range r.Pairs {
		if p.Missing != "" {
			continue
		}
		r.add(measure.Mark{What: p.Name + ": queries to the coordinator a saga", Limit: queriesMost,
			Got: p.Queries}, p.Cells...)
		r.add(measure.Mark{What: p.Name + ": calls of the store a saga, one after the other", Limit: inARowMost,
			Got: p.InARow}, p.Cells...)
		if quick {
			continue
		}
		for _, c := range p.Cells {
			r.judgeCell(p, c)
		}
	}
}

func (r *Report) judgeCell(p *PairResult, c *Cell) {
	name := p.Name + ", " + c.title() + ": "
	cpu := measure.Mark{What: name + "CPU of all processes a saga, to by hand", Limit: cpuMost, Unit: " ×",
		Got: c.CPURatio}
	if c.Statements > 0 {
		cpu.Limit = cpuMostSQL
	}
	r.add(cpu, c)
	if c.Statements == 0 && c.Callers == 1 {
		r.add(measure.Mark{What: name + "p50 of a saga, to by hand", Limit: p50Most, Unit: " ×", Got: c.P50Ratio}, c)
	}
	if c.Statements == 0 && c.Callers > 1 && p.Name == (pair{redis, redis}).String() {
		r.add(measure.Mark{What: name + "sagas a second, to by hand", Limit: rateLeast, Unit: " ×", Least: true,
			Got: c.RateRatio}, c)
	}
}

func (r *Report) add(m measure.Mark, cells ...*Cell) {
	errors := int64(0)
	for _, c := range cells {
		errors += int64(c.errors())
	}
	const rounding = 0.005 // of counts over many sagas
	r.Marks = append(r.Marks, m.Judged(rounding, &measure.Figure{Errors: errors}))
}

// Missed returns how many marks are not met.
func (r *Report) Missed() (n int) {
	for _, m := range r.Marks {
		if !m.Met {
			n++
		}
	}
	return n
}

func (c *Cell) title() string {
	services := "services that do nothing"
	if c.Statements > 0 {
		services = fmt.Sprintf("%d statements with a barrier", c.Statements)
	}
	if c.Callers == 1 {
		return services + ", 1 caller"
	}
	return fmt.Sprintf("%s, %d callers", services, c.Callers)
}
