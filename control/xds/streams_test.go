package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/bench/kit/xdsclient"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/nativedialect"
)

// TestSotWNackIsParked: the library alone sends a refused version again at once, tens of thousands of
// times a second.
func TestSotWNackIsParked(t *testing.T) {
	t.Parallel()
	first := parse(t, documentOf(control, 200))
	r := startDocument(t, first)
	c := r.gateway("edge-1", func(o *xdsclient.Options) {
		o.SotW = true
		o.Judge = func(r xdsclient.Response) error {
			if r.Version == first.Hash() {
				return nil
			}
			return errors.New("not here")
		}
	})
	awaitVersion(t, c, resource.ExtensionConfigType, first.Hash())
	r.awaitStable(first.Hash())
	bad := r.apply(documentOf(control, 201))
	r.await("the version taken back", func(s Status) bool { return s.Rollout.TakenBack != nil })
	// It returns: the stable version is sent again, and acknowledged.
	r.await("the node's return", func(s Status) bool {
		return s.Nodes[0].Sent == first.Hash() && s.Nodes[0].Protocol == "sotw"
	})
	again := r.apply(documentOf(control, 202))
	r.await("the next one taken back", func(s Status) bool {
		return s.Rollout.TakenBack != nil && s.Rollout.TakenBack.Version == again.Hash()
	})
	state, _ := c.State()
	if state.Refused != 2 || state.Responses > 5 {
		t.Errorf("%d responses, %d refused, want 5 at most and 2", state.Responses, state.Refused)
	}
	if state.Versions[resource.ExtensionConfigType] != first.Hash() {
		t.Errorf("it has %v; the bad one is %s", state.Versions, bad.Hash())
	}
}

// A node that refuses the only version that there is, is not sent it again either.
func TestSotWNackOfTheFirstVersion(t *testing.T) {
	t.Parallel()
	r := start(t, documentOf(control, 200))
	c := r.gateway("edge-1", func(o *xdsclient.Options) {
		o.SotW, o.Judge = true, func(xdsclient.Response) error { return errors.New("no") }
	})
	r.await("the NACK", func(s Status) bool { return len(s.Nacks) == 1 })
	other := r.gateway("edge-2") // by its first request all that came before has been dealt with
	r.await("the other", func(s Status) bool { return len(s.Nodes) == 2 })
	awaitVersion(t, other, resource.ExtensionConfigType, r.plane.Status().Configuration.Version)
	if state, _ := c.State(); state.Responses != 1 || state.Err != nil {
		t.Errorf("%d responses, want 1; %v", state.Responses, state.Err)
	}
}

// TestReconnectResendsNothing: a node that comes back with what it has is sent nothing, by this
// control plane or by another one with the same file.
func TestReconnectResendsNothing(t *testing.T) {
	t.Parallel()
	d := parse(t, documentOf(control, 200))
	r := startDocument(t, d)
	c := r.gateway("edge-1")
	awaitVersion(t, c, resource.ExtensionConfigType, d.Hash())
	s, _ := c.State()
	has := s.Resources[resource.ExtensionConfigType][nativedialect.ResourceName].GetVersion()
	c.Close()
	for _, at := range []*running{r, startDocument(t, parse(t, documentOf(control, 200)))} {
		c := at.gateway("edge-1", func(o *xdsclient.Options) {
			o.Holds = map[string]map[string]string{
				resource.ExtensionConfigType: {nativedialect.ResourceName: has},
			}
		})
		at.await("the node's version", func(s Status) bool {
			return len(s.Nodes) == 1 && s.Nodes[0].Version == d.Hash() && s.Rollout.Stable == d.Hash()
		})
		if s, _ := c.State(); s.Responses != 0 {
			t.Errorf("%d responses, want none", s.Responses)
		}
		next := at.apply(documentOf(control, 201))
		awaitVersion(t, c, resource.ExtensionConfigType, next.Hash())
	}
}

// TestRestartKeepsWhatNodesHave: a control plane that starts with a bad file does not know the good
// one; the nodes keep it.
func TestRestartKeepsWhatNodesHave(t *testing.T) {
	t.Parallel()
	r := start(t, documentOf(control, 204))
	hold := func(o *xdsclient.Options) {
		o.Holds = map[string]map[string]string{resource.ExtensionConfigType: {nativedialect.ResourceName: "earlier"}}
		o.Judge = func(xdsclient.Response) error { return errors.New("no") }
	}
	one, two := r.gateway("edge-1", hold), r.gateway("edge-2", hold)
	s := r.await("the file taken back", func(s Status) bool { return s.Rollout.TakenBack != nil && len(s.Nodes) == 2 })
	if s.Rollout.Stable != "" {
		t.Errorf("stable %q", s.Rollout.Stable)
	}
	a, _ := one.State()
	b, _ := two.State()
	if a.Responses+b.Responses != 1 {
		t.Errorf("it reached %d nodes, want 1", a.Responses+b.Responses)
	}
	good := r.apply(documentOf(control, 200))
	fresh := r.gateway("edge-3")
	awaitVersion(t, fresh, resource.ExtensionConfigType, good.Hash())
}

