package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What a service may do to the gateway, and what its client gets.
func TestHostileServices(t *testing.T) {
	t.Parallel()
	var after atomic.Int64 // requests on a connection behind one of these responses
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for n := 0; ; n++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if n > 0 {
				after.Add(1)
			}
			misbehave(c, req.URL.Path)
		}
	})
	services := "services: {a: {endpoints: [\"http://" + address + "\"], timeout: 20s}, " +
		"short: {endpoints: [\"http://" + address + "\"], timeout: 1200ms}}\n"
	routes := "routes:\n"
	for _, path := range []string{"drip", "silent", "chunk-stops", "stops"} { // what ends with the timeout alone
		routes += "  - {name: keyed-" + path + ", match: {methods: [POST], path: /" + path +
			"}, service: short, idempotency: {}}\n" +
			"  - {name: " + path + ", match: {path: /" + path + "}, service: short}\n"
	}
	g := start(t, head+services+routes+`
  - {name: keyed, match: {methods: [POST], path: /**}, service: a, idempotency: {}}
  - {name: all, match: {path: /**}, service: a}
`)
	for _, c := range []struct {
		path, reason string
		status       int
		broken       bool // the head is sound and the body is not: it streams, and may not look whole
	}{
		{"/drip", "upstream-timeout", 504, false},
		{"/silent", "upstream-timeout", 504, false},
		{"/headers", "upstream-failed", 502, false},
		{"/line", "upstream-failed", 502, false},
		{"/interim", "upstream-failed", 502, false},
		{"/both", "upstream-failed", 502, false},
		{"/lengths", "upstream-failed", 502, false},
		{"/negative", "upstream-failed", 502, false},
		{"/split", "upstream-failed", 502, false},
		{"/http0.9", "upstream-failed", 502, false},
		{"/chunk-huge", "upstream-failed", 502, true},
		{"/chunk-extension", "upstream-failed", 502, true},
		{"/chunk-line", "upstream-failed", 502, true},
		{"/chunk-negative", "upstream-failed", 502, true},
		{"/chunk-trailer", "upstream-failed", 502, true},
		{"/chunk-stops", "upstream-timeout", 504, true},
		{"/short", "upstream-failed", 502, true},
		{"/stops", "upstream-timeout", 504, true},
	} {
		if r := g.do("POST", c.path, "{}", "Idempotency-Key", c.path); r.status != c.status || r.reason() != c.reason {
			t.Errorf("keyed %s: %+v, want %d %s", c.path, r, c.status, c.reason)
		}
		w := g.dial()
		w.send(get(c.path))
		resp := w.head("GET")
		for resp.StatusCode < 200 {
			resp = w.head("GET")
		}
		body, err := io.ReadAll(resp.Body)
		if !c.broken && (resp.StatusCode != c.status || resp.Header.Get("Sluice-Reason") != c.reason || err != nil) {
			t.Errorf("%s: %d %s, %v, want %d %s", c.path, resp.StatusCode, resp.Header.Get("Sluice-Reason"), err,
				c.status, c.reason)
		}
		if c.broken && (resp.StatusCode != 200 || err == nil) {
			t.Errorf("%s: %d, and the body looks whole: %.100q", c.path, resp.StatusCode, body)
		}
		if strings.Contains(string(body), "evil") {
			t.Errorf("%s: the client got %.300q", c.path, body)
		}
	}
	// What lies behind a body of the announced length is not a response to anything.
	for range 5 {
		if r := g.do("GET", "/long", ""); r.status != 200 || r.body != "ok" {
			t.Errorf("/long: %+v", r)
		}
	}
	if n := after.Load(); n != 0 {
		t.Errorf("%d requests were sent behind an unsound response", n)
	}
	if r := g.do("GET", "/fine", ""); r.status != 200 || r.body != "ok" {
		t.Errorf("afterwards: %+v", r)
	}
}

const (
	okHead = "HTTP/1.1 200 OK\r\n"
	inBits = okHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"
)

// misbehave answers as the path says, and closes the connection where the response alone is not the
// trick.
func misbehave(c net.Conn, path string) {
	write := func(s string) bool {
		_, err := io.WriteString(c, s)
		return err == nil
	}
	endless := func(begin, piece string) {
		for ok := write(begin); ok; ok = write(piece) {
		}
	}
	response, whole := map[string]string{
		"/both":            okHead + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
		"/lengths":         okHead + "Content-Length: 4\r\nContent-Length: 2\r\n\r\nevil",
		"/negative":        okHead + "Content-Length: -4\r\n\r\nevil",
		"/split":           okHead + "X-A: b\rX-Evil: c\r\nContent-Length: 4\r\n\r\nevil",
		"/http0.9":         "<html>evil</html>",
		"/chunk-huge":      inBits + "fffffffffffffffff\r\nevil",
		"/chunk-extension": inBits + "4;" + strings.Repeat("x", 1<<20) + "\r\nevil\r\n0\r\n\r\n",
		"/chunk-line":      inBits + strings.Repeat("0", 1<<20) + "4\r\nevil\r\n0\r\n\r\n",
		"/chunk-negative":  inBits + "-4\r\nevil\r\n0\r\n\r\n",
		"/chunk-trailer":   inBits + "0\r\n" + strings.Repeat("X-A: evil\r\n", 1<<16) + "\r\n",
		"/short":           okHead + "Content-Length: 100\r\n\r\nshort",
	}[path]
	if whole {
		write(response)
		c.Close()
		return
	}
	switch path {
	case "/drip":
		pace := time.NewTicker(5 * time.Millisecond) // this is the trick: there is always something to read
		defer pace.Stop()
		for _, b := range []byte("HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 1<<20)) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			<-pace.C
		}
	case "/silent":
		io.Copy(io.Discard, c)
	case "/headers":
		endless(okHead, "X-A: "+strings.Repeat("a", 1000)+"\r\n")
	case "/line":
		endless(okHead+"X-A: ", strings.Repeat("a", 1000))
	case "/interim":
		endless("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
	case "/chunk-stops":
		write(inBits + "4\r\nbo")
		io.Copy(io.Discard, c)
	case "/stops":
		write(okHead + "Content-Length: 100\r\n\r\nshort")
		io.Copy(io.Discard, c)
	case "/long":
		write(okay + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
	default:
		write(okay)
	}
}
