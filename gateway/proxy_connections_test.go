package gateway

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A service behind TLS that says more than was asked: the surplus is the answer of no later
// request.
func TestSurplusResponseOverTLSIsNobodys(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{ours.issue("service", "service")}})
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

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// A client that leaves while it waits: the service learns of it, the request is counted as such,
// and the breaker not.
func TestClientGoneWhileWaiting(t *testing.T) {
	t.Parallel()
	var begun, gone atomic.Int64
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/" {
				io.WriteString(c, okay)
				continue
			}
			begun.Add(1)
			r.ReadByte() // until the gateway closes the connection
			gone.Add(1)
			return
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["http://`+address+`"], timeout: 60s, breaker: {minRequests: 1, errors: 1%, openFor: 60s}}}`+allToA)
	const counted = `sluice_requests_total{code="499",reason="",route="all"}`
	for i, leave := range []func(*net.TCPConn){
		func(c *net.TCPConn) { c.Close() },
		func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	} {
		c := g.dial()
		c.send(get("/hang"))
		until(t, func() bool { return begun.Load() == int64(i+1) })
		leave(c.Conn.(*net.TCPConn))
		until(t, func() bool { return gone.Load() == int64(i+1) })
		until(t, func() bool { return g.metric(counted) == float64(i+1) })
	}
	if r := g.do("GET", "/", ""); r.status != 200 {
		t.Errorf("afterwards: %+v", r)
	}
}

// A pooled connection that the service has closed is found out before a request goes out on it, so
// a POST is sent once.
func TestStalePooledConnection(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	closed := make(chan time.Time, 100)
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		seen.Add(1)
		io.Copy(io.Discard, req.Body)
		io.WriteString(c, okay)
		if req.URL.Path == "/talks" { // unasked, which may not become the next one's answer
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			closed <- time.Now()
			r.ReadByte()
			return
		}
		c.Close()
		closed <- time.Now()
	})
	g := start(t, head+`
services: {a: {endpoints: ["http://`+address+`"]}}`+allToA)
	for i, path := range []string{"/", "/", "/talks", "/talks", "/", "/talks", "/"} {
		if r := g.do("POST", path, "{}"); r.status != 200 || r.body != "ok" {
			t.Errorf("request %d: %+v", i, r)
		}
		at := <-closed
		// A connection is not looked at that has just been used.
		until(t, func() bool { return time.Since(at) > 5*time.Millisecond })
	}
	if seen.Load() != 7 {
		t.Errorf("the service saw %d of 7 requests", seen.Load())
	}
}

// A service that closes behind a request, without an answer: what is safe is repeated where the
// retries say so, and nothing else.
func TestRepeatsOnPooledConnections(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for i := range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			seen.Add(1)
			if i == 0 {
				io.WriteString(c, okay)
			}
		}
	})
	endpoint := `endpoints: ["http://` + address + `"]`
	g := start(t, head+`
services:
  none: {`+endpoint+`}
  connect: {`+endpoint+`, retries: {attempts: 2, on: [connect-failure], budget: 100%}}
  reset: {`+endpoint+`, retries: {attempts: 2, budget: 100%}}
routes:
  - {name: none, match: {path: /none}, service: none}
  - {name: connect, match: {path: /connect}, service: connect}
  - {name: reset, match: {path: /reset}, service: reset}
`)
	for _, c := range []struct {
		method, path string
		status       int
		executions   int64
	}{
		{"GET", "/none", 502, 2},
		{"GET", "/connect", 502, 2},
		{"GET", "/reset", 200, 3},
		{"POST", "/none", 502, 2},
		{"POST", "/reset", 502, 2},
		{"DELETE", "/reset", 502, 2},
	} {
		// The repeat of the case before may have left a connection with one request on it.
		if g.do("GET", c.path, "").status != 200 {
			t.Fatalf("%s: no first answer", c.path)
		}
		before := seen.Load() - 1
		r := g.do(c.method, c.path, "")
		if n := seen.Load() - before; r.status != c.status || r.status == 502 && r.reason() != "upstream-failed" ||
			n != c.executions {
			t.Errorf("%s %s: %+v, %d requests came; want %d and %d", c.method, c.path, r, n, c.status, c.executions)
		}
		if c.status == 200 { // leave no used connection behind
			g.do("POST", c.path, "")
		}
	}
}

// A service that answers before it has the body: the answer comes through while the client still
// sends, and to one that has sent all.
func TestEarlyResponses(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 "+strings.TrimPrefix(req.URL.Path, "/")+" x\r\nContent-Length: 5\r\n\r\nearly")
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
	})
	g := start(t, strings.Replace(head, "maxBody: 64KiB", "maxBody: 16MiB", 1)+`
services: {a: {endpoints: ["http://`+address+`"]}}`+allToA)
	for _, status := range []int{200, 401, 500} {
		c := g.dial()
		c.send(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\npiece", status, size))
		if r := c.answer(); r.status != status || r.body != "early" {
			t.Errorf("got %+v, want %d", r, status)
		}
		if status == 200 { // it goes on when the rest has come
			c.send(strings.Repeat("x", size-len("piece")) + get("/200"))
			if r := c.answer(); r.status != 200 || r.body != "early" {
				t.Errorf("behind an early answer: %+v", r)
			}
		}
	}
}

// Pipelined requests are answered in order, whatever they take.
func TestPipelined(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method+r.URL.Path) })
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 404, body: fixed}}
  - {name: all, match: {path: /**}, service: a}
`)
	c := g.dial()
	c.send(get("/1") + "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" + get("/fixed") +
		"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n" + get("/4") +
		"GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + get("/6"))
	for _, want := range []string{"GET/1", "POST/2", "fixed", "POST/3", "GET/4", "GET/5"} {
		if r := c.answer(); r.body != want {
			t.Errorf("got %+v, want %s", r, want)
		}
	}
	if rest := c.rest(); rest != "" || s.count() != 5 {
		t.Errorf("behind Connection: close: %q, the service saw %d", rest, s.count())
	}
}
