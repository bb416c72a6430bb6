package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const envoyHead = head + `envoy: {listen: {address: "127.0.0.1:0"}}` + "\n"

// heldService is a service that holds each request until it is let go.
type heldService struct {
	*service
	arrived chan struct{}
	letGo   chan struct{}
}

func newHeldService(t *testing.T) *heldService {
	g := &heldService{arrived: make(chan struct{}, 2000), letGo: make(chan struct{})}
	g.service = newService(t, func(w http.ResponseWriter, r *http.Request) {
		g.arrived <- struct{}{}
		select {
		case <-g.letGo:
		case <-r.Context().Done():
		}
		w.WriteHeader(201)
		fmt.Fprint(w, "done")
	})
	return g
}

func (g *heldService) wait(t *testing.T) {
	t.Helper()
	select {
	case <-g.arrived:
	case <-time.After(waitLimit):
		t.Fatal("no request came to the service")
	}
}

// start carries a request in the background.
func (e *envoyRunning) start(ctx context.Context, path, body string, fields ...field) <-chan got {
	out := make(chan got, 1)
	go func() {
		r, err := e.proxy.exchange(ctx, post(path, body, fields...))
		if err != nil {
			r.body = err.Error()
		}
		out <- r
	}()
	return out
}

func post(path, body string, fields ...field) proxied {
	return proxied{body: []byte(body), fields: append([]field{{":method", "POST"}, {":scheme", "http"},
		{":authority", "a"}, {":path", path}}, fields...)}
}

func (e *envoyRunning) post(path, body string, fields ...field) got {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	return e.end(e.start(ctx, path, body, fields...))
}

func (e *envoyRunning) end(of <-chan got) got {
	e.t.Helper()
	select {
	case r := <-of:
		return r
	case <-time.After(waitLimit):
		e.t.Fatal("no response came")
		panic("unreachable")
	}
}

func key(k string) field { return field{"idempotency-key", k} }

// A duplicate of a request under way is refused, or waits for its response, as the route says.
func TestEnvoyDuplicates(t *testing.T) {
	t.Parallel()
	s := newHeldService(t)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 60s}}
routes:
  - {name: reject, match: {path: /reject}, service: a, idempotency: {whileInFlight: reject}}
  - {name: wait, match: {path: /wait}, service: a, idempotency: {whileInFlight: {wait: 60s}}}
`, s.URL)
	first := e.start(t.Context(), "/reject", "x", key("k"))
	s.wait(t)
	if r := e.post("/reject", "x", key("k")); r.status != 409 || r.reason() != "request-in-progress" {
		t.Errorf("the duplicate has %+v", r)
	}
	patient := e.start(t.Context(), "/wait", "x", key("k"))
	s.wait(t)
	second := e.start(t.Context(), "/wait", "x", key("k"))
	until(t, func() bool { return e.metric("sluice_idempotency_joins_total{route=\"wait\"}") == 1 })
	close(s.letGo)
	if r := e.end(first); r.status != 201 {
		t.Errorf("the first has %+v", r)
	}
	if a, b := e.end(patient), e.end(second); a.status != 201 || b.status != 201 || b.body != "done" ||
		b.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the patient ones have %+v and %+v", a, b)
	}
}

// A client that leaves: before anything was sent its key is free, behind that it is unknown.
func TestEnvoyClientLeaves(t *testing.T) {
	t.Parallel()
	s := newHeldService(t)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 60s, overload: {concurrency: 1, queue: {size: 10, wait: 60s}}}}
routes:
  - {name: all, match: {path: /**}, service: a, idempotency: {whileInFlight: reject}}
`, s.URL)
	ctx, leave := context.WithCancel(t.Context())
	sent := e.start(ctx, "/", "x", key("sent"))
	s.wait(t)
	ctx2, leave2 := context.WithCancel(t.Context())
	queued := e.start(ctx2, "/", "x", key("queued"))
	until(t, func() bool { return e.metric(`sluice_overload_queued{class="normal",service="a"}`) == 1 })
	leave2()
	e.end(queued)
	until(t, func() bool { return e.record("queued") == "" }) // free, as if it had never been sent
	leave()
	e.end(sent)
	until(t, func() bool { return e.record("sent") == "unknown" })
	if r := e.post("/", "x", key("sent")); r.reason() != "outcome-unknown" {
		t.Errorf("a duplicate of the one that was sent has %+v", r)
	}
	close(s.letGo) // the permit was given back twice: another one gets through
	if r := e.post("/", "x", key("queued")); r.status != 201 {
		t.Errorf("the one that was queued has %+v", r)
	}
}

