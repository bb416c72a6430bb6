package growth

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// figure is one of a load whose rounds took so many µs each.
func figure(rounds ...float64) *measure.Figure {
	return &measure.Figure{CPURounds: rounds, CPUMicros: measure.Median(rounds), Requests: 1}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	grown := func(cpu, memory, start, took, slowest float64) *Report {
		r := &Report{Axes: []*Axis{{Name: "routes", memory: true, start: true, Points: []*Point{
			{Items: 1, MemoryBytes: 10 * mib, StartMillis: 20, Loads: []LoadResult{{Name: "GET", Figure: figure(10, 12)}}},
			{Items: 1_000, MemoryBytes: 11 * mib, StartMillis: 30, Loads: []LoadResult{{Name: "GET", Figure: figure(11, 13)}}},
			{Items: 10_000, MemoryBytes: memory * mib, StartMillis: start,
				Loads:  []LoadResult{{Name: "GET", Figure: figure(cpu*10, cpu*12)}},
				Reload: &Reload{TookMillis: []float64{took}, SlowestMillis: []float64{slowest}, QuietMillis: []float64{2}}},
		}}}}
		r.settle()
		return r
	}
	for name, c := range map[string]struct {
		report *Report
		missed int
	}{
		"all met":            {grown(1.39, 24, 169, 199, 11), 0},
		"dear requests":      {grown(1.41, 24, 169, 199, 11), 1},
		"memory":             {grown(1.39, 26, 169, 199, 11), 1},
		"a slow start":       {grown(1.39, 24, 171, 199, 11), 1},
		"a slow reload":      {grown(1.39, 24, 169, 201, 11), 1},
		"requests that wait": {grown(1.39, 24, 169, 199, 13), 1},
	} {
		missed := 0
		for _, m := range c.report.Marks {
			if !m.Met {
				missed++
			}
		}
		if missed != c.missed || len(c.report.Marks) != 5 || (c.report.Err() != nil) != (missed > 0) {
			t.Errorf("%s: %d of %d marks missed, want %d: %+v", name, missed, len(c.report.Marks), c.missed,
				c.report.Marks)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"duration":    {Duration: time.Millisecond, Rounds: 1, Connections: 1},
		"rounds":      {Duration: time.Second, Connections: 1},
		"connections": {Duration: time.Second, Rounds: 1},
	} {
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
