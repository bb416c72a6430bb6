package cors

import (
	"strconv"
	"strings"
	"time"
)

// own are the fields of the gateway that a script needs to make sense of a response.
var own = []string{
	"Location", "Retry-After", "RateLimit", "RateLimit-Policy", "Idempotent-Replayed", "Idempotent-Original-Date",
	"Sluice-Reason", "Sluice-Request-Id",
}

const requestedBytesMax = 4096 // of Access-Control-Request-Headers that is repeated

// rules are settings in the form that requests are compared with.
type rules struct {
	any         bool
	exact       map[string]bool
	below       []subdomains
	credentials bool
	expose      string
	maxAge      string
}

// subdomains are the origins of one scheme and port whose host ends in a suffix.
type subdomains struct{ scheme, suffix string }

func newRules(s Settings) *rules {
	r := &rules{
		exact: map[string]bool{}, credentials: s.Credentials,
		expose: strings.Join(append(append([]string(nil), own...), s.Expose...), ", "),
		maxAge: strconv.FormatInt(int64(s.MaxAge/time.Second), 10),
	}
	for _, origin := range s.Origins {
		scheme, host, _ := strings.Cut(origin, "://")
		switch suffix, wild := strings.CutPrefix(host, "*"); {
		case origin == "*":
			r.any = true
		case wild:
			r.below = append(r.below, subdomains{scheme + "://", suffix})
		default:
			r.exact[origin] = true
		}
	}
	return r
}

// allow returns the value of Access-Control-Allow-Origin for an origin, "" for one that is not allowed.
func (r *rules) allow(origin string) string {
	switch {
	case origin == "":
		return ""
	case r.any:
		return "*"
	case r.exact[origin]:
		return origin
	}
	for i := range r.below {
		b := &r.below[i]
		host, ok := strings.CutPrefix(origin, b.scheme)
		if ok && len(host) > len(b.suffix) && strings.HasSuffix(host, b.suffix) &&
			!strings.ContainsAny(host[:len(host)-len(b.suffix)], "/:@") {
			return origin
		}
	}
	return ""
}

// varies reports whether responses differ by origin.
func (r *rules) varies() bool { return !r.any }

// namesFields reports whether a text is a list of field names, as a browser writes it.
func namesFields(text string) bool {
	if len(text) > requestedBytesMax {
		return false
	}
	for i := range len(text) {
		c := text[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~, ", rune(c)) {
			return false
		}
	}
	return true
}