// record returns the state of a record by the admin address, "" without one.
func (e *envoyRunning) record(k string) string {
	e.t.Helper()
	body := fetch(e.t, "http://"+e.at.Admin+"/api/idempotency?route=all&principal=ip:127.0.0.1&key="+k, "GET", "").body
	for _, state := range []string{"in-flight", "answered", "unknown"} {
		if strings.Contains(body, `"state": "`+state+`"`) {
			return state
		}
	}
	return ""
}

// The records are operated by the admin address as those of a gateway.
func TestEnvoyAdmin(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`, s.URL)
	e.post("/?status=500", "x", key("k"))
	if state := e.record("k"); state != "unknown" {
		t.Fatalf("the record is %q", state)
	}
	operate := func(what, document string) {
		t.Helper()
		r := fetch(t, "http://"+e.at.Admin+"/api/idempotency/"+what, "POST", document, "Content-Type",
			"application/json")
		if r.status != 200 {
			t.Fatalf("%s: %+v", what, r)
		}
	}
	const of = `{"route": "all", "principal": "ip:127.0.0.1", "key": "k"`
	operate("resolve", of+`, "as": "answered", "status": 204}`)
	if r := e.post("/?status=500", "x", key("k")); r.status != 204 {
		t.Errorf("the resolved one has %+v", r)
	}
	operate("forget", of+`}`)
	if e.post("/?status=500", "x", key("k")); s.count() != 2 {
		t.Errorf("the forgotten one was called %d times", s.count())
	}
	for path, want := range map[string]string{"/readyz": "ready", "/api/status": `"envoy": "` + e.at.Envoy,
		"/metrics": "sluice_requests_total"} {
		if r := fetch(t, "http://"+e.at.Admin+path, "GET", ""); !strings.Contains(r.body, want) {
			t.Errorf("%s lacks %s:\n%s", path, want, r.body)
		}
	}
}

