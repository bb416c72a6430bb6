package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a client says in a dialogue reaches the service after a rest of any length. The dialogue ends
// when the service ends it: the client learns that at once, and cannot hold the exchange by a body
// that it does not end.
func TestRestEndsWithTheStream(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		c.EnableFullDuplex()
		w.Header().Set("Content-Type", "text/event-stream")
		c.Flush()
		b := make([]byte, len("more"))
		for {
			if _, err := io.ReadFull(r.Body, b); err != nil || string(b) == "last" {
				return
			}
			w.Write(b)
			c.Flush()
		}
	}))
	t.Cleanup(s.Close)
	g := start(t, strings.Replace(head, "listen: {", "listen: {idleTimeout: 300ms, ", 1)+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 200ms}}
routes:
  - {name: none, match: {path: /none}, respond: {status: 204}}
  - {name: all, match: {path: /**}, service: a}
`)
	for name, c := range map[string]*http.Client{"HTTP/1.1": client, "HTTP/2": http2Client(t)} {
		body, feed := io.Pipe()
		resp, err := c.Post("http://"+g.at.HTTP+"/", "text/plain", body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for range 2 {
			if err := idlesOut(g.at.HTTP); err != nil {
				t.Fatal(err)
			}
			feed.Write([]byte("more"))
			b := make([]byte, len("more"))
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "more" {
				t.Fatalf("%s: %q, %v", name, b, err)
			}
		}
		feed.Write([]byte("last"))
		if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 {
			t.Errorf("%s: ends with %q, %v", name, b, err)
		}
		until(t, func() bool { return g.metric("sluice_requests_in_flight") == 0 })
		feed.Close()
		resp.Body.Close()
	}
}
