package envoydialect

import (
	"net/netip"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	skipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/matcher/action/v3"
	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"
	sizev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/body_size_limit/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	headersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/control/config"
)

type httpFilter = hcmv3.HttpFilter

// Names of the filters that routes switch on. A filter is named for what it is here for: several are
// of one kind.
const (
	principalFilter  = "sluice.principal"
	parametersFilter = "sluice.parameters"
	fallbackFilter   = "sluice.fallback"
	untypedFilter    = "sluice.untyped" // for a static response that names no type: Envoy would say text/plain
	jwtFilter        = "sluice.jwt"
	limitsFilter     = "sluice.limits"
	closedFilter     = "sluice.limits.closed"
	extProcFilter    = "sluice.ext_proc"
	limitPrefix      = "sluice.limit."
	overloadPrefix   = "sluice.overload."
)

// httpFilters are those of both listeners, in the order in which a request meets them. What takes out
// fields comes first; who asks is known before the limits count. The queue of a service stands before
// ext_proc, so that what is shed has taken no claim. ext_proc is the last before the router: it is
// told of no response that a filter before it makes.
func (c *compiler) httpFilters(scheme string) []*httpFilter {
	list := c.headerFilters(scheme)
	list = append(list, c.identityFilters()...)
	most := wrapperspb.UInt64(uint64(c.cfg.Listen.MaxBody))
	list = append(list,
		off(c.filter(parametersFilter, &metadatav3.Config{})),
		c.filter("sluice.size", &sizev3.BodySizeLimit{MaxRequestBytes: most}),
		off(c.filter(fallbackFilter, &customv3.CustomResponse{})),
		off(c.filter(untypedFilter, mutation(nil, []*mutationv3.HeaderMutation{remove("content-type")}))),
	)
	list = append(list, c.limitFilters()...)
	for _, name := range sortedKeys(c.cfg.Services) {
		if o := c.cfg.Services[name].Overload; o != nil && o.Concurrency.Fixed == 0 {
			list = append(list, off(c.filter(overloadPrefix+name, adaptive(o))))
		}
	}
	if c.usesExtProc() {
		list = append(list, off(c.filter(extProcFilter, c.extProc())))
	}
	return append(list, c.filter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}))
}

func (c *compiler) filter(name string, m proto.Message) *httpFilter {
	return &httpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: c.pack(m)}}
}

// off is a filter that is only there for the routes that switch it on.
func off(f *httpFilter) *httpFilter {
	f.Disabled = true
	return f
}

// on switches a filter on as it is: by a configuration that is there, and empty. Without is_optional
// other clients of xDS, gRPC's, would refuse the routes; that Envoys have the filter is asked for where
// it stands in the chain.
func (c *compiler) on() *anypb.Any {
	return c.pack(&routev3.FilterConfig{Config: &anypb.Any{}, IsOptional: true})
}

func adaptive(o *config.Overload) *adaptivev3.AdaptiveConcurrency {
	return &adaptivev3.AdaptiveConcurrency{
		ConcurrencyControllerConfig: &adaptivev3.AdaptiveConcurrency_GradientControllerConfig{
			GradientControllerConfig: &adaptivev3.GradientControllerConfig{
				SampleAggregatePercentile: &typev3.Percent{Value: 50},
				ConcurrencyLimitParams: &adaptivev3.GradientControllerConfig_ConcurrencyLimitCalculationParams{
					MaxConcurrencyLimit: number(o.Max), MinConcurrencyLimit: number(o.Min),
					ConcurrencyUpdateInterval: duration(config.Duration(1e8)),
				},
				MinRttCalcParams: &adaptivev3.GradientControllerConfig_MinimumRTTCalculationParams{
					Interval: duration(config.Duration(60e9)), RequestCount: number(50),
					Jitter: &typev3.Percent{Value: 10}, MinConcurrency: number(o.Min),
				},
			},
		},
		Enabled: &corev3.RuntimeFeatureFlag{DefaultValue: yes(), RuntimeKey: "sluice.overload.enabled"},
	}
}

func remove(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

// removeAll removes all fields of which the name in lower case matches. Servers after CGI read
// everything but letters and digits as an underscore, so - in an expression stands for any of these.
func removeAll(regex string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: expression(regex)},
		}},
	}}
}

