package envoydialect

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
)

// malformed matches paths that the gateway refuses, since servers read them in different ways: a
// parameter, an encoded backslash or control byte.
const malformed = `.*(?:;|\\|%3[Bb]|%5[Cc]|%[01][0-9A-Fa-f]|%7[Ff]).*`

// addRoutes adds the one table of routes. Envoy takes the first that matches, as the gateway does.
// Behind those of the configuration stand the refusals: 405 for each path that is there, and 404.
func (c *compiler) addRoutes() {
	bad := new(routev3.Route)
	bad.Name = "sluice.bad-request"
	bad.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: expression(malformed)}}
	refuse(bad, filters.BadRequest, "The path has a parameter (;), a backslash or a control byte.")
	list := []*routev3.Route{bad}
	for _, r := range c.cfg.Routes {
		if leadsToTransaction(r) && r.Status != "" {
			list = append(list, c.transaction(r, r.Name+"/status", r.StatusMatch()))
			if p := c.preflight(r, r.Name+"/status", r.StatusMatch()); p != nil {
				list = append(list, p)
			}
		}
		list = append(list, c.excepted(r, c.route(r))...)
		if p := c.preflight(r, r.Name, r.Match); p != nil {
			list = append(list, p)
		}
	}
	list = append(list, c.notAllowed()...)
	none := &routev3.Route{Name: "sluice.no-route", Match: prefixed("/")}
	refuse(none, filters.NoRoute, "No route has this path.")
	list = append(list, none)

	longest := 4096
	for _, r := range list {
		if d := r.GetDirectResponse(); d != nil {
			longest = max(longest, len(d.Body.GetInlineString()))
		}
	}
	c.res.Routes = append(c.res.Routes, &routev3.RouteConfiguration{
		Name:                           routesName,
		MaxDirectResponseBodySizeBytes: number(longest),
		VirtualHosts: []*routev3.VirtualHost{{
			Name: routesName, Domains: []string{"*"}, Routes: list,
		}},
	})
}

func prefixed(path string) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: path}}
}

// refuse makes a route respond as the gateway refuses.
func refuse(r *routev3.Route, reason filters.Reason, detail string, header ...*corev3.HeaderValueOption) {
	reply := filters.Refuse(reason, filters.Problem{Detail: detail})
	r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
		Status: uint32(reply.Status), Body: inline(string(reply.Body)),
	}}
	for _, f := range reply.Header {
		r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, set(strings.ToLower(f.Name), f.Value))
	}
	r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, header...)
}

func matches(m config.Match) *routev3.RouteMatch {
	match := parsePattern(m.Path).match()
	match.Headers = conditions(m)
	methods := m.Taken()
	if len(methods) == 0 {
		return match
	}
	s := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: methods[0]}}
	if len(methods) > 1 {
		s.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: expression(strings.Join(methods, "|"))}
	}
	match.Headers = append(match.Headers, matching(":method", s))
	return match
}

func (c *compiler) route(r *config.Route) *routev3.Route {
	if leadsToTransaction(r) {
		return c.transaction(r, r.Name, r.Match)
	}
	out := &routev3.Route{Name: r.Name, Match: matches(r.Match)}
	perFilter := map[string]*anypb.Any{}
	switch {
	case r.Redirect != nil:
		out.Action = c.redirect(r)
	case r.Respond == nil:
		out.Action = &routev3.Route_Route{Route: c.action(r)}
	case !static(out, r.Respond):
		perFilter[untypedFilter] = c.on()
	}
	switch {
	case len(LeftToExtProc(c.cfg, r)) > 0:
		c.process(r, perFilter)
		out.RequestBodyBufferLimit = wrapperspb.UInt64(uint64(c.cfg.Listen.MaxBody))
	default:
		c.native(r, perFilter)
	}
	if len(perFilter) > 0 {
		out.TypedPerFilterConfig = perFilter
	}
	c.edit(r, out)
	return out
}

// native switches on what Envoy's own filters do of a route's policies.
func (c *compiler) native(r *config.Route, perFilter map[string]*anypb.Any) {
	c.limit(r, perFilter)
	if c.identifies(r) {
		perFilter[principalFilter] = c.on()
		if c.jwt() != nil {
			perFilter[jwtFilter] = c.pack(&jwtv3.PerRouteConfig{
				RequirementSpecifier: &jwtv3.PerRouteConfig_RequirementName{RequirementName: tokenSource},
			})
		}
	}
	if s := c.cfg.Services[r.Service.Name]; s != nil && s.Overload != nil {
		if s.Overload.Concurrency.Fixed == 0 {
			perFilter[overloadPrefix+r.Service.Name] = c.on()
		}
		if r.Priority != config.PriorityNormal {
			c.unsupported(routePlace(r), "priority", "requests are shed whatever their priority")
		}
	}
	if f := r.Fallback; f != nil && f.Service == "" {
		c.fallback(r, perFilter)
	}
}

// static is just what is written. It reports whether that names the type of the body.
func static(out *routev3.Route, r *config.StaticResponse) (typed bool) {
	d := &routev3.DirectResponseAction{Status: uint32(r.Status)}
	if r.Body != "" {
		d.Body = inline(r.Body)
	}
	out.Action = &routev3.Route_DirectResponse{DirectResponse: d}
	for _, name := range sortedKeys(r.Headers) {
		typed = typed || strings.EqualFold(name, "Content-Type")
		out.ResponseHeadersToAdd = append(out.ResponseHeadersToAdd, set(strings.ToLower(name), r.Headers[name]))
	}
	return typed
}

