package measure

import (
	"fmt"
	"slices"
)

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
		return "met" + m.dissent()
	}
	return "missed" + m.dissent()
}

// dissent tells in how many rounds it is the other way round than by the median.
func (m Mark) dissent() string {
	n := 0
	for _, v := range m.Rounds {
		if m.keeps(v, 0) != m.Met {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", but not in %d of %d rounds", n, len(m.Rounds))
}

// Found is a mark's figure in words: the median, with the least and the most of the rounds.
func (m Mark) Found() string {
	if len(m.Rounds) < 2 {
		return Shown(m.Got, 2)
	}
	return fmt.Sprintf("%s (%.2f to %.2f)", Shown(m.Got, 2), slices.Min(m.Rounds), slices.Max(m.Rounds))
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
