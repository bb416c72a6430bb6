package envoydialect

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	familyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/control/config"
)

func (c *compiler) addClusters() {
	for _, name := range sortedKeys(c.cfg.Services) {
		c.addService(name, c.cfg.Services[name])
	}
	for _, r := range c.cfg.Routes {
		if goesOn(c.cfg, r) {
			c.addFallback(r)
		}
	}
	if c.usesServices() {
		c.addOwn(servicesCluster, c.o.Services, true)
	}
	if c.o.Gateway != "" && slices.ContainsFunc(c.cfg.Routes, leadsToTransaction) {
		c.addOwn(gatewayCluster, c.o.Gateway, false)
	}
	if j := c.jwt(); j != nil && j.Published() {
		c.addKeys(j)
	}
}

// addService adds the cluster of a service, and its endpoints where no name has to be looked up.
func (c *compiler) addService(name string, s *config.Service) {
	list, sockets := c.endpoints(name, s)
	encrypted, named, prior := kinds(list)
	all := encrypted == len(list)
	if from := s.EndpointsFrom; from != nil {
		all, prior = from.Scheme == "https", from.Scheme == "h2c"
	}
	cl := &clusterv3.Cluster{
		Name:                          clusterOf(name),
		ConnectTimeout:                duration(s.ConnectTimeout),
		LbPolicy:                      clusterv3.Cluster_LEAST_REQUEST,
		TypedExtensionProtocolOptions: c.protocol(s, all, prior),
		CircuitBreakers:               c.circuitBreakers(name, s),
		CommonLbConfig:                &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: panicThreshold(s)},
		OutlierDetection:              c.outlierDetection(name, s),
	}
	if s.Health != nil {
		cl.HealthChecks = []*corev3.HealthCheck{healthCheck(s.Health, prior)}
	}
	if all || encrypted > 0 {
		c.encrypt(cl, name, s, all)
	}
	load := c.assignment(name, list)
	switch {
	case named && !sockets:
		cl.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.dns", TypedConfig: c.pack(&dnsv3.DnsCluster{
				DnsRefreshRate: duration(s.DNS), DnsLookupFamily: familyv3.DnsLookupFamily_ALL,
			}),
		}}
		cl.LoadAssignment = load
	default:
		cl.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		cl.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource(), ServiceName: name}
		c.res.Endpoints = append(c.res.Endpoints, load)
	}
	c.res.Clusters = append(c.res.Clusters, cl)
}

// endpoints returns the endpoints of a service that Envoy can have in one cluster, and whether there
// are sockets among them: beside a socket it looks no name up.
func (c *compiler) endpoints(name string, s *config.Service) (list []config.Endpoint, sockets bool) {
	list = s.ParsedEndpoints()
	sockets = slices.ContainsFunc(list, func(e config.Endpoint) bool { return e.Network == "unix" })
	if sockets && slices.ContainsFunc(list, namesHost) {
		c.unsupported(servicePlace(name), "endpoints", "beside a socket names are not looked up: those endpoints "+
			"are left out")
		list = slices.DeleteFunc(list, namesHost)
	}
	if s.EndpointsFrom != nil && s.EndpointsFrom.File != "" {
		c.approximate(servicePlace(name), "endpointsFrom", "Envoys get the addresses and the sockets of the file: "+
			"a name in it is left out, since they look none up there")
	}
	if s.EndpointsFrom == nil && len(s.Endpoints) > 0 && s.DNS > 0 && slices.ContainsFunc(list, namesHost) {
		c.approximate(servicePlace(name), "dns", "Envoy looks names up itself, by the name servers of its machine")
	}
	return list, sockets
}

// kinds says of endpoints how many are reached by TLS, whether one is a name, and whether the
// cleartext ones speak HTTP/2.
func kinds(list []config.Endpoint) (encrypted int, named, prior bool) {
	for _, e := range list {
		if e.TLS {
			encrypted++
		}
		named = named || namesHost(e)
		prior = prior || e.HTTP2
	}
	return encrypted, named, prior
}

// namesHost reports whether an endpoint is a name that has to be looked up.
func namesHost(e config.Endpoint) bool {
	host, _, err := net.SplitHostPort(e.Address)
	if err != nil || e.Network != "tcp" {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err != nil
}

func (c *compiler) assignment(name string, list []config.Endpoint) *endpointv3.ClusterLoadAssignment {
	lb := make([]*endpointv3.LbEndpoint, 0, len(list))
	for _, e := range list {
		lb = append(lb, c.endpoint(e))
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		Locality: &corev3.Locality{}, LbEndpoints: lb, LoadBalancingWeight: number(1),
	}}}
}

