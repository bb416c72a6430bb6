package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

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
	if !strings.HasPrefix(got, "HTTP/1.1 101") || !strings.Contains(got, "RateLimit: ") ||
		strings.Contains(got, "Sluice-Reason") || strings.Contains(got, "Idempotent") {
		t.Errorf("got %q", got)
	}
}

const upgradeRequest = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n"

// echoTunnel takes upgrades and sends every byte back; it says "hello " right behind its 101, and
// "over" when the other side has ended.
func echoTunnel(_ int64, c net.Conn, r *bufio.Reader) {
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch {
		case req.URL.Path == "/refuse":
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		case req.URL.Path == "/unasked":
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ")
		case req.URL.Path == "/other":
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: something-else\r\n\r\nhello ")
		case req.Header.Get("Upgrade") == "echo" && req.Header.Get("Connection") == "Upgrade":
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Tunnel: 1\r\n\r\nhello ")
			io.Copy(c, r)
			io.WriteString(c, "over")
			return
		default:
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"+(req.Header.Get("Upgrade") + "none")[:4])
		}
	}
}

func TestTunnel(t *testing.T) {
	t.Parallel()
	g := start(t, head+`
services:
  a: {endpoints: ["http://`+wireService(t, echoTunnel)+`"], timeout: 1500ms, breaker: {minRequests: 1}}`+allToA)
	const counted = `sluice_requests_total{code="101",reason="",route="all"}`

	c := g.dial()
	c.send(upgradeRequest + "early ") // before the 101
	resp := c.head("GET")
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "echo" || resp.Header.Get("Connection") != "Upgrade" ||
		resp.Header.Get("X-Tunnel") != "1" {
		t.Fatalf("got %+v", resp)
	}
	expect := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(c.r, b); err != nil || string(b) != want {
			t.Fatalf("got %q, %v, want %q", b, err, want)
		}
	}
	expect("hello early ")
	if n := g.metric(counted); n != 1 {
		t.Errorf("an open tunnel is counted %g times", n)
	}
	began := time.Now()
	// Longer than the service's time, which is not for tunnels.
	until(t, func() bool { return time.Since(began) > 1800*time.Millisecond })
	c.send("late ")
	expect("late ")
	c.Conn.(*net.TCPConn).CloseWrite()
	if rest := c.rest(); rest != "over" {
		t.Errorf("behind the end of the client's side: %q", rest)
	}

	c = g.dial()
	c.send(strings.Replace(upgradeRequest, "/chat", "/refuse", 1))
	if r := c.readResponse(); r.status != 403 || r.body != "no" {
		t.Errorf("a refused upgrade: %+v", r)
	}
	c.send(get("/"))
	if r := c.readResponse(); r.status != 200 || r.body != "none" {
		t.Errorf("behind a refused upgrade: %+v", r)
	}
	c.send(get("/unasked"))
	if r := c.readResponse(); r.status != 502 || r.reason() != "upstream-failed" {
		t.Errorf("an upgrade that nobody asked for: %+v", r)
	}
	if n := g.metric(counted); n != 1 {
		t.Errorf("one tunnel is counted %g times", n)
	}
}

func TestUpgradesThatAreNone(t *testing.T) {
	t.Parallel()
	g := start(t, head+`
services: {a: {endpoints: ["http://`+wireService(t, echoTunnel)+`"]}}`+allToA)
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"other protocol than asked for": {strings.Replace(upgradeRequest, "/chat", "/other", 1), 502},
		"not nominated":                 {strings.Replace(upgradeRequest, "keep-alive, Upgrade", "keep-alive", 1), 200},
		"HTTP/2 in cleartext":           {strings.Replace(upgradeRequest, "echo", "h2c", 1), 200},
		"with a body": {strings.Replace(upgradeRequest, "Host", "Content-Length: 2\r\nHost", 1) +
			"{}", 200},
		"not a GET": {strings.Replace(upgradeRequest, "GET", "DELETE", 1), 200},
		"HTTP/1.0":  {strings.Replace(upgradeRequest, "HTTP/1.1", "HTTP/1.0", 1), 200},
	} {
		w := g.dial()
		w.send(c.request)
		if r := w.readResponse(); r.status != c.status || r.status == 200 && r.body != "none" {
			t.Errorf("%s: %+v, want %d", name, r, c.status)
		}
	}
}

// A tunnel does not end by itself: the drain waits for it to its limit and then ends it.
func TestDrainEndsTunnels(t *testing.T) {
	t.Parallel()
	g := startWith(t, head+`
services: {a: {endpoints: ["http://`+wireService(t, echoTunnel)+`"]}}`+allToA, 300*time.Millisecond)
	c := g.dial()
	c.send(upgradeRequest)
	if resp := c.head("GET"); resp.StatusCode != 101 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	if _, err := io.ReadFull(c.r, make([]byte, len("hello "))); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.stop() }()
	until(t, func() bool { return strings.Contains(g.logs.String(), "draining") })
	c.send("still here")
	if _, err := io.ReadFull(c.r, make([]byte, len("still here"))); err != nil {
		t.Errorf("the drain ended a tunnel at once: %v", err)
	}
	c.rest()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
