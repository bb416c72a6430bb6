package gateway

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestUnixSocketEndpoint(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sluice") // a test's own folder may have too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "app.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		io.WriteString(w, r.Host+" "+string(b))
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	g := start(t, head+`
services:
  a: {endpoints: ["unix://`+dir+`/app.sock"]}
  gone: {endpoints: ["unix://`+dir+`/gone.sock"]}
routes:
  - {name: gone, match: {path: /gone}, service: gone}
  - {name: all, match: {path: /**}, service: a}
`)
	for range 3 {
		if r := g.do("POST", "/", "body"); r.status != 200 || r.body != g.at.HTTP+" body" {
			t.Errorf("got %+v", r)
		}
	}
	if r := g.raw("GET / HTTP/1.0\r\n\r\n"); !strings.HasSuffix(r, "\r\n\r\nlocalhost ") {
		t.Errorf("without a host: %.300q", r)
	}
	if r := g.do("GET", "/gone", ""); r.status != 502 || r.reason() != "upstream-unreachable" {
		t.Errorf("without a socket: %+v", r)
	}
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Host+" "+r.Header.Get("X-Forwarded-For")+" "+r.Header.Get("Sluice-Principal"))
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	g := start(t, strings.Replace(head, "127.0.0.1:0", "[::1]:0", 1)+`
services: {a: {endpoints: ["http://`+l.Addr().String()+`"]}}`+allToA)
	if r := g.do("GET", "/", ""); r.status != 200 || r.body != g.at.HTTP+" ::1 ip:::/64" {
		t.Errorf("got %+v", r)
	}
	if r := g.raw("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nConnection: close\r\n\r\n"); !strings.Contains(r,
		"[2001:db8::1]:80 ::1") {
		t.Errorf("got %.300q", r)
	}
}

func TestHTTPSEndpoint(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	ours.issue("gateway", "gateway")
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	var seen atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName+" "+r.Proto)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ours.issue("service", "service")}, ClientCAs: roots,
		ClientAuth: tls.RequireAndVerifyClientCert}
	s.Config.ErrorLog = quietLog()
	s.StartTLS()
	t.Cleanup(s.Close)
	named := strings.Replace(s.URL, "127.0.0.1", "localhost", 1) // a name that the certificate does not have
	shows := "cert: " + ours.dir + "/gateway.crt, key: " + ours.dir + "/gateway.key"
	g := start(t, head+`
services:
  good: {endpoints: ["`+s.URL+`"], tls: {ca: `+ours.dir+`/ca.crt, `+shows+`}}
  named: {endpoints: ["`+named+`"], tls: {ca: `+ours.dir+`/ca.crt, serverName: 127.0.0.1, `+shows+`}}
  misnamed: {endpoints: ["`+named+`"], tls: {ca: `+ours.dir+`/ca.crt, `+shows+`}}
  foreign: {endpoints: ["`+s.URL+`"], tls: {ca: `+theirs.dir+`/ca.crt, `+shows+`}}
  system: {endpoints: ["`+s.URL+`"]}
  nameless: {endpoints: ["`+s.URL+`"], tls: {ca: `+ours.dir+`/ca.crt}}
routes:
  - {name: good, match: {path: /good}, service: good, idempotency: {}}
  - {name: named, match: {path: /named}, service: named, idempotency: {}}
  - {name: misnamed, match: {path: /misnamed}, service: misnamed, idempotency: {}}
  - {name: foreign, match: {path: /foreign}, service: foreign, idempotency: {}}
  - {name: system, match: {path: /system}, service: system, idempotency: {}}
  - {name: nameless, match: {path: /nameless}, service: nameless}
`)
	for _, path := range []string{"/good", "/named"} {
		for _, key := range []string{"1", "2"} { // the second on the same connection
			if r := g.do("POST", path, "{}", "Idempotency-Key", key); r.status != 200 || r.body != "gateway HTTP/1.1" {
				t.Errorf("%s: %+v", path, r)
			}
		}
	}
	if n := seen.Load(); n != 4 {
		t.Errorf("the service saw %d requests", n)
	}
	for _, path := range []string{"/misnamed", "/foreign", "/system"} {
		for range 2 { // nothing was dispatched, so the key is free again
			if r := g.do("POST", path, "{}", "Idempotency-Key", "1"); r.status != 502 ||
				r.reason() != "upstream-unreachable" {
				t.Errorf("%s: %+v", path, r)
			}
		}
	}
	// TLS 1.3 lets a service refuse a client only after the client's side of the handshake, so what
	// was sent is not known.
	if r := g.do("GET", "/nameless", ""); r.status != 502 {
		t.Errorf("without a certificate: %+v", r)
	}
	if n := seen.Load(); n != 4 {
		t.Errorf("a request reached a service that is not the one, or does not know us: %d", n)
	}
}

// One of two endpoints hangs: what comes then goes to the other.
func TestTheLessLoadedEndpoint(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := newService(t, func(http.ResponseWriter, *http.Request) { <-release })
	quick := newService(t, func(http.ResponseWriter, *http.Request) {})
	defer close(release) // before the services are closed
	g := start(t, head+`
services: {a: {endpoints: ["`+slow.URL+`", "`+quick.URL+`"], timeout: 20s}}`+allToA)
	until(t, func() bool {
		g.dial().send(get("/"))
		return slow.count() > 0
	})
	until(t, func() bool { return g.metric("sluice_requests_in_flight") == float64(slow.count()) })
	hanging := slow.count()
	for range 40 {
		if r := g.do("GET", "/", ""); r.status != 200 {
			t.Fatalf("got %+v", r)
		}
	}
	if n := slow.count(); n != hanging {
		t.Errorf("%d requests went to the endpoint that hangs", n-hanging)
	}
}

func TestRepeatsGoToAnotherEndpoint(t *testing.T) {
	t.Parallel()
	dead := nobodyAt(t)
	// Takes the connection, reads the request and closes it: not to be repeated for a POST,
	// whatever the retries.
	var read atomic.Int64
	closing := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, req.Body)
			read.Add(1)
		}
	})
	s := newService(t, echo)
	g := start(t, head+`
services:
  a: {endpoints: ["http://`+dead+`", "`+s.URL+`"], retries: {attempts: 1, budget: 100%}}
  once: {endpoints: ["http://`+dead+`", "`+s.URL+`"]}
  closing: {endpoints: ["http://`+closing+`"], retries: {attempts: 3, budget: 100%}}
routes:
  - {name: once, match: {path: /once}, service: once}
  - {name: closing, match: {path: /closing}, service: closing}
  - {name: all, match: {path: /**}, service: a}
`)
	for range 30 {
		if r := g.do("POST", "/", "{}"); r.status != 200 {
			t.Fatalf("got %+v", r)
		}
	}
	if s.count() != 30 || g.metric(`sluice_upstream_retries_total{service="a"}`) < 1 {
		t.Errorf("the service saw %d requests, %g were repeated", s.count(),
			g.metric(`sluice_upstream_retries_total{service="a"}`))
	}
	until(t, func() bool { return g.do("POST", "/once", "{}").reason() == "upstream-unreachable" })
	if r := g.do("POST", "/closing", "{}"); r.status != 502 || r.reason() != "upstream-failed" || read.Load() != 1 {
		t.Errorf("got %+v, the service read %d requests", r, read.Load())
	}
}
