package flashsale

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// WriteTable writes the report as plain text.
func (r *Report) WriteTable(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n", r.heading())
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, rows := range [][][]string{r.phaseRows(), r.classRows(), r.auditRows(), r.faultRows(), r.leakRows()} {
		writeRows(tw, &text, rows)
	}
	if us := r.first(); us != nil {
		writeRows(tw, &text, us.reasonRows())
	}
	if remarks := r.remarks(); len(remarks) > 0 {
		text.WriteString("\n" + strings.Join(remarks, "\n") + "\n")
	}
	rows := [][]string{{"bar", "", "found", ""}}
	for _, m := range r.Marks {
		rows = append(rows, []string{m.What, m.Bound(), measure.Shown(m.Got, 3) + m.Unit, m.Verdict()})
	}
	writeRows(tw, &text, rows)
	_, err := io.WriteString(w, text.String())
	return err
}

// writeRows writes a table whose first row is the heading; nothing for a heading alone.
func writeRows(tw *tabwriter.Writer, text *strings.Builder, rows [][]string) {
	if len(rows) < 2 {
		return
	}
	text.WriteString("\n")
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	tw.Flush()
}

func (r *Report) heading() string {
	text := fmt.Sprintf("%s, seed %d, %s", r.Title, r.Seed, r.At.Format("2006-01-02 15:04 MST"))
	if r.Findings != nil && r.Findings[0].Name == "target" {
		return text
	}
	return text + fmt.Sprintf("; services of %s, %d gateways, store %s", r.Capacity, r.Gateways, r.Store)
}

// first is the finding of the gateway, or of the target.
func (r *Report) first() *Finding {
	if len(r.Findings) == 0 || r.Findings[0].Figures == nil {
		return nil
	}
	return r.Findings[0]
}

func (r *Report) phaseRows() [][]string {
	rows := [][]string{{"", "phase", "offered/s", "goodput/s", "p50 ms", "p99 ms", "p99.9 ms", "shed", "shed p99 ms",
		"failed"}}
	for _, f := range r.Findings {
		if f.Figures == nil {
			continue
		}
		for i, p := range f.Figures.Phases {
			name := ""
			if i == 0 {
				name = f.Name
			}
			rows = append(rows, []string{name, p.Name, fmt.Sprintf("%.0f", p.Offered), fmt.Sprintf("%.1f", p.Goodput),
				fmt.Sprintf("%.1f", p.Admitted.P50), fmt.Sprintf("%.1f", p.Admitted.P99), fmt.Sprintf("%.1f",
					p.Admitted.P999), percent(p.ShedShare), fmt.Sprintf("%.1f", p.Shed.P99), percent(p.FailShare)})
		}
	}
	return rows
}

func percent(share float64) string { return fmt.Sprintf("%.2f %%", 100*share) }

func (r *Report) classRows() [][]string {
	rows := [][]string{{"", "class", "requests", "served", "goodput/s", "p50 ms", "p99 ms", "p99.9 ms"}}
	for _, f := range r.Findings {
		if f.Figures == nil {
			continue
		}
		for i, c := range f.Figures.Classes {
			name := ""
			if i == 0 {
				name = f.Name
			}
			rows = append(rows, []string{name, c.Name, fmt.Sprint(c.Requests), percent(c.Served),
				fmt.Sprintf("%.1f", c.Goodput), fmt.Sprintf("%.1f", c.Latency.P50), fmt.Sprintf("%.1f", c.Latency.P99),
				fmt.Sprintf("%.1f", c.Latency.P999)})
		}
	}
	return rows
}

func (r *Report) auditRows() [][]string {
	rows := [][]string{{"audit", "acknowledged", "sold in the sale", "oversold", "double", "lost", "unfinished",
		"repeated", "unbalanced", "requests a success"}}
	for _, f := range r.Findings {
		if a := f.Audit; a != nil && f.Figures != nil {
			row := []string{f.Name}
			for _, n := range []int64{a.Acknowledged, a.SoldHot, a.Oversold, a.Double, a.Lost, a.Unfinished, a.Repeated,
				a.Unbalanced} {
				row = append(row, fmt.Sprint(n))
			}
			rows = append(rows, append(row, fmt.Sprintf("%.3f", f.Attempts)))
		}
	}
	return rows
}

func (r *Report) faultRows() [][]string {
	rows := [][]string{{"fault", "began s", "ended s", "failing s", "recovery s", ""}}
	for _, f := range r.Findings {
		for _, x := range f.Faults {
			rows = append(rows, []string{x.What, fmt.Sprintf("%.1f", x.Began), fmt.Sprintf("%.1f", x.Ended),
				fmt.Sprintf("%.2f", x.Gap), fmt.Sprintf("%.2f", x.Recovery), x.Error})
		}
	}
	return rows
}

func (r *Report) leakRows() [][]string {
	rows := [][]string{{"before and after", "", "goroutines", "descriptors", "own memory, MiB",
		"live heap, MiB"}}
	for _, f := range r.Findings {
		for _, l := range f.Leaks {
			rows = append(rows, []string{f.Name, l.Process, fmt.Sprintf("%d, %d", l.Start.Goroutines, l.End.Goroutines),
				fmt.Sprintf("%d, %d", l.Start.Descriptors, l.End.Descriptors),
				fmt.Sprintf("%.1f, %.1f", mebi(l.Start.Memory), mebi(l.End.Memory)),
				fmt.Sprintf("%.1f, %.1f", mebi(l.Start.Live), mebi(l.End.Live))})
		}
	}
	return rows
}

func mebi(n int64) float64 { return float64(n) / (1 << 20) }

func (f *Finding) reasonRows() [][]string {
	rows := [][]string{{f.Name, "outcome", "reason", "number", "p50 ms", "p99 ms", "p99.9 ms"}}
	for _, x := range f.Figures.Reasons {
		rows = append(rows, []string{x.Class, x.Outcome, x.Reason, fmt.Sprint(x.Latency.Count),
			fmt.Sprintf("%.1f", x.Latency.P50), fmt.Sprintf("%.1f", x.Latency.P99),
			fmt.Sprintf("%.1f", x.Latency.P999)})
	}
	return rows
}

// remarks returns one line for everything that has to be known beside the figures.
func (r *Report) remarks() (lines []string) {
	for _, f := range r.Findings {
		add := func(format string, args ...any) { lines = append(lines, f.Name+": "+fmt.Sprintf(format, args...)) }
		if f.Missing != "" {
			add("not run: %s", f.Missing)
		}
		if f.Failed != "" {
			add("given up: %s", f.Failed)
		}
		for _, note := range f.Notes {
			add("%s", note)
		}
		if f.Figures != nil && f.Figures.LateP99 > lateMost {
			add("the generator was late: p99 %.0f ms; latencies count it", f.Figures.LateP99)
		}
		if f.Audit != nil && f.Name == ours {
			for _, example := range f.Audit.Examples {
				add("%s", example)
			}
		}
		if f.Name != ours {
			for _, m := range f.missed() {
				add("misses %s: %s%s, %s", m.What, measure.Shown(m.Got, 3), m.Unit, m.Bound())
			}
		}
	}
	return lines
}

const lateMost = 10.0 // ms
