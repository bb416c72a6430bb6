package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// paced is a service that sends its head at once and then pieces, each after a pause of so many
// milliseconds: ?type=, pieces=, pause=, and end=, which is "" or what it does in place of the end:
// hang or break.
func paced(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	pieces, _ := strconv.Atoi(q.Get("pieces"))
	pause, _ := strconv.Atoi(q.Get("pause"))
	if kind := q.Get("type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	flush := http.NewResponseController(w).Flush
	flush()
	for range pieces {
		select {
		case <-time.After(time.Duration(pause) * time.Millisecond):
		case <-r.Context().Done():
			return
		}
		w.Write(framed("p"))
		flush()
	}
	switch q.Get("end") {
	case "hang":
		<-r.Context().Done()
	case "break":
		panic(http.ErrAbortHandler)
	default:
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
}

// pacedGateway stands before such a service over HTTP/1.1, the routes /one/**, and over HTTP/2,
// /two/**.
func pacedGateway(t *testing.T, service, route string) *running {
	one, two := newService(t, paced), newHTTP2Service(t, http.HandlerFunc(paced))
	of := func(endpoint string) string {
		return `{endpoints: ["` + endpoint + `"], ` + service + `}`
	}
	return start(t, strings.Replace(head, "listen: {", "listen: {idleTimeout: 300ms, ", 1)+`
services: {one: `+of(one.URL)+`, two: `+of("h2c://"+two.address)+`}
routes:
  - {name: one, match: {path: /one/**}, service: one`+route+`}
  - {name: two, match: {path: /two/**}, service: two`+route+`}
`)
}

// A response may take any time as long as it goes on; a stream may be silent, too.
func TestResponsesOutliveTheTimeout(t *testing.T) {
	t.Parallel()
	g := pacedGateway(t, "timeout: 2s, breaker: {minRequests: 1, slow: {over: 2500ms}, openFor: 60s}", "")
	var all sync.WaitGroup
	for name, c := range map[string]*http.Client{"HTTP/1.1": client, "HTTP/2": http2Client(t)} {
		for _, service := range []string{"one", "two"} {
			for _, what := range []string{
				"pieces=25&pause=100", "pieces=2&pause=2300&type=text/event-stream",
				"pieces=2&pause=2300&type=application/x-ndjson%3Bcharset=utf-8",
				"pieces=2&pause=2300&type=application/grpc",
			} {
				all.Go(func() {
					resp, err := c.Get("http://" + g.at.HTTP + "/" + service + "/?" + what)
					if err != nil {
						t.Errorf("%s %s %s: %v", name, service, what, err)
						return
					}
					defer resp.Body.Close()
					b, err := io.ReadAll(resp.Body)
					if n := strings.Count(string(b), string(framed("p"))); err != nil || n != 2 && n != 25 {
						t.Errorf("%s %s %s: %q, %v", name, service, what, b, err)
					}
				})
			}
		}
	}
	all.Wait()
	for _, service := range []string{"one", "two"} {
		if n := g.metric(`sluice_requests_total{code="200",reason="",route="` + service + `"}`); n != 8 {
			t.Errorf("%s: %v responses are counted as whole", service, n)
		}
		if n := g.metric(`sluice_breaker_state{service="` + service + `"}`); n != 0 {
			t.Errorf("the breaker of %s is %v", service, n)
		}
		// Of the streams what counts is their heads.
		const le = `sluice_request_duration_seconds_bucket{route="%s",le="2.5"}`
		if n := g.metric(fmt.Sprintf(le, service)); n != 6 {
			t.Errorf("%s: %v of 6 streams took less time than a pause in them", service, n)
		}
	}
}

// A response that breaks or falls silent behind its head ends so that no client takes it for whole,
// and the metrics and the log say so. A stream has a silence of its own.
func TestCutResponses(t *testing.T) {
	t.Parallel()
	g := pacedGateway(t, "timeout: 2s, streamIdleTimeout: 3s", "")
	var all sync.WaitGroup
	for name, c := range map[string]*http.Client{"HTTP/1.1": client, "HTTP/2": http2Client(t)} {
		for _, service := range []string{"one", "two"} {
			for _, what := range []string{
				"end=hang", "end=break", "pieces=1&end=hang", "pieces=1&end=hang&type=text/event-stream",
				"pieces=1&end=break&type=text/event-stream",
			} {
				all.Go(func() {
					began := time.Now()
					resp, err := c.Get("http://" + g.at.HTTP + "/" + service + "/?" + what)
					if err != nil {
						t.Errorf("%s %s %s: %v", name, service, what, err)
						return
					}
					defer resp.Body.Close()
					b, err := io.ReadAll(resp.Body)
					if err == nil || len(b) > 0 != strings.HasPrefix(what, "pieces") {
						t.Errorf("%s %s %s: %q, %v", name, service, what, b, err)
					}
					least := 2 * time.Second
					if strings.HasSuffix(what, "stream") {
						least = 3 * time.Second
					}
					if took := time.Since(began); took < least && strings.Contains(what, "hang") {
						t.Errorf("%s %s %s: cut off after %v", name, service, what, took)
					}
				})
			}
		}
	}
	all.Wait()
	for _, service := range []string{"one", "two"} {
		for reason, want := range map[string]float64{"upstream-timeout": 6, "upstream-failed": 4} {
			const metric = `sluice_requests_total{code="200",reason="%s",route="%s"}`
			until(t, func() bool { return g.metric(fmt.Sprintf(metric, reason, service)) == want })
		}
	}
	logs := g.logs.String()
	for _, want := range []string{"route=one service=one reason=upstream-", "endpoint 127.0.0.1:", "request="} {
		if !strings.Contains(logs, want) {
			t.Errorf("the log does not have %q", want)
		}
	}
	if n := strings.Count(logs, "cut off behind its head"); n == 0 || n > 8 {
		t.Errorf("%d lines about 20 responses", n)
	}
}

// A client of gRPC gets a status, whatever went wrong and when.
func TestStatusOfCutGRPC(t *testing.T) {
	t.Parallel()
	s := newHTTP2Service(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/headless") {
			if r.URL.Query().Get("end") == "break" {
				panic(http.ErrAbortHandler)
			}
			<-r.Context().Done()
			return
		}
		io.Copy(io.Discard, r.Body)
		paced(w, r)
	}))
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"], timeout: 1s, streamIdleTimeout: 4s}}`+allToA)
	c := http2Client(t)
	for path, want := range map[string]string{
		"/headless?end=hang":                              "head 4",
		"/headless?end=break":                             "head 14",
		"/?pieces=1&end=hang&type=application/grpc":       "trailer 4",
		"/?pieces=1&end=break&type=application/grpc":      "trailer 14",
		"/?pieces=2&pause=1200&type=application/grpc%2Bx": "trailer 0",
	} {
		r := grpcCall(t, c, "http://"+g.at.HTTP+path, "")
		text := r.header.Get("Grpc-Message") + r.trailer.Get("Grpc-Message")
		if r.status() != want || want != "trailer 0" && text == "" {
			t.Errorf("%s: %s with %v, %v", path, r.status(), r.header, r.trailer)
		}
	}
}

