package envoydialect

import (
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	accessv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/custom_response/local_response_policy/v3"
	typematcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
)

// replies gives the responses that Envoy makes itself the form of the gateway's refusals. A mapper is
// chosen by why Envoy made a response, never by its status: those of ext_proc, of `respond` and of the
// routes that refuse have their form already.
func (c *compiler) replies() *hcmv3.LocalReplyConfig {
	var broken []string
	for _, name := range sortedKeys(c.cfg.Services) {
		if c.cfg.Services[name].Breaker != nil {
			broken = append(broken, name)
		}
	}
	list := []*hcmv3.ResponseMapper{
		{Filter: c.cel(`response.code_details == "` + fallbackDetails + `"`)}, // it stays as it is
		// Those of the rate-limit service have their form already, and name the limit.
		c.mapper(c.cel(`response.code_details == "local_rate_limited"`), filters.RateLimited,
			"Too many requests came in too short a time."),
		c.mapper(c.cel(`response.code_details == "rate_limiter_error"`), filters.StoreUnavailable,
			"The rate-limit service cannot be reached."),
		c.mapper(c.cel(`response.code_details.startsWith("ext_proc_error")`), filters.StoreUnavailable,
			"What keeps the records of this route cannot be reached."),
		c.mapper(flags("UO"), filters.Overloaded, "The service has as many requests to work on as it takes."),
	}
	if broken != nil {
		list = append(list, c.mapper(both(flags("UH"), c.cel(clusterIn(broken))), filters.BreakerOpen,
			"The service is failing and is given a rest."))
	}
	return &hcmv3.LocalReplyConfig{Mappers: append(list,
		c.mapper(flags("UH", "UF"), filters.UpstreamUnreachable, "No connection to the service came about."),
		c.mapper(flags("UT"), filters.UpstreamTimeout, "The service did not respond in time."),
		c.mapper(flags("UC", "UR", "UPE", "LR"), filters.UpstreamFailed,
			"The connection to the service broke after something was sent."),
		c.mapper(c.cel(`response.code_details.startsWith("jwt_authn_access_denied")`),
			filters.Unauthenticated, "The token is not good, or there is none."),
		c.mapper(c.cel(`response.code_details == "reached_concurrency_limit"`), filters.Overloaded,
			"The service has as many requests to work on as it takes."),
		c.mapper(c.cel(`response.code_details == "`+bodyTooLarge+`"`), filters.BodyTooLarge,
			"The body is longer than "+c.cfg.Listen.MaxBody.String()+"."),
	)}
}

// fallbackDetails is what is noted of a response that is a fallback: the filter of fallbacks makes it
// for the reason for which the refusal was made, whose form it would get.
const fallbackDetails = "sluice.fallback"

// bodyTooLarge is what Envoy says of a response by its filter for the size of a body.
const bodyTooLarge = "request_payload_too_large"

func clusterIn(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return "xds.cluster_name in [" + strings.Join(quoted, ", ") + "]"
}

func flags(names ...string) *accessv3.AccessLogFilter {
	return &accessv3.AccessLogFilter{FilterSpecifier: &accessv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accessv3.ResponseFlagFilter{Flags: names},
	}}
}

func both(a, b *accessv3.AccessLogFilter) *accessv3.AccessLogFilter {
	return &accessv3.AccessLogFilter{FilterSpecifier: &accessv3.AccessLogFilter_AndFilter{
		AndFilter: &accessv3.AndFilter{Filters: []*accessv3.AccessLogFilter{a, b}},
	}}
}

func (c *compiler) cel(expression string) *accessv3.AccessLogFilter {
	return &accessv3.AccessLogFilter{FilterSpecifier: &accessv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accessv3.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accessv3.ExtensionFilter_TypedConfig{
				TypedConfig: c.pack(&celv3.ExpressionFilter{Expression: expression}),
			},
		},
	}}
}

