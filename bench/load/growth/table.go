package growth

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// rows returns the table: a row for each step and load.
func (r *Report) rows() [][]string {
	var rows [][]string
	for _, a := range r.Axes {
		for _, p := range a.Points {
			if p.Failed != "" {
				continue
			}
			more, reload := "-", "-"
			if p.MoreBytes != 0 {
				more = fmt.Sprintf("%.0f", p.MoreBytes/float64(p.Items))
			}
			if re := p.Reload; re != nil && len(re.TookMillis) > 0 {
				reload = fmt.Sprintf("%.0f (slowest request %.1f, without %.1f)", measure.Median(re.TookMillis),
					measure.Median(re.SlowestMillis), measure.Median(re.QuietMillis))
			}
			for i, l := range p.Loads {
				if l.Failed != "" || len(l.CPURounds) == 0 {
					continue
				}
				spread := fmt.Sprintf("%.2f to %.2f", slices.Min(l.CPURounds), slices.Max(l.CPURounds))
				row := []string{fmt.Sprintf("%d %s", p.Items, a.Name), l.Name, fmt.Sprintf("%.2f", l.CPUMicros), spread,
					measure.Shown(l.ToLeast, 2),
					fmt.Sprintf("%.1f", p.MemoryBytes/(1<<20)), more, fmt.Sprintf("%.0f", p.StartMillis), reload}
				if i > 0 {
					row = append(row[:5], "", "", "", "")
				}
				rows = append(rows, row)
			}
		}
	}
	return rows
}

var columns = []string{"", "load", "CPU µs", "least to most", "× the least step", "MiB", "bytes each", "start CPU ms",
	"reload ms"}

// WriteTable writes the report as plain text.
func (r *Report) WriteTable(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%d connections, %d rounds of %v, upstream %s, %s\n\n", r.Connections, r.Rounds, r.Duration,
		r.Upstream, r.Where())
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{columns}, r.rows()...) {
		fmt.Fprintln(tw, strings.Join(row, "\t")+"\t")
	}
	tw.Flush()
	if remarks := r.remarks(); len(remarks) > 0 {
		text.WriteString("\n" + strings.Join(remarks, "\n") + "\n")
	}
	if len(r.Marks) > 0 {
		text.WriteString("\n")
		fmt.Fprint(tw, "mark\tat most\tfound\t\t\n")
		for _, m := range r.Marks {
			fmt.Fprintf(tw, "%s\t%g%s\t%s\t%s\t\n", m.What, m.Limit, m.Unit, measure.Shown(m.Got, 2), m.Verdict())
		}
		tw.Flush()
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// Err says how many marks were missed; nil: none.
func (r *Report) Err() error {
	missed := 0
	for _, m := range r.Marks {
		if !m.Met {
			missed++
		}
	}
	if missed == 0 {
		return nil
	}
	return fmt.Errorf("growth: %d of %d marks were missed", missed, len(r.Marks))
}
