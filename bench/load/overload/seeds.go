package overload

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// Spread is how a mark stands over several seeds.
type Spread struct {
	measure.Mark           // Got is the median
	Worst        float64   `json:"worst"`
	Missed       []uint64  `json:"missed,omitempty"` // the seeds
	got          []float64 // of each seed
}

// Seeds simulates with one seed after the other and returns how the marks stand over all of them.
func Seeds(ctx context.Context, o Options, seeds int, progress Progress) ([]Spread, error) {
	return seedsWith(ctx, o, seeds, contenders(), progress)
}

func seedsWith(ctx context.Context, o Options, seeds int, known []contender, progress Progress) ([]Spread, error) {
	var all []Spread
	for n := range seeds {
		r, err := runWith(ctx, o, known, progress)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			for _, m := range r.Marks {
				all = append(all, Spread{Mark: m})
			}
		}
		for i, m := range r.Marks {
			s := &all[i]
			s.got = append(s.got, *m.Got)
			if !m.Met {
				s.Missed = append(s.Missed, o.Seed)
			}
		}
		o.Seed++
	}
	for i := range all {
		s := &all[i]
		median := measure.Median(s.got)
		s.Got, s.Met = &median, len(s.Missed) == 0
		s.Worst = slices.Max(s.got)
		if s.Least {
			s.Worst = slices.Min(s.got)
		}
	}
	return all, nil
}

// WriteSpreads writes them as a table.
func WriteSpreads(w io.Writer, all []Spread) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "mark\tbound\tmedian\tworst\tmissed with seeds")
	for _, s := range all {
		missed := "none"
		if len(s.Missed) > 0 {
			missed = fmt.Sprint(s.Missed)
		}
		fmt.Fprintf(t, "%s\t%s\t%.4g\t%.4g\t%s\n", s.What, s.Bound(), *s.Got, s.Worst, missed)
	}
	return t.Flush()
}