// A client that only listens in a dialogue is not cut off for that, nor for the time that it takes
// for its upload.
func TestClientsMayRestInStreams(t *testing.T) {
	t.Parallel()
	s := newGRPCService(t)
	g := start(t, strings.Replace(head, "listen: {", "listen: {idleTimeout: 300ms, ", 1)+`
services: {a: {endpoints: ["h2c://`+s.address+`"], timeout: 200ms}}`+grpcRoutes+`
  - {name: none, match: {path: /none}, respond: {status: 204}}
`)
	for _, path := range []string{"/plain/talk", "/s/talk"} {
		body, feed := io.Pipe()
		resp, err := http2Client(t).Do(grpcRequest(t, "http://"+g.at.HTTP+path, "k", body))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := idlesOut(g.at.HTTP); err != nil {
				t.Fatal(err)
			}
			feed.Write(framed("still here"))
			b := make([]byte, len(framed("still here")))
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != string(framed("still here")) {
				t.Fatalf("%s: %q, %v", path, b, err)
			}
		}
		feed.Close()
		if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("Grpc-Status") != "0" {
			t.Errorf("%s: ends with %v, %v", path, err, resp.Trailer)
		}
		resp.Body.Close()
	}
}

// A client that rests within its upload for longer than the service may take is not the service's
// fault.
func TestRestingUploads(t *testing.T) {
	t.Parallel()
	one := newService(t, echo)
	two := newHTTP2Service(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		echo(w, r)
	}))
	g := start(t, head+`
services:
  one: {endpoints: ["`+one.URL+`"], timeout: 1s, breaker: {minRequests: 1}}
  two: {endpoints: ["h2c://`+two.address+`"], timeout: 1s, breaker: {minRequests: 1}}
routes:
  - {name: one, match: {path: /one}, service: one}
  - {name: two, match: {path: /two}, service: two, timeout: 1200ms}
`)
	for _, path := range []string{"/one", "/two"} {
		c := g.dial()
		c.send("POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
		for range 2 {
			began := time.Now()
			until(t, func() bool { return time.Since(began) > 1500*time.Millisecond })
			c.send("x")
		}
		if r := c.readResponse(); r.status != 200 {
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// A route may give an attempt more time than the service's other routes.
func TestTimeoutOfARoute(t *testing.T) {
	t.Parallel()
	wait := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(700 * time.Millisecond):
		case <-r.Context().Done():
		}
	}
	one, two := newService(t, wait), newHTTP2Service(t, http.HandlerFunc(wait))
	g := start(t, head+`
services:
  one: {endpoints: ["`+one.URL+`"], timeout: 200ms}
  two: {endpoints: ["h2c://`+two.address+`"], timeout: 200ms}
routes:
  - {name: one-long, match: {path: /one/long}, service: one, timeout: 15s}
  - {name: two-long, match: {path: /two/long}, service: two, timeout: 15s}
  - {name: one, match: {path: /one}, service: one}
  - {name: two, match: {path: /two}, service: two}
`)
	for path, want := range map[string]int{"/one": 504, "/two": 504, "/one/long": 200, "/two/long": 200} {
		r := g.do("GET", path, "")
		if r.status != want || want == 504 && !strings.Contains(r.body, "within 200ms") {
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// An upgraded connection ends when both sides have been silent, and that is counted and logged.
func TestSilentTunnelsEnd(t *testing.T) {
	t.Parallel()
	g := start(t, head+`
services: {a: {endpoints: ["http://`+wireService(t, echoTunnel)+`"], streamIdleTimeout: 400ms}}`+allToA)
	c := g.dial()
	c.send(upgradeRequest)
	if resp := c.head("GET"); resp.StatusCode != 101 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	if got := c.rest(); got != "hello " {
		t.Errorf("got %q", got)
	}
	until(t, func() bool {
		return g.metric(`sluice_tunnels_ended_total{reason="upstream-timeout",route="all"}`) == 1
	})
	if logs := g.logs.String(); !strings.Contains(logs, "upgraded connection was silent") ||
		!strings.Contains(logs, "endpoint=127.0.0.1:") {
		t.Error(logs)
	}
	c = g.dial()
	c.send(upgradeRequest)
	c.head("GET")
	c.Close()
	until(t, func() bool { return g.metric(`sluice_tunnels_ended_total{reason="",route="all"}`) == 1 })
}

// Streams that are cut off leave the breaker of their service closed, and those that last are good
// probes at their heads. Other responses that are cut off open it.
func TestStreamsAndTheBreaker(t *testing.T) {
	t.Parallel()
	sound := make(chan struct{})
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-sound:
			paced(w, r)
		default:
			w.WriteHeader(500)
		}
	})
	g := start(t, head+`
services:
  a:
    endpoints: ["`+s.URL+`"]
    timeout: 1s
    streamIdleTimeout: 20s
    breaker: {minRequests: 2, window: 60s, openFor: 100ms, probes: 3, slow: {over: 2s}}`+allToA)
	const state = `sluice_breaker_state{service="a"}`
	for range 2 {
		g.do("GET", "/", "")
	}
	if n := g.metric(state); n != 2 {
		t.Fatalf("the breaker is %v behind two failures", n)
	}
	close(sound)
	ctx, leave := context.WithCancel(t.Context())
	var open, heads sync.WaitGroup
	for i := range 25 {
		end := "hang"
		if i%2 == 0 {
			end = "break&pieces=1&pause=200"
		}
		heads.Add(1)
		open.Go(func() {
			for g.drop(ctx, "/?type=text/event-stream&end="+end, heads.Done) != 200 { // it is open, or has its probes
			}
		})
	}
	heads.Wait() // as more than three probes may only when the breaker has closed
	until(t, func() bool {
		return g.metric(`sluice_requests_total{code="200",reason="upstream-failed",route="all"}`) == 13
	})
	if n := g.metric(state); n != 0 {
		t.Errorf("the breaker is %v behind 25 streams", n)
	}
	leave()
	open.Wait()

	for range 30 {
		open.Go(func() { g.drop(t.Context(), "/?end=hang", func() {}) })
	}
	until(t, func() bool { return g.metric(state) == 2 })
	open.Wait()
}

// drop asks for something, calls headed when a success has begun, and reads to the end, of whatever
// kind. It returns the status.
func (g *running) drop(ctx context.Context, path string, headed func()) int {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.at.HTTP+path, nil)
	if err != nil {
		g.t.Error(err)
		headed()
		return 200
	}
	resp, err := client.Do(req)
	if err != nil {
		g.t.Error(err)
		headed()
		return 200
	}
	defer resp.Body.Close()
	if resp.StatusCode == 200 {
		headed()
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// What the gateway reads for its own ends is bounded as a whole, since silence does not bound it: a
// body that is to be recorded by maxInFlight, as is a stream whose client has left; the response to
// a probe by the longest that a call can take.
func TestTricklingIsBoundedWhereTheGatewayReads(t *testing.T) {
	t.Parallel()
	ended := make(chan string, 8)
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unknown" {
			w.WriteHeader(500)
			return
		}
		paced(w, r)
		ended <- r.URL.Path
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 500ms}}
routes:
  - name: plain
    match: {path: /plain}
    service: a
    idempotency: &short {lease: 1s, maxInFlight: 1s, whileInFlight: reject}
  - {name: stream, match: {path: /stream}, service: a, idempotency: *short}
  - name: probed
    match: {path: /unknown}
    service: a
    idempotency: {onUnknown: probe, probe: {path: "/asked?pieces=1000&pause=100"}}