// An Envoy whose configuration lacks something is found out, and what cannot be protected is refused.
func TestEnvoyConfiguredWrongly(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {notExecuted: [503]}}]
`, s.URL)
	t.Run("no attributes", func(t *testing.T) {
		e.proxy.bare = true
		defer func() { e.proxy.bare = false }()
		if r := e.post("/?status=200", "x", key("a")); r.status != 200 {
			t.Errorf("a response that can be its service's only has %+v", r)
		}
		if r := e.post("/?status=503", "x", key("b")); r.status != 502 || r.reason() != "upstream-failed" {
			t.Errorf("a response that may be Envoy's has %+v", r)
		}
		if state := e.record("b"); state != "unknown" { // though the service says that it did nothing
			t.Errorf("its record is %q", state)
		}
	})
	t.Run("no peer", func(t *testing.T) {
		defer func(p string) { e.proxy.peer = p }(e.proxy.peer)
		e.proxy.peer = "unix"
		if r := e.post("/", "x", key("c")); r.status != 400 || r.reason() != "bad-request" {
			t.Errorf("a request of nobody has %+v", r)
		}
	})
	t.Run("no overrides", func(t *testing.T) {
		e.proxy.deaf = true
		defer func() { e.proxy.deaf = false }()
		n := s.count()
		e.post("/", "x", key("d")) // this one gets past: nobody can know before
		if r := e.post("/", "x", key("e")); r.status != 500 || s.count() != n+1 {
			t.Errorf("behind it a request has %+v, with %d calls", r, s.count()-n)
		}
		if r := e.post("/", ""); r.status != 200 {
			t.Errorf("a request without a body has %+v", r)
		}
	})
	for _, want := range []string{"allow_mode_override", "response.code_details", "source.address"} {
		if !strings.Contains(e.logs.String(), want) {
			t.Errorf("the log does not say %s", want)
		}
	}
}

// The route that Envoy names counts, also where another one matches first; without a name the first that matches.
func TestEnvoyNamesTheRoute(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}
limits: {per-item: {scope: local, per: [path.item], rate: 1/h, burst: 1}}
routes:
  - {name: first, match: {path: /**}, service: a}
  - {name: second, match: {path: "/{item}"}, service: a, limits: [per-item]}
`, s.URL)
	for range 2 {
		if r := e.post("/x", ""); r.status != 200 {
			t.Errorf("got %+v", r)
		}
	}
	e.proxy.metadata = []string{"x-sluice-route", "second"}
	for i, want := range []int{200, 429} {
		if r := e.post("/x", ""); r.status != want {
			t.Errorf("request %d: got %+v", i, r)
		}
	}
	if r := e.post("/x/y", ""); r.status != 404 {
		t.Errorf("a path that the named route does not have: got %+v", r)
	}
	e.proxy.metadata = []string{"x-sluice-route", "unknown"}
	if r := e.post("/x", ""); r.status != 200 {
		t.Errorf("a route that is not there: got %+v", r)
	}
}

// What belongs to gateways is passed on untouched: they have the policies.
func TestEnvoyPassesTransactionsOn(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, envoyHead+`
coordinator: {dtm: {endpoints: ["http://127.0.0.1:1"], branches: "127.0.0.1:0"}}
services: {a: {endpoints: ["`+s.URL+`"]}}
transactions:
  buy: {steps: [{name: one, do: {service: a, method: POST, path: /do}, undo: {service: a, method: POST, path: /undo}}]}
routes: [{name: buy, match: {methods: [POST], path: /buy}, transaction: buy, idempotency: {required: true}}]
`, s.URL)
	e.proxy.messages.Store(0)
	if r := e.post("/buy", "{}", field{"sluice-op", "x"}); r.status != 200 || e.proxy.messages.Load() != 1 {
		t.Errorf("got %+v with %d messages", r, e.proxy.messages.Load())
	}
	if r, _ := s.last(t); r.Header.Get("Sluice-Op") != "x" || r.Header.Get("Sluice-Request-Id") != "" {
		t.Errorf("it is not untouched: %v", r.Header)
	}
	if !strings.Contains(e.logs.String(), "route buy leads to a transaction") {
		t.Error("the log does not say so")
	}
}

