package envoydialect_test

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/envoydialect"
)

var update = flag.Bool("update", false, "write the golden files anew")

func load(t *testing.T, file string) *config.Config {
	t.Helper()
	d, err := config.LoadDocument(file)
	if err != nil {
		t.Fatal(err)
	}
	return d.Config()
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("sluice.yaml", []byte("version: 1\n"+text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func compile(t *testing.T, cfg *config.Config, o envoydialect.Options) (*envoydialect.Resources, []string) {
	t.Helper()
	r, list, err := envoydialect.Compile(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(list))
	for i, a := range list {
		lines[i] = a.String()
	}
	return r, lines
}

// TestShop shows what a configuration with most policies becomes, in short, and what is said of it.
// Envoy checks the whole.
func TestShop(t *testing.T) {
	t.Parallel()
	r, lines := compile(t, load(t, "testdata/shop.yaml"), envoydialect.Options{})
	const golden = "testdata/shop.golden"
	got := outline(r) + "\n" + strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; with -update it is written anew:\n%s", golden, got)
	}
	envoytest.Validate(t, static(t, r))
}

// TestSameBytes: the same configuration gives the same bytes, so a content hash is its version.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	var first []byte
	for n := range 4 {
		r, _ := compile(t, load(t, "testdata/shop.yaml"), envoydialect.Options{})
		b := encode(t, r)
		if n == 0 {
			first = b
		} else if !bytes.Equal(b, first) {
			t.Fatal("the same configuration was compiled to other bytes")
		}
	}
}

func encode(t *testing.T, r *envoydialect.Resources) (all []byte) {
	t.Helper()
	var list []proto.Message
	for _, m := range r.Listeners {
		list = append(list, m)
	}
	for _, m := range r.Routes {
		list = append(list, m)
	}
	for _, m := range r.Clusters {
		list = append(list, m)
	}
	for _, m := range r.Endpoints {
		list = append(list, m)
	}
	for _, m := range list {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// TestCheck: each name that is missing, and each value that Envoy's API does not take, is found.
func TestCheck(t *testing.T) {
	t.Parallel()
	drop := func(name string) func(*envoydialect.Resources) {
		return func(r *envoydialect.Resources) {
			r.Clusters = slices.DeleteFunc(r.Clusters, func(c *clusterv3.Cluster) bool { return c.Name == name })
		}
	}
	for name, c := range map[string]struct {
		break_ func(*envoydialect.Resources)
		want   string
	}{
		"a route's cluster":     {drop("stock"), `refers to the cluster "stock", and there is none`},
		"a fallback's cluster":  {drop("payment"), `refers to the cluster "payment"`},
		"the services' cluster": {drop("sluice.envoy"), `refers to the cluster "sluice.envoy"`},
		"the table of routes": {func(r *envoydialect.Resources) {
			r.Routes = nil
		}, `refers to the route "sluice"`},
		"the endpoints": {func(r *envoydialect.Resources) {
			r.Endpoints = nil
		}, `refers to the endpoints "order"`},
		"two clusters of one name": {func(r *envoydialect.Resources) {
			r.Clusters[0].Name = r.Clusters[1].Name
		}, "two resources"},
		"a value out of range": {func(r *envoydialect.Resources) {
			r.Routes[0].VirtualHosts[0].Domains = nil
		}, "VirtualHost.Domains: value must contain at least 1 item"},
		"a filter that is not there": {func(r *envoydialect.Resources) {
			for _, route := range r.Routes[0].VirtualHosts[0].Routes {
				if any := route.TypedPerFilterConfig["sluice.principal"]; any != nil {
					route.TypedPerFilterConfig["sluice.nothing"] = any
				}
			}
		}, `has no filter "sluice.nothing"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := compile(t, load(t, "testdata/shop.yaml"), envoydialect.Options{})
			c.break_(r)
			if err := r.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func routeOf(t *testing.T, r *envoydialect.Resources, name string) *routev3.Route {
	t.Helper()
	for _, route := range r.Routes[0].VirtualHosts[0].Routes {
		if route.Name == name {
			return route
		}
	}
	t.Fatalf("there is no route %s", name)
	return nil
}

const transactions = `
coordinator: {dtm: {endpoints: ["http://127.0.0.1:36789"]}}
services: {stock: {endpoints: ["http://127.0.0.1:7002"]}}
transactions:
  buy: {steps: [{name: take, do: {service: stock, path: /take, body: {}}, undo: {service: stock, path: /put}}]}
routes:
  - {name: buy, match: {methods: [POST], path: /buy}, transaction: buy, status: "/buy/{id}", idempotency: {required: true}}
`

// TestTransactions: a route to a transaction goes to the gateway that is named, with its status, and is
// refused where there is none. Neither is done silently.
func TestTransactions(t *testing.T) {
	t.Parallel()
	r, lines := compile(t, parse(t, transactions), envoydialect.Options{})
	for _, name := range []string{"buy", "buy/status"} {
		d := routeOf(t, r, name).GetDirectResponse()
		if d.GetStatus() != 503 || !strings.Contains(d.GetBody().GetInlineString(), "coordinator-unavailable") {
			t.Errorf("%s without a gateway: %v", name, d)
		}
	}
	if !slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "routes.buy: transaction: unsupported")
	}) {
		t.Errorf("what is said of it: %q", lines)
	}
	r, lines = compile(t, parse(t, "envoy: {gateway: 'gateway.internal:8080'}\n"+transactions), envoydialect.Options{})
	for _, name := range []string{"buy", "buy/status"} {
		route := routeOf(t, r, name)
		if route.GetRoute().GetCluster() != "sluice.gateway" || route.TypedPerFilterConfig != nil {
			t.Errorf("%s with a gateway: %v", name, route)
		}
	}
	if !slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "routes.buy: transaction: approximate")
	}) {
		t.Errorf("what is said of it: %q", lines)
	}
	envoytest.Validate(t, static(t, r))
}

// TestOddities: what Envoy has no form for is reported, and never makes a configuration that gateways
// take one that the control plane refuses.
func TestOddities(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"a name to listen on": {"listen: {http: 'gateway.internal:8080'}", "listen: http: unsupported"},
		"names and sockets": {"services: {a: {endpoints: ['http://a.internal:1', 'unix:///run/a.sock']}}\n" +
			"routes: [{name: a, match: {path: /}, service: a}]", "services.a: endpoints: unsupported"},
		"a service with a name of ours": {"services: {sluice.envoy: {endpoints: ['http://127.0.0.1:1']}}\n" +
			"limits: {a: {rate: 1/s}}\nroutes: [{name: a, match: {path: /}, service: sluice.envoy, limits: [a]}]", ""},
		"a body's member": {"services: {a: {endpoints: ['http://127.0.0.1:1']}}\nlimits: {a: {per: [body.x], " +
			"rate: 1/s}}\n" +
			"routes: [{name: a, match: {path: /}, service: a, limits: [a]}]", "routes.a: limits: approximate"},
		"hedging": {"services: {a: {endpoints: ['http://127.0.0.1:1'], hedge: {}}}\n" +
			"routes: [{name: a, match: {path: /}, service: a}]", "services.a: hedge: unsupported"},
		"certificates of the services": {"envoy: {client: {cert: /e.crt, key: /e.key, ca: /s.ca}}\n" +
			"limits: {a: {rate: 1/s}}\nroutes: [{name: a, match: {path: /}, respond: {status: 200}, limits: [a]}]", ""},
		"tracing":        {"tracing: {}", "tracing: endpoint: approximate"},
		"PROXY protocol": {"listen: {proxyProtocol: [10.0.0.0/8]}", "listen: proxyProtocol: approximate"},
		"keys at a URL": {"identity: [{jwt: {keys: 'https://id.example/jwks.json', audience: shop, required: " +
			"true}}]\n" +
			"services: {a: {endpoints: ['http://127.0.0.1:1']}}\nroutes: [{name: a, match: {path: /}, service: " +
			"a}]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, lines := compile(t, parse(t, c.text), envoydialect.Options{})
			said := func(l string) bool { return strings.HasPrefix(l, c.want) }
			if c.want != "" && !slices.ContainsFunc(lines, said) {
				t.Errorf("%q, want %q", lines, c.want)
			}
			if name == "keys at a URL" || name == "PROXY protocol" || name == "a service with a name of ours" {
				r.Clusters = slices.Clone(r.Clusters)
				if name == "keys at a URL" {
					return // Envoy would want the system's authorities
				}
				envoytest.Validate(t, static(t, r))
			}
		})
	}
}

// TestNameOfAnEndpoint: what Envoy asks for and verifies by TLS is a host alone, and for an address that
// was found the name by which it was, as in a gateway.
func TestNameOfAnEndpoint(t *testing.T) {
	for _, c := range []struct{ address, host, want string }{
		{"10.0.0.1:8443", "order.shop.svc:8443", "order.shop.svc"}, {"[2001:db8::1]:443", "order.internal:443",
			"order.internal"},
		{"10.0.0.1:8443", "10.0.0.1:8443", "10.0.0.1"}, {"10.0.0.1:443", "10.0.0.1", "10.0.0.1"},
	} {
		list := []config.Endpoint{
			{Network: "tcp", Address: "a.name:1", Host: "a.name:1"}, // an Envoy would refuse the list with it
			{Network: "tcp", Address: c.address, Host: c.host, TLS: true},
		}
		a, err := envoydialect.Assignment("order", list)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetHostname(); got != c.want {
			t.Errorf("%s found by %s: %q, want %q", c.address, c.host, got, c.want)
		}
	}
}
