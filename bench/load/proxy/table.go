package proxy

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
	fmt.Fprintf(&text, "%d connections, %d rounds of %v, upstream %s, %s\n", r.Connections, r.Rounds, r.Duration,
		r.Upstream, r.Where())
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, load := range r.Loads {
		fmt.Fprintf(tw, "\n%s\tCPU µs\t× nginx\t× relay\trequests/s\tallocations\terrors\t\n", load)
		for _, c := range r.Contenders {
			if f := c.Figures[load]; f != nil && f.Failed == "" {
				fmt.Fprintf(tw, "%s\t%.2f\t%s\t%s\t%.0f\t%s\t%d\t\n", c.Name, f.CPUMicros, measure.Shown(f.ToNginx,
					2), measure.Shown(f.ToRelay, 2), f.PerSecond, measure.Shown(f.Mallocs, 2), f.Errors)
			}
		}
		tw.Flush()
	}
	fmt.Fprintf(tw, "\n%d idle connections; GET at %d/s\tKiB each\tp50 µs\tp99 µs\tp99.9 µs\terrors\t\n", r.Idle,
		r.Rate)
	for _, c := range r.Contenders {
		if c.IdleBytes == nil && c.Latency == nil {
			continue
		}
		fmt.Fprintf(tw, "%s\t%s", c.Name, measure.Shown(kib(c.IdleBytes), 2))
		if l := c.Latency; l != nil && l.Failed == "" {
			fmt.Fprintf(tw, "\t%.0f\t%.0f\t%.0f\t%d\t\n", l.P50, l.P99, l.P999, l.Errors)
		} else {
			fmt.Fprint(tw, "\t-\t-\t-\t-\t\n")
		}
	}
	tw.Flush()
	if remarks := r.remarks(); len(remarks) > 0 {
		text.WriteString("\n" + strings.Join(remarks, "\n") + "\n")
	}
	text.WriteString("\n")
	if busy := r.Busy(); busy != "" {
		text.WriteString("busy machine: " + busy + "\n\n")
	}
	tw = tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "mark\tat most\tfound\t\t\n")
	for _, m := range r.Marks {
		fmt.Fprintf(tw, "%s\t%g%s\t%s\t%s\t\n", m.What, m.Limit, m.Unit, m.Found(), m.Verdict())
	}
	tw.Flush()
	_, err := io.WriteString(w, text.String())
	return err
}

// remarks returns one line for everything that went wrong.
func (r *Report) remarks() []string { return measure.Remarks(r.Contenders, r.Loads) }

func kib(bytes *float64) *float64 {
	if bytes == nil {
		return nil
	}
	v := *bytes / 1024
	return &v
}
