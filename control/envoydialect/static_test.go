package envoydialect_test

import (
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/control/envoydialect"
)

// static writes the resources as a bootstrap without a control plane, in which Envoy checks all of
// them at once: routes and endpoints stand where they are referred to.
func static(t *testing.T, r *envoydialect.Resources) []byte {
	t.Helper()
	out := new(bootstrapv3.Bootstrap_StaticResources)
	tables := map[string]*routev3.RouteConfiguration{}
	for _, table := range r.Routes {
		tables[table.Name] = table
	}
	for _, l := range r.Listeners {
		out.Listeners = append(out.Listeners, withRoutes(t, l, tables))
	}
	endpoints := map[string]*endpointv3.ClusterLoadAssignment{}
	for _, e := range r.Endpoints {
		endpoints[e.ClusterName] = e
	}
	for _, c := range r.Clusters {
		c = proto.Clone(c).(*clusterv3.Cluster)
		if c.GetType() == clusterv3.Cluster_EDS {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
			c.EdsClusterConfig, c.LoadAssignment = nil, endpoints[c.Name]
		}
		out.Clusters = append(out.Clusters, c)
	}
	b, err := protojson.Marshal(&bootstrapv3.Bootstrap{StaticResources: out})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func withRoutes(
	t *testing.T, l *listenerv3.Listener, tables map[string]*routev3.RouteConfiguration,
) *listenerv3.Listener {
	l = proto.Clone(l).(*listenerv3.Listener)
	for _, chain := range l.FilterChains {
		for _, f := range chain.Filters {
			m := new(hcmv3.HttpConnectionManager)
			if !f.GetTypedConfig().MessageIs(m) {
				continue
			}
			if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
				t.Fatal(err)
			}
			m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: tables[m.GetRds().RouteConfigName]}
			a, err := anypb.New(m)
			if err != nil {
				t.Fatal(err)
			}
			f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: a}
		}
	}
	return l
}
