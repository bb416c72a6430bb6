package gateway

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-gateway/sluice/control/source"
)

const envoyBenchEnv = "SLUICE_ENVOY_BENCH" // the address, the path and the number of requests of a driver

// BenchmarkEnvoy measures what `sluice envoy` takes of the CPU for a request, user and system: it runs in this process,
// and what stands for the Envoy in another one. Memory store, loopback, no TLS.
//
//	go test ./gateway -run '^$' -bench '^BenchmarkEnvoy$' -benchtime 20000x
func BenchmarkEnvoy(b *testing.B) {
	file := filepath.Join(b.TempDir(), "sluice.yaml")
	text := envoyHead + `
services: {a: {endpoints: ["http://127.0.0.1:1"]}}
limits: {l: {scope: local, per: [principal], rate: 1000000/s, burst: 1000000}}
routes:
  - {name: keyed, match: {path: /keyed}, service: a, idempotency: {required: true, ttl: 1s}}
  - {name: limited, match: {path: /limited}, service: a, limits: [l]}
  - {name: refused, match: {path: /refused}, respond: {status: 403}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	ready := make(chan Addresses, 1)
	go RunEnvoy(b.Context(), Options{Source: &source.File{Path: file}, OnReady: func(a Addresses) { ready <- a },
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	at := <-ready
	for _, path := range []string{"/keyed", "/limited", "/refused"} {
		b.Run(path[1:], func(b *testing.B) {
			drive := func(n int) {
				cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$",
					"-test.bench=^BenchmarkEnvoyDriver$",
					"-test.benchtime=1x")
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", envoyBenchEnv, at.Envoy, path, n))
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
			}
			drive(500)
			before := processCPU(b)
			drive(b.N)
			b.ReportMetric(float64((processCPU(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/request")
		})
	}
}

// processCPU is the CPU time of this process, user and system.
func processCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEnvoyDriver is the other process of BenchmarkEnvoy.
func BenchmarkEnvoyDriver(b *testing.B) {
	var address, path string
	var n int64
	if _, err := fmt.Sscan(os.Getenv(envoyBenchEnv), &address, &path, &n); err != nil {
		return // nobody asks
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	d := &envoyDriver{client: extproc.NewExternalProcessorClient(conn), path: path,
		body: []byte(`{"sku":"SKU-1","qty":1,"note":"` + strings.Repeat("x", 200) + `"}`)}
	const atOnce = 16
	var next atomic.Int64
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for next.Add(1) <= n {
				if err := d.request(b); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// envoyDriver sends the messages of requests that are all alike, but for their keys.
type envoyDriver struct {
	client extproc.ExternalProcessorClient
	path   string
	body   []byte
	keys   atomic.Int64
}

func (d *envoyDriver) request(b *testing.B) error {
	ctx := metadata.AppendToOutgoingContext(b.Context(), "x-sluice-peer", "127.0.0.1", "x-sluice-route", d.path[1:])
	stream, err := d.client.Process(ctx)
	if err != nil {
		return err
	}
	s := &proxyStream{proxy: &envoyProxy{}, stream: stream}
	m, err := s.ask(&extproc.ProcessingRequest{Attributes: attributes(map[string]any{"request.protocol": "HTTP/1.1"}),
		Request: &extproc.ProcessingRequest_RequestHeaders{
			RequestHeaders: &extproc.HttpHeaders{Headers: headerMap([]field{
				{":authority", "shop.example"}, {":path", d.path}, {":method", "POST"}, {":scheme", "http"},
				{"user-agent", "curl/8"}, {"accept", "*/*"}, {"x-user", "ann"}, {"content-type", "application/json"},
				{"idempotency-key", fmt.Sprint(os.Getpid(), "-", d.keys.Add(1))}, {"content-length",
					strconv.Itoa(len(d.body))},
				{"x-forwarded-for", "127.0.0.1"}, {"x-forwarded-proto", "http"},
				{"x-request-id", "7073aea3-3e74-42b8-9ab1-6006585a2b12"}})}}})
	if err == nil && s.mode.GetRequestBodyMode() != 0 {
		m, err = s.ask(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
			RequestBody: &extproc.HttpBody{Body: d.body, EndOfStream: true}}})
	}
	if err != nil || m.GetImmediateResponse() != nil {
		return err
	}
	_, err = s.ask(&extproc.ProcessingRequest{Attributes: attributes(map[string]any{
		"response.code_details": "via_upstream", "response.flags": 0.0, "upstream.request_attempt_count": 1.0}),
		Request: &extproc.ProcessingRequest_ResponseHeaders{
			ResponseHeaders: &extproc.HttpHeaders{Headers: headerMap([]field{
				{":status", "201"}, {"content-type", "application/json"}, {"content-length", "40"},
				{"date", "Fri, 27 Nov 2026 10:00:00 GMT"}})}}})
	if err == nil && s.mode.GetResponseBodyMode() != 0 {
		_, err = s.ask(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
			ResponseBody: &extproc.HttpBody{Body: d.body[:40], EndOfStream: true}}})
	}
	if err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != io.EOF {
		return err
	}
	return nil
}
