package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	xdsserver "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/nativedialect"
	"github.com/sluice-gateway/sluice/control/source"
)

// controlPlane is go-control-plane's own server with one configuration for every node.
type controlPlane struct {
	t       *testing.T
	address string
	cache   cache.SnapshotCache
	answers chan *discovery.DeltaDiscoveryRequest // of configurations

	mu    sync.Mutex
	peers []string // the names of the certificates that streams came with
}

func newControlPlane(t *testing.T, address string, settings *tls.Config) *controlPlane {
	t.Helper()
	p := &controlPlane{t: t, answers: make(chan *discovery.DeltaDiscoveryRequest, 1000)}
	p.cache = cache.NewSnapshotCache(true, everyNode{}, nil)
	ctx, stop := context.WithCancel(t.Context())
	served := xdsserver.NewServer(ctx, p.cache, xdsserver.CallbackFuncs{
		DeltaStreamOpenFunc: p.opened,
		StreamDeltaRequestFunc: func(_ int64, r *discovery.DeltaDiscoveryRequest) error {
			if r.GetTypeUrl() == nativedialect.ExtensionType && r.GetResponseNonce() != "" {
				p.answers <- r
			}
			return nil
		},
	})
	var o []grpc.ServerOption
	if settings != nil {
		o = append(o, grpc.Creds(credentials.NewTLS(settings)))
	}
	s := grpc.NewServer(o...)
	discovery.RegisterAggregatedDiscoveryServiceServer(s, served)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	go s.Serve(l) // ends with Stop
	t.Cleanup(func() { stop(); s.Stop() })
	return p
}

// everyNode has all nodes given the same.
type everyNode struct{}

func (everyNode) ID(*core.Node) string { return "all" }

func (p *controlPlane) opened(ctx context.Context, _ int64, _ string) error {
	if from, ok := peer.FromContext(ctx); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok {
			p.mu.Lock()
			p.peers = append(p.peers, info.State.PeerCertificates[0].Subject.CommonName)
			p.mu.Unlock()
		}
	}
	return nil
}

// seen returns the certificates of the streams so far.
func (p *controlPlane) seen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.peers, " ")
}

// serve hands out a configuration, and the endpoints of services.
func (p *controlPlane) serve(text string, endpoints map[string][]config.Endpoint) {
	p.t.Helper()
	d, err := config.ParseDocument("document.yaml", []byte(text), "")
	if err != nil {
		p.t.Fatal(err)
	}
	resource, err := nativedialect.Resource(d.JSON())
	if err != nil {
		p.t.Fatal(err)
	}
	var assignments []types.Resource
	for service, list := range endpoints {
		a, err := nativedialect.Assignment(service, list)
		if err != nil {
			p.t.Fatal(err)
		}
		assignments = append(assignments, a)
	}
	snapshot, err := cache.NewSnapshot(fmt.Sprint(d.Hash(), time.Now().UnixNano()), map[string][]types.Resource{
		nativedialect.ExtensionType: {resource}, nativedialect.EndpointType: assignments,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cache.SetSnapshot(p.t.Context(), "all", snapshot); err != nil {
		p.t.Error(err)
	}
}

// answer returns the reason of the next answer; an ACK has none.
func (p *controlPlane) answer() string {
	p.t.Helper()
	select {
	case r := <-p.answers:
		return r.GetErrorDetail().GetMessage()
	case <-time.After(30 * time.Second):
		p.t.Fatal("no answer within 30 s")
		panic("unreachable")
	}
}

// member is a gateway of a fleet.
type member struct {
	*running
	control *source.Control
	admin   string
	ready   func() // waits until it has a configuration
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// joinFleet starts a gateway that has its configuration from control planes, without waiting for it.
func joinFleet(t *testing.T, dir, more string, planes ...string) *member {
	t.Helper()
	admin := freeAddress(t)
	path := filepath.Join(dir, "bootstrap.yaml")
	text := "listen: {http: 127.0.0.1:0}\nadmin: {address: \"" + admin + "\"}\nstore: {memory: {}}\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &member{admin: admin, running: &running{t: t, logs: &lockedBuffer{}}}
	logger := slog.New(slog.NewTextHandler(m.logs, nil))
	m.control = &source.Control{Servers: planes, Node: "edge-1", Bootstrap: path, Logger: logger}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Source: m.control, Logger: logger, OnReady: func(a Addresses) { ready <- a }})
	}()
	m.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := m.stop(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		if t.Failed() {
			t.Log(m.logs.String())
		}
	})
	m.ready = func() {
		t.Helper()
		select {
		case m.at = <-ready:
		case err := <-ended:
			t.Fatalf("the gateway did not come up: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("the gateway did not come up")
		}
	}
	return m
}