type rawStream = discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// raw opens a stream by hand.
func (r *running) raw(ctx context.Context) rawStream {
	r.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(64<<10),
		grpc.WithInitialConnWindowSize(64<<10), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MessageBytesMax)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func ask(node *core.Node, typeURL string, names ...string) *discovery.DeltaDiscoveryRequest {
	return &discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: typeURL, ResourceNamesSubscribe: names}
}

// foundShop is a shop whose service's endpoints are found.
func foundShop(status int) string {
	return strings.Replace(shopOf(control, status), `endpoints: ["http://127.0.0.1:7001"]`,
		"endpointsFrom: {file: absent.yaml}", 1)
}

// TestSlowReadersHoldNobodyUp: clients that do not read, that never acknowledge and that say nothing
// at all; the others have each change, and the slow ones are cut off where they cost something.
func TestSlowReadersHoldNobodyUp(t *testing.T) {
	t.Parallel()
	var endpoints []config.Endpoint
	for i := range 4000 {
		endpoints = append(endpoints, config.Endpoint{
			Network: "tcp", Address: fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250), Host: strings.Repeat("h", 200),
		})
	}
	first := parse(t, foundShop(200))
	r := startDocument(t, first, func(c *controlPlane) {
		c.bounds.send, c.bounds.firstRequest = time.Second, time.Second
	})
	r.plane.SetEndpoints(sourceOf(first, "order"), endpoints)
	good := []*xdsclient.Client{r.gateway("good-1"), r.gateway("good-2"), r.gateway("good-3")}
	awaitAll(t, good, first.Hash())
	r.awaitStable(first.Hash())

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	silent := r.gateway("silent", func(o *xdsclient.Options) { o.Silent = true })
	mute := r.raw(ctx) // sends no request
	unread := r.raw(ctx)
	for _, req := range []*discovery.DeltaDiscoveryRequest{
		ask(nativeNode("unread"), resource.ExtensionConfigType, nativedialect.ResourceName),
		ask(nil, resource.EndpointType, "order"),
		ask(nil, resource.EndpointType, "order"), // waits for the next
	} {
		if err := unread.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	awaitVersion(t, silent, resource.ExtensionConfigType, first.Hash())
	for i := range 5 {
		next := r.apply(foundShop(201 + i))
		awaitAll(t, good, next.Hash())
	}
	if _, err := mute.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the stream without a request ended with %v", err)
	}
	// The first megabyte lies with the transport; the next one is not taken.
	r.plane.SetEndpoints(sourceOf(first, "order"), endpoints[1:])
	r.await("the unread stream's end", func(s Status) bool {
		return !slices.ContainsFunc(s.Nodes, func(n NodeStatus) bool { return n.ID == "unread" })
	})
	if s, _ := silent.State(); s.Err != nil {
		t.Errorf("the silent node's stream ended with %v", s.Err)
	}
}

// named returns names that are others for each number.
func named(i int, list []string) []string {
	out := make([]string, len(list))
	for j, name := range list {
		out[j] = fmt.Sprint(i, " ", name)
	}
	return out
}

