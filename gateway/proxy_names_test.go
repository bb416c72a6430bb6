package gateway

import (
	"bufio"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newTLSService starts a service that speaks both protocols over TLS; conf is its configuration.
func newTLSService(t *testing.T, h http.HandlerFunc) (conf string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = quietLog()
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}
	if err := os.WriteFile(ca, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return `{endpoints: ["` + s.URL + `"], tls: {ca: ` + ca + `}}`
}

// gRPC works over TLS: its trailers, its statuses, its streams, and the replay of its calls.
func TestGRPCOverTLS(t *testing.T) {
	t.Parallel()
	s := &grpcService{more: make(chan struct{})}
	g := start(t, head+`
services: {a: `+newTLSService(t, s.serve)+`}`+grpcRoutes)
	c := http2Client(t)
	for action, want := range map[string]string{
		"unary": "trailer 0", "long": "trailer 0", "pair": "trailer 0", "5": "head 5",
	} {
		if got := grpcCall(t, c, "http://"+g.at.HTTP+"/plain/"+action, ""); got.status() != want {
			t.Errorf("%s: %v", action, got)
		}
	}
	url := "http://" + g.at.HTTP + "/s/unary"
	first, again := grpcCall(t, c, url, "k"), grpcCall(t, c, url, "k")
	if first.body != again.body || again.status() != "trailer 0" || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v and then %v", first, again)
	}
	body, feed := io.Pipe()
	resp, err := c.Do(grpcRequest(t, "http://"+g.at.HTTP+"/plain/talk", "", body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said := framed("hello")
	feed.Write(said)
	b := make([]byte, len(said))
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != string(said) {
		t.Fatalf("%q, %v", b, err)
	}
	feed.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("ends with %q, %v, trailer %v", b, err, resp.Trailer)
	}
}

// A tunnel passes to a service that would rather speak HTTP/2, and other requests go by HTTP/2.
func TestTunnelToAServiceOfHTTP2(t *testing.T) {
	t.Parallel()
	conf := newTLSService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			io.WriteString(w, r.Proto)
			return
		}
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			w.WriteHeader(500)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, buffered)
	})
	g := start(t, head+`
services: {a: `+conf+`}`+allToA)
	for range 2 {
		c := g.dial()
		c.send(upgradeRequest)
		if resp := c.head("GET"); resp.StatusCode != 101 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		c.send("over the tunnel")
		b := make([]byte, len("over the tunnel"))
		if _, err := io.ReadFull(c.r, b); err != nil || string(b) != "over the tunnel" {
			t.Errorf("%q, %v", b, err)
		}
		c.Close()
		if r := g.do("GET", "/", ""); r.status != 200 || r.body != "HTTP/2.0" {
			t.Errorf("a request beside it: %+v", r)
		}
	}
}

// An endpoint with a name is shown by the address that is used, and what a name has is logged.
func TestEndpointsOfANameAreShown(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(p.URL, "http://"))
	conf := head + `
services:
  a: {endpoints: ["http://localhost:` + port + `"], health: {path: /healthz, every: 100ms}, dns: 100ms}` + allToA
	g := start(t, conf)
	until(t, func() bool { return p.healthy(g) == 1 })
	for range 10 {
		if r := g.do("POST", "/", "{}"); r.status != 200 {
			t.Errorf("got %+v", r)
		}
	}
	resp, err := http.Get("http://" + g.at.Admin + "/api/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	status := strings.Join(strings.Fields(string(b)), "")
	want := `{"endpoint":"localhost:` + port + `","address":"127.0.0.1:` + port + `","state":"up"`
	if !strings.Contains(status, want) {
		t.Errorf("the status is %s, want %s", status, want)
	}
	if logs := g.logs.String(); !strings.Contains(logs, "a name is resolved") || !strings.Contains(logs, "127.0.0.1") {
		t.Errorf("logged %s", logs)
	}
	until(t, func() bool { return g.metric(`sluice_upstream_lookups_total{service="a"}`) > 2 })
	g.reloaded(strings.Replace(conf, "localhost", "name.invalid", 1))
	if r := g.do("POST", "/", "{}"); r.status != 502 || r.reason() != "upstream-unreachable" {
		t.Errorf("without an address: %+v", r)
	}
	until(t, func() bool { return strings.Contains(g.logs.String(), "the lookup of a name is at fault") })
	if g.metric(`sluice_upstream_lookup_failures_total{service="a"}`) < 1 || p.healthy(g) != -1 {
		t.Error("the lookup that failed is not counted, or an address is shown that the name does not have")
	}
	g.reloaded(conf)
	until(t, func() bool { return p.healthy(g) == 1 })
}

// What a service says of its connections holds: none is used when the service is about to close it.
func TestKeepAliveOfAService(t *testing.T) {
	t.Parallel()
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for range 2 { // and closes without a word
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=1\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["http://`+address+`"]}}`+allToA)
	for range 50 {
		if r := g.do("POST", "/", "{}"); r.status != 200 {
			t.Fatalf("got %+v", r)
		}
	}
}
