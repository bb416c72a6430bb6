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
