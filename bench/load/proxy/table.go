package proxy

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the report as plain text.
func (r *Report) WriteTable(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%d connections, %d rounds of %v, upstream %s, %s\n", r.Connections, r.Rounds, r.Duration, r.Upstream, r.where())
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, load := range r.Loads {
		fmt.Fprintf(tw, "\n%s\tCPU µs\t× nginx\t× relay\trequests/s\tallocations\terrors\t\n", load)
		for _, c := range r.Contenders {
			if f := c.Figures[load]; f != nil && f.Failed == "" {
				fmt.Fprintf(tw, "%s\t%.2f\t%s\t%s\t%.0f\t%s\t%d\t\n", c.Name, f.CPUMicros, shown(f.ToNginx, 2), shown(f.ToRelay, 2), f.PerSecond, shown(f.Mallocs, 2), f.Errors)
			}
		}
		tw.Flush()
	}
	fmt.Fprintf(tw, "\n%d idle connections; GET at %d/s\tKiB each\tp50 µs\tp99 µs\tp99.9 µs\terrors\t\n", r.Idle, r.Rate)
	for _, c := range r.Contenders {
		if c.IdleBytes == nil && c.Latency == nil {
			continue
		}
		fmt.Fprintf(tw, "%s\t%s", c.Name, shown(kib(c.IdleBytes), 2))
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
	tw = tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "mark\tat most\tfound\t\t\n")
	for _, m := range r.Marks {
		fmt.Fprintf(tw, "%s\t%g%s\t%s\t%s\t\n", m.What, m.Limit, m.Unit, shown(m.Got, 2), m.verdict())
	}
	tw.Flush()
	_, err := io.WriteString(w, text.String())
	return err
}

// where says which processors were used.
func (r *Report) where() string { return whereRun(r.Apart, r.Processors) }

func whereRun(apart bool, processors int) string {
	if apart {
		return fmt.Sprintf("%d processors, the contenders on one of their own", processors)
	}
	return "one processor for all"
}

// remarks returns one line for everything that went wrong.
func (r *Report) remarks() []string { return remarksOf(r.Contenders, r.Loads) }

func remarksOf(results []Result, loads []string) []string {
	var lines []string
	for _, c := range results {
		add := func(format string, args ...any) { lines = append(lines, c.Name+": "+fmt.Sprintf(format, args...)) }
		if c.Missing != "" {
			add("%s", c.Missing)
		}
		if c.Note != "" {
			add("%s", c.Note)
		}
		if c.IdleError != "" {
			add("idle connections: %s", c.IdleError)
		}
		for _, load := range loads {
			if f := c.Figures[load]; f != nil && f.Failed != "" {
				add("%s: given up: %s", load, f.Failed)
			} else if f != nil && f.Errors > 0 {
				add("%s: %d errors in %d requests, first: %s", load, f.Errors, f.Requests, f.FirstError)
			}
		}
		if l := c.Latency; l != nil && l.Failed != "" {
			add("latency: given up: %s", l.Failed)
		} else if l != nil && l.Errors > 0 {
			add("latency: %d errors in %d requests, first: %s", l.Errors, l.Requests, l.FirstError)
		}
	}
	return lines
}

func (m Mark) verdict() string {
	switch {
	case m.Why != "":
		return m.Why
	case m.Met:
		return "met"
	}
	return "missed"
}

func kib(bytes *float64) *float64 {
	if bytes == nil {
		return nil
	}
	v := *bytes / 1024
	return &v
}

// shown writes a figure that may not be there.
func shown(v *float64, digits int) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, *v)
}
