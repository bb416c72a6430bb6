package flashsale

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/flashsale/openloop"
)

// Latency is a distribution, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
}

// PhaseFigures are those of a phase. Rates are a second.
type PhaseFigures struct {
	Name      string  `json:"name"`
	From      float64 `json:"from"` // seconds
	To        float64 `json:"to"`
	Offered   float64 `json:"offered"` // with retries
	Goodput   float64 `json:"goodput"` // responses 2xx in time
	ShedShare float64 `json:"shedShare"`
	FailShare float64 `json:"failShare"` // neither a response that is final nor shed
	Admitted  Latency `json:"admitted"`  // of what succeeded
	Shed      Latency `json:"shed"`
}

// ClassFigures are those of a class over the whole run.
type ClassFigures struct {
	Name     string  `json:"name"`
	Requests int64   `json:"requests"` // repeats included, retries not
	Served   float64 `json:"served"`   // share of them that got a final response, by retries too
	Goodput  float64 `json:"goodput"`  // a second
	Latency  Latency `json:"latency"`  // of what succeeded
}

// ReasonFigures are the responses of one kind and class.
type ReasonFigures struct {
	Class   string  `json:"class"`
	Outcome string  `json:"outcome"`
	Reason  string  `json:"reason"` // or the status
	Latency Latency `json:"latency"`
}

// Series are figures by the second.
type Series struct {
	Offered  []float64 `json:"offered"`
	Goodput  []float64 `json:"goodput"`
	Shed     []float64 `json:"shed"`
	Failed   []float64 `json:"failed"`
	P99      []float64 `json:"p99"`      // ms, of what succeeded
	Critical []float64 `json:"critical"` // share of the class that was served; NaN is written as -1
}

// Figures are what the clients saw.
type Figures struct {
	Phases  []PhaseFigures  `json:"phases"`
	Classes []ClassFigures  `json:"classes"`
	Reasons []ReasonFigures `json:"reasons"`
	Series  Series          `json:"series"`
	Sent    int64           `json:"sent"`   // retries included
	Unsent  int64           `json:"unsent"` // the generator could not keep up
	LateP99 float64         `json:"lateP99Ms"`
}

// measured turns what a run saw into figures. Slow clients count in shares, not in latencies:
// theirs are their own.
func measured(p *openloop.Profile, r *openloop.Result) *Figures {
	f := &Figures{Sent: int64(len(r.Samples)), LateP99: millis(openloop.Quantile(r.Late, 0.99))}
	var from time.Duration
	for _, ph := range p.Phases {
		f.Phases = append(f.Phases, stretch(ph.Name, from, from+ph.Duration, r.Samples))
		from += ph.Duration
	}
	f.classes(p, r)
	f.reasons(p, r)
	f.series(p, r)
	for _, s := range r.Samples {
		if s.Outcome == openloop.Unsent {
			f.Unsent++
		}
	}
	return f
}

// stretch are the figures of what was due within a time.
func stretch(name string, from, to time.Duration, samples []openloop.Sample) PhaseFigures {
	f := PhaseFigures{Name: name, From: from.Seconds(), To: to.Seconds()}
	var all, shed, failed, good float64
	var admitted, refused []time.Duration
	for _, s := range samples {
		if s.At < from || s.At >= to {
			continue
		}
		all++
		switch s.Outcome {
		case openloop.Succeeded:
			good++
			admitted = addLatency(admitted, s)
		case openloop.Shed:
			shed++
			refused = addLatency(refused, s)
		case openloop.Refused:
		default:
			failed++
		}
	}
	seconds := (to - from).Seconds()
	f.Offered, f.Goodput = all/seconds, good/seconds
	f.ShedShare, f.FailShare = shed/max(all, 1), failed/max(all, 1)
	f.Admitted, f.Shed = latencyOf(admitted), latencyOf(refused)
	return f
}

func addLatency(all []time.Duration, s openloop.Sample) []time.Duration {
	if s.Slow {
		return all
	}
	return append(all, s.Latency)
}

func latencyOf(d []time.Duration) Latency {
	at := func(q float64) float64 { return millis(openloop.Quantile(d, q)) }
	return Latency{Count: int64(len(d)), P50: at(0.5), P99: at(0.99), P999: at(0.999)}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// served tells whether somebody got what can be had: that all is sold is a response too.
func served(s openloop.Sample) bool {
	return s.Outcome == openloop.Succeeded || s.Outcome == openloop.Refused
}

func (f *Figures) classes(p *openloop.Profile, r *openloop.Result) {
	for _, name := range classes {
		c := ClassFigures{Name: name}
		var final, good float64
		var latencies []time.Duration
		for _, s := range r.Samples {
			if p.Kinds[s.Kind].Class != name {
				continue
			}
			if s.Outcome == openloop.Succeeded {
				good++
				latencies = addLatency(latencies, s)
			}
			if s.Final {
				c.Requests++
				if served(s) {
					final++
				}
			}
		}
		if c.Requests == 0 {
			continue
		}
		c.Served, c.Goodput = final/float64(c.Requests), good/p.Length().Seconds()
		c.Latency = latencyOf(latencies)
		f.Classes = append(f.Classes, c)
	}
}

func (f *Figures) reasons(p *openloop.Profile, r *openloop.Result) {
	latencies := map[ReasonFigures][]time.Duration{}
	for _, s := range r.Samples {
		key := ReasonFigures{Class: p.Kinds[s.Kind].Class, Outcome: s.Outcome.String(), Reason: r.Reasons[s.Reason]}
		if key.Reason == "" && s.Status > 0 {
			key.Reason = fmt.Sprint(s.Status)
		}
		latencies[key] = addLatency(latencies[key], s)
	}
	for key, d := range latencies {
		key.Latency = latencyOf(d)
		f.Reasons = append(f.Reasons, key)
	}
	slices.SortFunc(f.Reasons, func(a, b ReasonFigures) int {
		return cmp.Or(cmp.Compare(slices.Index(classes, a.Class), slices.Index(classes, b.Class)),
			cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Reason, b.Reason))
	})
}

// noValue stands for a share of nothing: JSON has no NaN.
const noValue = -1

func (f *Figures) series(p *openloop.Profile, r *openloop.Result) {
	n := int(math.Ceil(p.Length().Seconds()))
	s := &f.Series
	for _, values := range []*[]float64{&s.Offered, &s.Goodput, &s.Shed, &s.Failed, &s.P99, &s.Critical} {
		*values = make([]float64, n)
	}
	latencies := make([][]time.Duration, n)
	critical := make([][2]float64, n)
	for _, sample := range r.Samples {
		i := int(sample.At.Seconds())
		if i >= n {
			continue
		}
		s.Offered[i]++
		switch sample.Outcome {
		case openloop.Succeeded:
			s.Goodput[i]++
			latencies[i] = addLatency(latencies[i], sample)
		case openloop.Shed:
			s.Shed[i]++
		case openloop.Refused:
		default:
			s.Failed[i]++
		}
		if sample.Final && p.Kinds[sample.Kind].Class == classes[0] {
			critical[i][0]++
			if served(sample) {
				critical[i][1]++
			}
		}
	}
	for i := range n {
		s.P99[i], s.Critical[i] = millis(openloop.Quantile(latencies[i], 0.99)), noValue
		if critical[i][0] > 0 {
			s.Critical[i] = critical[i][1] / critical[i][0]
		}
	}
}

// class returns the figures of a class, nil without requests of it.
func (f *Figures) class(name string) *ClassFigures {
	for i := range f.Classes {
		if f.Classes[i].Name == name {
			return &f.Classes[i]
		}
	}
	return nil
}