// encryptedKey marks the endpoints of a service that are reached by TLS.
const encryptedKey = "tls"

func encryptedMark() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{encryptedKey: structpb.NewBoolValue(true)}}
}

func (c *compiler) endpoint(e config.Endpoint) *endpointv3.LbEndpoint {
	var address *corev3.Address
	hostname := e.Host
	if e.Network == "unix" {
		address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.Address}}}
	} else {
		host, port, err := net.SplitHostPort(e.Address)
		if err != nil {
			c.fail(fmt.Errorf("envoydialect: endpoint %s: %w", e.Address, err))
			return nil
		}
		if address, err = socket(host, port); err != nil {
			c.fail(err)
		}
		hostname = certified(host, e)
	}
	lb := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
		Address: address, Hostname: hostname,
	}}}
	if e.TLS {
		lb.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			"envoy.transport_socket_match": encryptedMark(),
		}}
	}
	return lb
}

// certified returns the name that the certificate of an endpoint at a host has to have, as a gateway
// verifies it: an address that was found has in Host the name and the port by which it was.
func certified(host string, e config.Endpoint) string {
	if _, err := netip.ParseAddr(host); err == nil {
		if found, _, err := net.SplitHostPort(e.Host); err == nil {
			return found
		}
	}
	return host
}

const protocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// protocol says which HTTP a service speaks, and takes out of its responses the fields by which a
// client tells a refusal of the gateway.
func (c *compiler) protocol(s *config.Service, encrypted, prior bool) map[string]*anypb.Any {
	o := &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout: duration(s.KeepAlive.Idle), MaxConnectionDuration: duration(s.KeepAlive.MaxAge),
		},
		HttpFilters: c.upstreamFilters(),
	}
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	switch {
	case encrypted:
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_AutoConfig{
			AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{},
		}
	case prior:
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		}
	default:
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	}
	if !encrypted {
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit}
	}
	return map[string]*anypb.Any{protocolOptions: c.pack(o)}
}

// circuitBreakersOff is in place of a bound that is not written: those of Envoy would be 1024, and 3
// for retries.
const circuitBreakersOff = math.MaxInt32

func (c *compiler) circuitBreakers(name string, s *config.Service) *clusterv3.CircuitBreakers {
	t := &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections: number(circuitBreakersOff), MaxPendingRequests: number(circuitBreakersOff),
		MaxRequests: number(c.cfg.Listen.MaxInFlight), MaxRetries: number(circuitBreakersOff),
	}
	if s.Retries.Attempts > 0 && s.Retries.Budget > 0 {
		t.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
			BudgetPercent: &typev3.Percent{Value: float64(s.Retries.Budget)}, MinRetryConcurrency: number(3),
		}
		c.approximate(servicePlace(name), "retries.budget",
			"the share is of the requests under way in each Envoy, not of those of a second")
	}
	if o := s.Overload; o != nil {
		c.overload(name, s, t)
	}
	if s.Hedge != nil {
		c.unsupported(servicePlace(name), "hedge", "no second attempt is sent")
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{t}}
}

func (c *compiler) overload(name string, s *config.Service, t *clusterv3.CircuitBreakers_Thresholds) {
	place, o := servicePlace(name), s.Overload
	if o.Concurrency.Fixed == 0 {
		c.approximate(place, "overload", "Envoy's adaptive_concurrency follows the latency, in each Envoy apart: "+
			"what is beyond is refused at once, none waits in a queue, and priorities do not count")
		return
	}
	_, _, prior := kinds(s.ParsedEndpoints())
	prior = prior || s.EndpointsFrom != nil && s.EndpointsFrom.Scheme == "h2c"
	how := "none waits in a queue"
	if prior {
		t.MaxRequests = number(o.Concurrency.Fixed)
	} else {
		// Over HTTP/1.1 a request waits until a connection is free, so connections are what is bounded.
		// While they are made the requests that they are for wait too, and must not be refused.
		t.MaxConnections = number(o.Concurrency.Fixed)
		t.MaxPendingRequests = number(o.Concurrency.Fixed + o.Queue.Size)
		how = "the queue has room for concurrency requests more than queue.size, and one waits in it until its " +
			"timeout and " +
			"not for queue.wait"
	}
	c.approximate(place, "overload", "a circuit breaker of each Envoy bounds requests at once: %s, streams count as "+
		"requests to their end, and priorities do not count", how)
}

// panicThreshold is the share of usable endpoints below which all are used. A breaker that is open
// for all endpoints must stay open. Health checks that all fail are taken for what is wrong, as in
// the gateway: then, and only then, all endpoints are used.
func panicThreshold(s *config.Service) *typev3.Percent {
	if s.Breaker == nil && s.Health != nil {
		return &typev3.Percent{Value: 1}
	}
	return &typev3.Percent{Value: 0}
}

