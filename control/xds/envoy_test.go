package xds

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/bench/kit/xdsclient"
	"github.com/sluice-gateway/sluice/control/nativedialect"
)

// envoyOptions are those of a client that asks as an Envoy does.
func envoyOptions(id string) xdsclient.Options {
	return xdsclient.Options{
		Node: &core.Node{Id: id, UserAgentName: "envoy"},
		Names: map[string][]string{
			resource.ClusterType: nil, resource.ListenerType: nil, resource.RouteType: {"sluice"},
			resource.EndpointType: {"order"},
		},
	}
}

// awaitChange waits for a client to have another version of a type than one.
func awaitChange(t *testing.T, c *xdsclient.Client, typeURL, from string) string {
	t.Helper()
	for {
		v, changed := c.Version(typeURL)
		if v != from {
			return v
		}
		if s, _ := c.State(); s.Err != nil {
			t.Fatalf("the stream ended: %v", s.Err)
		}
		<-changed
	}
}

// TestEnvoysHaveADialectOfTheirOwn: listeners, clusters, routes and endpoints, by delta and by state of
// the world, and never what gateways are given.
func TestEnvoysHaveADialectOfTheirOwn(t *testing.T) {
	t.Parallel()
	first := parse(t, shopOf(control, 200))
	r := startDocument(t, first)
	for _, sotw := range []bool{false, true} {
		o := envoyOptions("envoy-1")
		o.SotW = sotw
		o.Names[resource.ExtensionConfigType] = []string{nativedialect.ResourceName}
		c := r.client(o)
		versions := map[string]string{}
		for _, typeURL := range []string{
			resource.ClusterType, resource.ListenerType, resource.RouteType, resource.EndpointType,
		} {
			versions[typeURL] = awaitChange(t, c, typeURL, "")
		}
		r.awaitStable(first.Hash())
		r.await("the Envoy's version", func(s Status) bool {
			return len(s.Nodes) == 1 && s.Nodes[0].Version == first.Hash() && s.Nodes[0].Dialect == "envoy"
		})
		s, _ := c.State()
		if s.Resources[resource.ExtensionConfigType][nativedialect.ResourceName] != nil {
			t.Error("it has what gateways are given")
		}
		second := r.apply(shopOf(control, 201)) // routes only
		awaitChange(t, c, resource.RouteType, versions[resource.RouteType])
		r.awaitStable(second.Hash())
		if v, _ := c.Version(resource.ClusterType); v != versions[resource.ClusterType] {
			t.Error("clusters were sent again, which have not changed")
		}
		c.Close()
		r.apply(shopOf(control, 200))
		r.await("no node", func(s Status) bool { return len(s.Nodes) == 0 })
		gateway := r.gateway("edge-1")
		r.awaitStable(first.Hash())
		gateway.Close()
		r.await("no node", func(s Status) bool { return len(s.Nodes) == 0 })
	}
}

// TestEnvoysNackTakesBackFromGatewaysToo: a change is one, whoever refuses it.
func TestEnvoysNackTakesBackFromGatewaysToo(t *testing.T) {
	t.Parallel()
	first := parse(t, shopOf(control, 200))
	r := startDocument(t, first)
	gateway := r.gateway("edge-1")
	o := envoyOptions("envoy-1")
	seen := ""
	o.Judge = func(got xdsclient.Response) error {
		if got.Type == resource.RouteType && seen != "" && got.Version != seen {
			return errors.New("no route for me")
		}
		if got.Type == resource.RouteType {
			seen = got.Version
		}
		return nil
	}
	c := r.client(o)
	awaitVersion(t, gateway, resource.ExtensionConfigType, first.Hash())
	r.awaitStable(first.Hash())
	good := awaitChange(t, c, resource.RouteType, "")
	bad := r.apply(shopOf(control, 201))
	s := r.await("the change taken back", func(s Status) bool { return s.Rollout.TakenBack != nil })
	if n := s.Nacks[0]; n.Type != "RouteConfiguration" || n.Version != bad.Hash() || n.Node != "envoy-1" {
		t.Errorf("%+v", n)
	}
	r.await("both on the version before", func(s Status) bool {
		return s.Nodes[0].Version == first.Hash() && s.Nodes[1].Version == first.Hash()
	})
	awaitVersion(t, gateway, resource.ExtensionConfigType, first.Hash())
	awaitVersion(t, c, resource.RouteType, good)
}

// TestEnvoyReturnsToWhatItHadNotAcknowledged: a change that comes before an Envoy has acknowledged all
// of the first configuration, and whose listeners it refuses: it is given the routes of the first one
// again, though no node ever had said that it has them.
func TestEnvoyReturnsToWhatItHadNotAcknowledged(t *testing.T) {
	t.Parallel()
	for _, sotw := range []bool{false, true} {
		r := startDocument(t, parse(t, shopOf(control, 200)))
		routes, offered := make(chan string, 1), make(chan struct{})
		var first, listeners string // versions of what came first
		o := envoyOptions("envoy-1")
		o.SotW = sotw
		o.Judge = func(got xdsclient.Response) error {
			switch {
			case got.Type == resource.RouteType && first == "":
				first = got.Version
				routes <- first
				<-offered // the word on them comes late
			case got.Type == resource.ListenerType && listeners == "":
				listeners = got.Version
			case got.Type == resource.ListenerType && got.Version != listeners:
				return errors.New("no listener for me")
			}
			return nil
		}
		c := r.client(o)
		good := <-routes
		r.apply(shopOf(control+"listen: {http: \"127.0.0.1:18181\"}\n", 201))
		close(offered)
		s := r.await("the change taken back", func(s Status) bool { return s.Rollout.TakenBack != nil })
		if s.Nacks[0].Type != "Listener" {
			t.Errorf("%+v", s.Nacks[0])
		}
		r.await("routes of the first configuration", func(Status) bool {
			v, _ := c.Version(resource.RouteType)
			return v == good
		})
		third := r.apply(shopOf(control, 202))
		r.awaitStable(third.Hash())
	}
}

