package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
)

const expecting = "POST %s HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"

// The service decides whether it wants a body; the gateway does not ask for it in its name.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Header.Get("Expect") != "100-continue" {
			io.WriteString(c, "HTTP/1.1 500 no Expect\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if req.URL.Path == "/no" {
			io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
			return
		}
		if req.URL.Path == "/yes" {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		b, err := io.ReadAll(req.Body)
		if err == nil {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["http://`+address+`"]}}
routes:
  - {name: keyed, match: {path: /yes/keyed}, service: a, idempotency: {required: true}}
  - {name: deny, match: {path: /deny}, respond: {status: 403}}
  - {name: all, match: {path: /**}, service: a}
`)
	c := g.dial()
	c.send(fmt.Sprintf(expecting, "/no"))
	if r := c.answer(); r.status != 417 || r.body != "no" {
		t.Errorf("a service that does not want it: %+v", r)
	}
	if rest := c.rest(); rest != "" {
		t.Errorf("behind the refusal: %q", rest)
	}
	for _, path := range []string{"/yes", "/silent"} { // one that says nothing wants it after a while
		c = g.dial()
		c.send(fmt.Sprintf(expecting, path))
		if resp := c.head("POST"); resp.StatusCode != 100 {
			t.Errorf("%s: the client was not asked for its body: %d", path, resp.StatusCode)
			continue
		}
		c.send("body")
		if r := c.answer(); r.status != 200 || r.body != "body" {
			t.Errorf("%s: %+v", path, r)
		}
	}
	// Refused by the gateway: without a body, and so closed.
	for path, want := range map[string]int{"/deny": 403, "/yes/keyed": 400} {
		c = g.dial()
		c.send(fmt.Sprintf(expecting, path))
		if r := c.answer(); r.status != want {
			t.Errorf("%s: %+v, want %d", path, r, want)
		}
		if rest := c.rest(); rest != "" {
			t.Errorf("%s: behind the refusal: %q", path, rest)
		}
	}
}

// hinting sends two interim answers before its answer.
func hinting(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", "</a.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	w.WriteHeader(http.StatusProcessing)
	io.WriteString(w, "done")
}

func TestEarlyHints(t *testing.T) {
	t.Parallel()
	s := newService(t, hinting)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
	g.checkHints()
}

// checkHints asks a service that is hinting, with each protocol.
func (g *running) checkHints() {
	t := g.t
	t.Helper()
	c := g.dial()
	c.send(get("/"))
	if resp := c.head("GET"); resp.StatusCode != 103 || resp.Header.Get("Link") != "</a.css>; rel=preload" {
		t.Errorf("got %+v", resp)
	}
	if resp := c.head("GET"); resp.StatusCode != 102 {
		t.Errorf("got %+v", resp)
	}
	if r := c.answer(); r.status != 200 || r.body != "done" || r.header.Get("Link") != "" {
		t.Errorf("got %+v", r)
	}
	if r := g.raw("GET / HTTP/1.0\r\n\r\n"); strings.Contains(r, "Early") || strings.Count(r, "HTTP/1.") != 1 ||
		!strings.HasSuffix(r, "done") {
		t.Errorf("a client of HTTP/1.0 got %q", r)
	}
	var hints []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h.Get("Link")))
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), "GET",
		"http://"+g.at.HTTP+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if strings.Join(hints, ",") != "103</a.css>; rel=preload,102" || resp.StatusCode != 200 {
		t.Errorf("over HTTP/2: %d with %q", resp.StatusCode, hints)
	}
}

// trailing answers with the request's body and trailer, each as such.
func trailing(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	http.NewResponseController(w).EnableFullDuplex()
	http.NewResponseController(w).Flush() // else it would have a length, behind which HTTP/1.1 has no trailer
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Write(b)
	w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
	w.Header().Set(http.TrailerPrefix+"X-Late", "late")
}

func TestTrailers(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(trailing))
	t.Cleanup(s.Close)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: keyed, match: {path: /keyed}, service: a, idempotency: {}}
  - {name: all, match: {path: /all}, service: a}
`)
	g.checkTrailers("/all", true)
	g.checkTrailers("/keyed", true)
}

// checkTrailers asks a service that is trailing, with each protocol. asked: it sees the request's
// trailer.
func (g *running) checkTrailers(path string, asked bool) {
	t := g.t
	t.Helper()
	c := g.dial()
	c.send("POST " + path + " HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"4\r\nbody\r\n0\r\nX-Sum: 42\r\nContent-Length: 7\r\nHost: evil\r\n\r\n")
	resp := c.head("POST")
	b, err := io.ReadAll(resp.Body)
	if err != nil || string(b) != "body" || asked && resp.Trailer.Get("X-Sum") != "42" ||
		resp.Trailer.Get("X-Late") != "late" {
		t.Errorf("%s over HTTP/1.1: %q, %v, trailer %v", path, b, err, resp.Trailer)
	}
	c.send(get("/none")) // the connection goes on
	if r := c.answer(); r.status != 404 {
		t.Errorf("%s: behind a trailer: %+v", path, r)
	}

	req, err := http.NewRequest("POST", "http://"+g.at.HTTP+path, struct{ io.Reader }{strings.NewReader("body")})
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Sum": {"43"}}
	resp, err = http2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err = io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(b) != "body" || asked && resp.Trailer.Get("X-Sum") != "43" ||
		resp.Trailer.Get("X-Late") != "late" {
		t.Errorf("%s over HTTP/2: %q, %v, trailer %v", path, b, err, resp.Trailer)
	}
}