func (c *compiler) mapper(f *accessv3.AccessLogFilter, reason filters.Reason, detail string) *hcmv3.ResponseMapper {
	reply := filters.Refuse(reason, filters.Problem{Detail: detail})
	m := &hcmv3.ResponseMapper{Filter: f, StatusCode: number(reply.Status), BodyFormatOverride: document(reply)}
	for _, h := range reply.Header {
		switch name := strings.ToLower(h.Name); name {
		case "content-type":
		case "retry-after": // a limit knows better
			m.HeadersToAdd = append(m.HeadersToAdd, setAbsent(name, h.Value))
		default:
			m.HeadersToAdd = append(m.HeadersToAdd, set(name, h.Value))
		}
	}
	return m
}

// document is the body of a refusal, as a format without a place to fill in.
func document(reply *filters.Reply) *corev3.SubstitutionFormatString {
	text := strings.ReplaceAll(string(reply.Body), "%", "%%")
	return &corev3.SubstitutionFormatString{
		Format:      &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: inline(text)},
		ContentType: reply.Header.Get("Content-Type"),
	}
}

// fallback responds in the place of refusals of a route.
func (c *compiler) fallback(r *config.Route, perFilter map[string]*anypb.Any) {
	policy := &localv3.LocalResponsePolicy{
		StatusCode: number(r.Fallback.Status),
		ResponseCodeDetailsAction: &localv3.LocalResponsePolicy_ResponseCodeDetails{
			ResponseCodeDetails: fallbackDetails,
		},
	}
	if r.Fallback.Body != "" {
		policy.Body = inline(r.Fallback.Body)
	}
	header := map[string]string{"cache-control": "no-store"} // it is not what the service would say
	for name, v := range r.Fallback.Headers {
		header[strings.ToLower(name)] = v
	}
	for _, name := range sortedKeys(header) {
		policy.ResponseHeadersToAdd = append(policy.ResponseHeadersToAdd, set(name, header[name]))
	}
	var reasons []filters.Reason
	for _, on := range r.Fallback.On {
		switch on {
		case config.FallbackBreakerOpen:
			reasons = append(reasons, filters.BreakerOpen)
		case config.FallbackOverloaded:
			reasons = append(reasons, filters.Overloaded)
		case config.FallbackTimeout:
			if safe(r) {
				reasons = append(reasons, filters.UpstreamTimeout)
			} else {
				c.unsupported(routePlace(r), "fallback.on", "on a timeout the client gets 504: the route takes "+
					"methods "+
					"that are not safe")
			}
		}
	}
	action := &xdsmatcherv3.Matcher_OnMatch_Action{Action: &xdscorev3.TypedExtensionConfig{
		Name: "sluice.fallback", TypedConfig: c.pack(policy),
	}}
	m := &xdsmatcherv3.Matcher_MatcherList{}
	for _, reason := range reasons {
		m.Matchers = append(m.Matchers, &xdsmatcherv3.Matcher_MatcherList_FieldMatcher{
			Predicate: c.hasReason(reason), OnMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: action},
		})
	}
	if len(m.Matchers) == 0 {
		return
	}
	perFilter[fallbackFilter] = c.pack(&customv3.CustomResponse{CustomResponseMatcher: &xdsmatcherv3.Matcher{
		MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: m},
	}})
}

// hasReason matches a response that refuses for a reason. No service can make one: the field is taken
// out of what services send.
func (c *compiler) hasReason(reason filters.Reason) *xdsmatcherv3.Matcher_MatcherList_Predicate {
	return &xdsmatcherv3.Matcher_MatcherList_Predicate{
		MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
			SinglePredicate: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
				Input: &xdscorev3.TypedExtensionConfig{
					Name:        "sluice-reason",
					TypedConfig: c.pack(&typematcherv3.HttpResponseHeaderMatchInput{HeaderName: "sluice-reason"}),
				},
				Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{
					ValueMatch: &xdsmatcherv3.StringMatcher{
						MatchPattern: &xdsmatcherv3.StringMatcher_Exact{Exact: string(reason)},
					},
				},
			},
		},
	}
}

// safe reports whether all that a route takes may be done twice.
func safe(r *config.Route) bool {
	if len(r.Match.Methods) == 0 || r.Idempotency != nil {
		return false
	}
	for _, m := range r.Match.Methods {
		if m != "GET" && m != "HEAD" && m != "OPTIONS" {
			return false
		}
	}
	return true
}
