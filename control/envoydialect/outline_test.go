package envoydialect_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-gateway/sluice/control/envoydialect"
)

// outline writes resources in short: of each route what it takes, where it leads and which filters it
// switches on, of each cluster how it is reached and bounded.
func outline(r *envoydialect.Resources) string {
	var b strings.Builder
	for _, l := range r.Listeners {
		a := l.GetAddress().GetSocketAddress()
		fmt.Fprintf(&b, "listener %s: %s:%d\n", l.Name, a.GetAddress(), a.GetPortValue())
	}
	for _, route := range r.Routes[0].VirtualHosts[0].Routes {
		fmt.Fprintf(&b, "route %s: %s -> %s", route.Name, matchOf(route.Match), actionOf(route))
		for _, name := range slices.Sorted(maps.Keys(route.TypedPerFilterConfig)) {
			b.WriteString(" +" + strings.TrimPrefix(name, "sluice."))
		}
		b.WriteString("\n")
	}
	for _, c := range r.Clusters {
		kind := c.GetType().String()
		if custom := c.GetClusterType(); custom != nil {
			kind = custom.Name
		}
		t := c.GetCircuitBreakers().GetThresholds()
		fmt.Fprintf(&b, "cluster %s: %s, connect %s, checks %d, ejection %t, panic %v", c.Name, kind,
			c.ConnectTimeout.AsDuration(), len(c.HealthChecks), c.OutlierDetection != nil,
			c.GetCommonLbConfig().GetHealthyPanicThreshold().GetValue())
		if len(t) > 0 {
			fmt.Fprintf(&b, ", connections %d, pending %d, requests %d, retries %v%%", t[0].MaxConnections.GetValue(),
				t[0].MaxPendingRequests.GetValue(), t[0].MaxRequests.GetValue(),
				t[0].GetRetryBudget().GetBudgetPercent().GetValue())
		}
		b.WriteString("\n")
	}
	for _, e := range r.Endpoints {
		fmt.Fprintf(&b, "endpoints %s: %d\n", e.ClusterName, len(e.Endpoints[0].LbEndpoints))
	}
	return b.String()
}

func matchOf(m *routev3.RouteMatch) string {
	path := ""
	switch {
	case m.GetPath() != "":
		path = "=" + m.GetPath()
	case m.GetPathSeparatedPrefix() != "":
		path = "/**" + m.GetPathSeparatedPrefix()
	case m.GetPrefix() != "":
		path = "^" + m.GetPrefix()
	default:
		path = "~" + m.GetSafeRegex().GetRegex()
	}
	for _, h := range m.Headers {
		path = h.GetStringMatch().GetExact() + h.GetStringMatch().GetSafeRegex().GetRegex() + " " + path
	}
	return path
}

func actionOf(r *routev3.Route) string {
	if d := r.GetDirectResponse(); d != nil {
		return fmt.Sprint(d.Status)
	}
	a := r.GetRoute()
	p := a.GetRetryPolicy()
	return fmt.Sprintf("%s in %s, retries %d %s", a.GetCluster(), p.GetPerTryTimeout().AsDuration(),
		p.GetNumRetries().GetValue(), p.GetRetryOn())
}
