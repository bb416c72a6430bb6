package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A service that closes without a response while its client rests with the body: the client is told
// at once.
func TestFailureDoesNotWaitForARestingClient(t *testing.T) {
	t.Parallel()
	address := wireService(t, func(_ int64, _ net.Conn, r *bufio.Reader) { r.ReadString('\n') })
	g := start(t, head+`
services: {a: {endpoints: ["http://`+address+`"], timeout: 60s}}`+allToA)
	for range 20 {
		c := g.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
		if r := c.readResponse(); r.status != 502 {
			t.Fatalf("got %+v", r)
		}
		c.Close()
	}
}

// A long body that was read already, for its key: the service refuses it after its head and takes
// no more. The refusal is the response.
func TestEarlyResponseToALongBodyInMemory(t *testing.T) {
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

func TestUploadsCutOff(t *testing.T) {
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	for name, c := range map[string]*http.Client{"HTTP/2": {Transport: &http.Transport{Protocols: &p}},
		"HTTP/1.1": {Transport: &http.Transport{}}} {
		for range 60 {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			body, feed := io.Pipe()
			context.AfterFunc(ctx, func() { feed.CloseWithError(ctx.Err()) })
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+g.at.HTTP+"/", body)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if resp, err := c.Do(req); err == nil {
					resp.Body.Close()
					t.Errorf("%s: an upload that was cut off got %d", name, resp.StatusCode)
				}
			}()
			for range 4 {
				io.WriteString(feed, "piece")
			}
			cancel()
			<-ended
		}
	}
	if r := g.do("GET", "/", ""); r.status != 200 {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestBrokenBodyIsABadRequest(t *testing.T) {
	s := newService(t, echo)
	g := start(t, strings.Replace(head, "listen: {", "listen: {idleTimeout: 300ms, ", 1)+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 20s}}
routes:
  - {name: keyed, match: {path: /keyed}, service: a, idempotency: {}}
  - {name: all, match: {path: /**}, service: a}
`)
	for _, path := range []string{"/", "/keyed"} {
		for name, message := range map[string]string{
			"a malformed chunk": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
			"a stalled upload":  "Content-Length: 10\r\n\r\nabc",
		} {
			// Net/http takes its time-out for a client that has gone: closed, without a response.
			stalled := path == "/" && strings.HasPrefix(name, "a stalled")
			response := g.raw("POST " + path + " HTTP/1.1\r\nHost: a\r\nIdempotency-Key: " +
				strings.ReplaceAll(name, " ", "-") + "\r\n" + message)
			if stalled && response == "" {
				continue
			}
			if !strings.HasPrefix(response, "HTTP/1.1 400") ||
				!strings.Contains(response, "Sluice-Reason: bad-request") ||
				!strings.Contains(response, "Connection: close") {
				t.Errorf("%s at %s: %.150q", name, path, response)
			}
		}
	}
}
