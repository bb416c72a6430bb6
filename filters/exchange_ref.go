package filters

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// Errors of [Exchange.Part]: a part can be read in more than one way. A service that read the other
// value would act for somebody else than the limit, the scope or the key that rests on it. The texts
// go on from the reference.
var (
	ErrSeveralValues = errors.New("comes several times, with different values")
	ErrOtherSpelling = errors.New("comes under a name that services may take for the same")
)

// Part returns a part of the request by the root of a reference (package ref), and the name behind
// it where the root takes one. With [Exchange.Body] and [Exchange.Member] it is what references are
// evaluated on. The text is valid as long as the exchange's own are. The error is one of those above.
func (x *Exchange) Part(root, name string) (text string, ok bool, err error) {
	switch root {
	case "query":
		if name == "" {
			return x.RawQuery, true, nil
		}
		return queryParameter(x.RawQuery, name)
	case "header":
		return soleField(x.Header, name)
	}
	text, ok = x.known(root, name)
	return text, ok, nil
}

// known returns a part that can be read in one way only.
func (x *Exchange) known(root, name string) (string, bool) {
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
	case "gid":
		return x.Logical.GID, x.Logical.GID != ""
	case "key":
		return x.Logical.Key, x.Logical.Key != ""
	}
	return "", false
}

// soleField returns the value of a field that comes once, or each time with the same value.
func soleField(h Header, name string) (value string, ok bool, err error) {
	for i := range h {
		switch {
		case len(h[i].Name) != len(name):
		case EqualName(h[i].Name, name):
			if ok && h[i].Value != value {
				return "", false, ErrSeveralValues
			}
			value, ok = h[i].Value, true
		case foldedEqual(h[i].Name, name):
			return "", false, ErrOtherSpelling
		}
	}
	return value, ok, nil
}

// foldedEqual reports whether two names of one length are one to a server that reads every byte but
// letters and digits as an underscore, as servers after CGI do (RFC 3875 §4.1.18).
func foldedEqual(a, b string) bool {
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y || !alphanumeric(x) && !alphanumeric(y) {
			continue
		}
		if x |= 0x20; x != y|0x20 || x < 'a' || x > 'z' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
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

// queryParameter returns the value of a parameter that comes once, or each time with the same value,
// decoded as a form's. A pair that does not decode is not there, unless another one of that name is.
// Some services take a semicolon for an end of a pair too, so both readings have to agree.
func queryParameter(raw, name string) (value string, ok bool, err error) {
	undecoded := false
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		v, is, decodes := valueOf(pair, name)
		if is && decodes {
			if ok && v != value {
				return "", false, ErrSeveralValues
			}
			value, ok = v, true
		}
		undecoded = undecoded || is && !decodes
		for rest, more := pair, strings.IndexByte(pair, ';') >= 0; more; {
			pair, rest, more = strings.Cut(rest, ";")
			// where the whole pair is not of that name, a part of it would be a value of its own
			if v2, part, _ := valueOf(pair, name); part && (!is || v2 != v) {
				return "", false, ErrSeveralValues
			}
		}
	}
	if ok && undecoded {
		return "", false, ErrSeveralValues
	}
	return value, ok, nil
}

// valueOf returns the value of a pair that is of that name, and whether it decodes.
func valueOf(pair, name string) (value string, is, decodes bool) {
	k, v, _ := strings.Cut(pair, "=")
	k, err := url.QueryUnescape(k)
	if err != nil || k != name {
		return "", false, false
	}
	v, err = url.QueryUnescape(v)
	return v, true, err == nil
}