// A request sees one configuration in all its places, and none fails while two hundred come into force.
func TestReloadsUnderLoadAreWhole(t *testing.T) {
	t.Parallel()
	shops, found := map[string]*service{}, map[string][]config.Endpoint{}
	for _, name := range []string{"even", "odd"} {
		shops[name] = newService(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name) })
		address := strings.TrimPrefix(shops[name].URL, "http://")
		found[name] = []config.Endpoint{{Network: "tcp", Address: address, Host: address}}
	}
	parity := func(version int) string { return []string{"even", "odd"}[version%2] }
	text := func(version int) string { // which shop it is, and the limit that the response tells
		return fmt.Sprintf(`version: 1
services: {%[2]s: {endpointsFrom: {dns: {name: shop.internal, port: 80}}, breaker: {}}}
limits: {all: {scope: local, rate: %[1]d/s, burst: 100000}}
routes: [{name: a, match: {path: /a}, service: %[2]s, limits: [all]}]
`, version, parity(version))
	}
	p := newControlPlane(t, "127.0.0.1:0", nil)
	p.serve(text(100000), found)
	g := joinFleet(t, t.TempDir(), "", p.address)
	g.ready()
	if reason := p.answer(); reason != "" {
		t.Fatalf("the first configuration was refused: %s", reason)
	}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				got := g.do("GET", "/a", "")
				if want := parity(limitOf(t, got)); got.status != 200 || got.body != want {
					t.Errorf("status %d, reason %s: the shop is %s, the limit's is %s", got.status, got.reason(),
						got.body, want)
					return
				}
			}
		})
	}
	for i := range 200 {
		p.serve(text(100001+i), found)
		if reason := p.answer(); reason != "" {
			t.Fatalf("refused: %s", reason)
		}
	}
	stop()
	load.Wait()
	if got := g.do("GET", "/a", ""); limitOf(t, got) != 100200 {
		t.Errorf("the limit is %d, want 100200", limitOf(t, got))
	}
	if shops["even"].count() < 50 || shops["odd"].count() < 50 {
		t.Errorf("%d and %d requests during the changes", shops["even"].count(), shops["odd"].count())
	}
}

// limitOf returns the rate that a response tells.
func limitOf(t *testing.T, a got) (rate int) {
	t.Helper()
	if _, err := fmt.Sscanf(a.header.Get("RateLimit-Policy"), `"all";q=%d;`, &rate); err != nil {
		t.Errorf("RateLimit-Policy %q: %v", a.header.Get("RateLimit-Policy"), err)
	}
	return rate
}

