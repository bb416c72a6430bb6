package gateway

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/router"
	"github.com/sluice-gateway/sluice/gateway/tracing"
)

// normalize makes the path and the host canonical and replaces the fields that are the gateway's to
// set. The header has no field of the connection any more; client is x.Client as text. nil means
// that the exchange may be routed; a reply is a refusal before routing, after which the connection
// is closed.
func (e *engine) normalize(x *filters.Exchange, client string, length int64) *filters.Reply {
	if length > int64(e.cfg.Listen.MaxBody) {
		return e.bodyTooLarge()
	}
	path, err := router.Canonical(x.Path)
	if err != nil {
		return refusal(filters.BadRequest, strings.TrimPrefix(err.Error(), "router: ")+".")
	}
	x.Path = path
	x.Host = lowerHost(x)
	return e.normalizeHeader(x, client)
}

func (e *engine) bodyTooLarge() *filters.Reply {
	return refusal(filters.BodyTooLarge, "The body is longer than "+e.cfg.Listen.MaxBody.String()+".")
}

// lowerHost returns the host in lower case, in which it is compared, counted and sent on.
func lowerHost(x *filters.Exchange) string {
	for i := range len(x.Host) {
		if 'A' <= x.Host[i] && x.Host[i] <= 'Z' {
			b := append(x.Scratch(), x.Host...)
			for j, c := range b {
				if 'A' <= c && c <= 'Z' {
					b[j] = c + 'a' - 'A'
				}
			}
			return x.Text(b)
		}
	}
	return x.Host
}

// normalizeHeader removes the fields that only the gateway sets, establishes the client's address
// and prepares what the service is told about the way that the request came. Trust is asked of
// x.Peer, which holds the connection, for everything.
func (e *engine) normalizeHeader(x *filters.Exchange, client string) *filters.Reply {
	if !x.Client.IsValid() {
		x.Client = x.Peer
	}
	x.Prefix6 = e.prefix6
	forwardedFor, proto, host := "", "", ""
	drop := ownField
	proxies := e.cfg.Listen.TrustedProxies
	trusted := len(proxies) > 0 && contains(proxies, x.Peer)
	if trusted {
		drop = ownFieldOfProxy
		proto, host = soleValue(x.Header, "X-Forwarded-Proto"), soleValue(x.Header, "X-Forwarded-Host")
		switch {
		case strings.EqualFold(proto, "https"), strings.EqualFold(proto, "wss"): // of WebSocket, as Traefik says it
			x.Scheme = "https"
		case strings.EqualFold(proto, "http"), strings.EqualFold(proto, "ws"):
			x.Scheme = "http"
		}
		if x.Header.Count("X-Forwarded-For") > 0 {
			forwardedFor = x.Header.Joined("X-Forwarded-For")
			x.Client = clientOf(x.Client, forwardedFor, proxies)
			if !x.Client.IsValid() && e.unreadable != nil {
				e.unreadable(x.Peer, forwardedFor)
			}
		}
	}
	via := x.Header.Joined("Via")
	if via != "" && passed(via, e.hop.name) {
		return refusal(filters.LoopDetected, "The request has come through this gateway before.")
	}
	trace := traceparent(x.Header)
	if e.ticketed {
		x.Ticket = x.Header.Get(policy.TicketField)
	}
	x.Header.DelFunc(drop)

	if forwardedFor != "" {
		client = x.Text(append(append(append(x.Scratch(), forwardedFor...), ", "...), client...))
	}
	if proto == "" {
		proto = x.Scheme
	}
	if host == "" {
		host = x.Host
	}
	own := e.hop.of(x.Version)
	if via != "" {
		own = x.Text(append(append(append(x.Scratch(), via...), ", "...), own...))
	}
	x.Inject.Add("X-Forwarded-For", client)
	x.Inject.Add("X-Forwarded-Proto", proto)
	x.Inject.Add("X-Forwarded-Host", host)
	x.Inject.Add("Via", own)
	x.Inject.Add(requestIDField, x.Text(appendRandom(x.Scratch(), 2)))
	if trace == "" {
		x.Header.Del("Tracestate") // it says nothing without one (W3C Trace Context §3.3)
	}
	if e.tracing.On() {
		trace = e.tracing.Begin(x, trace, trusted)
	}
	if trace != "" {
		x.Inject.Add(tracing.Field, trace)
	}
	return nil
}

