package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A request goes on with the configuration that was in force when it came, and none is lost while
// configurations change.
func TestReloadWhileRequestsRun(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := newService(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		io.WriteString(w, "slow")
	})
	quick := newService(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "quick") })
	conf := func(i int) string {
		text := head + `
services: {quick: {endpoints: ["` + quick.URL + `"], timeout: ` + fmt.Sprint(5+i) + `s}, slow: {endpoints: ["` + slow.URL + `"], timeout: 20s}}
routes:
  - {name: quick, match: {path: /quick}, service: quick}
  - {name: slow, match: {path: /slow}, service: slow}
`
		if i > 0 { // the slow one has left
			text = strings.Replace(text, `, slow: {endpoints: ["`+slow.URL+`"], timeout: 20s}`, "", 1)
			text, _, _ = strings.Cut(text, "  - {name: slow,")
		}
		return text
	}
	g := start(t, conf(0))
	c := g.dial()
	c.send(get("/slow"))
	until(t, func() bool { return slow.count() == 1 })

	var ended atomic.Bool
	var answered atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		w := g.dial()
		all.Go(func() {
			for !ended.Load() {
				if _, err := io.WriteString(w, get("/quick")); err != nil {
					t.Errorf("a request could not be sent: %v", err)
					return
				}
				resp, err := http.ReadResponse(w.r, nil)
				if err != nil {
					t.Errorf("a request was lost: %v", err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				if resp.StatusCode != 200 || string(b) != "quick" || err != nil {
					t.Errorf("got %d %q, %v", resp.StatusCode, b, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for i := range 5 {
		g.reloaded(conf(i + 1))
		before := answered.Load()
		until(t, func() bool { return answered.Load() > before+20 || t.Failed() })
	}
	ended.Store(true)
	all.Wait()
	if r := g.do("GET", "/slow", ""); r.status != 404 {
		t.Errorf("a route that has left: %+v", r)
	}
	close(release)
	if r := c.readResponse(); r.status != 200 || r.body != "slow" {
		t.Errorf("a request from before the reloads: %+v", r)
	}
}

// Connections beyond the number are left waiting while all others have a request under way. As soon
// as one has none it gives way.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	release := make(chan struct{}, 2)
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			<-release
		}
		io.WriteString(w, "hello")
	})
	g := start(t, listening("maxConnections: 2")+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 60s}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	hello := func(w *wire) {
		t.Helper()
		if r := w.readResponse(); r.status != 200 || r.body != "hello" {
			t.Fatalf("got %+v", r)
		}
	}
	one, two := g.dial(), g.dial()
	one.send(get("/held"))
	two.send(get("/held"))
	until(t, func() bool { return s.count() == 2 })
	three := g.dial()
	three.send(get("/"))
	answered := make(chan error, 1)
	go func() {
		_, err := three.r.Peek(1)
		answered <- err
	}()
	for range 20 {
		if n := g.metric("sluice_requests_in_flight"); n != 2 {
			t.Errorf("%v requests are under way", n)
		}
	}
	select {
	case err := <-answered:
		t.Errorf("a third connection was served beside two: %v", err)
	default:
	}
	release <- struct{}{}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	hello(three)
	release <- struct{}{}
}

// What is refused for its size says so in the contract's form, also to a client that is still
// sending.
func TestTooLong(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: keyed, match: {path: /keyed}, service: a, idempotency: {}}
  - {name: all, match: {path: /**}, service: a}
`)
	long := strings.Repeat("x", 5000)
	body := strings.Repeat("x", 80<<10) // beyond 64 KiB
	inChunks := strings.Repeat("1000\r\n"+body[:4096]+"\r\n", 20)
	for name, c := range map[string]struct {
		message, reason string
		status          int
	}{
		"a field": {"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + long + "\r\n\r\n", "header-too-large", 431},
		"many fields": {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: b\r\n", 800) + "\r\n",
			"header-too-large", 431},
		"a field without end": {"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("x", 100<<10),
			"header-too-large", 431},
		"the target":        {"GET /" + long + " HTTP/1.1\r\nHost: a\r\n\r\n", "header-too-large", 414},
		"an announced body": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 81920\r\n\r\n", "body-too-large", 413},
		"a body that comes too": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 81920\r\n\r\n" + body,
			"body-too-large", 413},
		"a chunked body": {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + inChunks,
			"body-too-large", 413},
		"a keyed chunked body": {"POST /keyed HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n" + inChunks, "body-too-large", 413},
		"a length beyond all": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", "",
			0},
	} {
		w := g.dial()
		w.send(c.message) // and the client goes on to wait, with its side open
		r := w.readResponse()
		if c.status == 0 && (r.status == 413 || r.status == 400) {
			continue
		}
		var p struct {
			Reason string
			Status int
		}
		if err := json.Unmarshal([]byte(r.body), &p); err != nil || p.Reason != c.reason || p.Status != c.status {
			t.Errorf("%s: the body is %q", name, r.body)
		}
		if r.status != c.status || r.reason() != c.reason ||
			r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %+v, want %d %s", name, r, c.status, c.reason)
		}
		if rest := w.rest(); rest != "" { // and it is closed
			t.Errorf("%s: behind the refusal: %q", name, rest)
		}
	}
}
