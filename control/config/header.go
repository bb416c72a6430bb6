package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Fields of a request that no policy sees as the client sent them: the gateway takes them out, or writes them itself. A
// setting that reads one would have no value, or the gateway's own, the same for everybody.

const (
	ofConnection = "it belongs to one connection"
	ofGateway    = "the gateway writes it itself"

	ofProxy       = "it is believed from trusted proxies only"
	ofProxyClient = ofProxy + ": client.ip is the reference of what it says"
)

// takenOut are those fields, in lower case, with what is to be said of them.
var takenOut = map[string]string{
	"host":              "the gateway takes it for routing: host is its reference",
	"x-forwarded":       ofProxyClient,
	"x-forwarded-for":   ofProxyClient,
	"x-real-ip":         ofProxyClient,
	"true-client-ip":    ofProxyClient,
	"forwarded":         ofProxyClient,
	"x-forwarded-host":  ofProxy + ": host is the reference of what the client asked for",
	"via":               ofGateway,
	"traceparent":       "it differs with every request",
	"tracestate":        "it differs with every request",
	"connection":        ofConnection,
	"content-length":    "it says how the body was sent, not what it is",
	"expect":            ofConnection,
	"http2-settings":    ofConnection,
	"keep-alive":        ofConnection,
	"proxy":             ofConnection,
	"proxy-connection":  ofConnection,
	"te":                ofConnection,
	"trailer":           ofConnection,
	"transfer-encoding": ofConnection,
	"upgrade":           ofConnection,
}

// headerFault says why a field of requests cannot be read by a setting; empty when it can.
func headerFault(name string) string {
	folded := foldName(name)
	why := takenOut[folded]
	switch {
	case why != "":
	case strings.HasPrefix(folded, "sluice-"):
		why = ofGateway
	case strings.HasPrefix(folded, "x-forwarded-"):
		why = ofProxy
	case folded == "idempotency-key" && !strings.EqualFold(name, folded):
		why = "servers would take it for Idempotency-Key"
	default:
		return ""
	}
	return fmt.Sprintf("%s has never a value here: the gateway takes it out of requests, since %s", name, why)
}

// foldName writes a name as servers compare it that read every byte but letters and digits as an underscore: to them
// Sluice_Op and sluice.op are Sluice-Op, so the gateway takes all of them out.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 'a' || r > 'z' {
			if r < '0' || r > '9' {
				return '-'
			}
		}
		return r
	}, strings.ToLower(name))
}

// check refuses a field that never reaches identity. One that trusted proxies may send, X-Forwarded-User, does from
// those only.
func (h *IdentityHeader) check(s site) {
	folded := foldName(h.Name)
	ofProxies := strings.EqualFold(h.Name, folded) &&
		(takenOut[folded] == ofProxyClient && folded != "x-forwarded-for" ||
			takenOut[folded] == "" && strings.HasPrefix(folded, "x-forwarded-") && folded != "x-forwarded-proto")
	if !ofProxies {
		if why := headerFault(h.Name); why != "" {
			s.fault(s.at("name"), "%s", why)
		}
		return
	}
	proxies := s.config.Listen.TrustedProxies
	for _, p := range h.Trusted {
		within := func(proxy netip.Prefix) bool { return proxy.Bits() <= p.Bits() && proxy.Contains(p.Addr()) }
		if !slices.ContainsFunc(proxies, within) && s.sound(at("listen", "trustedProxies")) {
			s.fault(s.at("name"), "%s is taken out of what %s sends, which is not among listen.trustedProxies",
				h.Name, p)
			return
		}
	}
}
