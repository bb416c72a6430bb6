package gateway

import (
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// Where all connections idle, of HTTP/1.1 and of HTTP/2, a newcomer gets the place of one of them.
func TestIdleConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, listening("maxConnections: 6")+`
services: {a: {endpoints: ["`+s.URL+`"]}}
`+allToA)
	for _, kind := range []string{"HTTP/1.1", "HTTP/2", "nothing sent"} {
		for range 6 {
			switch kind {
			case "HTTP/1.1":
				w := g.dial()
				w.send(get("/y"))
				w.readResponse()
			case "HTTP/2":
				w := g.dial()
				w.send(http2.ClientPreface)
				f := http2.NewFramer(w, w.r)
				if err := f.WriteSettings(); err != nil {
					t.Fatal(err)
				}
				if _, err := f.ReadFrame(); err != nil {
					t.Fatal(err)
				}
			default:
				g.dial()
			}
		}
		for range 3 {
			c := &http.Client{Transport: &http.Transport{}, Timeout: waitLimit}
			resp, err := c.Get("http://" + g.at.HTTP + "/y")
			if err != nil {
				t.Fatalf("a newcomer beside connections of the kind %s: %v", kind, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %d %v", kind, resp.StatusCode, err)
			}
			resp.Body.Close()
			t.Cleanup(c.CloseIdleConnections)
		}
	}
}
