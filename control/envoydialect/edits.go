package envoydialect

import (
	"regexp"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/sluice-gateway/sluice/control/config"
)

// conditions returns what matches host and fields. The host is a condition and not a virtual host, since the first
// route that matches is taken, whatever it asks for; a port and a final dot do not count.
func conditions(m config.Match) (list []*routev3.HeaderMatcher) {
	if m.Host != "" {
		name, below := strings.CutPrefix(m.Host, "*")
		text := "(?i)"
		if below {
			text += ".+"
		}
		text += regexp.QuoteMeta(name) + `\.?(:[0-9]*)?`
		list = append(list, matching(":authority", &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: expression(text)},
		}))
	}
	for _, name := range sortedKeys(m.Headers) {
		list = append(list, matching(strings.ToLower(name), &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: m.Headers[name]},
		}))
	}
	return list
}

func matching(name string, s *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: s},
	}
}

// edit has Envoy change what a route changes of requests and of responses. It does so behind its filters, as the
// gateway does: ext_proc sees what the client sent.
func (c *compiler) edit(r *config.Route, out *routev3.Route) {
	if w, action := r.Rewrite, out.GetRoute(); w != nil && action != nil {
		if w.Host != "" {
			action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: w.Host}
		}
		action.RegexRewrite = rewriteOf(r)
	}
	if out.GetRoute().GetClusterHeader() != "" { // it is between ext_proc and Envoy
		out.RequestHeadersToRemove = append(out.RequestHeadersToRemove, ClusterHeader)
	}
	if h := r.Headers; h != nil {
		add, remove := edited(&h.Request)
		out.RequestHeadersToAdd = add
		out.RequestHeadersToRemove = append(out.RequestHeadersToRemove, remove...)
		add, remove = edited(&h.Response)
		out.ResponseHeadersToAdd = append(out.ResponseHeadersToAdd, add...)
		out.ResponseHeadersToRemove = append(out.ResponseHeadersToRemove, remove...)
	}
	if len(r.Match.Headers) > 0 {
		c.approximate(routePlace(r), "match.headers", "Envoy compares all lines of a field together, joined by commas")
	}
	if r.MaxBody > 0 {
		c.unsupported(routePlace(r), "maxBody", "a body that no policy reads passes whatever its length")
	}
}

func edited(e *config.FieldEdits) (add []*corev3.HeaderValueOption, remove []string) {
	for _, name := range sortedKeys(e.Set) {
		add = append(add, set(strings.ToLower(name), e.Set[name]))
	}
	for _, name := range sortedKeys(e.Add) {
		add = append(add, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: strings.ToLower(name), Value: e.Add[name]},
			AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
		})
	}
	for _, name := range e.Remove {
		remove = append(remove, strings.ToLower(name))
	}
	return add, remove
}

// rewriteOf returns what makes the path that the service sees, nil where it stays.
func rewriteOf(r *config.Route) *matcherv3.RegexMatchAndSubstitute {
	switch w := r.Rewrite; {
	case w.Path != "":
		match := parsePattern(r.Match.Path)
		var text strings.Builder
		numbers := map[string]int{}
		for _, s := range match.segments {
			if text.WriteByte('/'); s.parameter {
				numbers[s.text] = len(numbers) + 1
				text.WriteString("([^/?]+)")
			} else {
				text.WriteString(literal(s.text))
			}
		}
		if match.rest {
			text.WriteString("(?:/[^?]*)?")
		}
		var path strings.Builder
		for _, s := range parsePattern(w.Path).segments {
			if path.WriteByte('/'); s.parameter {
				path.WriteString(`\` + strconv.Itoa(numbers[s.text]))
			} else {
				path.WriteString(strings.ReplaceAll(s.text, `\`, `\\`))
			}
		}
		if path.Len() == 0 {
			path.WriteByte('/')
		}
		return &matcherv3.RegexMatchAndSubstitute{Pattern: expression("^" + text.String()), Substitution: path.String()}
	case w.StripPrefix != "":
		return &matcherv3.RegexMatchAndSubstitute{
			Pattern: expression("^" + prefixExpression(w.StripPrefix) + "/?"), Substitution: "/",
		}
	}
	return nil
}

func prefixExpression(prefix string) string {
	var b strings.Builder
	for _, s := range parsePattern(prefix).segments {
		b.WriteString("/" + literal(s.text))
	}
	return b.String()
}

// preflight returns the route of a route's preflights, nil where it takes them itself. ext_proc answers them, or the
// gateway that a transaction is passed on to.
func (c *compiler) preflight(r *config.Route, name string, m config.Match) *routev3.Route {
	methods := m.Taken()
	if r.CORS == nil || len(methods) == 0 {
		return nil
	}
	asked := strings.Join(methods, "|")
	m.Methods = []string{"OPTIONS"}
	var out *routev3.Route
	if leadsToTransaction(r) {
		out = c.transaction(r, name, m)
	} else {
		out = c.route(&config.Route{Name: name, Match: m, Respond: &config.StaticResponse{Status: 405},
			RouteSections: config.RouteSections{CORS: r.CORS, Allow: r.Allow, Deny: r.Deny}})
	}
	out.Match.Headers = append(out.Match.Headers, matching("access-control-request-method",
		&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: expression(asked)}}))
	return out
}
