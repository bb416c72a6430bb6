package overload

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// Options says what to simulate.
type Options struct {
	Seed uint64
	// Short shortens the phases.
	Short bool
	// Contenders and Scenarios are the names of those wanted; none: all.
	Contenders, Scenarios []string
}

// Report is what one run found.
type Report struct {
	Seed      uint64         `json:"seed"`
	Short     bool           `json:"short"`
	Scenarios []Described    `json:"scenarios"`
	Findings  []*Finding     `json:"findings"`
	Marks     []measure.Mark `json:"marks"` // of the gateway's limiter, and that every control misses some
}

// Described is a scenario as a report shows it.
type Described struct {
	Key   string `json:"key"`
	Title string `json:"title"`
}

// Progress is told before each simulation which it is.
type Progress func(done, total int, scenario, contender string)

// Run simulates every scenario with every contender. The same options give the same report.
func Run(ctx context.Context, o Options, progress Progress) (*Report, error) {
	return runWith(ctx, o, contenders(), progress)
}

func runWith(ctx context.Context, o Options, known []contender, progress Progress) (*Report, error) {
	all, err := wanted(scenarios(o.Short), o.Scenarios, func(s scenario) string { return s.key })
	if err != nil {
		return nil, err
	}
	rivals, err := wanted(known, o.Contenders, func(c contender) string { return c.name })
	if err != nil {
		return nil, err
	}
	r := &Report{Seed: o.Seed, Short: o.Short}
	var pairs []pair
	for i := range all {
		r.Scenarios = append(r.Scenarios, Described{all[i].key, all[i].title})
		for _, c := range rivals {
			if len(c.only) == 0 || slices.Contains(c.only, all[i].key) {
				pairs = append(pairs, pair{&all[i], c})
			}
		}
	}
	for i, p := range pairs {
		if progress != nil {
			progress(i, len(pairs), p.scenario.key, p.contender.name)
		}
		run := p.contender.simulate
		if run == nil {
			run = simulate
		}
		record, err := run(ctx, p.scenario, p.contender, o.Seed)
		if err != nil {
			return nil, err
		}
		r.Findings = append(r.Findings, found(p.scenario, p.contender.name, record))
	}
	r.judge()
	return r, nil
}

// pair is a contender in a scenario.
type pair struct {
	scenario  *scenario
	contender contender
}

// wanted returns those with one of the names, all without any.
func wanted[T any](all []T, names []string, name func(T) string) ([]T, error) {
	if len(names) == 0 {
		return all, nil
	}
	var some []T
	for _, n := range names {
		i := slices.IndexFunc(all, func(t T) bool { return name(t) == n })
		if i < 0 {
			return nil, fmt.Errorf("overload: there is no %q to simulate", n)
		}
		some = append(some, all[i])
	}
	return some, nil
}

// judge gathers the marks.
func (r *Report) judge() {
	missed := map[string]int{}
	var controls []string
	for _, f := range r.Findings {
		if f.Contender == Ours {
			r.Marks = append(r.Marks, f.Marks...)
			continue
		}
		if _, ok := missed[f.Contender]; !ok {
			controls = append(controls, f.Contender)
		}
		missed[f.Contender] += len(f.Missed())
	}
	for _, name := range controls {
		got := float64(missed[name])
		m := measure.Mark{What: "marks that the control " + name + " misses", Limit: 1, Least: true, Got: &got}
		r.Marks = append(r.Marks, m.Judged(0))
	}
}

// Missed returns the marks that were missed.
func (f *Finding) Missed() []measure.Mark {
	return slices.DeleteFunc(slices.Clone(f.Marks), func(m measure.Mark) bool { return m.Met })
}

// Met tells whether no mark was missed.
func (r *Report) Met() bool {
	return !slices.ContainsFunc(r.Marks, func(m measure.Mark) bool { return !m.Met })
}