// Envoy asks for no more messages than a request needs.
func TestEnvoyMessages(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: keyed, match: {methods: [POST], path: /keyed}, service: a, idempotency: {maxBody: 1KiB}}
  - {name: heads, match: {methods: [POST], path: /heads}, service: a, idempotency: {fingerprint: [method, path]}}
  - {name: rest, match: {path: /**}, service: a}
`, s.URL)
	for _, c := range []struct {
		name, path, body string
		fields           []field
		want             int64
	}{
		{"a key and a body", "/keyed", "x", []field{key("a")}, 4},
		{"its replay", "/keyed", "x", []field{key("a")}, 2},
		{"a key without a body", "/keyed", "", []field{key("b")}, 3},
		{"its replay too", "/keyed", "", []field{key("b")}, 1},
		{"a fingerprint without the body", "/heads", "x", []field{key("c")}, 3},
		{"a response too long to be kept", "/keyed?long=2000", "x", []field{key("d")}, 3},
		{"a refusal", "/keyed", "x", []field{key(strings.Repeat("k", 300))}, 1},
		{"no key", "/keyed", "x", nil, 2},
		{"no policy", "/x", "x", nil, 2},
		{"no route", "/keyed/x", "x", nil, 2},
	} {
		e.proxy.messages.Store(0)
		r := e.post(c.path, c.body, c.fields...)
		if n := e.proxy.messages.Load(); n != c.want {
			t.Errorf("%s: %d messages, want %d: %+v", c.name, n, c.want, r)
		}
	}
}

// A trailer has nothing that only the gateway may say, whether the body is shown or not.
func TestEnvoyTrailers(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: keyed, match: {methods: [POST], path: /keyed}, service: a, idempotency: {}}
  - {name: rest, match: {path: /**}, service: a}
`, s.URL)
	for _, path := range []string{"/keyed", "/rest"} {
		in := post(path, "x", key("k"))
		in.trailer = []field{{"sluice-op", "x"}, {"x-user", "eve"}, {"x-sum", "5"}, {"sluice_op", "y"}}
		if r, err := e.proxy.exchange(t.Context(), in); err != nil || r.status != 200 {
			t.Fatalf("%s: %v, %+v", path, err, r)
		}
		if r, _ := s.last(t); len(r.Trailer) != 1 || r.Trailer.Get("X-Sum") != "5" {
			t.Errorf("%s: the service sees %v", path, r.Trailer)
		}
	}
}

// A configuration is applied as a whole or not at all, and requests under way keep theirs.
func TestEnvoyReloads(t *testing.T) {
	t.Parallel()
	s := newHeldService(t)
	text := func(limit string) string {
		return envoyHead + `
services: {a: {endpoints: ["` + s.URL + `"], timeout: 60s}}
limits: {l: {scope: local, rate: ` + limit + `, burst: 1}}
routes:
  - {name: slow, match: {path: /slow}, service: a, idempotency: {}}
  - {name: limited, match: {path: /limited}, respond: {status: 200}, limits: [l]}
`
	}
	e := startEnvoy(t, text("1/h"), s.URL)
	first := e.start(t.Context(), "/slow", "x", key("k"))
	s.wait(t)
	e.configure(text("2/x"))
	e.reload <- struct{}{}
	until(t, func() bool { return e.metric(`sluice_config_reloads_total{result="refused"}`) >= 1 })
	e.configure(strings.Replace(text("1/h"), "127.0.0.1:0\"}}\n", "127.0.0.1:1\"}}\n", 1))
	e.reload <- struct{}{}
	until(t, func() bool { return strings.Contains(e.logs.String(), "envoy.listen differs from what is in force") })
	e.configure(text("2/h"))
	e.reload <- struct{}{}
	until(t, func() bool { return e.metric(`sluice_config_reloads_total{result="applied"}`) >= 1 })
	if r := e.post("/limited", ""); !strings.Contains(r.header.Get("RateLimit-Policy"), "q=2") {
		t.Errorf("the new limit is not in force: %+v", r)
	}
	close(s.letGo)
	if r := e.end(first); r.status != 201 {
		t.Errorf("the request under way has %+v", r)
	}
	if r := e.post("/slow", "x", key("k")); r.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("its record is not that of the new chain: %+v", r)
	}
}

// At the end requests under way get their responses, and no new one is taken.
func TestEnvoyDrains(t *testing.T) {
	t.Parallel()
	s := newHeldService(t)
	e := startEnvoy(t, envoyHead+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 60s}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`, s.URL)
	first := e.start(t.Context(), "/", "x", key("k"))
	s.wait(t)
	ended := make(chan error, 1)
	go func() { ended <- e.stop() }()
	until(t, func() bool { return strings.Contains(e.logs.String(), "draining") })
	until(t, func() bool { // the listener is closed
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.proxy.exchange(ctx, post("/", "x", key("other")))
		return err != nil
	})
	close(s.letGo)
	if r := e.end(first); r.status != 201 {
		t.Errorf("the request under way has %+v", r)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(waitLimit):
		t.Fatal("it does not end")
	}
}

// A thousand at once: as many as may be are served, the rest is refused, and nothing is left behind.
func TestEnvoyThousandAtOnce(t *testing.T) {
	t.Parallel()
	s := newHeldService(t)
	e := startEnvoy(t, strings.Replace(envoyHead, "maxBody: 64KiB", "maxBody: 64KiB, maxInFlight: 500", 1)+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 60s}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`, s.URL)
	var wg sync.WaitGroup
	var served, refused, other atomic.Int64
	for i := range 1000 {
		wg.Go(func() {
			r, err := e.proxy.exchange(t.Context(), post("/", "x", key(fmt.Sprint(i))))
			switch {
			case err == nil && r.status == 201:
				served.Add(1)
			case err == nil && r.status == 503 && r.reason() == "overloaded":
				refused.Add(1)
			default:
				other.Add(1)
			}
		})
	}
	until(t, func() bool { return refused.Load()+int64(len(s.arrived)) == 1000 })
	close(s.letGo)
	wg.Wait()
	if served.Load() == 0 || served.Load() > 500 || other.Load() > 0 {
		t.Errorf("%d served, %d refused, %d neither", served.Load(), refused.Load(), other.Load())
	}
	until(t, func() bool { return e.metric("sluice_requests_in_flight") <= 0 })
}

// Bodies have to fit into what may wait in memory, and messages into what may come.
func TestEnvoyBounds(t *testing.T) {
	t.Parallel()
	s := newService(t, planeService)
	e := startEnvoy(t, `version: 1
listen: {maxBody: 4MiB, maxBuffered: 1MiB, headerTimeout: 200ms}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
envoy: {listen: {address: "127.0.0.1:0"}}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`, s.URL)
	long := strings.Repeat("x", 2<<20)
	if r := e.post("/", long, key("a"), field{"content-length", fmt.Sprint(len(long))}); r.reason() != "overloaded" {
		t.Errorf("an announced body has %+v", r)
	}
	if r := e.post("/", long, key("b")); r.reason() != "overloaded" {
		t.Errorf("another one has %+v", r)
	}
	if r := e.post("/", strings.Repeat("x", 5<<20), key("c")); r.status != 0 || !strings.Contains(r.body,
		"larger than max") {
		t.Errorf("a message that is too long has %+v", r)
	}
	stream, err := e.proxy.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.Canceled {
		t.Errorf("a silent stream ends with %v", err)
	}
	other, err := e.proxy.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = other.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{}})
	if _, err2 := other.Recv(); err != nil || status.Code(err2) != codes.InvalidArgument {
		t.Errorf("a stream without a request ends with %v, %v", err, err2)
	}
	if r := e.post("/", "x", key("d")); r.status != 200 {
		t.Errorf("behind all that a request has %+v", r)
	}
}

// Envoys off the machine show a certificate.
func TestEnvoyTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("gateway", "gateway")
	s := newService(t, planeService)
	e := startEnvoy(t, strings.Replace(envoyHead, `"127.0.0.1:0"}}`+"\n", fmt.Sprintf(
		`"127.0.0.1:0", cert: %q, key: %q, clientCA: %q}}`+"\n",
		filepath.Join(a.dir, "gateway.crt"), filepath.Join(a.dir, "gateway.key"), filepath.Join(a.dir, "ca.crt")), 1)+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a}]
`, s.URL)
	pem, err := os.ReadFile(filepath.Join(a.dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	check := func(c credentials.TransportCredentials) error {
		conn, err := grpc.NewClient("passthrough:///"+e.at.Envoy, grpc.WithTransportCredentials(c))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
		defer cancel()
		_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	}
	own := a.issue("envoy", "envoy")
	if err := check(credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}})); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if check(credentials.NewTLS(&tls.Config{RootCAs: roots})) == nil || check(insecure.NewCredentials()) == nil {
		t.Error("without a certificate it is served too")
	}
}
