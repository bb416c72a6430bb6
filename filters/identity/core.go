package identity

import (
	"net/netip"
	"strings"
	"unicode"

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
	case strings.TrimSpace(v) != v:
		return "it has white space at an end", false
	case strings.ContainsFunc(v, unicode.IsControl):
		return "it has a control character", false
	}
	return "", true
}

// addressPrincipal returns the principal of a client that shows nothing but its address, "" without
// one.
func addressPrincipal(x *filters.Exchange) string {
	client := x.Client
	if !client.IsValid() {
		client = x.Peer
	}
	if !client.IsValid() {
		return ""
	}
	return x.Text(client.Unmap().WithZone("").AppendTo(append(x.Scratch(), addressPrefix...)))
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

// sameButUnderscores reports whether two names are the same to a service that turns hyphens into
// underscores (CGI, RFC 3875 §4.1.18), but not the same to HTTP.
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
		if (x != '_' || y != '-') && (x != '-' || y != '_') {
			return false
		}
		differ = true
	}
	return differ
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
