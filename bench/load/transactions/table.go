package transactions

import (
	"embed"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

//go:embed templates
var templateFiles embed.FS

var pages = measure.Pages(templateFiles)

var columns = []string{"CPU µs", "by hand", "×", "sagas/s", "by hand", "×", "p50 µs", "by hand", "×", "errors"}

// WriteTable writes the report as plain text.
func (r *Report) WriteTable(w io.Writer) error {
	var text strings.Builder
	text.WriteString(r.head() + "\n")
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, p := range r.Pairs {
		if p.Missing == "" {
			fmt.Fprintf(tw, "\n%s\t%s\t\n", p.Name, strings.Join(columns, "\t"))
			for _, row := range p.rows() {
				fmt.Fprintf(tw, "%s\t\n", strings.Join(row, "\t"))
			}
			tw.Flush()
		}
	}
	text.WriteString("\n" + strings.Join(r.sentences(), "\n") + "\n")
	tw = tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "\nmark\t\tfound\t\t\n")
	for _, m := range r.Marks {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t\n", m.What, m.Bound(), measure.Shown(m.Got, 2), m.Verdict())
	}
	tw.Flush()
	_, err := io.WriteString(w, text.String())
	return err
}

func (r *Report) head() string {
	return fmt.Sprintf("sagas of three steps, %d rounds of %v on each side, interleaved, %d processors", r.Rounds,
		r.Duration, r.Processors)
}

func (p *PairResult) rows() (rows [][]string) {
	whole := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	for _, c := range p.Cells {
		g, h := c.Gateway, c.ByHand
		rows = append(rows, []string{c.title(), whole(g.CPUMicros), whole(h.CPUMicros), measure.Shown(c.CPURatio, 2),
			whole(g.PerSecond), whole(h.PerSecond), measure.Shown(c.RateRatio, 2),
			whole(g.P50), whole(h.P50), measure.Shown(c.P50Ratio, 2), fmt.Sprint(c.errors())})
	}
	return rows
}

// sentences are the findings that no table has.
func (r *Report) sentences() (lines []string) {
	for _, p := range r.Pairs {
		if p.Missing != "" {
			lines = append(lines, p.Name+": not measured: "+p.Missing)
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: a saga makes %s queries at the coordinator and %s calls of the "+
			"store, %s of them one after the other", p.Name, measure.Shown(p.Queries, 2), measure.Shown(p.Calls, 2),
			measure.Shown(p.InARow, 2)))
		for _, c := range p.Cells {
			for i, s := range []*Side{c.Gateway, c.ByHand} {
				lines = append(lines, fmt.Sprintf("%s, %s, %s: %s", p.Name, c.title(), sides[i], s.parts()))
				if s.Errors > 0 {
					lines = append(lines, fmt.Sprintf("%s, %s, %s: %d errors, %d sagas, first: %s", p.Name, c.title(),
						sides[i], s.Errors, s.Sagas, s.First))
				}
			}
		}
	}
	return lines
}

// parts says which process a saga's CPU is of.
func (s *Side) parts() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(s.Parts)) {
		list = append(list, fmt.Sprintf("%s %.0f µs", name, s.Parts[name]))
	}
	return strings.Join(list, ", ")
}

// WriteHTML writes the report as one page without anything from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	type row struct {
		measure.MarkRow
		Bound string
	}
	type table struct {
		Title string
		Rows  [][]string
	}
	values := struct {
		Head      string
		Columns   []string
		Sentences []string
		Tables    []table
		Marks     []row
	}{Head: r.head(), Columns: columns, Sentences: r.sentences()}
	for _, p := range r.Pairs {
		if p.Missing == "" {
			values.Tables = append(values.Tables, table{p.Name, p.rows()})
		}
	}
	for _, m := range measure.MarkRows(r.Marks) {
		values.Marks = append(values.Marks, row{m, m.Bound()})
	}
	return pages.ExecuteTemplate(w, "transactions.html", values)
}
