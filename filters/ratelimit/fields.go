package ratelimit

import (
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// QuotedName writes a limit's name as a string of Structured Fields (RFC 9651 §3.3.3). What such a
// string cannot hold becomes an underscore.
func QuotedName(name string) string {
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
		b.WriteString(PolicyItem(r.Limit.Name, Rate{r.Limit.Count, r.Limit.Period}))
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
	return AppendLimitItem(b, r.item, &e.decisions[i])
}

// PolicyItem is the item of a limit in RateLimit-Policy.
func PolicyItem(name string, r Rate) string {
	b := append([]byte(QuotedName(name)), ";q="...)
	b = append(strconv.AppendInt(b, int64(r.Count), 10), ";w="...)
	return string(strconv.AppendInt(b, max(filters.WholeSeconds(r.Period), 1), 10))
}

// AppendLimitItem appends the item of a limit in RateLimit. quoted is the name as [QuotedName] gives it.
func AppendLimitItem(b []byte, quoted string, d *Decision) []byte {
	b = append(append(b, quoted...), ";r="...)
	b = strconv.AppendInt(b, int64(max(d.Remaining, 0)), 10)
	b = append(b, ";t="...)
	return strconv.AppendInt(b, d.SecondsLeft(), 10)
}

// SecondsLeft is what clients are told of the time, in whole seconds rounded up: when there is quota again, where
// there is none, and not when all of it is; else when all of it is.
func (d *Decision) SecondsLeft() int64 {
	reset := d.Reset
	if !d.Allowed {
		reset = d.RetryAfter
	}
	return filters.WholeSeconds(min(reset, maxReset))
}

// maxReset keeps t within what an integer of Structured Fields may be (15 digits), whatever a
// limiter says.
const maxReset = 100 * 365 * 24 * time.Hour
