package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What HTTP/2 carries and HTTP/1.1 cannot does not get through: the service would read another
// request than the one that was routed.
func TestNothingIsSmuggledDownFromHTTP2(t *testing.T) {
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: deny, match: {path: /internal/**}, respond: {status: 403}}
  - {name: all, match: {path: /**}, service: a}
`)
	for _, c := range []struct{ method, path, authority, host string }{
		{"GET /internal/x HTTP/1.1", "/y", "a", ""},
		{"GET\t", "/y", "a", ""},
		{"GET", "/y?a HTTP/1.1", "a", ""},
		{"GET", "/y?a#b", "a", ""},
		{"GET", "/y", "a b", ""},
		{"GET", "/y", "a/../b", ""},
		{"GET", "/y", "a", "evil"},
	} {
		if status := h2(t, g.at.HTTP, c.method, c.path, c.authority, c.host); status != "400" && status != "" {
			t.Errorf("%+v: %s", c, status)
		}
	}
	if n := s.count(); n != 0 {
		t.Errorf("the service saw %d requests", n)
	}
	if status := h2(t, g.at.HTTP, "GET", "/y?a=b", "a", ""); status != "200" {
		t.Errorf("a sound request: %s", status)
	}
}

// h2 sends one request as frames and returns the status; "" when the stream or the connection was
// ended.
func h2(t *testing.T, address, method, path, authority, host string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	e := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", authority},
		{":path", path}, {"host", host}} {
		if field[1] != "" {
			e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()),
		EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return ""
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

// echoPieces sends each piece back as it comes.
func echoPieces(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)
	ctl.EnableFullDuplex() // HTTP/2 has it anyway
	ctl.Flush()
	b := make([]byte, 4<<10)
	for {
		n, err := r.Body.Read(b)
		w.Write(b[:n])
		ctl.Flush()
		if err != nil {
			return
		}
	}
}

func TestStreamingBothWays(t *testing.T) {
	t.Parallel()
	one := newStreamingService(t)
	two := newHTTP2Service(t, http.HandlerFunc(echoPieces))
	g := start(t, head+`
services: {one: {endpoints: ["`+one+`"]}, two: {endpoints: ["h2c://`+two.address+`"]}}
routes:
  - {name: one, match: {path: /one}, service: one}
  - {name: two, match: {path: /two}, service: two}
`)
	pieces := []string{"one", "two", "three"}
	for _, path := range []string{"/one", "/two"} {
		body, feed := io.Pipe()
		req, err := http.NewRequest("POST", "http://"+g.at.HTTP+path, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http2Client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range pieces {
			io.WriteString(feed, piece)
			b := make([]byte, len(piece))
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != piece {
				t.Fatalf("%s over HTTP/2: %q, %v, want %q", path, b, err, piece)
			}
		}
		feed.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 0 {
			t.Errorf("%s over HTTP/2: ends with %q, %v", path, b, err)
		}
		resp.Body.Close()

		c := g.dial()
		c.send("POST " + path + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		resp = c.head("POST")
		for _, piece := range pieces {
			c.send(string(rune('0'+len(piece))) + "\r\n" + piece + "\r\n")
			b := make([]byte, len(piece))
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != piece {
				t.Fatalf("%s over HTTP/1.1: %q, %v, want %q", path, b, err, piece)
			}
		}
		c.send("0\r\n\r\n")
		if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 0 {
			t.Errorf("%s over HTTP/1.1: ends with %q, %v", path, b, err)
		}
		c.send(get("/none"))
		if r := c.answer(); r.status != 404 {
			t.Errorf("%s: the connection does not go on: %+v", path, r)
		}
	}
}

// newStreamingService speaks HTTP/1.1 both ways at once.
func newStreamingService(t *testing.T) string {
	return "http://" + wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			b := make([]byte, 9)
			for {
				n, err := req.Body.Read(b)
				if n > 0 {
					io.WriteString(c, string(rune('0'+n))+"\r\n"+string(b[:n])+"\r\n")
				}
				if err != nil {
					break
				}
			}
			io.WriteString(c, "0\r\n\r\n")
		}
	})
}

// A client that cuts its upload off says nothing about the service, which learns of it.
func TestUploadCutOffIsNotTheServices(t *testing.T) {
	t.Parallel()
	var begun, cut atomic.Int64
	upload := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" {
			return
		}
		begun.Add(1)
		if _, err := io.ReadAll(r.Body); err != nil {
			cut.Add(1)
		}
	})
	one := httptest.NewServer(upload)
	t.Cleanup(one.Close)
	two := newHTTP2Service(t, upload)
	g := start(t, head+`
services:
  one: {endpoints: ["`+one.URL+`"], breaker: {minRequests: 1, errors: 1%, openFor: 60s}}
  two: {endpoints: ["h2c://`+two.address+`"], breaker: {minRequests: 1, errors: 1%, openFor: 60s}}
routes:
  - {name: one, match: {path: /one}, service: one}
  - {name: two, match: {path: /two}, service: two}
`)
	for _, service := range []string{"one", "two"} {
		was := begun.Load()
		for _, framing := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
			before := begun.Load()
			c := g.dial()
			c.send("POST /" + service + " HTTP/1.1\r\nHost: a\r\n" + framing + "\r\n\r\n5\r\npiece\r\n")
			until(t, func() bool { return begun.Load() > before })
			c.Close()
			until(t, func() bool { return cut.Load() == begun.Load() })
		}
		ctx, cancel := context.WithCancel(context.Background())
		body, feed := io.Pipe()
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+g.at.HTTP+"/"+service, body)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		before := begun.Load()
		go func() {
			defer close(ended)
			if resp, err := http2Client(t).Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		io.WriteString(feed, "piece")
		until(t, func() bool { return begun.Load() > before })
		cancel()
		<-ended
		feed.Close()
		until(t, func() bool { return cut.Load() == begun.Load() })
		until(t, func() bool { return g.metric("sluice_requests_in_flight") == 0 })
		if r := g.do("GET", "/"+service, ""); r.status != 200 || begun.Load() != was+3 {
			t.Errorf("%s: afterwards %+v; %d uploads", service, r, begun.Load()-was)
		}
	}
}

func TestHTTP2ConnectionLost(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	s := newHTTP2Service(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		switch r.URL.Path {
		case "/hang":
			<-r.Context().Done()
		case "/half":
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}))
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"], timeout: 20s, retries: {attempts: 2, budget: 100%}}}`+allToA)
	if r := g.do("GET", "/", ""); r.status != 200 {
		t.Fatalf("got %+v", r)
	}
	for _, message := range []string{"POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", get("/half")} {
		before := seen.Load()
		c := g.dial()
		c.send(message)
		until(t, func() bool { return seen.Load() > before })
		half := strings.HasPrefix(message, "GET /half")
		if half {
			resp := c.head("GET")
			b := make([]byte, 4)
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "half" {
				t.Fatalf("got %q, %v", b, err)
			}
			s.drop()
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("half an answer ends as a whole one, with %q", b)
			}
		} else {
			s.drop()
			if r := c.answer(); r.status != 502 || r.reason() != "upstream-failed" {
				t.Errorf("got %+v", r)
			}
		}
		if n := seen.Load() - before; n != 1 {
			t.Errorf("the service saw a request %d times", n)
		}
		if r := g.do("POST", "/", "{}"); r.status != 200 { // on a new connection
			t.Errorf("afterwards: %+v", r)
		}
	}
}

// A service that sends GOAWAY behind every answer loses no request, and gets none twice.
func TestGoAway(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	s := newHTTP2Service(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Connection", "close") // has the library send GOAWAY
	}))
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"], retries: {attempts: 2, budget: 100%}}}`+allToA)
	for i := range 40 {
		if r := g.do("POST", "/", "{}"); r.status != 200 {
			t.Errorf("request %d: %+v", i, r)
		}
	}
	if seen.Load() != 40 || s.opened.Load() < 2 {
		t.Errorf("the service saw %d requests on %d connections", seen.Load(), s.opened.Load())
	}
}

func TestInterimAnswersOfHTTP2(t *testing.T) {
	t.Parallel()
	s := newHTTP2Service(t, http.HandlerFunc(hinting))
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"]}}`+allToA)
	g.checkHints()
}

// The library shows a handler only the request trailers that a Trailer field announces, which
// HTTP/2 does not ask for; so only the answer's are looked at.
func TestTrailersOfHTTP2(t *testing.T) {
	t.Parallel()
	s := newHTTP2Service(t, http.HandlerFunc(trailing))
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"]}}
routes:
  - {name: keyed, match: {path: /keyed}, service: a, idempotency: {}}
  - {name: all, match: {path: /all}, service: a}
`)
	g.checkTrailers("/all", false)
	g.checkTrailers("/keyed", false)
}

// http2Service is an upstream that speaks cleartext HTTP/2 alone.
type http2Service struct {
	address string
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	opened  atomic.Int64
}

func newHTTP2Service(t *testing.T, h http.Handler) *http2Service {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http2Service{address: l.Addr().String(), conns: map[net.Conn]struct{}{}}
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: &p, ErrorLog: quietLog(),
		ConnState: func(c net.Conn, state http.ConnState) {
			s.mu.Lock()
			defer s.mu.Unlock()
			switch state {
			case http.StateNew:
				s.opened.Add(1)
				s.conns[c] = struct{}{}
			case http.StateClosed, http.StateHijacked:
				delete(s.conns, c)
			}
		}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-ended
	})
	return s
}

// drop breaks every connection.
func (s *http2Service) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}
