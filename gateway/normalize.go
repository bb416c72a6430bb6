package gateway

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// normalize makes the path canonical and replaces the fields that are the gateway's to set. The
// header has no field of the connection any more; peer is x.Peer as text. nil means that the
// exchange may be routed; a reply is a refusal before routing, after which the connection is
// closed.
func (e *engine) normalize(x *filters.Exchange, peer string, length int64) *filters.Reply {
	if length > int64(e.cfg.Listen.MaxBody) {
		return e.bodyTooLarge()
	}
	path, err := router.Canonical(x.Path)
	if err != nil {
		return refusal(filters.BadRequest, strings.TrimPrefix(err.Error(), "router: ")+".")
	}
	x.Path = path
	e.normalizeHeader(x, peer)
	return nil
}

func (e *engine) bodyTooLarge() *filters.Reply {
	return refusal(filters.BodyTooLarge, "The body is longer than "+e.cfg.Listen.MaxBody.String()+".")
}

// normalizeHeader removes the fields that only the gateway sets, establishes the client's address
// and prepares what the service is told about the way that the request came.
func (e *engine) normalizeHeader(x *filters.Exchange, peer string) {
	x.Client = x.Peer
	forwardedFor, proto, host := "", "", ""
	if trusted := e.cfg.Listen.TrustedProxies; len(trusted) > 0 && contains(trusted, x.Peer) {
		forwardedFor = x.Header.Joined("X-Forwarded-For")
		proto, host = x.Header.Get("X-Forwarded-Proto"), x.Header.Get("X-Forwarded-Host")
		x.Client = clientOf(x.Peer, forwardedFor, trusted)
	}
	trace := x.Header.Get("Traceparent")
	via := x.Header.Joined("Via")
	x.Header.DelFunc(ownField)

	if forwardedFor != "" {
		peer = forwardedFor + ", " + peer
	}
	if proto == "" {
		proto = x.Scheme
	}
	if host == "" {
		host = x.Host
	}
	b := x.Scratch()
	if via != "" {
		b = append(append(b, via...), ", "...)
	}
	via = x.Text(append(append(b, x.Version...), " sluice"...))
	x.Inject.Add("X-Forwarded-For", peer)
	x.Inject.Add("X-Forwarded-Proto", proto)
	x.Inject.Add("X-Forwarded-Host", host)
	x.Inject.Add("Via", via)
	id := x.Text(appendRandom(x.Scratch(), 2))
	x.Inject.Add("Sluice-Request-Id", id)
	if !validTraceparent(trace) { // a trace begins here, and is named like the request
		b := append(append(append(x.Scratch(), "00-"...), id...), '-')
		trace = x.Text(append(appendRandom(b, 1), "-00"...))
	}
	x.Inject.Add("traceparent", trace)
}

// ownField reports whether a field is the gateway's to set: a service sees no other value of it. A
// name with underscores is the same one to servers that read them as hyphens.
func ownField(name string) bool {
	switch len(name) {
	case 3:
		return filters.EqualName(name, "Via")
	case 9:
		return filters.EqualName(name, "Forwarded")
	case 11:
		return filters.EqualName(name, "Traceparent")
	case 15, 16, 17:
		if equalFolded(name, "X-Forwarded-For") || equalFolded(name, "X-Forwarded-Host") ||
			equalFolded(name, "X-Forwarded-Proto") || equalFolded(name, "Idempotency-Key") && name[11] == '_' {
			return true
		}
	}
	return len(name) > 7 && (name[6] == '-' || name[6] == '_') && filters.EqualName(name[:6], "Sluice")
}

// equalFolded reports whether the name is that one, underscores read as hyphens.
func equalFolded(name, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(want) {
		c := name[i]
		if c == '_' {
			c = '-'
		}
		if c|0x20 != want[i]|0x20 {
			return false
		}
	}
	return true
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// clientOf walks the chain of proxies from the nearest on and returns the first that is not
// trusted, or the farthest that still reads as an address.
func clientOf(peer netip.Addr, forwardedFor string, trusted []netip.Prefix) netip.Addr {
	client := peer
	for forwardedFor != "" {
		i := strings.LastIndexByte(forwardedFor, ',')
		hop := strings.TrimSpace(forwardedFor[i+1:])
		forwardedFor = forwardedFor[:max(i, 0)]
		a, err := netip.ParseAddr(hop)
		if err != nil {
			return client
		}
		client = a.Unmap().WithZone("")
		if !contains(trusted, client) {
			return client
		}
	}
	return client
}

// validTraceparent checks the form of W3C Trace Context, version 00.
func validTraceparent(v string) bool {
	if len(v) != 55 || v[:3] != "00-" || v[35] != '-' || v[52] != '-' {
		return false
	}
	for i := range len(v) {
		c := v[i]
		if i == 2 || i == 35 || i == 52 {
			continue
		}
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return strings.Trim(v[3:35], "0") != "" && strings.Trim(v[36:52], "0") != ""
}

// appendRandom appends n times 64 random bits as hexadecimal digits. They name requests; they keep
// no secret.
func appendRandom(dst []byte, n int) []byte {
	for range n {
		dst = hex.AppendEncode(dst, binary.NativeEndian.AppendUint64(make([]byte, 0, 8), rand.Uint64()))
	}
	return dst
}
