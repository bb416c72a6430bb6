package envoydialect

import (
	"net"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	inspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/control/config"
)

func (c *compiler) addListeners() {
	l := &c.cfg.Listen
	if l.HTTP != config.Off {
		c.addListener("sluice.http", l.HTTP, "http", nil)
	}
	if l.HTTPS != nil {
		c.addListener("sluice.https", l.HTTPS.Address, "https", c.downstreamTLS(l.HTTPS))
		c.approximate("listen", "https", "the files are those of Envoy's machine at the same paths, and a Host "+
			"that the "+
			"certificate does not cover is not refused")
	}
	c.reportListen(l)
}

func (c *compiler) reportListen(l *config.Listen) {
	c.approximate("listen", "maxConnections", "each listener counts its own")
	c.approximate("listen", "maxInFlight", "the bound is of each service and not of all together")
	c.unsupported("listen", "maxBuffered", "the memory of bodies that wait is bounded for each connection only; "+
		"bound it with "+
		"Envoy's overload manager")
	if l.MinRate > 0 {
		c.unsupported("listen", "minRate", "a slow client is cut off only when it is silent for idleTimeout")
	}
	if len(l.ProxyProtocol) > 0 {
		c.approximate("listen", "proxyProtocol", "connections of other peers are closed")
	}
	if len(l.TrustedProxies) > 0 {
		c.approximate("listen", "trustedProxies", "an entry of X-Forwarded-For that cannot be read leaves the "+
			"peer as the client "+
			"in place of 400")
	}
	c.approximate("listen", "via", "no Via is sent, so a request that comes back is not refused with 508")
}

// buffered is how much of a body or a response a listener holds for ext_proc.
func (c *compiler) buffered() int {
	most := config.Size(1 << 20) // Envoy's own
	for _, r := range c.cfg.Routes {
		if r.Idempotency != nil && !leadsToTransaction(r) {
			most = max(most, r.Idempotency.MaxBody+64<<10)
		}
	}
	return int(most)
}

func (c *compiler) addListener(name, address, scheme string, transport *corev3.TransportSocket) {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil:
	case host == "":
		host = "0.0.0.0"
	case host == "localhost":
		host = "127.0.0.1"
	default:
		_, err = netip.ParseAddr(host)
	}
	if err != nil {
		c.unsupported("listen", scheme, "Envoy listens on an IP address and a port, and %s is none: there is no "+
			"such listener",
			address)
		return
	}
	at, err := socket(host, port)
	if err != nil {
		c.fail(err)
		return
	}
	chain := &listenerv3.FilterChain{
		TransportSocket: transport,
		Filters: []*listenerv3.Filter{
			c.networkFilter("sluice.connections", &connectionsv3.ConnectionLimit{
				StatPrefix: name, MaxConnections: wrapperspb.UInt64(uint64(c.cfg.Listen.MaxConnections)),
			}),
			c.networkFilter("envoy.filters.network.http_connection_manager", c.connectionManager(name, scheme)),
		},
	}
	l := &listenerv3.Listener{
		Name: name, Address: at, FilterChains: []*listenerv3.FilterChain{chain},
		PerConnectionBufferLimitBytes: number(c.buffered()),
	}
	if peers := c.cfg.Listen.ProxyProtocol; len(peers) > 0 {
		l.ListenerFilters = append(l.ListenerFilters, c.listenerFilter("envoy.filters.listener.proxy_protocol",
			&proxyv3.ProxyProtocol{}))
		chain.FilterChainMatch = &listenerv3.FilterChainMatch{DirectSourcePrefixRanges: cidrs(peers)}
	}
	if transport != nil {
		l.ListenerFilters = append(l.ListenerFilters, c.listenerFilter("envoy.filters.listener.tls_inspector",
			&inspectorv3.TlsInspector{}))
	}
	c.res.Listeners = append(c.res.Listeners, l)
}

func (c *compiler) networkFilter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: c.pack(m)}}
}

func (c *compiler) listenerFilter(name string, m proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: c.pack(m)},
	}
}

func (c *compiler) connectionManager(name, scheme string) *hcmv3.HttpConnectionManager {
	l := &c.cfg.Listen
	m := &hcmv3.HttpConnectionManager{
		StatPrefix: name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
			Rds: &hcmv3.Rds{ConfigSource: adsSource(), RouteConfigName: routesName},
		},
		HttpFilters:                  c.httpFilters(scheme),
		CommonHttpProtocolOptions:    &corev3.HttpProtocolOptions{IdleTimeout: duration(l.IdleTimeout)},
		ServerHeaderTransformation:   hcmv3.HttpConnectionManager_PASS_THROUGH,
		MaxRequestHeadersKb:          number(int((l.MaxHeader + 1023) / 1024)),
		StreamIdleTimeout:            duration(l.IdleTimeout),
		RequestHeadersTimeout:        duration(l.HeaderTimeout),
		NormalizePath:                yes(),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,
		LocalReplyConfig:             c.replies(),
		UpgradeConfigs:               []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
	}
	if proxies := l.TrustedProxies; len(proxies) > 0 {
		m.UseRemoteAddress = no()
		m.OriginalIpDetectionExtensions = []*corev3.TypedExtensionConfig{
			c.extension("envoy.http.original_ip_detection.xff", &xffv3.XffConfig{
				XffTrustedCidrs: &xffv3.XffTrustedCidrs{Cidrs: cidrs(proxies)}, SkipXffAppend: no(),
			}),
		}
	} else {
		m.UseRemoteAddress = yes()
	}
	return m
}

// downstreamTLS is how clients are served over TLS.
func (c *compiler) downstreamTLS(h *config.HTTPS) *corev3.TransportSocket {
	d := &tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		AlpnProtocols:   []string{"h2", "http/1.1"},
		TlsParams:       &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
		TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: file(h.Cert), PrivateKey: file(h.Key)}},
	}}
	if h.ClientCA != "" {
		d.RequireClientCertificate = yes()
		d.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: file(h.ClientCA)},
		}
	}
	return &corev3.TransportSocket{Name: tlsSocket, ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: c.pack(d),
	}}
}
