package measure

import "fmt"

// Remarks returns one line for everything that went wrong.
func Remarks(results []Result, loads []Load) []string {
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

// Verdict is how the mark stands, in words.
func (m Mark) Verdict() string {
	switch {
	case m.Why != "":
		return m.Why
	case m.Met:
		return "met"
	}
	return "missed"
}

// Bound is a mark's limit in words.
func (m Mark) Bound() string {
	if m.Least {
		return fmt.Sprintf("at least %g%s", m.Limit, m.Unit)
	}
	return fmt.Sprintf("at most %g%s", m.Limit, m.Unit)
}

// Shown writes a figure that may not be there.
func Shown(v *float64, digits int) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, *v)
}
