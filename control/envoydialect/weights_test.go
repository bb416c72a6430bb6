package envoydialect_test

import (
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
	"github.com/sluice-gateway/sluice/control/envoydialect"
)

// TestWeightsAndRedirects: what a route to several services and a redirect become, what is said of it, and that Envoy
// takes it.
func TestWeightsAndRedirects(t *testing.T) {
	t.Parallel()
	r, lines := compile(t, parse(t, `
identity: [{header: {name: X-User, trusted: [127.0.0.1/32]}}, {clientIP: {}}]
services:
  order: {endpoints: ["http://127.0.0.1:1"]}
  canary: {endpoints: ["http://127.0.0.1:2"], timeout: 9s}
  limited: {endpoints: ["http://127.0.0.1:3"], limits: [l]}
limits: {l: {scope: local, rate: 1/s}}
envoy: {listen: {address: "127.0.0.1:9"}}
routes:
  - {name: plain, match: {path: /plain}, service: {order: 95, canary: 5}, fallback: {service: order}}
  - {name: keyed, match: {path: /keyed}, service: {order: 95, canary: 5}, idempotency: {},
     headers: {request: {remove: [X-Debug]}}}
  - {name: own, match: {path: /own}, service: {order: 95, limited: 5}}
  - {name: secure, match: {path: /**}, redirect: {to: "https://shop.example"}}
  - {name: moved, match: {path: "/a/{id}"}, redirect: {path: "/b/{id}", status: 308}}
`), envoydialect.Options{})
	routes := map[string][]*routev3.Route{}
	for _, route := range r.Routes[0].VirtualHosts[0].Routes {
		routes[route.Name] = append(routes[route.Name], route)
	}
	plain := routes["plain"][0].GetRoute()
	w := plain.GetWeightedClusters()
	if len(w.GetClusters()) != 2 || w.Clusters[0].Name != "canary" || w.Clusters[0].Weight.GetValue() != 5 ||
		w.Clusters[1].Weight.GetValue() != 95 || !w.GetUseHashPolicy().GetValue() ||
		plain.HashPolicy[0].GetHeader().GetHeaderName() != "x-user" || !plain.HashPolicy[0].Terminal ||
		!plain.HashPolicy[1].GetConnectionProperties().GetSourceIp() ||
		plain.RetryPolicy.PerTryTimeout.Seconds != 9 {
		t.Errorf("plain: %v", plain)
	}
	for _, name := range []string{"keyed", "own"} {
		route := routes[name][0]
		if route.GetRoute().GetClusterHeader() != envoydialect.ClusterHeader ||
			route.RequestHeadersToRemove[0] != envoydialect.ClusterHeader {
			t.Errorf("%s: %v", name, route)
		}
	}
	if n := len(routes["keyed"][0].RequestHeadersToRemove); n != 2 {
		t.Errorf("%d fields are taken out", n)
	}
	secure := routes["secure"]
	if len(secure) != 2 || secure[0].GetRedirect().GetSchemeRedirect() != "https" ||
		secure[0].GetRedirect().HostRedirect != "shop.example" || !secure[0].Match.Headers[0].InvertMatch ||
		secure[1].Match.Headers[0].Name != ":authority" {
		t.Errorf("secure: %v", secure)
	}
	if a := routes["moved"][0].GetRedirect(); a.GetRegexRewrite().GetSubstitution() != `/b/\1` ||
		a.ResponseCode != routev3.RedirectAction_PERMANENT_REDIRECT {
		t.Errorf("moved: %v", a)
	}
	for _, want := range []string{"routes.plain: service: approximate", "routes.plain: fallback: unsupported",
		"timeouts and retries are those of the service with the longest", "routes.moved: redirect: approximate"} {
		if !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("nothing is said of %q:\n%s", want, strings.Join(lines, "\n"))
		}
	}
	envoytest.Validate(t, static(t, r))
}