`)
	for step, path := range []string{"/plain?pieces=1000&pause=100", "/unknown", "/unknown"} {
		r := g.do("POST", path, "{}", "Idempotency-Key", "k")
		want := [...]filters.Reason{filters.UpstreamTimeout, "", filters.OutcomeUnknown}[step]
		if r.reason() != string(want) {
			t.Errorf("%s: %+v", path, r)
		}
	}
	c := g.dial()
	c.send("POST /stream?pieces=1000&pause=100&type=text/event-stream HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n" +
		"Content-Length: 0\r\n\r\n")
	if resp := c.head("POST"); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
	began := time.Now()
	until(t, func() bool { return time.Since(began) > 1500*time.Millisecond }) // beyond maxInFlight
	if _, err := c.r.Peek(1); err != nil {
		t.Errorf("a stream whose client is there: %v", err)
	}
	c.Close()
	seen := map[string]bool{}
	for range 3 {
		select {
		case path := <-ended:
			seen[path] = true
		case <-time.After(waitLimit):
			t.Fatalf("only %v have ended", seen)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%v have ended", seen)
	}
	until(t, func() bool { return g.metric("sluice_requests_in_flight") == 0 })
}

// A client that leaves in the middle of a response has not got it, and is counted so; to leave is how
// a client ends a stream.
func TestClientsThatLeaveAreCounted(t *testing.T) {
	t.Parallel()
	g := pacedGateway(t, "timeout: 60s", "")
	for _, c := range []struct{ path, reason string }{
		{"/one/?end=hang", "client-gone"}, {"/two/?end=hang&type=text/event-stream", ""},
	} {
		w := g.dial()
		w.send(get(c.path))
		w.head("GET")
		w.Close()
		route := c.path[1:4]
		const counted = `sluice_requests_total{code="200",reason="%s",route="%s"}`
		until(t, func() bool { return g.metric(fmt.Sprintf(counted, c.reason, route)) == 1 })
	}
}
