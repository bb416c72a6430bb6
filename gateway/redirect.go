package gateway

import (
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
)

// redirect is the target that sends clients elsewhere. Where they go is written in the configuration, but for a path
// and a query that stay as they were asked for, and with a change of the scheme alone the name of the host.
type redirect struct {
	status       int
	scheme, host string
	path         []string // as of requestEdits; nil: it stays
}

func newRedirect(c *config.Redirect) *redirect {
	t := &redirect{status: c.Status}
	scheme, host, path := c.Target()
	t.scheme, t.host, t.path = scheme, host, pathParts(path)
	return t
}

func (t *redirect) execute(x *filters.Exchange, _ inbound) result {
	location := t.location(x)
	if location == "" {
		x.SetReply(refusal(filters.BadRequest, "The request names no host that it could be sent on to."))
		return result{outcome: filters.Refused}
	}
	reply := filters.Reply{Status: t.status}
	reply.Header.Add("Location", location)
	x.SetReply(&reply)
	return result{outcome: filters.Completed}
}

// location returns where the client is to go, empty where that cannot be told. Without a change of scheme and host it
// is a path, so that what a client says of its host is in no response.
func (t *redirect) location(x *filters.Exchange) string {
	var b strings.Builder
	if t.scheme != "" || t.host != "" {
		scheme, host := t.scheme, t.host
		if scheme == "" {
			scheme = x.Scheme
		}
		if host == "" {
			if host = nameOf(x.Host); host == "" {
				return ""
			}
		}
		b.WriteString(scheme + "://" + host)
	}
	path := x.Path
	if t.path != nil {
		path = expand(t.path, x.Params)
	}
	b.WriteByte('/') // and no second one: what follows would be a host
	writeEscaped(&b, strings.TrimLeft(path, "/"))
	if x.RawQuery != "" {
		b.WriteByte('?')
		writeEscaped(&b, x.RawQuery)
	}
	return b.String()
}

// nameOf returns the host of a request without its port, empty where that is not a name or an address.
func nameOf(host string) string {
	if inner, _, ok := strings.Cut(host, "]"); ok && strings.HasPrefix(inner, "[") {
		host = inner + "]"
	} else {
		host, _, _ = strings.Cut(host, ":")
	}
	for i := range len(host) {
		c := host[i]
		switch {
		case '0' <= c && c <= '9', 'a' <= c|0x20 && c|0x20 <= 'z', strings.IndexByte("-._:[]", c) >= 0:
		default:
			return ""
		}
	}
	return host
}

// writeEscaped writes what a client has sent so that it cannot end a field or a URI.
func writeEscaped(b *strings.Builder, text string) {
	const hex = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			continue
		}
		b.WriteByte(text[i])
	}
}
