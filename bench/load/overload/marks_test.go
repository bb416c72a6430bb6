//go:build !race

package overload

import (
	"strings"
	"testing"
)

// keptSeeds is how many seeds the full form is judged with.
const keptSeeds = 3

func TestMarksAreKept(t *testing.T) {
	o := Options{Seed: shortSeed, Contenders: []string{Ours}}
	all, err := Seeds(t.Context(), o, keptSeeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if !s.Met {
			t.Errorf("%s: %.4g%s at the worst, want %s; missed with seeds %v", s.What, s.Worst, s.Unit, s.Bound(),
				s.Missed)
		}
	}
}

// A control that kept all marks would show that the scenarios are too easy.
func TestControlsMissMarks(t *testing.T) {
	r := shortReport(t)
	for control, wants := range map[string][]string{
		None:       {"A: goodput at 10 C", "C: goodput after", "D: worst second", "storm: until goodput is back"},
		OursNoDoor: {"B: goodput", "B: compensations because a step was shed"},
		OursUntold: {"replicas-4: p99 of admitted at 10 C"},
		FixedWrong: {"A: goodput at 10 C", "C: calls a request"},
		Fixed:      {"A: critical requests served", "B: compensations because a step was shed"},
		AIMD:       {"A: critical requests served", "A: p99 of admitted at 10 C", "B: goodput"},
		Gradient2:  {"A: critical requests served", "B: goodput", "inversion: critical requests served"},
	} {
		missed := map[string]bool{}
		for _, f := range r.Findings {
			if f.Contender == control {
				for _, m := range f.Missed() {
					missed[m.What] = true
				}
			}
		}
		for _, want := range wants {
			if !missed[want] {
				t.Errorf("%s keeps %q", control, want)
			}
		}
	}
	for _, m := range r.Marks {
		if strings.HasPrefix(m.What, "marks that the control") && !m.Met {
			t.Errorf("%s: %v", m.What, *m.Got)
		}
	}
}

// failsafe-go's limiter needs a bubble of synctest, which takes longer; it runs in the scenarios of the
// issue only.
func TestFailsafeMissesMarks(t *testing.T) {
	r, err := runWith(t.Context(), Options{Seed: shortSeed, Short: true, Scenarios: []string{"A", "C"},
		Contenders: []string{Failsafe}}, withFailsafe(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	missed := map[string]bool{}
	for _, f := range r.Findings {
		if f.record.offeredTotal != f.record.servedTotal+f.record.shedTotal+f.record.timedOutTotal {
			t.Errorf("%s: attempts were lost: %+v", f.Scenario, f.record.offeredTotal)
		}
		for _, m := range f.Missed() {
			missed[m.What] = true
		}
		if f.Phases[1].Ratio < 0.9 {
			t.Errorf("%s: goodput %.3f of what is possible: it is not driven as it should be", f.Scenario,
				f.Phases[1].Ratio)
		}
	}
	for _, want := range []string{"A: critical requests served", "A: p99 of admitted at 10 C"} {
		if !missed[want] {
			t.Errorf("it keeps %q; all it misses is %v", want, missed)
		}
	}
}
