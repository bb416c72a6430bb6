package accesslog

import (
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/filters"
)

const (
	pathBytesMax = 2048
	textBytesMax = 256
)

// encoder appends the members of a line in one of the two forms.
type encoder struct {
	b     []byte
	json  bool
	comma bool // a member stands before
}

func (e *encoder) name(name string) {
	switch {
	case e.json && e.comma:
		e.b = append(e.b, `,"`...)
	case e.json:
		e.b = append(e.b, `{"`...)
	case e.comma:
		e.b = append(e.b, ' ')
	}
	e.comma = true
	e.b = append(e.b, name...)
	if e.json {
		e.b = append(e.b, `":`...)
	} else {
		e.b = append(e.b, '=')
	}
}

// text appends a text of anybody's, and nothing for an empty one.
func (e *encoder) text(name, value string, bytesMax int) {
	if value == "" {
		return
	}
	e.name(name)
	if e.json || !plain(value, bytesMax) {
		e.b = appendQuoted(e.b, value, bytesMax)
	} else {
		e.b = append(e.b, value...)
	}
}

func (e *encoder) number(name string, n int64) {
	e.name(name)
	e.b = strconv.AppendInt(e.b, n, 10)
}

func (e *encoder) truth(name string, is bool) {
	if is {
		e.name(name)
		e.b = append(e.b, "true"...)
	}
}

// milliseconds appends a duration with microseconds behind the point.
func (e *encoder) milliseconds(name string, d time.Duration) {
	us := max(d.Microseconds(), 0)
	e.name(name)
	e.b = strconv.AppendInt(e.b, us/1000, 10)
	us %= 1000
	e.b = append(e.b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}

func (e *encoder) quote() {
	if e.json {
		e.b = append(e.b, '"')
	}
}

func (e *encoder) address(name string, a netip.Addr) {
	if !a.IsValid() {
		return
	}
	e.name(name)
	e.quote()
	e.b = a.AppendTo(e.b)
	e.quote()
}

// time appends RFC 3339 with milliseconds, in UTC.
func (e *encoder) time(name string, t time.Time) {
	e.name(name)
	e.quote()
	ms := t.Nanosecond() / int(time.Millisecond)
	e.b = append(append(e.b, secondText(t)...), '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
	e.quote()
}

// second is the text of a second.
type second struct {
	unix int64
	text string
}

var lastSecond atomic.Pointer[second]

// secondText returns the date and the time of day. To format them costs as much as a quarter of a line, so it is done
// once a second.
func secondText(t time.Time) string {
	if s := lastSecond.Load(); s != nil && s.unix == t.Unix() {
		return s.text
	}
	s := &second{t.Unix(), t.UTC().Format("2006-01-02T15:04:05")}
	lastSecond.Store(s)
	return s.text
}

func (e *encoder) principal(principal string, hashed bool) {
	switch {
	case principal == "":
	case !hashed:
		e.text("principal", principal, textBytesMax)
	default:
		e.name("principal")
		e.quote()
		e.b = filters.AppendHashedPrincipal(e.b, principal)
		e.quote()
	}
}

func (e *encoder) end() []byte {
	if e.json {
		e.b = append(e.b, '}')
	}
	return append(e.b, '\n')
}

// appendEntry appends the line of an entry.
func appendEntry(dst []byte, x *Entry, json, hashed bool) []byte {
	e := encoder{b: dst, json: json}
	e.time("time", x.Time)
	e.text("request_id", x.RequestID, textBytesMax)
	e.text("trace_id", x.TraceID, textBytesMax)
	e.address("peer", x.Peer)
	e.address("client", x.Client)
	e.principal(x.Principal, hashed)
	e.text("method", x.Method, textBytesMax)
	e.text("host", x.Host, textBytesMax)
	e.text("path", x.Path, pathBytesMax)
	e.text("protocol", protocol(x.Protocol), textBytesMax)
	e.truth("upgraded", x.Upgraded)
	e.text("route", x.Route, textBytesMax)
	e.text("service", x.Service, textBytesMax)
	e.text("endpoint", x.Endpoint, textBytesMax)
	e.number("status", int64(x.Status))
	e.text("reason", x.Reason, textBytesMax)
	e.text("record", x.Record, textBytesMax)
	if x.Attempt > 0 {
		e.number("attempt", int64(x.Attempt))
	}
	e.truth("replayed", x.Replayed)
	if x.In >= 0 {
		e.number("bytes_in", x.In)
	}
	if x.Out >= 0 {
		e.number("bytes_out", x.Out)
	}
	e.milliseconds("total_ms", x.Total)
	for _, part := range [...]struct {
		name string
		d    time.Duration
	}{{"service_ms", x.ServiceTime}, {"store_ms", x.StoreTime}, {"queue_ms", x.QueueTime}} {
		if part.d >= time.Microsecond { // what waits for nothing is not told
			e.milliseconds(part.name, part.d)
		}
	}
	return e.end()
}

func protocol(version string) string {
	switch version {
	case "1.1":
		return "HTTP/1.1"
	case "2":
		return "HTTP/2"
	case "1.0":
		return "HTTP/1.0"
	}
	return ""
}

// plain reports whether a text can stand in a line of text as it is.
func plain(s string, bytesMax int) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=' {
			return false
		}
	}
	return len(s) <= bytesMax
}

// asIs are the bytes that stand in a quoted text as they are.
var asIs = func() (is [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		is[c] = c != '"' && c != '\\'
	}
	return is
}()

// appendQuoted appends a JSON string. It is cut at so many bytes of the text.
func appendQuoted(dst []byte, s string, bytesMax int) []byte {
	cut := len(s) > bytesMax
	if cut {
		s = s[:bytesMax]
		for i := 1; i < utf8.UTFMax && i <= len(s); i++ { // not within a character
			if c := s[len(s)-i]; utf8.RuneStart(c) {
				if !utf8.FullRuneInString(s[len(s)-i:]) {
					s = s[:len(s)-i]
				}
				break
			}
		}
	}
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		if asIs[s[i]] {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r < 0xa0 || r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[from:i]...)
			dst = appendEscaped(dst, r)
			from = i + size
		}
		i += size
	}
	dst = append(dst, s[from:]...)
	if cut {
		dst = append(dst, "…"...)
	}
	return append(dst, '"')
}

func appendEscaped(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	if r == '"' || r == '\\' {
		return append(dst, '\\', byte(r))
	}
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
