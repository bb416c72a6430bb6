package router

import (
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// Condition is what a route asks of a request beside path and method. The zero value asks nothing.
type Condition struct {
	// Host is a name in lower case, or *.name for every name below it; empty: any. A port and a dot at the end of the
	// request's host do not count.
	Host string
	// Header are fields that the request has, each with that very value on one of its lines.
	Header filters.Header
	// ExceptScheme and ExceptHost are what a request must not have, both where both are set; empty: whatever it has.
	// The host is a name in lower case.
	ExceptScheme, ExceptHost string
}

func (c *Condition) empty() bool {
	return c.Host == "" && len(c.Header) == 0 && c.ExceptScheme == "" && c.ExceptHost == ""
}

// holds reports whether a request meets the condition; host is as [bareHost] returns it.
func (c *Condition) holds(scheme, host string, header filters.Header) bool {
	if (c.ExceptScheme != "" || c.ExceptHost != "") && (c.ExceptScheme == "" || c.ExceptScheme == scheme) &&
		(c.ExceptHost == "" || hostMatches(c.ExceptHost, host)) {
		return false
	}
	if c.Host != "" && !hostMatches(c.Host, host) {
		return false
	}
	for i := range c.Header {
		if !hasField(header, &c.Header[i]) {
			return false
		}
	}
	return true
}

// hostMatches compares names without case (RFC 9110 §4.2.3).
func hostMatches(pattern, host string) bool {
	if suffix, below := strings.CutPrefix(pattern, "*"); below {
		return len(host) > len(suffix) && strings.EqualFold(host[len(host)-len(suffix):], suffix)
	}
	return strings.EqualFold(pattern, host)
}

// bareHost takes port and final dot off a host.
func bareHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.TrimSuffix(host, ".")
}

func hasField(header filters.Header, want *filters.Field) bool {
	for i := range header {
		if filters.EqualName(header[i].Name, want.Name) && header[i].Value == want.Value {
			return true
		}
	}
	return false
}
