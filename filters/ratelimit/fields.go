package ratelimit

import (
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// quote writes a limit's name as a string of Structured Fields (RFC 9651 §3.3.3). What such a
// string cannot hold becomes an underscore.
func quote(name string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range name {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r > 0x7e:
			b.WriteByte('_')
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// policyWith writes RateLimit-Policy: the limits in force in their order, but the one at index
// first before the others (-1: none).
func (f *Filter) policyWith(first int) string {
	var b strings.Builder
	add := func(r *rule) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(r.item)
		b.WriteString(";q=")
		b.WriteString(strconv.Itoa(r.Limit.Count))
		b.WriteString(";w=")
		b.WriteString(strconv.FormatInt(max(filters.WholeSeconds(r.Limit.Period), 1), 10))
	}
	if first >= 0 {
		add(&f.rules[first])
	}
	for i := range f.rules {
		if i != first && !f.rules[i].Shadow {
			add(&f.rules[i])
		}
	}
	return b.String()
}

// rateLimit writes RateLimit: the limits whose numbers are known, ordered as by policyWith; ""
// without any. The text is valid as long as the exchange's own texts are.
func (f *Filter) rateLimit(x *filters.Exchange, e *evaluation, first int) string {
	b := x.Scratch()
	if first >= 0 {
		b = e.append(b, &f.rules[first], first)
	}
	for i := range f.rules {
		if i == first || f.rules[i].Shadow || !e.known[i] {
			continue
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = e.append(b, &f.rules[i], i)
	}
	return x.Text(b)
}

func (e *evaluation) append(b []byte, r *rule, i int) []byte {
	if !e.known[i] {
		return b
	}
	d := &e.decisions[i]
	b = append(b, r.item...)
	b = append(b, ";r="...)
	b = strconv.AppendInt(b, int64(max(d.Remaining, 0)), 10)
	b = append(b, ";t="...)
	reset := d.Reset
	if !d.Allowed {
		reset = d.RetryAfter // when there is quota again, and not when all of it is
	}
	return strconv.AppendInt(b, filters.WholeSeconds(min(reset, maxReset)), 10)
}

// maxReset keeps t within what an integer of Structured Fields may be (15 digits), whatever a
// limiter says.
const maxReset = 100 * 365 * 24 * time.Hour
