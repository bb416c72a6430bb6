package overload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
)

// A control that kept all marks would show that the scenarios are too easy.
func TestControlsMissMarks(t *testing.T) {
	r := shortReport(t)
	for control, wants := range map[string][]string{
		None:       {"A: goodput at 10 C", "C: goodput after", "D: worst second", "storm: until goodput is back"},
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

func TestReportIsOnePage(t *testing.T) {
	r := shortReport(t)
	var page, table bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if link := regexp.MustCompile(`(?:src|href)="[^#"]`).FindString(page.String()); link != "" {
		t.Errorf("the page needs something from elsewhere: %s", link)
	}
	text := strings.NewReplacer("&lt;", "<", "&gt;", ">", "&#39;", "'").Replace(page.String())
	for _, s := range r.Scenarios {
		if !strings.Contains(text, s.Title) || !strings.Contains(table.String(), s.Title) {
			t.Errorf("%s is missing in the page or in the table", s.Key)
		}
	}
	for _, m := range r.Marks {
		if !strings.Contains(text, m.What) || !strings.Contains(table.String(), m.What) {
			t.Errorf("%q is missing in the page or in the table", m.What)
		}
	}
	if got, want := strings.Count(page.String(), "<svg"), 4*len(r.Scenarios); got != want {
		t.Errorf("%d plots, want %d", got, want)
	}
	if strings.Contains(page.String(), "NaN") || strings.Contains(table.String(), "NaN") {
		t.Error("there is a NaN in the report")
	}
	if _, err := json.Marshal(r); err != nil {
		t.Errorf("as JSON: %v", err)
	}
}

func TestWhatIsNotThereIsAnError(t *testing.T) {
	for _, o := range []Options{{Scenarios: []string{"Z"}}, {Contenders: []string{"nobody"}}} {
		if _, err := Run(t.Context(), o, nil); err == nil {
			t.Errorf("%+v was simulated", o)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestProgressNamesEverySimulation(t *testing.T) {
	seen := 0
	_, err := Run(t.Context(), Options{Short: true, Scenarios: []string{"C", "D"}, Contenders: []string{Ours, Fixed}},
		func(done, total int, _, _ string) {
			if done != seen || total != 4 {
				t.Errorf("%d of %d, want %d of 4", done, total, seen)
			}
			seen++
		})
	if err != nil || seen != 4 {
		t.Errorf("told %d times, %v", seen, err)
	}
}
