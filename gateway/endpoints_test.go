package gateway

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
)

// discovering is a source whose service has endpoints that are found.
type discovering struct {
	first     *config.Config
	endpoints map[string][]config.Endpoint
	sink      chan source.Sink
}

func (d *discovering) First(context.Context) (*config.Config, error) { return d.first, nil }

func (d *discovering) Discovered() map[string][]config.Endpoint { return d.endpoints }

func (d *discovering) Watch(ctx context.Context, sink source.Sink) error {
	d.sink <- sink
	<-ctx.Done()
	return nil
}

// withoutEndpoints returns the configuration of a text, the endpoints of service a left out.
func withoutEndpoints(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("sluice.yaml", []byte(text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Services["a"].Endpoints = nil
	return cfg
}

const discoveredText = head + `
services: {a: {endpoints: ["http://127.0.0.1:1"], breaker: {}, retries: {attempts: 0}}}
routes: [{name: a, match: {path: /a}, service: a}]
`

// countedService is a service that counts its connections.
type countedService struct {
	*httptest.Server
	connections, requests atomic.Int64
	endpoint              config.Endpoint
}

func newCountedService(t *testing.T) *countedService {
	t.Helper()
	c := &countedService{}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c.requests.Add(1)
	}))
	c.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			c.connections.Add(1)
		}
	}
	c.Start()
	t.Cleanup(c.Close)
	address := strings.TrimPrefix(c.URL, "http://")
	c.endpoint = config.Endpoint{Network: "tcp", Address: address, Host: address}
	return c
}

// startDiscovering starts a gateway with what a source finds at first.
func startDiscovering(t *testing.T, found ...config.Endpoint) (*running, source.Sink) {
	t.Helper()
	d := &discovering{first: withoutEndpoints(t, discoveredText), sink: make(chan source.Sink, 1)}
	if found != nil {
		d.endpoints = map[string][]config.Endpoint{"a": found}
	}
	g := startOptions(t, discoveredText, Options{Source: d})
	return g, <-d.sink
}

func TestEndpointsThatStayKeepTheirConnections(t *testing.T) {
	t.Parallel()
	stays, other := newCountedService(t), newCountedService(t)
	g, sink := startDiscovering(t, stays.endpoint)
	for i, set := range [][]config.Endpoint{
		{stays.endpoint}, {other.endpoint, stays.endpoint}, {stays.endpoint},
	} {
		sink.SetEndpoints("a", set)
		if err := sink.Apply(withoutEndpoints(t, discoveredText)); err != nil { // which leaves them as they are
			t.Fatal(err)
		}
		if got := g.do("GET", "/a", ""); got.status != 200 {
			t.Fatalf("step %d: status %d, reason %s", i, got.status, got.reason())
		}
	}
	if n := stays.connections.Load(); n != 1 {
		t.Errorf("%d connections to the endpoint that stays, want 1", n)
	}
}

func TestEndpointsMayComeBeforeAndAfterTheirService(t *testing.T) {
	t.Parallel()
	service := newCountedService(t)
	g, sink := startDiscovering(t)
	if got := g.do("GET", "/a", ""); got.status != 502 || got.reason() != "upstream-unreachable" {
		t.Errorf("without endpoints: status %d, reason %s", got.status, got.reason())
	}
	sink.SetEndpoints("a", []config.Endpoint{service.endpoint})
	if got := g.do("GET", "/a", ""); got.status != 200 {
		t.Errorf("with endpoints: status %d, reason %s", got.status, got.reason())
	}
	sink.SetEndpoints("b", []config.Endpoint{service.endpoint}) // of no service that there is
	renamed := withoutEndpoints(t, discoveredText)
	renamed.Services["b"], renamed.Routes[0].Service.Name = renamed.Services["a"], "b"
	delete(renamed.Services, "a")
	if err := sink.Apply(renamed); err != nil {
		t.Fatal(err)
	}
	if got := g.do("GET", "/a", ""); got.status != 200 {
		t.Errorf("endpoints before the service: status %d, reason %s", got.status, got.reason())
	}
	if err := sink.Apply(withoutEndpoints(t, discoveredText)); err != nil {
		t.Fatal(err)
	}
	if got := g.do("GET", "/a", ""); got.status != 502 {
		t.Errorf("the endpoints of a service that was gone are in use: status %d", got.status)
	}
}

func TestEndpointsThatAreWrittenStay(t *testing.T) {
	t.Parallel()
	service := newCountedService(t)
	g, sink := startDiscovering(t)
	written := withoutEndpoints(t, discoveredText)
	written.Services["a"].Endpoints = []string{service.URL}
	if err := sink.Apply(written); err != nil {
		t.Fatal(err)
	}
	sink.SetEndpoints("a", nil)
	if got := g.do("GET", "/a", ""); got.status != 200 {
		t.Errorf("status %d, reason %s", got.status, got.reason())
	}
}

// Endpoints come and go under requests and reloads, and none fails.
func TestEndpointsChangeUnderRequests(t *testing.T) {
	t.Parallel()
	one, two := newCountedService(t), newCountedService(t)
	g, sink := startDiscovering(t, one.endpoint)
	ctx, stop := context.WithCancel(t.Context())
	var load, changes sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if got := g.do("GET", "/a", ""); got.status != 200 {
					t.Errorf("status %d, reason %s", got.status, got.reason())
					return
				}
			}
		})
	}
	until(t, func() bool { return one.requests.Load() > 0 })
	sets := [][]config.Endpoint{{one.endpoint}, {two.endpoint}, {one.endpoint, two.endpoint}}
	changes.Go(func() {
		for i := range 200 {
			sink.SetEndpoints("a", sets[i%3])
		}
	})
	changes.Go(func() {
		for range 50 {
			if err := sink.Apply(withoutEndpoints(t, discoveredText)); err != nil {
				t.Error(err)
			}
		}
	})
	changes.Wait()
	until(t, func() bool { return two.requests.Load() > 0 }) // which the last change leads to
	stop()
	load.Wait()
}
