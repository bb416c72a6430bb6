package overload

import (
	"math"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/measure"
	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// Finding is what one contender did in one scenario.
type Finding struct {
	Scenario  string  `json:"scenario"`
	Contender string  `json:"contender"`
	Phases    []Phase `json:"phases"`
	// AttemptsARequest is how many calls the services got for each distinct request that reached them.
	AttemptsARequest float64 `json:"attemptsARequest"`
	// Utilization is the busy share of the workers of each service.
	Utilization []float64      `json:"utilization"`
	Marks       []measure.Mark `json:"marks"`
	Series      Series         `json:"series"`

	scenario *scenario
	record   *record
}

// Phase is what happened in one phase. Shares and ratios are from 0 to 1, times in milliseconds.
type Phase struct {
	Name        string             `json:"name"`
	From        float64            `json:"from"` // seconds
	To          float64            `json:"to"`
	Offered     float64            `json:"offered"`     // requests a second
	Possible    float64            `json:"possible"`    // of them, a second
	Goodput     float64            `json:"goodput"`     // responses in time, a second, once the phase has settled
	Ratio       float64            `json:"ratio"`       // goodput by what was possible
	Worst       float64            `json:"worst"`       // the same, of the worst second
	WorstRate   float64            `json:"worstRate"`   // goodput of that second
	Served      map[string]float64 `json:"served"`      // by class: the share of the requests, whatever attempt it was
	FirstTry    map[string]float64 `json:"firstTry"`    // by class: the share at the first attempt
	GreedyShare float64            `json:"greedyShare"` // served share of the greedy principals' requests
	OtherShare  float64            `json:"otherShare"`  // of everybody else's
	ObeyShare   float64            `json:"obeyShare"`   // of those of clients that wait for Retry-After
	IgnoreShare float64            `json:"ignoreShare"` // of those of clients that do not
	ShedShare   float64            `json:"shedShare"`   // of the attempts that began in the phase, once it has settled
	P50         float64            `json:"p50"`         // of admitted attempts
	P99         float64            `json:"p99"`
	ShedP99     float64            `json:"shedP99"` // until an attempt was told that it is shed
	Attempts    float64            `json:"attempts"`
	TimedOut    int                `json:"timedOut"`
	Failed      int                `json:"failed"`
	// Recovery is how long after its beginning the first second began whose goodput is 0.97 of what was
	// possible; nil: there was none.
	Recovery      *float64  `json:"recovery,omitempty"`
	Compensations float64   `json:"compensations"` // a second, because a step was shed
	Routes        []float64 `json:"routes"`        // goodput by route
}

// Series are what the plots show, a value for each second; those of the state a value each sample.
type Series struct {
	Possible []float64   `json:"possible"`
	Goodput  []float64   `json:"goodput"`
	P50      []float64   `json:"p50"`
	P99      []float64   `json:"p99"`
	Shed     [][]float64 `json:"shed"` // by class
	Limit    []float64   `json:"limit"`
	InFlight []float64   `json:"inFlight"`
	Queued   []float64   `json:"queued"`
	Inside   []float64   `json:"inside"`
}

const recovered = 0.97

// found makes a finding of a record.
func found(s *scenario, contender string, r *record) *Finding {
	f := &Finding{Scenario: s.key, Contender: contender, scenario: s, record: r}
	if r.requestsSent > 0 {
		f.AttemptsARequest = float64(r.calls) / float64(r.requestsSent)
	}
	for i := range s.services {
		whole := s.services[i].workers.mean(0, r.length) * float64(r.length)
		f.Utilization = append(f.Utilization, float64(r.busy[i])/whole)
	}
	for _, p := range s.phases {
		f.Phases = append(f.Phases, f.phase(p))
	}
	f.series()
	if s.judge != nil {
		s.judge(f)
	}
	return f
}

// possible returns how many requests of one second could have been served in it.
func (f *Finding) possible(i int) float64 {
	from := time.Duration(i) * time.Second
	return f.possibleBetween(from, from+time.Second, float64(sum(f.record.seconds[i].requests)))
}

func (f *Finding) possibleBetween(from, to time.Duration, came float64) float64 {
	if f.scenario.possible != nil {
		return f.scenario.possible(from, to, came)
	}
	return min(came, f.scenario.services[0].capacity(from, to)*(to-from).Seconds())
}

func (f *Finding) phase(p phase) Phase {
	from, to := int(p.from/time.Second), int(p.to/time.Second)
	settled := int((p.from + p.settle) / time.Second)
	out := Phase{Name: p.name, From: p.from.Seconds(), To: p.to.Seconds(), Worst: math.Inf(1),
		Routes: make([]float64, len(f.scenario.routes))}
	var t totals
	shed, attempts := 0, 0
	for i := from; i < to; i++ {
		s := &f.record.seconds[i]
		t.add(s)
		if i < settled {
			continue
		}
		shed += sum(s.shedBegan)
		attempts += s.attempts
		possible, good := f.possible(i), float64(sum(s.served))
		out.Possible += possible
		out.Goodput += good
		if ratio := good / max(possible, 1); ratio < out.Worst {
			out.Worst, out.WorstRate = ratio, good
		}
		out.Compensations += float64(s.compensations)
		for j, n := range s.routes {
			out.Routes[j] += float64(n)
		}
	}
	long, counted := float64(to-from), float64(to-settled)
	out.Ratio = out.Goodput / max(out.Possible, 1)
	out.Possible /= counted
	out.Goodput /= counted
	out.Compensations /= counted
	for j := range out.Routes {
		out.Routes[j] /= counted
	}
	t.fill(&out, long)
	out.ShedShare = ratio(shed, max(attempts, 1))
	out.Recovery = f.recovery(p)
	return out
}

// totals are sums over a phase.
type totals struct {
	second
	others, othersGot, ignoring, ignoreGot int
}

func (t *totals) add(s *second) {
	for class := range classes {
		t.requests[class] += s.requests[class]
		t.answered[class] += s.answered[class]
		t.firstTry[class] += s.firstTry[class]
	}
	t.attempts += s.attempts
	t.timedOut += s.timedOut
	t.failed += s.failed
	t.greedy += s.greedy
	t.greedyGot += s.greedyGot
	t.others += sum(s.requests) - s.greedy
	t.othersGot += sum(s.answered) - s.greedyGot
	t.obeying += s.obeying
	t.obeyGot += s.obeyGot
	t.ignoring += sum(s.requests) - s.obeying
	t.ignoreGot += sum(s.answered) - s.obeyGot
	t.latencies = append(t.latencies, s.latencies...)
	t.shedAfter = append(t.shedAfter, s.shedAfter...)
}

func (t *totals) fill(p *Phase, long float64) {
	p.Offered = float64(sum(t.requests)) / long
	p.Served, p.FirstTry = map[string]float64{}, map[string]float64{}
	for class := range classes {
		if t.requests[class] > 0 {
			name := limiter.Class(class).String() //nolint:gosec // there are four
			p.Served[name] = ratio(t.answered[class], t.requests[class])
			p.FirstTry[name] = ratio(t.firstTry[class], t.requests[class])
		}
	}
	p.GreedyShare, p.OtherShare = ratio(t.greedyGot, t.greedy), ratio(t.othersGot, t.others)
	p.ObeyShare, p.IgnoreShare = ratio(t.obeyGot, t.obeying), ratio(t.ignoreGot, t.ignoring)
	p.Attempts = float64(t.attempts) / long
	p.TimedOut, p.Failed = t.timedOut, t.failed
	slices.Sort(t.latencies)
	slices.Sort(t.shedAfter)
	p.P50, p.P99 = percentile(t.latencies, 50), percentile(t.latencies, 99)
	p.ShedP99 = percentile(t.shedAfter, 99)
}

// recovery returns how many seconds into the phase goodput is back.
func (f *Finding) recovery(p phase) *float64 {
	const step = 100 * time.Millisecond
	for at := p.from; at+time.Second <= p.to; at += step {
		good, came := f.record.window(at, at+time.Second)
		if good >= recovered*f.possibleBetween(at, at+time.Second, came) {
			seconds := (at - p.from).Seconds()
			return &seconds
		}
	}
	return nil
}

func (f *Finding) series() {
	s := &f.Series
	s.Shed = make([][]float64, classes)
	for i := range int(f.scenario.end / time.Second) {
		second := &f.record.seconds[i]
		s.Possible = append(s.Possible, f.possible(i))
		s.Goodput = append(s.Goodput, float64(sum(second.served)))
		sorted := slices.Sorted(slices.Values(second.latencies))
		s.P50 = append(s.P50, percentile(sorted, 50))
		s.P99 = append(s.P99, percentile(sorted, 99))
		for class := range classes {
			s.Shed[class] = append(s.Shed[class], float64(second.shed[class]))
		}
	}
	for _, sample := range f.record.samples {
		s.Limit = append(s.Limit, sample.limit)
		s.InFlight = append(s.InFlight, sample.inFlight)
		s.Queued = append(s.Queued, sample.queued)
		s.Inside = append(s.Inside, float64(sample.inside))
	}
}

func sum(values [classes]int) int {
	n := 0
	for _, v := range values {
		n += v
	}
	return n
}

func ratio(part, whole int) float64 {
	if whole == 0 {
		return 1
	}
	return float64(part) / float64(whole)
}

// percentile of values that are sorted; 0 of none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}
