package gateway

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A service behind TLS that says more than was asked: the surplus is the answer of no later
// request.
func TestSurplusAnswerOverTLSIsNobodys(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ours.issue("service", "service")}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	written := make(chan struct{}, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"+req.URL.Path[:4])
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison") // in a record of its own
					written <- struct{}{}
				}
			}()
		}
	}()
	g := start(t, head+`
services: {a: {endpoints: ["https://`+l.Addr().String()+`"], tls: {ca: `+ours.dir+`/ca.crt}}}`+allToA)
	for _, path := range []string{"/one", "/two", "/six", "/ten"} {
		if r := g.do("GET", path, ""); r.status != 200 || r.body != path {
			t.Errorf("%s is answered with %d %q", path, r.status, r.body)
		}
		<-written
	}
}

// A keyed request goes on without its client, but not beyond the drain's limit.
func TestDrainLimitHoldsForKeyedRequests(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newService(t, func(http.ResponseWriter, *http.Request) { <-release })
	g := startWith(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 60s}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`, 200*time.Millisecond)
	c := g.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n")
	until(t, func() bool { return s.count() == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Error("the gateway waits for a service that hangs")
	}
	close(release)
}

// The head with which a tunnel begins has passed the filters as any other.
func TestTunnelHeadPassesTheFilters(t *testing.T) {
	t.Parallel()
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\nSluice-Reason: x\r\nIdempotent-Replayed: true\r\n\r\n")
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["http://`+address+`"]}}
limits: {l: {rate: 100/s, per: [client.ip]}}
routes: [{name: all, match: {path: /**}, service: a, limits: [l]}]
`)
	got := g.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 101") || !strings.Contains(got, "RateLimit: ") || strings.Contains(got, "Sluice-Reason") || strings.Contains(got, "Idempotent") {
		t.Errorf("got %q", got)
	}
}

// A service that closes without an answer while its client rests with the body: the client is told
// at once.
func TestFailureDoesNotWaitForARestingClient(t *testing.T) {
	t.Parallel()
	address := wireService(t, func(_ int64, _ net.Conn, r *bufio.Reader) { r.ReadString('\n') })
	g := start(t, head+`
services: {a: {endpoints: ["http://`+address+`"], timeout: 60s}}`+allToA)
	for range 20 {
		c := g.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
		if r := c.answer(); r.status != 502 {
			t.Fatalf("got %+v", r)
		}
		c.Close()
	}
}

// A long body that was read already, for its key: the service refuses it after its head and takes
// no more. The refusal is the answer.
func TestEarlyAnswerToALongBodyInMemory(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
			<-done
		}
	})
	defer close(done)
	g := start(t, strings.Replace(head, "maxBody: 64KiB", "maxBody: 32MiB", 1)+`
services: {a: {endpoints: ["http://`+address+`"], timeout: 60s}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`)
	r := g.do("POST", "/", strings.Repeat("x", 24<<20), "Idempotency-Key", "k")
	if r.status != 413 || r.body != "no\n" {
		t.Errorf("got %d %q", r.status, r.body)
	}
}
