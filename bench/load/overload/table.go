package overload

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteTable writes the figures of every phase, and the marks.
func (r *Report) WriteTable(w io.Writer) error {
	for _, s := range r.Scenarios {
		fmt.Fprintf(w, "%s. %s\n", s.Key, s.Title)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  \tphase\toffered/s\tgoodput/s\tof possible\tworst s\tcritical\tnormal\tlow\tp50 ms\tp99 ms\t"+
			"shed\tshed p99\tback s\tcalls a request\tmarks")
		for _, f := range r.Findings {
			if f.Scenario == s.Key {
				f.rows(t)
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "marks")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range r.Marks {
		fmt.Fprintf(t, "  %s\t%s\t%.4g%s\t%s\n", m.What, m.Bound(), *m.Got, m.Unit, m.Verdict())
	}
	return t.Flush()
}

func (f *Finding) rows(w io.Writer) {
	for i, p := range f.Phases {
		name, marks, calls := "", "", ""
		if i == 0 {
			name, calls = f.Contender, fmt.Sprintf("%.3f", f.AttemptsARequest)
			marks = "met"
			if n := len(f.Missed()); n > 0 {
				marks = fmt.Sprintf("%d of %d missed", n, len(f.Marks))
			}
		}
		back := "never"
		if p.Recovery != nil {
			back = fmt.Sprintf("%.1f", *p.Recovery)
		}
		fmt.Fprintf(w, "  %s\t%s\t%.0f\t%.1f\t%.3f\t%.3f\t%s\t%s\t%s\t%.1f\t%.1f\t%.2f%%\t%.1f\t%s\t%s\t%s\n", name, p.Name,
			p.Offered, p.Goodput, p.Ratio, p.Worst, percents(p.Served, "critical"), percents(p.Served, "normal"),
			percents(p.Served, "low"), p.P50, p.P99, 100*p.ShedShare, p.ShedP99, back, calls, marks)
	}
}

func percents(shares map[string]float64, class string) string {
	v, ok := shares[class]
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.2f%%", 100*v)
}
