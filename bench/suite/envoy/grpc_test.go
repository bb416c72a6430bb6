package envoy_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
)

const overGRPC = preamble + `
services: {health: {endpoints: ["h2c://BACKEND"]}}
routes:
  - {name: version, match: {path: /version}, respond: {status: 200, body: "VERSION"}}
  - {name: health, match: {path: "/grpc.health.v1.Health/{method}"}, service: health}
`

// TestSecondClient: gRPC's own client of xDS, written by others for other control planes, takes the
// routes, clusters and endpoints of our ADS, calls by them, and follows a change. An Envoy has the same
// ones meanwhile.
func TestSecondClient(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t), newBackend(t)
	version := func(backend, n string) string {
		return strings.NewReplacer("BACKEND", backend, "VERSION", n).Replace(overGRPC)
	}
	w := start(t, version(one, "1"), envoytest.Options{})
	front := serve(t, func(s *grpc.Server) {
		discovery.RegisterAggregatedDiscoveryServiceServer(s, &apiListeners{control: w.control})
	})
	bootstrap := fmt.Sprintf(`{"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "insecure"}],
		"server_features": ["xds_v3"]}], "node": {"id": "grpc-1"}}`, front)
	builder, err := xds.NewXDSResolverWithConfigForTesting([]byte(bootstrap))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///sluice.http", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := health.NewHealthClient(conn)
	call := func() (from string, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		var p peer.Peer
		_, err = client.Check(ctx, &health.HealthCheckRequest{}, grpc.WaitForReady(true), grpc.Peer(&p))
		if err != nil {
			return "", err
		}
		return p.Addr.String(), nil
	}
	for range 3 {
		if from, err := call(); err != nil || from != one {
			t.Fatalf("the call went to %q, %v; want %s", from, err, one)
		}
	}
	w.change(version(two, "2"))
	await(t, "calls to go to the second backend", func() bool {
		from, err := call()
		if err != nil {
			t.Fatalf("a call while the endpoints change: %v", err)
		}
		return from == two
	})
	await(t, "the same version in Envoy", func() bool { return w.get("/version").body == "2" })
	if s := w.status(); len(s.Nodes) != 2 || len(s.Nacks) != 0 {
		t.Errorf("%d nodes, refusals %+v; want 2 and none", len(s.Nodes), s.Nacks)
	}
}

// backend is a service of gRPC.
type backend struct {
	health.UnimplementedHealthServer
}

func (backend) Check(context.Context, *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
}

func newBackend(t *testing.T) (address string) {
	return serve(t, func(s *grpc.Server) { health.RegisterHealthServer(s, backend{}) })
}

func serve(t *testing.T, register func(*grpc.Server)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends with Stop
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// apiListeners passes streams on to our ADS. gRPC's client begins at a listener that has no address, and
// Envoys take none of that kind, so ours has the form of theirs; the filters are theirs alone.
type apiListeners struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	control string
}

func (a *apiListeners) StreamAggregatedResources(
	down discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer,
) error {
	conn, err := grpc.NewClient(a.control, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	up, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(down.Context())
	if err != nil {
		return err
	}
	go func() {
		for {
			q, err := down.Recv()
			if err != nil || up.Send(q) != nil {
				_ = up.CloseSend() // the other direction tells
				return
			}
		}
	}()
	for {
		r, err := up.Recv()
		if err != nil {
			return err
		}
		for i, packed := range r.Resources {
			if l := new(listenerv3.Listener); packed.MessageIs(l) {
				if r.Resources[i], err = apiListener(packed); err != nil {
					return err
				}
			}
		}
		if err := down.Send(r); err != nil {
			return err
		}
	}
}

func apiListener(packed *anypb.Any) (*anypb.Any, error) {
	l, m := new(listenerv3.Listener), new(hcmv3.HttpConnectionManager)
	if err := packed.UnmarshalTo(l); err != nil {
		return nil, err
	}
	for _, f := range l.FilterChains[0].Filters {
		if f.GetTypedConfig().MessageIs(m) {
			if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
				return nil, err
			}
		}
	}
	router, err := anypb.New(&routerv3.Router{})
	if err != nil {
		return nil, err
	}
	api, err := anypb.New(&hcmv3.HttpConnectionManager{
		RouteSpecifier: m.RouteSpecifier,
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
	})
	if err != nil {
		return nil, err
	}
	return anypb.New(&listenerv3.Listener{Name: l.Name, ApiListener: &listenerv3.ApiListener{ApiListener: api}})
}
