package gateway

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 20 * time.Second // until a test gives up on a condition

const allToA = `
routes: [{name: all, match: {path: /**}, service: a}]
`

// wireService is a service that speaks bytes: each connection is handled by the function, with its
// number from 1 on. It returns the address. The connections end with the test.
func wireService(t *testing.T, handle func(n int64, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		l.Close()
		cancel()
		all.Wait()
	})
	var n atomic.Int64
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer context.AfterFunc(ctx, func() { c.Close() })()
				defer c.Close()
				c.SetDeadline(time.Now().Add(2 * patience))
				handle(n.Add(1), c, bufio.NewReader(c))
			})
		}
	})
	return l.Addr().String()
}

// wire is a client that speaks bytes.
type wire struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (g *running) dial() *wire {
	g.t.Helper()
	c, err := net.Dial("tcp", g.at.HTTP)
	if err != nil {
		g.t.Fatal(err)
	}
	return newWire(g.t, c)
}

func newWire(t *testing.T, c net.Conn) *wire {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &wire{c, t, bufio.NewReader(c)}
}

func (w *wire) send(message string) {
	w.t.Helper()
	if _, err := io.WriteString(w, message); err != nil {
		w.t.Fatal(err)
	}
}

// head reads the head of an answer, an interim one too.
func (w *wire) head(method string) *http.Response {
	w.t.Helper()
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	return resp
}

// answer reads a whole answer to a GET or POST.
func (w *wire) answer() got {
	w.t.Helper()
	resp := w.head("GET")
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%d, and the body ends with %v behind %q", resp.StatusCode, err, b)
	}
	return got{resp.StatusCode, resp.Header, string(b)}
}

// rest reads until the connection ends. A reset is an end too.
func (w *wire) rest() string {
	w.t.Helper()
	b, err := io.ReadAll(w.r)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		w.t.Fatalf("the connection stays open behind %.200q", b)
	}
	return string(b)
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a.test\r\n\r\n" }

// http2Client returns a client that speaks cleartext HTTP/2 with the gateway.
func http2Client(t *testing.T) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// listening adds settings to those of the listener.
func listening(settings string) string {
	return strings.Replace(head, "listen: {", "listen: {"+settings+", ", 1)
}

// reloaded has a new configuration applied.
func (g *running) reloaded(text string) {
	g.t.Helper()
	const applied = `sluice_config_reloads_total{result="applied"}`
	before := g.metric(applied)
	g.configure(text)
	g.reload <- struct{}{}
	until(g.t, func() bool { return g.metric(applied) > before })
}

// quietLog is for servers whose clients are refused on purpose.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