// sendGarbage leaves connections open that are no HTTP/2 at all, or half of one.
func (r *running) sendGarbage() {
	r.t.Helper()
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n", "\x16\x03\x01"} {
		conn, err := net.Dial("tcp", r.address)
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, text); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestHostileStreams: what a client can do to a control plane ends its own stream.
func TestHostileStreams(t *testing.T) {
	t.Parallel()
	r := start(t, documentOf(control, 200))
	long := make([]string, 1000)
	for i := range long {
		long[i] = fmt.Sprintf("%d%s", i, strings.Repeat("x", 1000))
	}
	many := func(s rawStream) error {
		for i := range typesMax + 1 {
			if err := s.Send(ask(nativeNode("edge-1"), fmt.Sprintf("type.googleapis.com/t%d", i))); err != nil {
				return nil // the end is received
			}
		}
		return nil
	}
	for _, c := range []struct {
		what     string
		send     func(rawStream) error
		want     codes.Code
		contains string
	}{
		{"no type", func(s rawStream) error {
			return s.Send(ask(nativeNode("edge-1"), ""))
		}, codes.InvalidArgument, "type URL"},
		{"no node", func(s rawStream) error {
			return s.Send(ask(nil, resource.ExtensionConfigType))
		}, codes.InvalidArgument, "no node id"},
		{"another node later", func(s rawStream) error {
			if err := s.Send(ask(nativeNode("edge-1"), resource.ExtensionConfigType)); err != nil {
				return err
			}
			return s.Send(ask(nativeNode("edge-2"), resource.ExtensionConfigType))
		}, codes.InvalidArgument, `is that of node "edge-1"`},
		{"many types", many, codes.ResourceExhausted, "types of resources"},
		{"many names", func(s rawStream) error {
			for i := range 10 { // what it never had it gives up, which takes nothing off
				req := ask(nativeNode("edge-1"), resource.EndpointType, named(i, long)...)
				req.ResourceNamesUnsubscribe = named(-i-1, long)
				if err := s.Send(req); err != nil {
					return nil
				}
			}
			return nil
		}, codes.ResourceExhausted, "names subscribed to"},
		{"many versions", func(s rawStream) error {
			for i := range 10 {
				req := ask(nativeNode("edge-1"), fmt.Sprintf("type.googleapis.com/t%d", i))
				req.InitialResourceVersions = map[string]string{}
				for j, name := range long {
					req.InitialResourceVersions[fmt.Sprint(j)] = name
				}
				if err := s.Send(req); err != nil {
					return nil
				}
			}
			return nil
		}, codes.ResourceExhausted, "names subscribed to"},
		{"a request that is too long", func(s rawStream) error {
			_ = s.Send(ask(nativeNode("edge-1"), resource.EndpointType, strings.Repeat("x", requestMax+1)))
			return nil
		}, codes.ResourceExhausted, ""},
	} {
		s := r.raw(t.Context())
		if err := c.send(s); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		var err error
		for err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != c.want || !strings.Contains(err.Error(), c.contains) {
			t.Errorf("%s: %v, want %s with %q", c.what, err, c.want, c.contains)
		}
	}
	r.sendGarbage()
	c := r.gateway("edge-9")
	awaitVersion(t, c, resource.ExtensionConfigType, r.plane.Status().Configuration.Version)
	r.await("the hostile streams' end", func(s Status) bool { return len(s.Nodes) == 1 })
	if left := len(r.plane.caches[true].GetStatusKeys()); left != 1 {
		t.Errorf("the cache has %d entries, want that of the one stream", left)
	}
}

// TestStreamsLeaveNothingBehind: what a session had is cleared when it ends, however it does.
func TestStreamsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	r := start(t, documentOf(control, 200))
	for i := range 50 {
		c := r.gateway(fmt.Sprintf("edge-%d", i), func(o *xdsclient.Options) { o.SotW = i%2 == 0 })
		if i%3 > 0 {
			awaitVersion(t, c, resource.ExtensionConfigType, r.plane.Status().Configuration.Version)
		}
		c.Close()
	}
	r.await("no node", func(s Status) bool { return len(s.Nodes) == 0 })
	deadline := time.Now().Add(arrivalLimit)
	for {
		left := len(r.plane.caches[true].GetStatusKeys()) + len(r.plane.caches[false].GetStatusKeys())
		r.plane.mu.Lock()
		left += len(r.plane.byID) + len(r.plane.sessions)
		r.plane.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d entries are left", left)
		}
	}
}

// TestTwoStreamsOfOneNode: a node that reconnects before its first stream is known to be gone is
// served, and the end of the first takes nothing from the second.
func TestTwoStreamsOfOneNode(t *testing.T) {
	t.Parallel()
	d := parse(t, documentOf(control, 200))
	r := startDocument(t, d)
	one := r.gateway("edge-1")
	awaitVersion(t, one, resource.ExtensionConfigType, d.Hash())
	two := r.gateway("edge-1")
	awaitVersion(t, two, resource.ExtensionConfigType, d.Hash())
	one.Close()
	r.await("one stream", func(s Status) bool { return len(s.Nodes) == 1 })
	next := r.apply(documentOf(control, 201))
	awaitVersion(t, two, resource.ExtensionConfigType, next.Hash())
}

// TestDrain: streams end with a word that has clients go elsewhere, and Run returns.
func TestDrain(t *testing.T) {
	t.Parallel()
	d := parse(t, documentOf(control, 200))
	r := startDocument(t, d)
	c := r.gateway("edge-1")
	awaitVersion(t, c, resource.ExtensionConfigType, d.Hash())
	r.stop()
	if err := awaitError(t, c); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "draining") {
		t.Errorf("the stream ended with %v", err)
	}
	if r.plane.Unready() != "draining" {
		t.Error("it is ready while it ends")
	}
}
