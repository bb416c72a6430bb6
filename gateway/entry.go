package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/router"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// enter turns the client's message into an exchange. The header stands in x.Header as it came, Peer is set. nil means
// that the exchange may be routed; a reply is a refusal before routing, after which the connection is closed.
func (e *engine) enter(x *filters.Exchange, rawPath string, length int64) *filters.Reply {
	listen := &e.cfg.Listen
	if headerBytes(x) > int64(listen.MaxHeader) {
		return filters.Refuse(filters.HeaderTooLarge, filters.Problem{Detail: "The header is longer than " + listen.MaxHeader.String() + "."})
	}
	if length > int64(listen.MaxBody) {
		return e.bodyTooLarge()
	}
	if fault := requestLine(x); fault != "" {
		return filters.Refuse(filters.BadRequest, filters.Problem{Detail: fault})
	}
	path, err := router.Canonical(rawPath)
	if err != nil {
		return filters.Refuse(filters.BadRequest, filters.Problem{Detail: strings.TrimPrefix(err.Error(), "router: ") + "."})
	}
	x.Path = path
	e.cleanHeader(x)
	return nil
}

// requestLine checks what becomes the request line and the Host field at the service. HTTP/2 carries there what HTTP/1.1 cannot, a
// space for instance, and a service would read something else than what was routed (RFC 9113 §8.3.1 and §10.3).
func requestLine(x *filters.Exchange) (fault string) {
	switch {
	case !upstream.Token(x.Method):
		return "The method is not a token."
	case x.Method == "CONNECT": // a tunnel has no path to route by
		return "This is a gateway and opens no tunnels."
	case !upstream.Unbroken(x.RawQuery) || strings.Contains(x.RawQuery, "#"):
		return "The query has a byte that a URL cannot have."
	case x.Host == "" && x.Version != "1.0" || !upstream.Unbroken(x.Host) || strings.ContainsAny(x.Host, "/\\?#@,"):
		return "The host is missing or is not one."
	}
	if host, ok := x.Header.Lookup("Host"); ok && host != x.Host { // beside :authority
		return "There are two hosts."
	}
	return ""
}

func (e *engine) bodyTooLarge() *filters.Reply {
	return filters.Refuse(filters.BodyTooLarge, filters.Problem{Detail: "The body is longer than " + e.cfg.Listen.MaxBody.String() + "."})
}

func headerBytes(x *filters.Exchange) int64 {
	n := len(x.Method) + len(x.Path) + len(x.RawQuery) + len(x.Host) + 16
	for i := range x.Header {
		n += len(x.Header[i].Name) + len(x.Header[i].Value) + 4
	}
	return int64(n)
}

// cleanHeader takes out what is the connection's or the gateway's own, establishes the client's address and prepares what
// the service is told about the way that the request came.
func (e *engine) cleanHeader(x *filters.Exchange) {
	trusted := contains(e.cfg.Listen.TrustedProxies, x.Peer)
	x.Client = x.Peer
	forwardedFor, proto, host := "", "", ""
	if trusted {
		forwardedFor = x.Header.Joined("X-Forwarded-For")
		proto, host = x.Header.Get("X-Forwarded-Proto"), x.Header.Get("X-Forwarded-Host")
		x.Client = clientOf(x.Peer, forwardedFor, e.cfg.Listen.TrustedProxies)
	}
	trace := x.Header.Get("Traceparent")
	via := x.Header.Joined("Via")
	connection := x.Header.Joined("Connection")
	x.Header.DelFunc(func(name string) bool {
		return upstream.HopByHop(name) || ours(name) || nominates(connection, name)
	})

	if forwardedFor != "" {
		forwardedFor += ", "
	}
	if proto == "" {
		proto = x.Scheme
	}
	if host == "" {
		host = x.Host
	}
	if via != "" {
		via += ", "
	}
	x.Inject.Add("X-Forwarded-For", forwardedFor+x.Peer.String())
	x.Inject.Add("X-Forwarded-Proto", proto)
	x.Inject.Add("X-Forwarded-Host", host)
	x.Inject.Add("Via", via+x.Version+" sluice")
	x.Inject.Add("Sluice-Request-Id", randomHex(16))
	if !validTraceparent(trace) {
		trace = "00-" + randomHex(16) + "-" + randomHex(8) + "-00"
	}
	x.Inject.Add("traceparent", trace)
}

// ours: fields of which the gateway alone says what a service sees.
func ours(name string) bool {
	if filters.HasNamePrefix(name, "Sluice-") {
		return true
	}
	for _, n := range [...]string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Via", "Traceparent", "Expect", "Content-Length", "Host"} {
		if filters.EqualName(name, n) {
			return true
		}
	}
	return false
}

// nominates reports whether a Connection field names the field as one of the connection (RFC 9110 §7.6.1).
func nominates(connection, name string) bool {
	for connection != "" {
		var option string
		option, connection, _ = strings.Cut(connection, ",")
		if filters.EqualName(strings.TrimSpace(option), name) {
			return true
		}
	}
	return false
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// clientOf walks the chain of proxies from the nearest on and returns the first that is not trusted, or the farthest that
// still reads as an address.
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

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