// action sends a request to the route's service. The timeout of an attempt ends with the head of the
// response, so Envoy's timeout of a whole response is off: it would cut streams.
func (c *compiler) action(r *config.Route) *routev3.RouteAction {
	if r.Service.Name == "" {
		return c.weighted(r)
	}
	cluster := clusterOf(r.Service.Name)
	if goesOn(c.cfg, r) {
		cluster = fallbackPrefix + r.Name
	}
	a := c.actionTo(r, c.cfg.Services[r.Service.Name])
	a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: cluster}
	return a
}

// actionTo returns the action of a route with the times and attempts of a service, and without a cluster.
func (c *compiler) actionTo(r *config.Route, s *config.Service) *routev3.RouteAction {
	timeout := s.Timeout
	if r.Timeout > 0 {
		timeout = r.Timeout
	}
	return &routev3.RouteAction{
		Timeout:     duration(config.Duration(0)),
		IdleTimeout: duration(s.StreamIdleTimeout),
		RetryPolicy: retries(s, timeout),
	}
}

// retries repeat only what a service cannot have read. The time of an attempt is part of the policy,
// also where none is repeated.
func retries(s *config.Service, timeout config.Duration) *routev3.RetryPolicy {
	p := &routev3.RetryPolicy{PerTryTimeout: duration(timeout)}
	if s.Retries.Attempts == 0 || s.Retries.Budget == 0 {
		return p
	}
	var on []string
	for _, condition := range s.Retries.On {
		switch condition {
		case config.RetryConnectFailure:
			on = append(on, "connect-failure")
		case config.RetryResetBeforeRequest:
			on = append(on, "refused-stream", "reset-before-request")
		}
	}
	p.RetryOn, p.NumRetries = strings.Join(on, ","), number(s.Retries.Attempts)
	return p
}

// transaction passes a request of a transaction on to a gateway, which does everything about it.
func (c *compiler) transaction(r *config.Route, name string, m config.Match) *routev3.Route {
	out := &routev3.Route{Name: name, Match: matches(m)}
	if c.o.Gateway == "" {
		c.unsupported(routePlace(r), "transaction", "the route is refused with 503 coordinator-unavailable: name "+
			"a gateway "+
			"that serves it")
		refuse(out, filters.CoordinatorUnavailable, "Transactions are not served here; nothing was submitted.")
		return out
	}
	c.approximate(routePlace(r), "transaction", "the route is passed on to the gateway at %s, which does all of "+
		"it and has to "+
		"have this Envoy among its listen.trustedProxies", c.o.Gateway)
	out.Action = &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: gatewayCluster},
		Timeout:          duration(config.Duration(0)),
		IdleTimeout:      duration(config.Duration(300e9)),
	}}
	return out
}

// allowance is a path that some routes have, each with its methods.
type allowance struct {
	pattern
	route   *config.Route // the first
	methods map[string]bool
}

// notAllowed are the routes that respond with 405, a narrower path before a wider one. A path has the
// methods of every route whose pattern takes all its paths.
func (c *compiler) notAllowed() []*routev3.Route {
	var all []*allowance
	byShape := map[string]*allowance{}
	for _, r := range c.cfg.Routes {
		matches := []config.Match{r.Match}
		if leadsToTransaction(r) && r.Status != "" {
			matches = append(matches, r.StatusMatch())
		}
		for _, m := range matches {
			if m.Conditional() { // of another host the path is not there
				c.approximate(routePlace(r), "match", "another method is 404 in place of 405")
				continue
			}
			p := parsePattern(m.Path)
			a := byShape[p.shape()]
			if a == nil {
				a = &allowance{p, r, map[string]bool{}}
				byShape[p.shape()] = a
				all = append(all, a)
			}
			for _, method := range m.Taken() {
				a.methods[method] = true
			}
			if len(m.Methods) == 0 {
				a.methods["*"] = true // a route that takes all: never 405
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *allowance) int {
		if a.rest != b.rest {
			if a.rest {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.literals(), a.literals()), cmp.Compare(len(b.segments), len(a.segments)))
	})
	var list []*routev3.Route
	for _, a := range all {
		if r := a.refusal(all); r != nil {
			list = append(list, r)
			c.reportAllow(a, all)
		}
	}
	return list
}

// reportAllow tells of a path of which some are also another route's, and some are not.
func (c *compiler) reportAllow(a *allowance, all []*allowance) {
	for _, other := range all {
		if other != a && a.overlaps(other.pattern) && !other.covers(a.pattern) && !a.covers(other.pattern) {
			c.approximate(routePlace(a.route), "match", "the Allow of a 405 may lack methods of route %s, which "+
				"has some of "+
				"its paths", other.route.Name)
			return
		}
	}
}

func (a *allowance) refusal(all []*allowance) *routev3.Route {
	methods := maps.Clone(a.methods)
	for _, other := range all {
		if other != a && other.covers(a.pattern) {
			maps.Copy(methods, other.methods)
		}
	}
	if methods["*"] {
		return nil
	}
	allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	out := &routev3.Route{Name: "sluice.method-not-allowed", Match: a.match()}
	refuse(out, filters.MethodNotAllowed, "The path is there, but not for this method.", set("allow", allow))
	return out
}