func write(o *corev3.HeaderValueOption) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: o}}
}

func mutation(request, response []*mutationv3.HeaderMutation) *headersv3.HeaderMutation {
	return &headersv3.HeaderMutation{Mutations: &headersv3.Mutations{
		RequestMutations: request, ResponseMutations: response,
	}}
}

const requestID = "%REQ(x-request-id)%"

// headerFilters take out what only the gateway sets, and set what a service is told about the way of
// a request.
func (c *compiler) headerFilters(scheme string) []*httpFilter {
	// x-envoy-* would set timeouts and repeats of a request from outside.
	out := []*mutationv3.HeaderMutation{removeAll(`(x[^a-z0-9])?sluice[^a-z0-9].*`), removeAll(`x-envoy-.*`)}
	for _, name := range c.ownNames() {
		if regex := impostors(name); regex != "" {
			out = append(out, removeAll(regex))
		}
	}
	own := mutation(append(out, write(set("sluice-request-id", requestID))),
		[]*mutationv3.HeaderMutation{write(setAbsent("sluice-request-id", requestID))})
	list := []*httpFilter{c.filter("sluice.headers", own)}

	forwarded := mutation([]*mutationv3.HeaderMutation{
		removeAll(`x[^a-z0-9]forwarded([^a-z0-9].*)?`), removeAll(`x[^a-z0-9]real[^a-z0-9]ip`),
		removeAll(`true[^a-z0-9]client[^a-z0-9]ip`), remove("forwarded"),
	}, nil)
	list = append(list, c.unless("sluice.untrusted", c.cfg.Listen.TrustedProxies, forwarded))
	return append(list, c.filter("sluice.forwarded", mutation([]*mutationv3.HeaderMutation{
		write(setAbsent("x-forwarded-for", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%")),
		write(setAbsent("x-forwarded-proto", scheme)),
		write(setAbsent("x-forwarded-host", "%REQ(:authority)%")),
	}, nil)))
}

// ownNames are the fields that a name beside them must not be taken for.
func (c *compiler) ownNames() []string {
	names := []string{
		"idempotency-key", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "true-client-ip",
	}
	for _, source := range c.cfg.Identity {
		if source.Header != nil {
			names = append(names, source.Header.Name)
		}
	}
	return names
}

// serviceMutation takes out of a request what Envoy notes for itself, and out of a service's response
// the fields by which a client tells what is the gateway's.
func (c *compiler) serviceMutation() *headersv3.HeaderMutation {
	return mutation([]*mutationv3.HeaderMutation{remove(clientHeader)},
		[]*mutationv3.HeaderMutation{removeAll(`sluice[^a-z0-9].*`), removeAll(`x-envoy-.*`)})
}

// unless is a filter for all but the peers in the prefixes. The peer is the other end of the connection,
// whatever a field says.
func (c *compiler) unless(name string, peers []netip.Prefix, m proto.Message) *httpFilter {
	if len(peers) == 0 {
		return c.filter(name, m)
	}
	input := &xdscorev3.TypedExtensionConfig{
		Name: "envoy.matching.inputs.direct_source_ip", TypedConfig: c.pack(&networkv3.DirectSourceIPInput{}),
	}
	within := &xdscorev3.TypedExtensionConfig{
		Name: "envoy.matching.matchers.ip", TypedConfig: c.pack(&ipv3.Ip{CidrRanges: cidrs(peers), StatPrefix: name}),
	}
	skip := &xdscorev3.TypedExtensionConfig{Name: "skip", TypedConfig: c.pack(&skipv3.SkipFilter{})}
	predicate := &xdsmatcherv3.Matcher_MatcherList_Predicate{
		MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
			SinglePredicate: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
				Input: input,
				Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{
					CustomMatch: within,
				},
			},
		},
	}
	return c.filter(name, &matchingv3.ExtensionWithMatcher{
		XdsMatcher: &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherList_{
			MatcherList: &xdsmatcherv3.Matcher_MatcherList{Matchers: []*xdsmatcherv3.Matcher_MatcherList_FieldMatcher{{
				Predicate: predicate,
				OnMatch: &xdsmatcherv3.Matcher_OnMatch{
					OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: skip},
				},
			}}},
		}},
		ExtensionConfig: c.extension("envoy.filters.http.header_mutation", m),
	})
}
