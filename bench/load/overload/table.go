package overload

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the figures of every phase, and the marks.
func (r *Report) WriteTable(w io.Writer) error {
	for _, s := range r.Scenarios {
		fmt.Fprintf(w, "%s: %s\n", s.Key, s.Title)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  "+strings.Join(columns, "\t"))
		for _, f := range r.Findings {
			if f.Scenario != s.Key {
				continue
			}
			for _, row := range f.rows() {
				fmt.Fprintln(t, "  "+strings.Join(row, "\t"))
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return r.writeMarks(w)
}

func (r *Report) writeMarks(w io.Writer) error {
	fmt.Fprintln(w, "marks")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range r.Marks {
		fmt.Fprintf(t, "  %s\t%s\t%.4g%s\t%s\n", m.What, m.Bound(), *m.Got, m.Unit, m.Verdict())
	}
	return t.Flush()
}
