package envoy_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway"
)

const byHand = `version: 1
admin: {address: "127.0.0.1:0"}
listen: {idleTimeout: 1s}
store: {memory: {}}
envoy: {listen: {address: SERVICES}}
services: {shop: {endpoints: ["http://SERVICE"]}}
limits: {per-user: {per: [header.X-User], rate: 2/h}}
routes:
  - {name: orders, match: {methods: [POST], path: /v1/orders}, service: shop, idempotency: {required: true}}
`

// TestByHand: an Envoy whose configuration users write themselves gets keys and limits from
// `sluice envoy`, with the configuration that the guide shows.
func TestByHand(t *testing.T) {
	t.Parallel()
	w := &world{t: t, file: t.TempDir() + "/sluice.yaml", http: pick(t), service: newService(t)}
	services, backend := pick(t), w.service.Listener.Addr().String()
	w.names = strings.NewReplacer("SERVICES", services, "SERVICE", backend)
	w.write(byHand)
	w.run("services", func(ctx context.Context, ready func()) error {
		return gateway.RunEnvoy(ctx, gateway.Options{
			Source: &source.File{Path: w.file}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			OnReady: func(gateway.Addresses) { ready() },
		})
	})
	w.envoy = envoytest.Start(t, envoytest.Options{
		File: "by-hand.yaml", Ports: map[string]string{"8080": w.http, "7001": backend, "18001": services},
	})
	w.envoy.AwaitListening(w.http)

	order := request{method: "POST", path: "/v1/orders", header: map[string]string{"Idempotency-Key": "k"}, body: "{}"}
	first := w.do(order)
	if first.StatusCode != 200 || first.seen(t).Header.Get("Sluice-Attempt") != "1" {
		t.Errorf("a request with a key: %d %s", first.StatusCode, first.body)
	}
	if r := w.do(order); r.body != first.body || r.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("its repeat: %d %s", r.StatusCode, r.body)
	}
	w.halfBody()
	order.header = nil
	if r := w.do(order); r.StatusCode != 400 || r.reason() != "idempotency-key-missing" {
		t.Errorf("a request without a key: %d %q", r.StatusCode, r.reason())
	}
	for _, want := range []int{200, 200, 429} {
		if r := w.do(request{path: "/v1/stock", header: map[string]string{"X-User": "u"}}); r.StatusCode != want {
			t.Errorf("a request within the limit of a user: %d, want %d", r.StatusCode, want)
		}
	}
}

// halfBody sends a body that is late behind a key: nothing of it may come to the service unclaimed.
func (w *world) halfBody() {
	w.t.Helper()
	before := w.service.calls.Load()
	conn, err := net.DialTimeout("tcp", w.http, limit)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(limit))
	in := bufio.NewReader(conn)
	_, err = io.WriteString(conn, "POST /v1/orders HTTP/1.1\r\nHost: a\r\nIdempotency-Key: late\r\n"+
		"Content-Length: 10\r\n\r\n01234")
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		w.t.Fatalf("a body that is late: %v", err)
	}
	if r.StatusCode < 400 {
		w.t.Errorf("a body that is late: %s", r.Status)
	}
	_, _ = io.WriteString(conn, "56789") // the connection may be closed
	_, _ = io.Copy(io.Discard, in)
	if n := w.service.calls.Load() - before; n != 0 {
		w.t.Errorf("a body that is late: %d calls of the service", n)
	}
}
