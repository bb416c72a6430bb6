package envoydialect

import (
	"regexp"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	globalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	metadatakeyv3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/ref"
)

const (
	// Domain is that of the calls to the rate-limit service. The first entry of each descriptor has
	// LimitKey as its key and the limit's name as its value; those behind it have the references of
	// the limit's per as they are written, in its order.
	Domain   = "sluice"
	LimitKey = "limit"

	// absent is the value of a reference that a request has nothing for. All such requests count
	// together, as in the gateway: without a value Envoy would not count them at all.
	absent = "-"

	serviceTimeout = 500 * time.Millisecond // of a call to the rate-limit service
	localKeysMax   = 10_000                 // buckets of a local limit that has per, in each Envoy
)

// limitsOf returns the limits that hold on a route, those of its service behind its own.
func limitsOf(cfg *config.Config, r *config.Route) []string {
	names := slices.Clone([]string(r.Limits))
	for _, name := range r.Service.Names() {
		if s := cfg.Services[name]; s != nil {
			names = append(names, s.Limits...)
		}
	}
	return names
}

// computes reports whether Envoy's own filters can find the value of a reference.
func computes(r ref.Ref) bool {
	switch r.Root {
	case ref.Principal, ref.ClientIP, ref.Host, ref.Route, ref.Method, ref.Path, ref.Query, ref.Header:
		return true
	}
	return false
}

// entry is the entry of a descriptor for a reference: a field that every request has, or what
// [compiler.parameters] has noted.
func entry(r ref.Ref) *routev3.RateLimit_Action {
	field := ""
	switch r.Root {
	case ref.Principal:
		field = principalHeader
	case ref.ClientIP:
		field = clientHeader
	case ref.Host:
		field = ":authority"
	case ref.Method:
		field = ":method"
	default:
		return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Metadata{
			Metadata: &routev3.RateLimit_Action_MetaData{
				DescriptorKey: r.String(), DefaultValue: absent,
				MetadataKey: &metadatakeyv3.MetadataKey{
					Key: parametersFilter,
					Path: []*metadatakeyv3.MetadataKey_PathSegment{{
						Segment: &metadatakeyv3.MetadataKey_PathSegment_Key{Key: r.String()},
					}},
				},
			},
		}}
	}
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_RequestHeaders_{
		RequestHeaders: &routev3.RateLimit_Action_RequestHeaders{HeaderName: field, DescriptorKey: r.String()},
	}}
}

// descriptor makes the entries of a limit.
func descriptor(name string, l *config.Limit) *routev3.RateLimit {
	d := &routev3.RateLimit{Actions: []*routev3.RateLimit_Action{{
		ActionSpecifier: &routev3.RateLimit_Action_GenericKey_{
			GenericKey: &routev3.RateLimit_Action_GenericKey{DescriptorKey: LimitKey, DescriptorValue: name},
		},
	}}}
	for _, r := range l.Per {
		d.Actions = append(d.Actions, entry(r))
	}
	return d
}

// limitFilters are one filter for each local limit, so that the routes that name it share its bucket,
// and two for the global ones: what becomes of a request when the service does not respond is a
// setting of the filter.
func (c *compiler) limitFilters() []*httpFilter {
	used := c.nativeLimits()
	var list []*httpFilter
	var open, closed bool
	for _, name := range sortedKeys(c.cfg.Limits) {
		l := c.cfg.Limits[name]
		if !used[name] {
			continue
		}
		c.reportLimit(name, l)
		switch {
		case l.Scope == "local":
			list = append(list, off(c.filter(limitPrefix+name, c.localLimit(name, l))))
		case l.OnStoreFailure == "closed":
			closed = true
		default:
			open = true
		}
	}
	if open {
		list = append(list, off(c.filter(limitsFilter, c.globalLimit(false))))
	}
	if closed {
		list = append(list, off(c.filter(closedFilter, c.globalLimit(true))))
	}
	return list
}

// nativeLimits are those that Envoy's own filters hold on some route.
func (c *compiler) nativeLimits() map[string]bool {
	used := map[string]bool{}
	for _, r := range c.cfg.Routes {
		if leadsToTransaction(r) || len(LeftToExtProc(c.cfg, r)) > 0 {
			continue
		}
		for _, name := range limitsOf(c.cfg, r) {
			used[name] = true
		}
	}
	return used
}

func (c *compiler) reportLimit(name string, l *config.Limit) {
	place := limitPlace(name)
	for _, r := range l.Per {
		switch r.Root {
		case ref.Host:
			c.approximate(place, "per", "host is what the client sent, with its port and in its case")
		case ref.Query, ref.Path, ref.Header:
			c.approximate(place, "per", "%s is as the client sent it, not decoded, and one that comes twice is not "+
				"refused", r)
		}
	}
	if l.Scope == "local" {
		c.approximate(place, "rate", "each listener of each Envoy has a bucket of its own, and no RateLimit "+
			"fields are sent")
		if l.Compat == "fixed-window" {
			c.approximate(place, "compat", "Envoy's own limit fills evenly, and counts by no windows")
		}
		if len(l.Per) > 0 {
			c.approximate(place, "per", "each Envoy keeps the %d values that came last", localKeysMax)
		}
		return
	}
	if l.OnStoreFailure == "local" {
		c.approximate(place, "onStoreFailure", "while the rate-limit service itself does not respond requests "+
			"pass: an "+
			"Envoy has no share to count alone")
	}
}

