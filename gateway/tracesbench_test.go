package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-gateway/sluice/control/source"
)

// BenchmarkTraces is a request from socket to socket, without traces and with a share of them. The time of the
// processor is that of gateway, client, service and collector, of which the last three do next to nothing.
func BenchmarkTraces(b *testing.B) {
	service := plainService(b)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer collector.Close()
	for _, share := range []string{"off", "0%", "1%", "100%"} {
		b.Run(share, func(b *testing.B) {
			tracing := "tracing: {endpoint: '" + collector.URL + "', protocol: http, sample: " + share + "}\n"
			if share == "off" {
				tracing = ""
			}
			at := startForBenchmark(b, tracing+`version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
services: {a: {endpoints: ["http://`+service+`"], breaker: {errors: 50%}}}
limits: {own: {scope: local, per: [principal], rate: 1000000/s, burst: 1000000}}
routes: [{name: all, match: {path: /**}, service: a, limits: [own]}]
`)
			c, err := net.Dial("tcp", at.HTTP)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			request, response := []byte("GET /things/1 HTTP/1.1\r\nHost: shop.example\r\n\r\n"), make([]byte, 64<<10)
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				if _, err := c.Write(request); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(response); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// startForBenchmark starts a gateway that ends with the benchmark.
func startForBenchmark(b *testing.B, text string) Addresses {
	b.Helper()
	file := filepath.Join(b.TempDir(), "sluice.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ended <- Run(ctx, Options{Source: &source.File{Path: file}, Logger: slog.New(slog.DiscardHandler),
			OnReady: func(a Addresses) { ready <- a }})
	}()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	select {
	case at := <-ready:
		return at
	case err := <-ended:
		ended <- nil
		b.Fatal(err)
	}
	return Addresses{}
}
