package adsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-gateway/sluice/bench/kit/adstest"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/nativedialect"
)

const (
	one = "127.0.0.1:1"
	two = "127.0.0.1:2"
)

// start starts a client of these servers.
func start(t testing.TB, n *adstest.Network, servers ...string) *Client {
	t.Helper()
	c := New(Options{
		Servers: servers, Node: "edge-1", Build: "v1", Dial: n.Dial,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		TLS:    func() (*tls.Config, error) { return nil, nil },
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { c.Run(ctx); close(ended) }()
	t.Cleanup(func() { stop(); <-ended })
	return c
}

func TestUpdatesAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, one)
		c := start(t, n, one)
		str := <-p.Streams
		first := p.Request(t)
		if node := first.GetNode(); node.GetId() != "edge-1" || node.GetUserAgentName() != "sluice" ||
			node.GetUserAgentVersion() != "v1" || first.GetTypeUrl() != nativedialect.ExtensionType ||
			!reflect.DeepEqual(first.GetResourceNamesSubscribe(), []string{"sluice"}) {
			t.Fatalf("first request %v", first)
		}
		str.Send(adstest.Configuration(t, "n1", "v1", `{"a":1}`))
		u := adstest.Receive(t, c.Updates(), "update")
		if c := u.Configuration; string(c.Document) != `{"a":1}` || c.Version != config.DocumentHash(c.Document) {
			t.Errorf("configuration %s of version %s", c.Document, c.Version)
		}
		u.Ack()
		if r := p.Request(t); r.GetResponseNonce() != "n1" || r.GetErrorDetail() != nil {
			t.Errorf("answer %v, want an ACK of n1", r)
		}
		str.Send(adstest.Configuration(t, "n2", "v2", `{"a":2}`))
		adstest.Receive(t, c.Updates(), "update").Nack(errors.New("a is 1"))
		if r := p.Request(t); r.GetResponseNonce() != "n2" || r.GetErrorDetail().GetMessage() != "a is 1" {
			t.Errorf("answer %v, want a NACK of n2 with the reason", r)
		}
		s := c.State()
		if s.Acks != 1 || s.Nacks != 1 || s.LastNack.Reason != "a is 1" || s.LastNack.Server != one || s.Server != one {
			t.Errorf("state %+v, last NACK %+v", s, s.LastNack)
		}
	})
}

// What was acknowledged is what the next stream begins with; what was refused is not.
func TestReconnectTellsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, one)
		c := start(t, n, one)
		str := <-p.Streams
		p.Request(t)
		str.Send(adstest.Configuration(t, "n1", "v1", `{"a":1}`))
		adstest.Receive(t, c.Updates(), "update").Ack()
		p.Request(t)
		c.Subscribe([]string{"stock", "order"})
		if r := p.Request(t); r.GetTypeUrl() != nativedialect.EndpointType ||
			!reflect.DeepEqual(r.GetResourceNamesSubscribe(), []string{"order", "stock"}) || r.GetNode() != nil {
			t.Errorf("subscription %v", r)
		}
		str.Send(adstest.Endpoints(t, "e1", "ev1", "order", config.Endpoint{Network: "tcp", Address: "10.0.0.1:80"}))
		u := adstest.Receive(t, c.Updates(), "endpoints")
		if len(u.Endpoints) != 1 || u.Endpoints[0].Service != "order" || len(u.Endpoints[0].Endpoints) != 1 {
			t.Errorf("endpoints %+v", u.Endpoints)
		}
		u.Ack()
		p.Request(t)
		str.Send(adstest.Configuration(t, "n2", "v2", `{"a":2}`))
		adstest.Receive(t, c.Updates(), "update").Nack(errors.New("no"))
		p.Request(t)
		c.Subscribe([]string{"order"})
		if r := p.Request(t); !reflect.DeepEqual(r.GetResourceNamesUnsubscribe(), []string{"stock"}) ||
			len(r.GetResourceNamesSubscribe()) > 0 {
			t.Errorf("subscription %v, want stock out of it", r)
		}

		str.Send(adstest.Endpoints(t, "late", "ev2", "stock")) // was under way when it was taken out
		if r := p.Request(t); r.GetResponseNonce() != "late" || r.GetErrorDetail() != nil {
			t.Errorf("answer %v to what is not asked for any more, want an ACK", r)
		}

		p.Server.Stop()
		again := n.Serve(t, one)
		str = <-again.Streams
		configuration := map[string]string{"sluice": "v1"}
		if r := again.Request(t); !reflect.DeepEqual(r.GetInitialResourceVersions(), configuration) {
			t.Errorf("first request %v, want v1", r)
		}
		endpoints := map[string]string{"order": "ev1"}
		if r := again.Request(t); !reflect.DeepEqual(r.GetInitialResourceVersions(), endpoints) ||
			!reflect.DeepEqual(r.GetResourceNamesSubscribe(), []string{"order"}) {
			t.Errorf("subscription %v, want order at ev1", r)
		}
		c.Subscribe(nil)
		if r := again.Request(t); !reflect.DeepEqual(r.GetResourceNamesUnsubscribe(), []string{"order"}) {
			t.Errorf("subscription %v, want order out of it", r)
		}
		_ = str
	})
}