// ownField reports whether a field is not one that a client may set.
func ownField(name string) bool { return message.OwnerOf(name) != message.AnyoneOwns }

// ownFieldOfProxy reports whether a field is not one that a trusted proxy may set.
func ownFieldOfProxy(name string) bool { return message.OwnerOf(name) == message.GatewayOwns }

// soleValue returns the value of a field, "" where it has several: nobody knows which one the proxy
// wrote and which it passed on.
func soleValue(h filters.Header, name string) string {
	value, several := "", false
	for i := range h {
		if filters.EqualName(h[i].Name, name) {
			several = several || value != "" && value != h[i].Value
			value = h[i].Value
		}
	}
	if several {
		return ""
	}
	return value
}

// reservedInTrailer returns what tells the fields that identity reads: behind a body they would
// come past it, whoever sent them. nil is none.
func reservedInTrailer(sources config.Identities) func(name string) bool {
	var names []string
	for _, s := range sources {
		if s.Header != nil {
			names = append(names, s.Header.Name)
		}
	}
	if names == nil {
		return nil
	}
	return func(name string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return message.FoldedEqual(n, name) })
	}
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
// trusted, or the farthest. first is the one that holds the connection, or for which a load
// balancer does. An entry that cannot be read, where the walk comes to it, gives the zero address:
// it stands for somebody, and nobody knows for whom.
func clientOf(first netip.Addr, forwardedFor string, trusted []netip.Prefix) netip.Addr {
	client := first
	for more := true; more && contains(trusted, client); {
		i := strings.LastIndexByte(forwardedFor, ',')
		entry := forwardedFor[i+1:]
		forwardedFor, more = forwardedFor[:max(i, 0)], i >= 0
		var ok bool
		if client, ok = forwardedAddr(strings.Trim(entry, " \t")); !ok {
			return netip.Addr{}
		}
	}
	return client
}

// forwardedAddr reads an entry of X-Forwarded-For: a, a:port, [a] or [a]:port. A bare IPv6 address
// has no port.
func forwardedAddr(entry string) (netip.Addr, bool) {
	text, digits, hasPort := entry, "", false
	switch rest, bracketed := strings.CutPrefix(entry, "["); {
	case bracketed:
		var closed bool
		if text, digits, closed = strings.Cut(rest, "]"); !closed {
			return netip.Addr{}, false
		}
		if hasPort = digits != ""; hasPort && digits[0] != ':' {
			return netip.Addr{}, false
		}
		digits = strings.TrimPrefix(digits, ":")
	case strings.Count(entry, ":") == 1:
		text, digits, hasPort = strings.Cut(entry, ":")
	}
	if hasPort {
		if _, err := strconv.ParseUint(digits, 10, 16); err != nil {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, false
	}
	a = a.Unmap().WithZone("")
	return a, !a.IsUnspecified() // 0.0.0.0 is how some say that they do not know
}

// traceparent returns the value of the client's Traceparent, "" without one that is valid.
func traceparent(h filters.Header) string {
	v, ok := h.Lookup("Traceparent")
	if !ok || !validTraceparent(v) || h.Count("Traceparent") > 1 {
		return ""
	}
	return v
}

// validTraceparent checks the form of W3C Trace Context: version 00, or the beginning of a later
// one, which may go on behind a hyphen.
func validTraceparent(v string) bool {
	const length = 55
	if len(v) < length || v[2] != '-' || v[35] != '-' || v[52] != '-' || v[:2] == "ff" {
		return false
	}
	if len(v) > length && (v[:2] == "00" || v[length] != '-') {
		return false
	}
	for i := range length {
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
