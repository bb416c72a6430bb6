package envoydialect

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/control/config"
)

// ClusterHeader is the field by which ext_proc names the cluster of the service that it has chosen by weight.
const ClusterHeader = "sluice-cluster"

// weighted sends the requests of a route to one of several services. Behind ext_proc that is the one which it names,
// since a key stays with its service and a token says who asks; else Envoy chooses by a hash of who asks.
func (c *compiler) weighted(r *config.Route) *routev3.RouteAction {
	names := r.Service.Names()
	a := c.actionTo(r, c.slowest(r))
	for _, name := range names[1:] {
		one, other := c.cfg.Services[names[0]], c.cfg.Services[name]
		if one.StreamIdleTimeout != other.StreamIdleTimeout || one.Timeout != other.Timeout && r.Timeout == 0 ||
			one.Retries.Attempts != other.Retries.Attempts {
			c.approximate(routePlace(r), "service", "timeouts and retries are those of the service with the longest "+
				"timeout, whichever is chosen")
			break
		}
	}
	if len(LeftToExtProc(c.cfg, r)) > 0 {
		a.ClusterSpecifier = &routev3.RouteAction_ClusterHeader{ClusterHeader: ClusterHeader}
		return a
	}
	w := &routev3.WeightedCluster{RandomValueSpecifier: &routev3.WeightedCluster_UseHashPolicy{
		UseHashPolicy: wrapperspb.Bool(true),
	}}
	for _, name := range names {
		w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{
			Name: clusterOf(name), Weight: number(r.Service.Weights[name]),
		})
	}
	a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: w}
	a.HashPolicy = c.whoAsks()
	c.approximate(routePlace(r), "service", "Envoy hashes what identity reads, also of a peer that is not trusted, "+
		"onto the sum of the weights: who asks goes to the same service as long as these stay, another one than the "+
		"gateway may choose, and a change moves more than its share")
	if r.Fallback != nil && r.Fallback.Service != "" {
		c.unsupported(routePlace(r), "fallback", "of a route to several services a request goes to no other one: the "+
			"refusal stands")
	}
	return a
}

// whoAsks returns what Envoy makes a hash of when it chooses the route, which is before its filters know the principal:
// the first field of identity that is there, else the client's address. A token is no such field: it is renewed.
func (c *compiler) whoAsks() (list []*routev3.RouteAction_HashPolicy) {
	for _, source := range c.cfg.Identity {
		if source.Header != nil {
			list = append(list, &routev3.RouteAction_HashPolicy{
				Terminal: true,
				PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
					Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: strings.ToLower(source.Header.Name)},
				},
			})
		}
	}
	return append(list, &routev3.RouteAction_HashPolicy{
		PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		},
	})
}

// slowest returns the service of a route with the longest timeout, the first one of these by its name.
func (c *compiler) slowest(r *config.Route) (slowest *config.Service) {
	for _, name := range r.Service.Names() {
		if s := c.cfg.Services[name]; slowest == nil || s.Timeout > slowest.Timeout {
			slowest = s
		}
	}
	return slowest
}
