package envoy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
	"github.com/sluice-gateway/sluice/bench/kit/freeport"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/control/xds"
	"github.com/sluice-gateway/sluice/gateway"
)

// limit bounds every wait of these tests; a busy machine is slow.
const limit = 60 * time.Second

// world is a control plane, `sluice envoy` and an Envoy on one configuration.
type world struct {
	t       *testing.T
	file    string
	http    string // where Envoy listens
	control string
	admin   string // of the control plane
	service *service
	names   *strings.Replacer // what stands in capitals in a configuration
	reload  chan struct{}     // to the control plane
	envoy   *envoytest.Envoy
	log     *child.Output

	stopServices func() // `sluice envoy`
}

// start starts all of it and returns when Envoy serves the configuration. HTTP, CONTROL, SERVICES,
// SERVICE and GONE in it are addresses.
func start(t *testing.T, config string, o envoytest.Options) *world {
	t.Helper()
	w := &world{
		t: t, file: filepath.Join(t.TempDir(), "sluice.yaml"), http: pick(t), control: pick(t), service: newService(t),
		reload: make(chan struct{}), log: new(child.Output),
	}
	services := pick(t)
	w.names = strings.NewReplacer("HTTP", w.http, "CONTROL", w.control, "SERVICES", services,
		"SERVICE", w.service.Listener.Addr().String(), "GONE", pick(t))
	w.write(config)
	logger := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the control plane and the services:\n%s", w.log.String())
		}
	})
	w.run("control plane", func(ctx context.Context, ready func()) error {
		return xds.Run(ctx, xds.Options{
			Source: &source.Documents{Path: w.file, Reload: w.reload}, Logger: logger,
			OnReady: func(a xds.Addresses) { w.admin = a.Admin; ready() },
		})
	})
	w.stopServices = w.run("services", func(ctx context.Context, ready func()) error {
		return gateway.RunEnvoy(ctx, gateway.Options{
			Source: &source.File{Path: w.file}, Logger: logger, OnReady: func(gateway.Addresses) { ready() },
		})
	})
	o.Control = w.control
	if o.Node == "" {
		o.Node = "envoy-7"
	}
	w.envoy = envoytest.Start(t, o)
	w.envoy.AwaitListening(w.http)
	return w
}

func pick(t *testing.T) string {
	t.Helper()
	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// run runs a part of the world until the test ends or it is stopped, and returns when it is ready.
func (w *world) run(name string, part func(ctx context.Context, ready func()) error) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- part(ctx, func() { close(ready) }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("the %s ended with %v", name, err)
			}
		case <-time.After(limit):
			w.t.Errorf("the %s does not end", name)
		}
	})
	w.t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		w.t.Fatalf("the %s did not come up: %v", name, err)
	case <-time.After(limit):
		w.t.Fatalf("the %s does not come up", name)
	}
	return stop
}

// write writes the configuration, as one file that was never half there.
func (w *world) write(config string) {
	w.t.Helper()
	text := w.names.Replace(config)
	if err := os.WriteFile(w.file+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.file+".new", w.file); err != nil {
		w.t.Fatal(err)
	}
}

// change writes the configuration and has the control plane read it.
func (w *world) change(config string) {
	w.t.Helper()
	w.write(config)
	select {
	case w.reload <- struct{}{}:
	case <-time.After(limit):
		w.t.Fatal("the control plane does not reload")
	}
}

// await waits until something is true.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// status is what the control plane says of itself.
func (w *world) status() xds.Status {
	w.t.Helper()
	var s xds.Status
	r, err := http.Get("http://" + w.admin + "/api/status")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// request is one of a client. From is the address that the client has; empty is 127.0.0.1.
type request struct {
	method, path string
	header       map[string]string
	body         string
	from         string
}

type response struct {
	*http.Response
	body string
}

// reason is the gateway's reason of a refusal.
func (r response) reason() string { return r.Header.Get("Sluice-Reason") }

// seen is what the service got.
func (r response) seen(t *testing.T) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal([]byte(r.body), &s); err != nil {
		t.Fatalf("%d %q is not the service's response: %v", r.StatusCode, r.body, err)
	}
	return s
}

func (w *world) get(path string) response { w.t.Helper(); return w.do(request{path: path}) }

// do sends a request on a connection of its own. The path goes out as it is.
func (w *world) do(q request) response {
	w.t.Helper()
	r, err := w.try(q)
	if err != nil {
		w.t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	return r
}

func (w *world) try(q request) (response, error) {
	if q.method == "" {
		q.method = http.MethodGet
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, q.method, "http://"+w.http, bytes.NewReader([]byte(q.body)))
	if err != nil {
		return response{}, err
	}
	path, query, _ := strings.Cut(q.path, "?")
	r.URL.Opaque, r.URL.RawQuery = path, query
	for name, value := range q.header {
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Set(name, value)
	}
	if q.from == "" {
		q.from = "127.0.0.1"
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(q.from)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	got, err := transport.RoundTrip(r)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = got.Body.Close() }()
	b, err := io.ReadAll(got.Body)
	return response{got, string(b)}, err
}

// service stands behind Envoy. It does what the path says: /do/503 responds so, /slow/1s waits before
// the head, /stream/1s sends a head, waits and sends the rest, /gate waits for release.
type service struct {
	*httptest.Server
	calls atomic.Int64
	gate  chan struct{}
}

// seen is what the service got.
type seen struct {
	Method, Path, Host string
	Header             http.Header
	Body               string
	Call               int64 // how many calls there were, this one too
}

func newService(t *testing.T) *service {
	s := &service{gate: make(chan struct{})}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	call := s.calls.Add(1)
	status := http.StatusOK
	_, what, _ := strings.Cut(r.URL.Path, "/v1/")
	kind, value, _ := strings.Cut(what, "/")
	switch kind {
	case "do":
		status, _ = strconv.Atoi(value)
	case "slow", "stream":
		wait, _ := time.ParseDuration(value)
		if kind == "stream" {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(status)
			_ = http.NewResponseController(w).Flush() // a client that has gone does not care
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return
		}
	case "gate":
		select {
		case <-s.gate:
		case <-r.Context().Done():
			return
		}
	case "long":
		n, _ := strconv.Atoi(value)
		fmt.Fprint(w, strings.Repeat("x", n))
		return
	}
	if kind != "stream" {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Sluice-Reason", "forged")
		w.WriteHeader(status)
	}
	_ = json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, r.Host, r.Header, string(body), call})
}
