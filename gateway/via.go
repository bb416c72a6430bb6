package gateway

import (
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// hop is how this process names itself in Via (RFC 9110 §7.6.3): by a pseudonym of its own, so that
// a request that comes back shows, and the gateway before a service and the one beside it do not
// take each other for themselves. A reload keeps it.
type hop struct {
	name     string
	versions [3]string // the whole entry for a request of HTTP/1.1, 1.0 and 2
}

// newHop draws the pseudonym. It is no secret: who sends it is refused.
func newHop() *hop {
	h := &hop{name: "sluice-" + string(appendRandom(nil, 1))}
	for i, version := range [...]string{"1.1", "1.0", "2"} {
		h.versions[i] = version + " " + h.name
	}
	return h
}

// of returns this process's entry for a request that came in that version of HTTP.
func (h *hop) of(version string) string {
	switch version {
	case "2":
		return h.versions[2]
	case "1.0":
		return h.versions[1]
	}
	return h.versions[0]
}

// passed reports whether an entry of Via was received by that name. A comment, whatever it says,
// names nobody, and a comma in it ends no entry.
func passed(via, name string) bool {
	for via != "" {
		var entry string
		entry, via = cutEntry(via)
		entry = strings.TrimLeft(entry, " \t")
		_, by, _ := cutBlank(entry) // behind the protocol
		by, _, _ = cutBlank(by)
		if i := strings.IndexByte(by, '('); i >= 0 {
			by = by[:i]
		}
		if filters.EqualName(by, name) {
			return true
		}
	}
	return false
}

// cutEntry splits a list behind its first entry. A comment that does not end is none: else a client
// could hide in one what proxies append behind it.
func cutEntry(list string) (entry, rest string) {
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case ',':
			return list[:i], list[i+1:]
		case '(':
			if n := commentLength(list[i:]); n > 0 {
				i += n - 1
			}
		}
	}
	return list, ""
}

// commentLength returns the length of the comment that s begins with (RFC 9110 §5.6.5), 0 when it
// does not end.
func commentLength(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// cutBlank splits at the first blanks.
func cutBlank(s string) (before, after string, found bool) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimLeft(s[i:], " \t"), true
}