// outlierDetection ejects endpoints for outlier, and for a breaker all of them.
func (c *compiler) outlierDetection(name string, s *config.Service) *clusterv3.OutlierDetection {
	if s.Outlier == nil && s.Breaker == nil {
		return nil
	}
	d := &clusterv3.OutlierDetection{
		EnforcingConsecutive_5Xx: number(0), EnforcingSuccessRate: number(0),
		EnforcingConsecutiveGatewayFailure: number(0),
	}
	if o := s.Outlier; o != nil {
		d.Consecutive_5Xx, d.EnforcingConsecutive_5Xx = number(o.Errors), number(100)
		d.BaseEjectionTime, d.MaxEjectionTime = duration(o.Eject), duration(10*o.Eject)
		d.MaxEjectionTimeJitter = duration(o.Eject / 5)
		d.MaxEjectionPercent = number(int(o.Max))
	}
	if b := s.Breaker; b != nil {
		d.FailurePercentageThreshold = number(int(math.Ceil(float64(b.Errors))))
		d.EnforcingFailurePercentage = number(100)
		d.FailurePercentageMinimumHosts, d.FailurePercentageRequestVolume = number(1), number(b.MinRequests)
		d.Interval = duration(b.Window)
		d.BaseEjectionTime, d.MaxEjectionTime = duration(b.OpenFor), duration(b.OpenMax)
		d.MaxEjectionTimeJitter = duration(b.OpenFor / 5)
		d.MaxEjectionPercent = number(100)
		c.approximate(servicePlace(name), "breaker", "Envoy ejects each endpoint apart, looks once in a window "+
			"and not "+
			"at a sliding one, and sends all requests again at the end: no probes, no ramp")
		if b.Slow != nil {
			c.unsupported(servicePlace(name), "breaker.slow", "slow calls count as any others")
		}
		if s.Outlier != nil {
			c.approximate(servicePlace(name), "outlier", "beside a breaker its times hold for both, and all endpoints "+
				"may be ejected")
		}
	}
	return d
}

func healthCheck(h *config.Health, prior bool) *corev3.HealthCheck {
	codec := typev3.CodecClientType_HTTP1
	if prior {
		codec = typev3.CodecClientType_HTTP2
	}
	return &corev3.HealthCheck{
		Timeout: duration(h.Timeout), Interval: duration(h.Every),
		NoTrafficInterval: duration(h.Every), NoTrafficHealthyInterval: duration(h.Every),
		UnhealthyThreshold: number(2), HealthyThreshold: number(1), // as the gateway counts
		HealthChecker: &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
			Path: h.Path, CodecClientType: codec,
			ExpectedStatuses: []*typev3.Int64Range{{Start: 200, End: 300}},
		}},
		TlsOptions: &corev3.HealthCheck_TlsOptions{AlpnProtocols: []string{"http/1.1"}},
	}
}

// goesOn reports whether Envoy itself sends requests of a route to another service as its fallback.
// Behind ext_proc it must not: the response would be recorded under the key as that of the route's
// service.
func goesOn(cfg *config.Config, r *config.Route) bool {
	return r.Fallback != nil && r.Fallback.Service != "" && r.Service.Name != "" && len(LeftToExtProc(cfg, r)) == 0
}

// addFallback adds the cluster that a route leads to whose fallback is another service.
func (c *compiler) addFallback(r *config.Route) {
	config := &aggregatev3.ClusterConfig{Clusters: []string{clusterOf(r.Service.Name), clusterOf(r.Fallback.Service)}}
	c.res.Clusters = append(c.res.Clusters, &clusterv3.Cluster{
		Name:           fallbackPrefix + r.Name,
		ConnectTimeout: duration(c.cfg.Services[r.Service.Name].ConnectTimeout),
		LbPolicy:       clusterv3.Cluster_CLUSTER_PROVIDED,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.aggregate", TypedConfig: c.pack(config),
		}},
	})
	c.approximate(routePlace(r), "fallback", "Envoy goes on to service %s while no endpoint of %s is usable; not "+
		"for a "+
		"request that was refused as overloaded or had no response in time, and without the service's limits",
		r.Fallback.Service, r.Service.Name)
}

