package http1

import (
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// known tells the fields apart that the engine itself reads, and those that end with this connection.
type known uint8

const (
	ordinary known = iota
	hopByHop       // belongs to one connection (RFC 9110 §7.6.1), and what other servers take for such
	host
	contentLength
	transferEncoding
	connection
	upgrade
	expect
	trailer
	folded // spelled with an underscore, and one of the above to a server that reads it as a hyphen
)

// kindOf looks a field's name up by its length first: a dozen names, and hardly two of one length.
func kindOf(name string) known {
	switch len(name) {
	case 2:
		return is(name, "TE", hopByHop)
	case 4:
		return is(name, "Host", host)
	case 5:
		return is(name, "Proxy", hopByHop)
	case 6:
		return is(name, "Expect", expect)
	case 7:
		if filters.EqualName(name, "Trailer") {
			return trailer
		}
		return is(name, "Upgrade", upgrade)
	case 10:
		if filters.EqualName(name, "Connection") {
			return connection
		}
		if filters.EqualName(name, "Keep-Alive") {
			return hopByHop
		}
		return is(name, "Keep_Alive", folded)
	case 14:
		if filters.EqualName(name, "Content-Length") {
			return contentLength
		}
		if filters.EqualName(name, "HTTP2-Settings") {
			return hopByHop
		}
		return is(name, "Content_Length", folded)
	case 16:
		if filters.EqualName(name, "Proxy-Connection") {
			return hopByHop
		}
		return is(name, "Proxy_Connection", folded)
	case 17:
		if filters.EqualName(name, "Transfer-Encoding") {
			return transferEncoding
		}
		return is(name, "Transfer_Encoding", folded)
	}
	return ordinary
}

func is(name, want string, k known) known {
	if filters.EqualName(name, want) {
		return k
	}
	return ordinary
}

// HopByHop reports whether a field belongs to one connection whatever Connection says, or says how the message is framed: what a
// gateway writes itself and never passes on.
func HopByHop(name string) bool { return kindOf(name) != ordinary }

// Nominates reports whether a Connection field names the field as one of the connection (RFC 9110 §7.6.1).
func Nominates(connection, name string) bool {
	for connection != "" {
		var option string
		option, connection, _ = strings.Cut(connection, ",")
		if filters.EqualName(strings.Trim(option, " \t"), name) {
			return true
		}
	}
	return false
}

// InTrailer reports whether a field may come behind the body: nothing that frames, routes, authenticates or describes the
// content (RFC 9110 §6.5.1).
func InTrailer(name string) bool {
	if HopByHop(name) || filters.HasNamePrefix(name, "Sluice-") || filters.HasNamePrefix(name, "X-Forwarded-") || strings.IndexByte(name, '_') >= 0 {
		return false
	}
	for _, n := range [...]string{
		"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Content-Type", "Content-Encoding", "Content-Range", "Cache-Control", "Expires", "Vary",
		"Age", "Date", "Location", "Retry-After", "Max-Forwards", "Range", "Idempotency-Key", "Forwarded", "Via", "Traceparent", "If-Match", "If-None-Match",
		"If-Modified-Since", "If-Unmodified-Since", "If-Range", "WWW-Authenticate", "Proxy-Authenticate", "Pragma",
	} {
		if filters.EqualName(name, n) {
			return false
		}
	}
	return true
}
