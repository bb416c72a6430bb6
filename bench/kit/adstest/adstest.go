// Package adstest is a control plane that does what a test says, on a network in memory: it works under a fake clock
// ([testing/synctest]).
package adstest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	load "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/nativedialect"
)

// Network is one in memory: listeners by their addresses.
type Network struct {
	mu     sync.Mutex
	listen map[string]*pipes
	dials  []string // the addresses, in order
}

// NewNetwork returns one without a listener.
func NewNetwork() *Network { return &Network{listen: map[string]*pipes{}} }

// Dial connects to a listener.
func (n *Network) Dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, address)
	p := n.listen[address]
	n.mu.Unlock()
	if p == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	select {
	case p.accept <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipes is a listener in memory.
type pipes struct {
	network *Network
	address string
	accept  chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// Accept implements [net.Listener].
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (p *pipes) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.network.mu.Lock()
		delete(p.network.listen, p.address)
		p.network.mu.Unlock()
	})
	return nil
}

// Addr implements [net.Listener].
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// Listen listens at an address.
func (n *Network) Listen(address string) net.Listener {
	l := &pipes{network: n, address: address, accept: make(chan net.Conn, 1), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listen[address] = l
	return l
}

// Dials returns the addresses that were dialled, in order.
func (n *Network) Dials() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dials)
}

// Stream is one stream, as the control plane has it.
type Stream = grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]

// Plane is a control plane that does what a test says.
type Plane struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	Server   *grpc.Server
	Loads    chan *load.LoadStatsRequest
	Requests chan *discovery.DeltaDiscoveryRequest
	Streams  chan Stream
}

// Serve starts a control plane at an address of the network.
func (n *Network) Serve(t testing.TB, address string, o ...grpc.ServerOption) *Plane {
	t.Helper()
	o = append([]grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second}),
	}, o...)
	p := &Plane{
		Server: grpc.NewServer(o...), Requests: make(chan *discovery.DeltaDiscoveryRequest, 100),
		Loads:   make(chan *load.LoadStatsRequest, 100),
		Streams: make(chan Stream, 10),
	}
	discovery.RegisterAggregatedDiscoveryServiceServer(p.Server, p)
	load.RegisterLoadReportingServiceServer(p.Server, loads{p})
	l := n.Listen(address)
	go func() { _ = p.Server.Serve(l) }() // ends with Stop
	t.Cleanup(p.Server.Stop)
	return p
}

// DeltaAggregatedResources implements ADS.
func (p *Plane) DeltaAggregatedResources(str Stream) error {
	select {
	case p.Streams <- str:
	default: // a test that looks at so many has no use for more
	}
	for {
		r, err := str.Recv()
		if err != nil {
			return err
		}
		select {
		case p.Requests <- r:
		default:
		}
	}
}

// Request returns the next request that came.
func (p *Plane) Request(t testing.TB) *discovery.DeltaDiscoveryRequest {
	t.Helper()
	return Receive(t, p.Requests, "request")
}

// Receive returns what comes next on a channel.
func Receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Minute): // of a fake clock
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

// Configuration returns a response with a document.
func Configuration(t testing.TB, nonce, version, document string) *discovery.DeltaDiscoveryResponse {
	t.Helper()
	resource, err := nativedialect.Resource([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return Response(t, nativedialect.ExtensionType, nonce, version, nativedialect.ResourceName, resource)
}

// Endpoints returns a response with the endpoints of a service.
func Endpoints(
	t testing.TB, nonce, version, service string, list ...config.Endpoint,
) *discovery.DeltaDiscoveryResponse {
	t.Helper()
	resource, err := nativedialect.Assignment(service, list)
	if err != nil {
		t.Fatal(err)
	}
	return Response(t, nativedialect.EndpointType, nonce, version, service, resource)
}

// Response returns a response with one resource.
func Response(t testing.TB, typeURL, nonce, version, name string, m proto.Message) *discovery.DeltaDiscoveryResponse {
	t.Helper()
	packed, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &discovery.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: nonce, Resources: []*discovery.Resource{
		{Name: name, Version: version, Resource: packed},
	}}
}

// loads takes what gateways report.
type loads struct{ *Plane }

// StreamLoadStats implements LRS; a report is asked for every five seconds.
func (l loads) StreamLoadStats(str grpc.BidiStreamingServer[load.LoadStatsRequest, load.LoadStatsResponse]) error {
	for first := true; ; first = false {
		r, err := str.Recv()
		if err != nil {
			return err
		}
		l.Loads <- r
		if !first {
			continue
		}
		err = str.Send(&load.LoadStatsResponse{
			SendAllClusters: true, LoadReportingInterval: durationpb.New(5 * time.Second),
		})
		if err != nil {
			return err
		}
	}
}
