package message

import (
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// Kind tells the fields apart that an engine itself reads, and those that end with one connection.
type Kind uint8

// Kinds of fields. All but the first end at the gateway.
const (
	Ordinary           Kind = iota
	HopByHopField           // what other servers take for a field of the connection
	ConnectionSpecific      // belongs to one connection (RFC 9110 §7.6.1), and has no place in HTTP/2
	TE
	Host
	ContentLength
	TransferEncoding
	Connection
	KeepAlive // ends with its connection as ConnectionSpecific does
	Upgrade
	Expect
	Trailer
	Folded // spelled with an underscore or the like, and one of the above to a server that reads it as a hyphen
)

// KindOf looks a field's name up by its length first: a dozen names, and hardly two of one length.
func KindOf(name string) Kind {
	switch len(name) {
	case 2:
		return is(name, "TE", TE)
	case 4:
		return is(name, "Host", Host)
	case 5:
		return is(name, "Proxy", HopByHopField)
	case 6:
		return is(name, "Expect", Expect)
	case 7:
		if filters.EqualName(name, "Trailer") {
			return Trailer
		}
		return is(name, "Upgrade", Upgrade)
	case 10:
		if filters.EqualName(name, "Connection") {
			return Connection
		}
		if filters.EqualName(name, "Keep-Alive") {
			return KeepAlive
		}
		return folds(name, "Keep-Alive")
	case 14:
		if filters.EqualName(name, "Content-Length") {
			return ContentLength
		}
		if filters.EqualName(name, "HTTP2-Settings") {
			return HopByHopField
		}
		if FoldedEqual(name, "HTTP2-Settings") {
			return Folded
		}
		return folds(name, "Content-Length")
	case 16:
		if filters.EqualName(name, "Proxy-Connection") {
			return ConnectionSpecific
		}
		return folds(name, "Proxy-Connection")
	case 17:
		if filters.EqualName(name, "Transfer-Encoding") {
			return TransferEncoding
		}
		return folds(name, "Transfer-Encoding")
	}
	return Ordinary
}

func is(name, want string, k Kind) Kind {
	if filters.EqualName(name, want) {
		return k
	}
	return Ordinary
}

// folds is for a name that is not want, and may be it to a server behind.
func folds(name, want string) Kind {
	if FoldedEqual(name, want) {
		return Folded
	}
	return Ordinary
}

// HopByHop reports whether a field belongs to one connection whatever Connection says, or says how
// the message is framed: what a gateway writes itself and never passes on.
func HopByHop(name string) bool { return KindOf(name) != Ordinary }

// MalformedInHTTP2 reports whether a field of this kind makes a message of HTTP/2 malformed (RFC
// 9113 §8.2.2).
func (k Kind) MalformedInHTTP2(value string) bool {
	switch k {
	case ConnectionSpecific, Connection, KeepAlive, Upgrade, TransferEncoding:
		return true
	case TE:
		return value != "trailers"
	}
	return false
}

// Nominates reports whether a Connection field names the field as one of the connection (RFC 9110
// §7.6.1).
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

// notInTrailer are fields that route, authenticate, modify the request or describe the content, and
// those by which the gateway speaks to clients.
var notInTrailer = [...]string{
	"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Content-Type", "Content-Encoding", "Content-Range",
	"Content-Location", "Content-Disposition",
	"Cache-Control", "Expires", "Vary", "Age", "Date", "Location", "Retry-After", "Max-Forwards", "Range",
	"Idempotency-Key", "Idempotent-Replayed", "Idempotent-Original-Date", "RateLimit", "RateLimit-Policy",
	"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
	"If-Range", "Origin", "Referer", "Tracestate", "Baggage", "Grpc-Timeout",
	"WWW-Authenticate", "Proxy-Authenticate", "Pragma",
}

// InTrailer reports whether a field may come behind the body: nothing that frames, routes,
// authenticates or describes the content (RFC 9110 §6.5.1), and nothing that only a proxy or the
// gateway sets, whoever sends it: of a trailer nobody knows which hop wrote it.
func InTrailer(name string) bool {
	if HopByHop(name) || OwnerOf(name) != AnyoneOwns || strings.IndexByte(name, '_') >= 0 {
		return false
	}
	for i := range notInTrailer {
		if FoldedEqual(name, notInTrailer[i]) {
			return false
		}
	}
	return true
}
