package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// An endpoint that has left the configuration is not healthy for ever.
func TestHealthMetricLeavesWithTheEndpoint(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	conf := head + "\nservices: {a: {endpoints: [\"" + p.URL + "\"], health: {path: /healthz, every: 100ms}}}" + allToA
	g := start(t, conf)
	until(t, func() bool { return p.healthy(g) == 1 })
	g.reloaded(strings.Replace(conf, ", health: {path: /healthz, every: 100ms}", "", 1))
	if n := p.healthy(g); n != -1 {
		t.Errorf("an endpoint that nobody checks is said to be healthy: %g", n)
	}
}

// A service that closes right behind an answer, unannounced: the next POST, which comes at once,
// goes out on a new connection.
func TestClosedRightBehindTheAnswer(t *testing.T) {
	t.Parallel()
	address := wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, okay)
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["http://`+address+`"]}}`+allToA)
	c := g.dial()
	failed := 0
	for range 200 {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
		if r := c.answer(); r.status != 200 {
			failed++
		}
	}
	// A close that comes over just when the request goes out nobody can see; without a look half of
	// them failed.
	if failed > 50 {
		t.Errorf("%d of 200 failed", failed)
	}
}

// A service's Go server shows request trailers over HTTP/2 only when they were announced: the
// Trailer field is end-to-end (RFC 9110 §6.6.2 and the list of §7.6.1) and has to be passed on
// where the trailer is.
func TestAnnouncedTrailersReachHTTP2(t *testing.T) {
	t.Parallel()
	s := newHTTP2Service(t, http.HandlerFunc(trailing))
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"]}}
routes: [{name: all, match: {path: /all}, service: a}]
`)
	g.checkTrailers("/all", true)
}
