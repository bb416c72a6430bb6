package gateway

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// BenchmarkCores is what all requests of a route count, and what becomes of refusals beyond the first.
func BenchmarkCores(b *testing.B) {
	b.Run("route metrics", func(b *testing.B) {
		r := newMetrics(policy.NewMetrics()).route("stock")
		cores.Run(b, func(int) func() {
			return func() { r.count(200, "", 3*time.Millisecond, nil) }
		})
	})
	b.Run("refusals", func(b *testing.B) {
		m := newMetrics(policy.NewMetrics())
		l := newRefusalLog(slog.New(slog.NewTextHandler(io.Discard, nil)), m.logLeftOut)
		cores.Run(b, func(int) func() {
			x := new(filters.Exchange)
			x.Begin(b.Context(), nil)
			x.SetReply(filters.Refuse(filters.RateLimited, filters.Problem{}))
			return func() { l.tell("stock", x, nil) }
		})
	})
}

// BenchmarkCoresGateway is whole requests, 32 connections at a time for each processor, from socket to socket. Client
// and service are in this process too, and share nothing. With -mutexprofile and -blockprofile it shows what requests
// wait for.
func BenchmarkCoresGateway(b *testing.B) {
	for _, c := range []struct{ name, head, body string }{
		{"filtered GET", "GET /things/1 HTTP/1.1\r\nHost: shop.example\r\n\r\n", ""},
		{"keyed POST", "POST /orders HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\n" +
			"Content-Length: 512\r\nIdempotency-Key: %08x-0000-4000-8000-%012x\r\n\r\n", strings.Repeat("7", 512)},
	} {
		b.Run(c.name, func(b *testing.B) {
			at := startForBenchmark(b, `version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
services:
  a:
    endpoints: ["http://`+plainService(b)+`"]
    breaker: {errors: 50%}
    overload: {concurrency: adaptive, max: 1000}
limits: {own: {scope: local, per: [principal], rate: 1000000000/s, burst: 1000000000}}
routes:
  - {name: keyed, match: {path: /orders, methods: [POST]}, service: a, limits: [own], idempotency: {maxOpenKeys: 0}}
  - {name: all, match: {path: /**}, service: a, limits: [own]}
`)
			b.SetParallelism(32)
			cores.Run(b, func(worker int) func() {
				conn, err := net.Dial("tcp", at.HTTP)
				if err != nil {
					b.Error(err)
					return func() {}
				}
				b.Cleanup(func() { conn.Close() })
				request, response, i := make([]byte, 0, 1<<10), make([]byte, 4<<10), 0
				return func() {
					request = append(request[:0], c.head...)
					if c.body != "" {
						i++
						request = append(fmt.Appendf(request[:0], c.head, worker, i), c.body...)
					}
					if _, err := conn.Write(request); err != nil {
						b.Error(err)
					}
					n, err := conn.Read(response)
					if err != nil || !bytes.HasPrefix(response[:n], []byte("HTTP/1.1 200")) {
						b.Errorf("%v: %s", err, response[:n])
					}
				}
			})
		})
	}
}
