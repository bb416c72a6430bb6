package cors

import (
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// Filter lets scripts of other origins use a route. It is safe for concurrent use.
type Filter struct {
	rules              *rules
	preflights, denied filters.Counter
}

// New returns the filter of a route. preflights counts those that were answered with yes, denied those with no.
func New(s Settings, preflights, denied filters.Counter) *Filter {
	return &Filter{rules: newRules(s), preflights: preflights, denied: denied}
}

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "cors" }

// Needs implements [filters.Filter]: heads only.
func (f *Filter) Needs() filters.Needs { return filters.Needs{} }

// IsPreflight reports whether a request asks what a script may send, in place of which method.
func IsPreflight(x *filters.Exchange) (method string, ok bool) {
	if x.Method != "OPTIONS" {
		return "", false
	}
	method = x.Header.Get("Access-Control-Request-Method")
	return method, method != "" && x.Header.Get("Origin") != ""
}

// Request answers a preflight, and lets any other request pass.
func (f *Filter) Request(x *filters.Exchange, _ *filters.Slot) *filters.Reply {
	method, ok := IsPreflight(x)
	if !ok {
		return nil
	}
	origin := f.rules.allow(x.Header.Joined("Origin"))
	if origin == "" {
		f.denied.Inc()
		return filters.Refuse(filters.Forbidden, filters.Problem{
			Detail: "Scripts of this origin may not use this route: it is not among cors.origins.",
		})
	}
	f.preflights.Inc()
	r := &filters.Reply{Status: 204, Header: make(filters.Header, 0, 8)}
	r.Header.Add("Access-Control-Allow-Origin", origin)
	r.Header.Add("Access-Control-Allow-Methods", method)
	if wanted := x.Header.Joined("Access-Control-Request-Headers"); wanted != "" && namesFields(wanted) {
		r.Header.Add("Access-Control-Allow-Headers", wanted)
	}
	if f.rules.credentials {
		r.Header.Add("Access-Control-Allow-Credentials", "true")
	}
	r.Header.Add("Access-Control-Max-Age", f.rules.maxAge)
	r.Header.Add("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
	return r
}

// Response tells the browser what a script of the request's origin may read of the response.
func (f *Filter) Response(x *filters.Exchange, _ *filters.Slot) {
	h := &x.Response.Header
	h.DelFunc(ofCORS)
	if f.rules.varies() && !varyHasOrigin(*h) {
		h.Add("Vary", "Origin")
	}
	origin := f.rules.allow(x.Header.Joined("Origin"))
	if origin == "" {
		return
	}
	h.Add("Access-Control-Allow-Origin", origin)
	if f.rules.credentials {
		h.Add("Access-Control-Allow-Credentials", "true")
	}
	h.Add("Access-Control-Expose-Headers", f.rules.expose)
}

// Done implements [filters.Filter].
func (f *Filter) Done(*filters.Exchange, *filters.Slot, filters.Outcome) {}

// ofCORS reports whether a field is one by which a service answers for origins.
func ofCORS(name string) bool {
	const prefix = "access-control-"
	return len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

func varyHasOrigin(h filters.Header) bool {
	for i := range h {
		if !filters.EqualName(h[i].Name, "Vary") {
			continue
		}
		for name := range strings.SplitSeq(h[i].Value, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Origin") {
				return true
			}
		}
	}
	return false
}

// Allows reports whether scripts of an origin may read responses.
func (f *Filter) Allows(origin string) bool { return f.rules.allow(origin) != "" }
