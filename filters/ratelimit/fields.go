package ratelimit

import (
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// quote writes a limit's name as a string of Structured Fields (RFC 9651 §3.3.3). What such a string cannot hold becomes an underscore.
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

// policyWith writes RateLimit-Policy with the limits in force in order, that one first; -1 is none first.
func (f *Filter) policyWith(first int) string {
	var b strings.Builder
	add := func(u *use) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(u.item)
		b.WriteString(";q=")
		b.WriteString(strconv.Itoa(u.Limit.Count))
		b.WriteString(";w=")
		b.WriteString(strconv.FormatInt(max(filters.WholeSeconds(u.Limit.Period), 1), 10))
	}
	if first >= 0 {
		add(&f.uses[first])
	}
	for i := range f.uses {
		if i != first && !f.uses[i].Shadow {
			add(&f.uses[i])
		}
	}
	return b.String()
}

// rateLimit writes RateLimit with the limits whose numbers are known, that one first; "" without any. It is good as long as the
// exchange's own texts are.
func (f *Filter) rateLimit(x *filters.Exchange, st *seen, first int) string {
	b := x.Scratch()
	if first >= 0 {
		b = st.append(b, &f.uses[first], first)
	}
	for i := range f.uses {
		if i == first || f.uses[i].Shadow || !st.known[i] {
			continue
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = st.append(b, &f.uses[i], i)
	}
	return x.Text(b)
}

func (st *seen) append(b []byte, u *use, i int) []byte {
	if !st.known[i] {
		return b
	}
	d := &st.decisions[i]
	b = append(b, u.item...)
	b = append(b, ";r="...)
	b = strconv.AppendInt(b, int64(max(d.Remaining, 0)), 10)
	b = append(b, ";t="...)
	reset := d.Reset
	if !d.Allowed {
		reset = d.RetryAfter // when there is quota again, and not when all of it is
	}
	return strconv.AppendInt(b, filters.WholeSeconds(min(reset, maxReset)), 10)
}

// maxReset keeps t within what an integer of Structured Fields may be (15 digits), whatever a limiter says.
const maxReset = 100 * 365 * 24 * time.Hour
