package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An answer reaches a client that is slow with its body: one of a service that did not wait, and
// that of the client's own time-out.
func TestResponseWhileTheBodyIsSlow(t *testing.T) {
	early, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	body := strings.Repeat("x", 1<<20)
	go func() {
		for {
			c, err := early.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err == nil && req.URL.Path == "/early" {
					io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 1048576\r\n\r\n"+body)
				}
				io.Copy(io.Discard, r)
			}()
		}
	}()
	g := start(t, strings.Replace(head, "maxHeader", "idleTimeout: 400ms, maxHeader", 1)+`
services: {a: {endpoints: ["http://`+early.Addr().String()+`"], timeout: 60s}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	for path, want := range map[string]string{"/early": "HTTP/1.1 401", "/never": "HTTP/1.1 400"} {
		answer := g.raw("POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
		if !strings.HasPrefix(answer, want) || !strings.Contains(answer, "Connection: close") {
			t.Errorf("%s: %.200q", path, answer)
		}
		if path == "/early" && !strings.HasSuffix(answer, "\r\n\r\n"+body) {
			t.Errorf("%s: the body came with %d bytes", path, len(answer))
		}
	}
}

// Clients that read their responses slowly say nothing about the service.
func TestSlowReadersDoNotOpenTheBreaker(t *testing.T) {
	const timeout, length, readers = time.Second, 32 << 20, 3
	sending := make(chan *progress, readers)
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			w.Header().Set("Content-Length", strconv.Itoa(length))
			p := &progress{}
			sending <- p
			io.Copy(io.MultiWriter(w, p), io.LimitReader(zeros{}, length))
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: `+timeout.String()+`, breaker: {minRequests: 2, openFor: 60s}}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	var clients []*bufio.Reader
	for range readers {
		c, err := net.Dial("tcp", g.at.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
			t.Fatalf("%q, %v", line, err)
		}
		clients = append(clients, r)
	}
	for range readers {
		service := <-sending
		until(t, func() bool { return service.stalled() > 2*timeout }) // it is held up for longer than it may take
		if n := service.bytes.Load(); n >= length {
			t.Fatalf("the service could send all %d bytes to a client that does not read", n)
		}
	}
	for _, r := range clients {
		if n, err := io.Copy(io.Discard, r); err != nil || n < length {
			t.Errorf("the slow reader got %d bytes, %v", n, err)
		}
	}
	if r := g.do("GET", "/", ""); r.status != 200 {
		t.Errorf("an innocent request: %+v", r)
	}
}

// progress counts what is written, and knows for how long nothing has been.
type progress struct{ bytes, last atomic.Int64 }

func (p *progress) Write(b []byte) (int, error) {
	p.bytes.Add(int64(len(b)))
	p.last.Store(time.Now().UnixNano())
	return len(b), nil
}

// stalled returns for how long nothing has been written; 0 before anything was.
func (p *progress) stalled() time.Duration {
	if p.bytes.Load() == 0 {
		return 0
	}
	return time.Since(time.Unix(0, p.last.Load()))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A stream that is silent for longer than the listener's idle time is not ended for it, nor a
// request that takes longer.
func TestSilentStreamsLive(t *testing.T) {
	var address atomic.Value
	idles := func() {
		if err := idlesOut(address.Load().(string)); err != nil {
			t.Error(err)
		}
	}
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			idles()
		}
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		idles()
		io.WriteString(w, "data: 2\n\n")
	})
	g := start(t, strings.Replace(head, "listen: {", "listen: {idleTimeout: 300ms, ", 1)+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 20s}}
routes: [{name: none, match: {path: /none}, respond: {status: 204}}, {name: all, match: {path: /**}, service: a}]
`)
	address.Store(g.at.HTTP)
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	for name, c := range map[string]*http.Client{"HTTP/1.1": client,
		"HTTP/2": {Transport: &http.Transport{Protocols: &h2c}}} {
		for _, path := range []string{"/", "/slow"} {
			for _, body := range []string{"", "some body"} {
				resp, err := c.Post("http://"+g.at.HTTP+path, "text/plain", strings.NewReader(body))
				if err != nil {
					t.Fatalf("%s %s: %v", name, path, err)
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(b) != "data: 1\n\ndata: 2\n\n" {
					t.Errorf("%s %s with %q: %q, %v", name, path, body, b, err)
				}
			}
		}
	}
}

// idlesOut returns when the gateway has closed a connection that was idle for as long as the
// listener has it, from its call on.
func idlesOut(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
	b, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(b), "HTTP/1.1 204") {
		err = fmt.Errorf("the connection that is to idle got %q", b)
	}
	return err
}

// A body that nobody read does not spoil the connection for the next request.
func TestRefusedBodyLeavesTheConnectionUsable(t *testing.T) {
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
limits: {none: {scope: local, rate: 1/h, burst: 1}}
routes:
  - {name: keyed, match: {path: /keyed}, service: a, idempotency: {required: true}}
  - {name: limited, match: {path: /limited}, service: a, limits: [none]}
  - {name: all, match: {path: /**}, service: a}
`)
	g.do("GET", "/limited", "")
	c, err := net.Dial("tcp", g.at.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	for _, step := range []struct {
		path string
		want int
	}{{"/keyed", 400}, {"/limited", 429}, {"/nowhere-but-all", 200}, {"/keyed", 400}, {"/x", 200}} {
		io.WriteString(c, "POST "+step.path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%s: %v", step.path, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != step.want || resp.Close {
			t.Errorf("%s: %d, close %v, %v", step.path, resp.StatusCode, resp.Close, err)
		}
	}
}
