package filters

import (
	"net/netip"
	"net/url"
	"strings"
)

// Part returns a part of the request by the root of a reference (package ref), and the name behind
// it where the root takes one. With [Exchange.Body] and [Exchange.Member] it is what references are
// evaluated on. The text is valid as long as the exchange's own are.
func (x *Exchange) Part(root, name string) (string, bool) {
	switch root {
	case "principal":
		return x.Principal, x.Principal != ""
	case "client.ip":
		if !x.Client.IsValid() {
			return "", false
		}
		return x.Text(x.AppendClient(x.Scratch())), true
	case "host":
		return x.hostName()
	case "route":
		return x.Route, true
	case "method":
		return x.Method, true
	case "path":
		if name == "" {
			return x.Path, true
		}
		return x.Param(name)
	case "query":
		if name == "" {
			return x.RawQuery, true
		}
		return queryParameter(x.RawQuery, name)
	case "header": // several fields of one name are joined by ", "
		if _, ok := x.Header.Lookup(name); !ok {
			return "", false
		}
		return x.Header.Joined(name), true
	case "gid":
		return x.Logical.GID, x.Logical.GID != ""
	case "key":
		return x.Logical.Key, x.Logical.Key != ""
	}
	return "", false
}

// ClientPrefix6 is how many bits of an IPv6 address are one client's as a rule: a site has a /64, and
// as many addresses in it as it likes (RFC 6177, RFC 4291 §2.5.4).
const ClientPrefix6 = 64

// AppendClient appends what keys and limits take the client to be: its address, or with IPv6 its
// network, as 2001:db8:1:2::/64. Client has to be valid.
func (x *Exchange) AppendClient(b []byte) []byte {
	client, bits := x.Client.Unmap().WithZone(""), int(x.Prefix6)
	if bits == 0 {
		bits = ClientPrefix6
	}
	if client.Is4() || bits >= client.BitLen() {
		return client.AppendTo(b)
	}
	return netip.PrefixFrom(client, bits).Masked().AppendTo(b)
}

// hostName returns the name that the client asked for. The port is left out: with it one client could
// be as many as it likes, and to services the name is the same.
func (x *Exchange) hostName() (string, bool) {
	host := x.Host
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, _, _ = strings.Cut(inner, "]")
		if a, err := netip.ParseAddr(inner); err == nil { // it can be written in many ways
			return x.Text(a.AppendTo(x.Scratch())), true
		}
		return "", false
	}
	host, _, _ = strings.Cut(host, ":")
	host = strings.TrimSuffix(host, ".")
	for i := range len(host) {
		if 'A' <= host[i] && host[i] <= 'Z' {
			return x.Text(appendLower(x.Scratch(), host)), true
		}
	}
	return host, host != ""
}

func appendLower(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// queryParameter returns the first parameter of that name. A pair that does not decode is not
// there.
func queryParameter(raw, name string) (string, bool) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		k, v, _ := strings.Cut(pair, "=")
		k, err := url.QueryUnescape(k)
		if err != nil || k != name {
			continue
		}
		v, err = url.QueryUnescape(v)
		if err != nil {
			continue
		}
		return v, true
	}
	return "", false
}