func TestChangeThatTakesARestartIsRefused(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t, "127.0.0.1:0", nil)
	route := "version: 1\nroutes: [{name: a, match: {path: /a}, respond: {status: %d}}]\n"
	p.serve(fmt.Sprintf(route, 201), nil)
	g := joinFleet(t, t.TempDir(), "", p.address)
	g.ready()
	p.answer()
	p.serve(fmt.Sprintf(route, 202)+"coordinator: {dtm: {branches: 127.0.0.1:0}}\n", nil)
	if reason := p.answer(); !strings.Contains(reason, "coordinator") || !strings.Contains(reason, "restart") {
		t.Errorf("reason %q, want that the coordinator takes a restart", reason)
	}
	if got := g.do("GET", "/a", ""); got.status != 201 {
		t.Errorf("status %d, want that of the old configuration, 201", got.status)
	}
	status := fetch(t, "http://"+g.admin+"/api/status", "GET", "").body
	for _, want := range []string{`"connected": "` + p.address, `"origin": "control-plane"`, `"last_nack"`, "restart"} {
		if !strings.Contains(status, want) {
			t.Errorf("status lacks %s: %s", want, status)
		}
	}
	for name, want := range map[string]float64{
		`sluice_control_connected{control="` + p.address + `"}`: 1, "sluice_control_nacks_total": 1,
		"sluice_control_versions_total": 1, "sluice_control_last_contact_seconds": 0,
	} {
		if got := g.metric(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// Without any configuration the admin address says what is waited for, and nobody listens for clients.
func TestGatewayWithoutAConfigurationWaits(t *testing.T) {
	t.Parallel()
	plane := freeAddress(t)
	g := joinFleet(t, t.TempDir(), "", plane)
	admin := "http://" + g.admin
	until(t, func() bool {
		r, err := http.Get(admin + "/healthz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == 200
	})
	until(t, func() bool {
		got := fetch(t, admin+"/readyz", "GET", "")
		return got.status == 503 && strings.Contains(got.body, plane)
	})
	if got := fetch(t, admin+"/api/status", "GET", ""); !strings.Contains(got.body, `"origin": "none"`) {
		t.Errorf("status %s", got.body)
	}
	// The first configuration that comes cannot be put in force: it is refused, and the next one is.
	p := newControlPlane(t, plane, nil)
	route := "version: 1\nroutes: [{name: a, match: {path: /a}, respond: {status: 201}}]\n"
	broken := filepath.Join(t.TempDir(), "broken.crt")
	if err := os.WriteFile(broken, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.serve(route+`services: {s: {endpoints: ["https://127.0.0.1:1"], tls: {ca: `+broken+"}}}\n", nil)
	if reason := p.answer(); !strings.Contains(reason, "services.s.tls") {
		t.Errorf("reason %q, want the broken file", reason)
	}
	until(t, func() bool { // the admin address is away while the configuration is tried
		r, err := http.Get(admin + "/readyz")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		return err == nil && r.StatusCode == 503 && strings.Contains(string(body), "refused")
	})
	p.serve(route, nil)
	g.ready()
	if got := g.do("GET", "/a", ""); got.status != 201 {
		t.Errorf("status %d", got.status)
	}
}

// The control plane is asked for its certificate and shown the node's, as the file has it now.
func TestCertificatesOfTheFleet(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	pair := a.issue("plane", "plane")
	a.issue("node", "node-1")
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	p := newControlPlane(t, "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		NextProtos: []string{"h2"},
	})
	p.serve("version: 1\nroutes: [{name: a, match: {path: /a}, respond: {status: 201}}]\n", nil)
	g := joinFleet(t, t.TempDir(), controlOf(a), p.address)
	g.ready()
	p.answer()
	a.issue("node", "node-2")
	until(t, func() bool { return p.seen() == "node-1 node-2" })
	if got := g.do("GET", "/a", ""); got.status != 201 {
		t.Errorf("status %d", got.status)
	}
	other := newAuthority(t) // the control plane is somebody else's
	other.issue("node", "node-3")
	stranger := joinFleet(t, t.TempDir(), controlOf(other), p.address)
	until(t, func() bool {
		s := stranger.control.Status()
		return strings.Contains(s.Fault, "certificate") && s.Connected == ""
	})
}

// controlOf returns the section control of a bootstrap whose certificate an authority has issued.
func controlOf(a *authority) string {
	return fmt.Sprintf("control: {cert: %[1]s/node.crt, key: %[1]s/node.key, ca: %[1]s/ca.crt}\n", a.dir)
}