func (c *compiler) globalLimit(deny bool) *globalv3.RateLimit {
	return &globalv3.RateLimit{
		Domain: Domain, Timeout: duration(serviceTimeout), FailureModeDeny: deny,
		RateLimitService: &limitv3.RateLimitServiceConfig{
			TransportApiVersion: corev3.ApiVersion_V3, GrpcService: grpcService(servicesCluster, serviceTimeout),
		},
		StatusOnError:                  &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		DisableXEnvoyRatelimitedHeader: true, EnableRetryAfterHeader: true,
	}
}

// grpcService calls a cluster; timeout 0 is none.
func grpcService(cluster string, timeout time.Duration) *corev3.GrpcService {
	s := &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
		EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster},
	}}
	if timeout > 0 {
		s.Timeout = duration(timeout)
	}
	return s
}

func share(percent uint32, key string) *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{
		DefaultValue: &typev3.FractionalPercent{Numerator: percent}, RuntimeKey: key,
	}
}

// localLimit has one bucket, or with per one for each value.
func (c *compiler) localLimit(name string, l *config.Limit) *localv3.LocalRateLimit {
	bucket := tokenBucket(l)
	enforced := uint32(100)
	if l.Mode == "shadow" {
		enforced = 0
	}
	f := &localv3.LocalRateLimit{
		StatPrefix: limitPrefix + name, TokenBucket: bucket, EnableRetryAfterHeader: true,
		FilterEnabled:  share(100, limitPrefix+name+".enabled"),
		FilterEnforced: share(enforced, limitPrefix+name+".enforced"),
	}
	if len(l.Per) > 0 {
		d := descriptor(name, l)
		entries := []*commonv3.RateLimitDescriptor_Entry{{Key: LimitKey, Value: name}}
		for _, r := range l.Per {
			entries = append(entries, &commonv3.RateLimitDescriptor_Entry{Key: r.String()}) // any value
		}
		f.RateLimits = []*routev3.RateLimit{d}
		f.Descriptors = []*commonv3.LocalRateLimitDescriptor{{Entries: entries, TokenBucket: bucket}}
		f.MaxDynamicDescriptors = number(localKeysMax)
		f.AlwaysConsumeDefaultTokenBucket = no()
	}
	return f
}

// tokenBucket has the rate and the burst of a limit. Envoy takes no interval below 50 ms; it fills a
// bucket evenly over the interval, so only the quotient counts.
func tokenBucket(l *config.Limit) *typev3.TokenBucket {
	tokens, interval := l.Rate.Count, l.Rate.Period
	for _, d := range []int{20, 10, 5, 2} {
		if part := interval / time.Duration(d); tokens%d == 0 && part >= 50*time.Millisecond {
			tokens, interval = tokens/d, part
			break
		}
	}
	return &typev3.TokenBucket{
		MaxTokens: uint32(l.Burst), TokensPerFill: number(tokens), FillInterval: duration(interval),
	}
}

// limit switches the limits of a route on.
func (c *compiler) limit(r *config.Route, filters map[string]*anypb.Any) {
	global := map[string][]*routev3.RateLimit{}
	var refs []ref.Ref
	for _, name := range limitsOf(c.cfg, r) {
		l := c.cfg.Limits[name]
		refs = append(refs, l.Per...)
		switch {
		case l.Scope == "local":
			filters[limitPrefix+name] = c.on()
		case l.OnStoreFailure == "closed":
			global[closedFilter] = append(global[closedFilter], descriptor(name, l))
		default:
			global[limitsFilter] = append(global[limitsFilter], descriptor(name, l))
		}
	}
	for filter, list := range global {
		filters[filter] = c.pack(&globalv3.RateLimitPerRoute{RateLimits: list})
	}
	c.parameters(r, refs, filters)
}

// parameters notes what limits count by that no field has as it is: of the path its parameters, the
// path itself and the query; the route; and fields that may be absent.
func (c *compiler) parameters(r *config.Route, refs []ref.Ref, filters map[string]*anypb.Any) {
	m, read := new(metadatav3.Config), map[string]bool{}
	for _, one := range refs {
		if key := one.String(); !read[key] {
			read[key] = true
			if rule := parameter(r, one); rule != nil {
				m.RequestRules = append(m.RequestRules, rule)
			}
		}
	}
	if len(m.RequestRules) > 0 {
		filters[parametersFilter] = c.pack(m)
	}
}

func parameter(r *config.Route, one ref.Ref) *metadatav3.Config_Rule {
	v := &metadatav3.Config_KeyValuePair{
		MetadataNamespace: parametersFilter, Key: one.String(), Type: metadatav3.Config_STRING,
	}
	rule := &metadatav3.Config_Rule{Header: ":path", OnHeaderPresent: v}
	regex := ""
	switch {
	case one.Root == ref.Header:
		rule.Header = strings.ToLower(one.Path[0])
		return rule
	case one.Root == ref.Route:
		v.Value = r.Name
		return rule
	case one.Root == ref.Path && len(one.Path) == 0:
		regex = `([^?]*)(?:\?.*)?`
	case one.Root == ref.Path:
		regex = parsePattern(r.Match.Path).expression(one.Path[0]) + `(?:\?.*)?`
	case one.Root == ref.Query && len(one.Path) == 0:
		regex = `[^?]*(?:\?(.*))?`
	case one.Root == ref.Query: // one that is absent matches too, and has no value
		regex = `[^?]*(?:\?(?:(?:[^&]*&)*?` + regexp.QuoteMeta(one.Path[0]) + `=([^&]*)(?:&.*)?|.*))?`
	default:
		return nil
	}
	v.RegexValueRewrite = &matcherv3.RegexMatchAndSubstitute{
		Pattern: expression("^" + regex + "$"), Substitution: `\1`,
	}
	return rule
}