// TestListenersOfEnvoys: gateways are not sent listen, so the document's hash alone would miss a change
// of it, which Envoys need.
func TestListenersOfEnvoys(t *testing.T) {
	t.Parallel()
	first := parse(t, shopOf(control, 200))
	r := startDocument(t, first)
	c, gateway := r.client(envoyOptions("envoy-1")), r.gateway("edge-1")
	listeners := awaitChange(t, c, resource.ListenerType, "")
	r.awaitStable(first.Hash())
	second := r.apply(shopOf(control+"listen: {http: \"127.0.0.1:18181\"}\n", 200))
	awaitChange(t, c, resource.ListenerType, listeners)
	if second.Hash() != first.Hash() {
		t.Error("the document has another hash")
	}
	r.await("the release", func(s Status) bool { return strings.HasPrefix(s.Rollout.Stable, first.Hash()+".") })
	if s, _ := gateway.State(); s.Responses != 1 {
		t.Errorf("the gateway had %d responses, want 1", s.Responses)
	}
}

// TestEndpointsThatAreFound: they reach gateways and Envoys without a change of the configuration.
func TestEndpointsThatAreFound(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "order.endpoints")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("127.0.0.1:7001\n")
	d := parse(t, strings.Replace(shopOf(control, 200), `endpoints: ["http://127.0.0.1:7001"]`,
		"endpointsFrom: {file: "+file+"}", 1))
	r := startDocument(t, d)
	gateway := r.gateway("edge-1", func(o *xdsclient.Options) { o.Names[resource.EndpointType] = []string{"order"} })
	envoy := r.client(envoyOptions("envoy-1"))
	ports := func(c *xdsclient.Client) (list []uint32) {
		s, _ := c.State()
		a := new(endpoint.ClusterLoadAssignment)
		if got := s.Resources[resource.EndpointType]["order"]; got == nil || got.GetResource().UnmarshalTo(a) != nil {
			return nil
		}
		for _, l := range a.GetEndpoints() {
			for _, e := range l.GetLbEndpoints() {
				list = append(list, e.GetEndpoint().GetAddress().GetSocketAddress().GetPortValue())
			}
		}
		return list
	}
	for _, want := range []int{1, 2} {
		for _, c := range []*xdsclient.Client{gateway, envoy} {
			for len(ports(c)) != want {
				_, changed := c.Version(resource.EndpointType)
				if len(ports(c)) != want {
					<-changed
				}
			}
		}
		write("127.0.0.1:7001\n127.0.0.1:7002\n")
	}
	s := r.await("the service's sources", func(s Status) bool { return len(s.Endpoints) == 1 })
	if s.Rollout.Candidate != "" && s.Rollout.Stable != "" {
		t.Errorf("endpoints began a rollout: %+v", s.Rollout)
	}
}

// TestEnvoysAreNotSentWhatIsNotKnown: gateways expand their variables, Envoys need them here. Where one is not here
// Envoys keep what they have and are told its place; gateways have the change.
func TestEnvoysAreNotSentWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	r := start(t, shopOf(control, 200))
	envoy := r.client(envoyOptions("envoy-1"))
	before := awaitChange(t, envoy, resource.RouteType, "")
	gateway := r.gateway("edge-1")
	d := r.apply(strings.Replace(shopOf(control, 201), "timeout: 2s",
		`timeout: "${env:SLUICE_TEST_NOT_SET}"`, 1))
	awaitVersion(t, gateway, resource.ExtensionConfigType, d.Hash())
	for _, c := range []*xdsclient.Client{envoy, r.client(envoyOptions("envoy-2"))} {
		err := awaitError(t, c)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "services.order.timeout") {
			t.Errorf("the stream ended with %v", err)
		}
	}
	if v, _ := envoy.Version(resource.RouteType); v != before {
		t.Errorf("the Envoy was sent %s", v)
	}
	s := r.plane.Status()
	if len(s.Configuration.Approximations) != 1 || !strings.Contains(s.Configuration.Approximations[0].Why, "t.yaml:") {
		t.Errorf("approximations: %+v", s.Configuration.Approximations)
	}
	r.apply(shopOf(control, 202))
	r.await("the Envoys may connect", func(Status) bool {
		r.plane.mu.Lock()
		defer r.plane.mu.Unlock()
		return r.plane.lackFaultLocked() == nil
	})
	awaitChange(t, r.client(envoyOptions("envoy-3")), resource.RouteType, "")

	// What only gateways need holds no Envoy up.
	r = start(t, shopOf(control, 200)+"coordinator: {dtm: {endpoints: [\"${env:SLUICE_TEST_NOT_SET}\"]}}\n")
	awaitChange(t, r.client(envoyOptions("envoy-1")), resource.RouteType, "")
}
