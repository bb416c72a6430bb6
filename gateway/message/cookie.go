package message

import (
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// IsCookie reports whether a field of a request has cookies.
func IsCookie(name string) bool { return len(name) == 6 && filters.EqualName(name, "Cookie") }

// JoinCookies makes one field of all cookies, in the place of the first. HTTP/2 may send several
// (RFC 9113 §8.2.3), HTTP/1.1 may not (RFC 6265 §5.4); of those that come all the same one server
// reads the first and another one the last.
func JoinCookies(h *filters.Header) {
	var all []string
	first, kept := 0, (*h)[:0]
	for _, f := range *h {
		if IsCookie(f.Name) {
			if all = append(all, f.Value); len(all) > 1 {
				continue
			}
			first = len(kept)
		}
		kept = append(kept, f)
	}
	if *h = kept; len(all) > 1 {
		kept[first].Value = strings.Join(all, "; ")
	}
}
