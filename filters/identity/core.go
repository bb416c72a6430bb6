package identity

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/filters"
)

const (
	// principalBytesMax is the longest principal.
	principalBytesMax = 255
	// addressPrefix begins the principals that are addresses, and no others.
	addressPrefix = "ip:"
)

// usable reports whether a claim or a header value can be a principal. The reason is for the caller
// to act on.
func usable(v string) (reason string, ok bool) {
	switch {
	case v == "":
		return "it is empty", false
	case len(v) > principalBytesMax:
		return "it is longer than 255 bytes", false
	case strings.HasPrefix(v, addressPrefix):
		return `it begins with "ip:", which stands for addresses`, false
	case isPlain(v): // nearly all are
		return "", true
	case strings.TrimSpace(v) != v:
		return "it has white space at an end", false
	case !utf8.ValidString(v):
		return "it is not UTF-8", false
	case strings.ContainsFunc(v, unicode.IsControl):
		return "it has a control character", false
	}
	return "", true
}

// isPlain reports whether a text has visible characters of ASCII only.
func isPlain(v string) bool {
	for i := range len(v) {
		if v[i] <= ' ' || v[i] > '~' {
			return false
		}
	}
	return true
}

// addressPrincipal returns the principal of a client that shows nothing but its address, "" where
// that could not be read.
func addressPrincipal(x *filters.Exchange) string {
	if !x.Client.IsValid() {
		return ""
	}
	return x.Text(x.AppendClient(append(x.Scratch(), addressPrefix...)))
}

// trusts reports whether the peer is in one of the prefixes. An IPv4 address that came mapped into
// IPv6 is the IPv4 one.
func trusts(trusted []netip.Prefix, peer netip.Addr) bool {
	peer = peer.Unmap().WithZone("")
	for _, p := range trusted {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// bearer returns the token of an Authorization value, and whether the scheme is Bearer at all (RFC
// 9110 §11.4: any case).
func bearer(v string) (token string, ok bool) {
	const scheme = "bearer"
	v = strings.Trim(v, " \t")
	if len(v) < len(scheme) || !strings.EqualFold(v[:len(scheme)], scheme) {
		return "", false
	}
	rest := v[len(scheme):]
	if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return "", false // another scheme that begins with the same letters
	}
	return strings.Trim(rest, " \t"), true
}

// sameButUnderscores reports whether two names are the same to a service that turns hyphens, and
// whatever else is no letter or digit, into underscores (CGI, RFC 3875 §4.1.18), but not the same to
// HTTP.
func sameButUnderscores(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	differ := false
	for i := range len(a) {
		x, y := lower(a[i]), lower(b[i])
		if x == y {
			continue
		}
		if alphanumeric(x) || alphanumeric(y) {
			return false
		}
		differ = true
	}
	return differ
}

func alphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// cookie returns the value of a cookie (RFC 6265 §4.2), in quotes or not. Several of one name with
// different values are not one: the cookie of a sibling domain may be among them.
func cookie(h filters.Header, name string) (value string, found, several bool) {
	for i := range h {
		if !filters.EqualName(h[i].Name, "Cookie") {
			continue
		}
		for rest := h[i].Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			k, v, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if !ok || k != name { // names of cookies have a case
				continue
			}
			if n := len(v); n >= 2 && v[0] == '"' && v[n-1] == '"' {
				v = v[1 : n-1]
			}
			several = several || found && v != value
			value, found = v, true
		}
	}
	return value, found, several
}