// addOwn adds the cluster of a part of this gateway: host:port.
func (c *compiler) addOwn(name, address string, grpc bool) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		c.fail(fmt.Errorf("envoydialect: %s: %q is not host:port", name, address))
		return
	}
	e := config.Endpoint{Network: "tcp", Address: address, Host: host, HTTP2: grpc}
	kind := clusterv3.Cluster_STATIC
	if namesHost(e) {
		kind = clusterv3.Cluster_STRICT_DNS
	}
	// These clusters have no filter of their own: what they send is the gateway's.
	o := &httpv3.HttpProtocolOptions{}
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	if grpc {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
				Interval: duration(10 * time.Second), Timeout: duration(5 * time.Second),
			}},
		}
	} else {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	}
	o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit}
	off := number(circuitBreakersOff)
	cl := &clusterv3.Cluster{
		Name: name, ConnectTimeout: duration(time.Second), LbPolicy: clusterv3.Cluster_LEAST_REQUEST,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: kind},
		LoadAssignment:                c.assignment(name, []config.Endpoint{e}),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{protocolOptions: c.pack(o)},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: off, MaxPendingRequests: off, MaxRequests: off,
		}}},
	}
	if grpc && c.cfg.Envoy.Listen.Secured() {
		cl.TransportSocket = c.servicesTLS()
	}
	c.res.Clusters = append(c.res.Clusters, cl)
}

// servicesTLS is how Envoys reach `sluice envoy` where it has a certificate.
func (c *compiler) servicesTLS() *corev3.TransportSocket {
	t := new(config.ServiceTLS)
	if shown := c.cfg.Envoy.Client; shown != nil {
		t.CA, t.Cert, t.Key = shown.CA, shown.Cert, shown.Key
	} else {
		c.unsupported("envoy", "client", "envoy.listen has a certificate, and it is not said which one Envoys "+
			"show: without "+
			"envoy.client they reach neither ext_proc nor the rate-limit service where envoy.listen.clientCA is set")
	}
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: c.pack(c.upstreamTLS(t, []string{"h2"})),
	}}
}

// addKeys adds the cluster that a key set at a URL is fetched from.
func (c *compiler) addKeys(j *config.JWT) {
	u, err := url.Parse(j.Keys)
	if err != nil {
		c.fail(fmt.Errorf("envoydialect: identity: jwt.keys: %w", err))
		return
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	e := config.Endpoint{Network: "tcp", Address: net.JoinHostPort(u.Hostname(), port), Host: u.Hostname(), TLS: true}
	cl := &clusterv3.Cluster{
		Name: keysCluster, ConnectTimeout: duration(5 * time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS},
		LoadAssignment:       c.assignment(keysCluster, []config.Endpoint{e}),
		TransportSocket: &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{
			TypedConfig: c.pack(c.upstreamTLS(&config.ServiceTLS{ServerName: u.Hostname()}, nil)),
		}},
	}
	c.res.Clusters = append(c.res.Clusters, cl)
}

const (
	tlsSocket = "envoy.transport_sockets.tls"
)

// encrypt sets how the https:// endpoints of a service are reached: all of them, or those that are
// marked.
func (c *compiler) encrypt(cl *clusterv3.Cluster, name string, s *config.Service, all bool) {
	var alpn []string
	if all {
		alpn = []string{"h2", "http/1.1"}
	}
	secure := &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: c.pack(c.upstreamTLS(s.TLS, alpn)),
	}}
	if s.TLS == nil || s.TLS.CA == "" {
		c.approximate(servicePlace(name), "tls", "the authorities are those of the file %s on Envoy's machine",
			c.o.SystemCA)
	} else {
		c.approximate(servicePlace(name), "tls", "the files are those of Envoy's machine at the same paths")
	}
	if all {
		cl.TransportSocket = secure
		return
	}
	cl.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{{
		Name: encryptedKey, TransportSocket: secure,
		Match: encryptedMark(),
	}}
}

// upstreamTLS verifies a service as [config.ServiceTLS] says: nil is the system's authorities and the
// endpoint's own name.
func (c *compiler) upstreamTLS(t *config.ServiceTLS, alpn []string) *tlsv3.UpstreamTlsContext {
	if t == nil {
		t = new(config.ServiceTLS)
	}
	ca := t.CA
	if ca == "" {
		ca = c.o.SystemCA
	}
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols: alpn,
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: file(ca)},
		},
	}
	if t.Cert != "" {
		common.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: file(t.Cert), PrivateKey: file(t.Key)}}
	}
	return &tlsv3.UpstreamTlsContext{
		CommonTlsContext: common, Sni: t.ServerName, AutoHostSni: t.ServerName == "", AutoSniSanValidation: true,
	}
}

// upstreamFilters are those between the router and a service.
func (c *compiler) upstreamFilters() []*httpFilter {
	return []*httpFilter{
		c.filter("sluice.service", c.serviceMutation()),
		c.filter("envoy.filters.http.upstream_codec", &codecv3.UpstreamCodec{}),
	}
}
