package envoydialect

import (
	"net"
	"regexp"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/control/config"
)

// redirectCodes are Envoy's words for the statuses.
var redirectCodes = map[int]routev3.RedirectAction_RedirectResponseCode{
	301: routev3.RedirectAction_MOVED_PERMANENTLY, 302: routev3.RedirectAction_FOUND,
	307: routev3.RedirectAction_TEMPORARY_REDIRECT, 308: routev3.RedirectAction_PERMANENT_REDIRECT,
}

// redirect has Envoy send clients elsewhere.
func (c *compiler) redirect(r *config.Route) *routev3.Route_Redirect {
	scheme, host, path := r.Redirect.Target()
	a := &routev3.RedirectAction{ResponseCode: redirectCodes[r.Redirect.Status]}
	if scheme != "" {
		a.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: scheme}
		if host == "" {
			c.approximate(routePlace(r), "redirect", "a port that the client asked for stays, but for 80 and 443")
		}
	}
	if name, port, err := net.SplitHostPort(host); err == nil {
		if strings.Contains(name, ":") {
			name = "[" + name + "]"
		}
		n, _ := strconv.ParseUint(port, 10, 16) // the configuration has checked it
		a.HostRedirect, a.PortRedirect = name, uint32(n)
	} else {
		a.HostRedirect = host
	}
	if scheme == "" && host == "" {
		c.approximate(routePlace(r), "redirect", "Location has scheme and host as the client asked for them, and is "+
			"not a path alone")
	}
	switch {
	case strings.Contains(path, "{"):
		a.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: rewriteOf(
			&config.Route{Match: r.Match, Rewrite: &config.Rewrite{Path: path}})}
	case path != "":
		a.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: path}
	}
	return &routev3.Route_Redirect{Redirect: a}
}

// excepted returns a route once for each of the conditions by which it leaves requests to those behind it: of a scheme
// and a host one that differs is enough.
func (c *compiler) excepted(r *config.Route, out *routev3.Route) []*routev3.Route {
	scheme, host := r.Except()
	var list []*routev3.Route
	add := func(name string, s *matcherv3.StringMatcher) {
		one := proto.Clone(out).(*routev3.Route)
		m := matching(name, s)
		m.InvertMatch = true
		one.Match.Headers = append(one.Match.Headers, m)
		list = append(list, one)
	}
	if scheme != "" { // Envoy writes the field: as the client used it, or as a proxy that it trusts says
		add("x-forwarded-proto", &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: scheme}, IgnoreCase: true})
	}
	if host != "" {
		add(":authority", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: expression("(?i)" + regexp.QuoteMeta(host) + `\.?(:[0-9]*)?`)}})
	}
	if len(list) == 0 {
		return []*routev3.Route{out}
	}
	return list
}