// Whatever comes, it is answered, and the stream goes on.
func TestGarbageIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, one)
		c := start(t, n, one)
		str := <-p.Streams
		p.Request(t)
		node := &core.Node{Id: strings.Repeat("x", 9000)}
		foreign := adstest.Configuration(t, "foreign", "v", `{}`)
		foreign.TypeUrl = nativedialect.EndpointType
		half := adstest.Configuration(t, "half", "v", `{}`)
		more := adstest.Response(t, nativedialect.ExtensionType, "", "v", "x", node)
		half.Resources = append(half.Resources, more.Resources...)
		for _, r := range []*discovery.DeltaDiscoveryResponse{
			adstest.Response(t, "type.googleapis.com/envoy.config.cluster.v3.Cluster", "type", "v", "x", node),
			adstest.Response(t, nativedialect.ExtensionType, "any", "v", "sluice", node), foreign,
			{TypeUrl: nativedialect.ExtensionType, Nonce: "empty", Resources: []*discovery.Resource{{}}},
			adstest.Endpoints(t, "unasked", "v", "stock"),
			adstest.Response(t, strings.Repeat("\xf0\x9f\x98\x80", 3000), "long", "v", "x", node),
		} {
			str.Send(r)
			a := p.Request(t)
			reason := a.GetErrorDetail().GetMessage()
			if a.GetResponseNonce() != r.Nonce || reason == "" || len(reason) > 4100 {
				t.Errorf("%s: answer %.300v, want a NACK", r.Nonce, a)
			}
		}
		str.Send(half)
		u := adstest.Receive(t, c.Updates(), "what is sound")
		u.Ack()
		if a := p.Request(t); a.GetErrorDetail() == nil {
			t.Error("what came beside a configuration and is not sound was acknowledged")
		}
		for _, r := range []*discovery.DeltaDiscoveryResponse{
			{TypeUrl: nativedialect.ExtensionType, Nonce: "nothing"},
			{TypeUrl: nativedialect.ExtensionType, Nonce: "removed", RemovedResources: []string{"sluice"}},
		} {
			str.Send(r)
			if a := p.Request(t); a.GetResponseNonce() != r.Nonce || a.GetErrorDetail() != nil {
				t.Errorf("%s: answer %v, want an ACK", r.Nonce, a)
			}
		}
		if c.State().Server != one {
			t.Errorf("state %+v, want connected", c.State())
		}
	})
}

func TestTooMuchIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, one, grpc.MaxSendMsgSize(1<<30))
		c := start(t, n, one)
		str := <-p.Streams
		str.Send(adstest.Configuration(t, "n", "v", `{"a":"`+strings.Repeat("x", messageBytesMax)+`"}`))
		str = <-p.Streams // the client has come again
		if fault := c.State().Fault; !strings.Contains(fault, "larger than max") {
			t.Errorf("fault %q, want the size", fault)
		}
		str.Send(adstest.Configuration(t, "n", "v", `{}`))
		adstest.Receive(t, c.Updates(), "update").Ack()
	})
}

func TestNextControlPlaneIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		second := n.Serve(t, two)
		c := start(t, n, one, two)
		str := <-second.Streams
		str.Send(adstest.Configuration(t, "n", "v", `{}`))
		adstest.Receive(t, c.Updates(), "update").Ack()
		synctest.Wait()
		if s := c.State(); s.Server != two || s.Fault != "" {
			t.Errorf("state %+v, want connected to the second", s)
		}
		time.Sleep(time.Minute)
		first := n.Serve(t, one) // which is not gone back to
		time.Sleep(time.Hour)
		if s := c.State(); s.Server != two || s.Connects != 1 {
			t.Errorf("state %+v, want connected to the second all the time", s)
		}
		second.Server.Stop()
		<-first.Streams
		if r := first.Request(t); r.GetInitialResourceVersions()["sluice"] != "v" {
			t.Errorf("first request %v, want what is there", r)
		}
	})
}

// A server with gRPC's defaults takes a ping in five minutes. It complains once.
func TestServerThatWantsFewPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, one, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{}))
		c := start(t, n, one)
		str := <-p.Streams
		str.Send(adstest.Configuration(t, "n", "v", `{}`))
		adstest.Receive(t, c.Updates(), "update").Ack()
		time.Sleep(3 * time.Hour)
		if s := c.State(); s.Connects != 2 || s.Server != one {
			t.Errorf("state %+v, want one further connection", s)
		}
	})
}

func TestSilentControlPlaneIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		n.Serve(t, one)
		other := n.Serve(t, two)
		c := start(t, n, one, two)
		began := time.Now()
		str := <-other.Streams
		if took := time.Since(began); took < firstResponseMax || took > firstResponseMax+time.Second {
			t.Errorf("left after %s, want %s", took, firstResponseMax)
		}
		str.Send(adstest.Configuration(t, "n", "v", `{}`))
		adstest.Receive(t, c.Updates(), "update").Ack()
		time.Sleep(time.Hour)
		if s := c.State(); s.Server != two {
			t.Errorf("state %+v: one that is silent then has nothing to say", s)
		}
	})
}

// The pauses grow to 30 s and no further, and a control plane that comes back is found.
func TestPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		c := start(t, n, one, two)
		<-c.Failed()
		time.Sleep(time.Hour)
		dials := len(n.Dials())
		if dials < 2*3600/30 || dials > 2*3600/15+40 {
			t.Errorf("%d attempts in an hour, want those of pauses of 15 to 30 s", dials)
		}
		p := n.Serve(t, one)
		began := time.Now()
		<-p.Streams
		if took := time.Since(began); took > pauseMax+time.Second {
			t.Errorf("found after %s", took)
		}
	})
}

func TestHungServerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		l := n.Listen(one) // nobody speaks on its connections
		p := n.Serve(t, two)
		start(t, n, one, two)
		<-p.Streams
		l.Close()
	})
}

func TestAnswersThatAreNotReadEndTheStream(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	s := &session{end: end, wake: make(chan struct{}, 1)}
	for range answersMax {
		s.send(&discovery.DeltaDiscoveryRequest{})
	}
	if ctx.Err() != nil {
		t.Errorf("ended with %v", context.Cause(ctx))
	}
	s.send(&discovery.DeltaDiscoveryRequest{})
	if !errors.Is(context.Cause(ctx), errUnread) {
		t.Errorf("cause %v, want %v", context.Cause(ctx), errUnread)
	}
}

func TestPlainConnectionsAreLocal(t *testing.T) {
	for _, address := range []string{"192.0.2.1:1", "[2001:db8::1]:1", "no-such-name.invalid:1", "0.0.0.0:1"} {
		n := adstest.NewNetwork()
		dial := local(n.Dial)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := dial(ctx, address); err == nil || len(n.Dials()) > 0 {
			t.Errorf("%s: error %v, dials %v", address, err, n.Dials())
		}
		cancel()
	}
	n := adstest.NewNetwork()
	if _, err := local(n.Dial)(t.Context(), "192.0.2.1:1"); !errors.Is(err, errNotLocal) {
		t.Errorf("error %v, want %v", err, errNotLocal)
	}
}

// Without certificates that can be read nothing is connected to.
func TestTransportFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		c := New(Options{
			Servers: []string{one}, Node: "a", Dial: n.Dial, Logger: slog.New(slog.DiscardHandler),
			TLS: func() (*tls.Config, error) { return nil, errors.New("no key") },
		})
		ctx, stop := context.WithCancel(t.Context())
		go c.Run(ctx)
		<-c.Failed()
		if s := c.State(); !strings.Contains(s.Fault, "no key") || len(n.Dials()) > 0 {
			t.Errorf("fault %q, %d dials", s.Fault, len(n.Dials()))
		}
		stop()
	})
}

func TestRenewBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, one)
		c := start(t, n, one)
		<-p.Streams
		c.Renew()
		<-p.Streams
		c.Renew()
		<-p.Streams
	})
}

func TestRequestsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := adstest.NewNetwork()
		p := n.Serve(t, one)
		c := start(t, n, one)
		sums := [][2]uint64{{10, 1}, {10, 1}, {30, 4}}
		at := 0
		c.Report(func() (uint64, uint64) {
			s := sums[min(at, len(sums)-1)]
			at++
			return s[0], s[1]
		})
		r := adstest.Receive(t, p.Loads, "first report")
		if r.GetNode().GetId() != "edge-1" || len(r.GetClusterStats()) > 0 {
			t.Errorf("first report %v", r)
		}
		(<-p.Streams).Send(adstest.Configuration(t, "n", "v", `{}`))
		adstest.Receive(t, c.Updates(), "update").Ack()
		for _, want := range [][2]uint64{{9, 1}, {17, 3}} {
			r := adstest.Receive(t, p.Loads, "report")
			stats := r.GetClusterStats()[0].GetUpstreamLocalityStats()[0]
			if got := [2]uint64{stats.GetTotalSuccessfulRequests(), stats.GetTotalErrorRequests()}; got != want {
				t.Errorf("succeeded and failed %v, want %v", got, want)
			}
		}
	})
}

func TestReasonIsCut(t *testing.T) {
	long := strings.Repeat("é", 5000)
	got := clip(long, reasonMax)
	if len(got) > reasonMax+len("…") || strings.ContainsRune(got, '\uFFFD') || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-8:])
	}
	if got := clip("a\xffb", 10); got != "a\uFFFDb" {
		t.Errorf("%q", got)
	}
}
