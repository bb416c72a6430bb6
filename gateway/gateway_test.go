package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestForward(t *testing.T) {
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: deny, match: {path: /deny/**}, respond: {status: 403}}
  - {name: show, match: {methods: [GET], path: "/v1/orders/{id}"}, service: a}
  - {name: behind, match: {methods: [HEAD], path: /v1/orders/7}, respond: {status: 403}}
  - {name: all, match: {methods: [GET, POST], path: /v1/**}, service: a}
`)
	r := g.do("GET", "/v1/orders/7?a=1&b=%20", "", "X-User", "ann", "Connection", "X-Hop", "X-Hop", "1",
		"Sluice-Principal", "evil",
		"sluice-transaction", "x", "X-Forwarded-For", "6.6.6.6", "Via", "1.0 x", "TE", "gzip", "Proxy-Connection", "x")
	if r.status != 200 || r.body != "GET /v1/orders/7?a=1&b=%20" || r.header.Get("X-Service") != "1" {
		t.Fatalf("got %+v", r)
	}
	if r.header.Get("Sluice-Reason") != "" || r.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("a service speaks for the gateway: %v", r.header)
	}
	saw, _ := s.last(t)
	for name, want := range map[string]string{
		"X-User": "ann", "Sluice-Principal": "ann", "X-Hop": "", "Sluice-Transaction": "",
		"X-Forwarded-For":   "127.0.0.1",
		"X-Forwarded-Proto": "http", "X-Forwarded-Host": g.at.HTTP, "Traceparent": "", "Te": "",
		"Proxy-Connection": "", "Connection": "",
		"Idempotency-Key": "", "Sluice-Attempt": "",
	} {
		if got := strings.Join(saw.Header.Values(name), "|"); got != want {
			t.Errorf("the service saw %s: %q, want %q", name, got, want)
		}
	}
	if via := saw.Header.Get("Via"); !strings.HasPrefix(via, "1.0 x, 1.1 sluice-") ||
		len(saw.Header.Get("Sluice-Request-Id")) != 32 {
		t.Errorf("the service saw %v", saw.Header)
	}
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	g.do("POST", "/v1/things", "body", "traceparent", trace)
	if saw, body := s.last(t); body != "body" || saw.Header.Get("Traceparent") != trace || saw.ContentLength != 4 {
		t.Errorf("the service saw %v with %q", saw.Header, body)
	}
	if r := g.raw("GET /v1/orders/7 HTTP/1.0\r\n\r\n"); !strings.HasPrefix(r, "HTTP/1.0 200") &&
		!strings.HasPrefix(r, "HTTP/1.1 200") {
		t.Errorf("HTTP/1.0 without a Host: %.200q", r)
	}
	if r := g.do("HEAD", "/v1/orders/7", ""); r.status != 200 || r.body != "" || r.header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %+v", r)
	}
	before := s.count()
	for _, path := range []string{"/deny/a", "/v1/../deny/a", "/%64eny/a", "//deny/a", "/v1/%2e%2e/deny"} {
		if r := g.raw("GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(r,
			"HTTP/1.1 403") {
			t.Errorf("%s: %.80q", path, r)
		}
	}
	for _, path := range []string{"/v1/..%2fdeny/a", "/v1/..;/deny/a", `/v1\..\deny`, "/v1/%00", "/.."} {
		if r := g.raw("GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.Contains(r,
			"Sluice-Reason: bad-request") || !strings.Contains(r, "Connection: close") {
			t.Errorf("%s: %.200q", path, r)
		}
	}
	if s.count() != before {
		t.Error("a refused path reached the service")
	}
}

func TestRefusalsBeforeRouting(t *testing.T) {
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: a, match: {methods: [POST, PUT], path: /a}, service: a}]
`)
	for _, c := range []struct {
		got    got
		status int
		reason string
	}{
		{g.do("GET", "/b", ""), 404, "no-route"},
		{g.do("GET", "/a", ""), 405, "method-not-allowed"},
		{g.do("POST", "/a", "", "X-Long", strings.Repeat("x", 5000)), 431, "header-too-large"},
		{g.do("POST", "/a", strings.Repeat("x", 64<<10+1)), 413, "body-too-large"},
		{g.do("POST", "/a", "", "X-User", "ip:1.2.3.4"), 401, "unauthenticated"},
	} {
		if c.got.status != c.status || c.got.reason() != c.reason ||
			c.got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("got %+v, want %d %s", c.got, c.status, c.reason)
		}
		var p map[string]any
		if err := json.Unmarshal([]byte(c.got.body), &p); err != nil || p["reason"] != c.reason ||
			p["type"] != "urn:sluice:"+c.reason ||
			p["status"] != float64(c.status) || p["title"] == "" {
			t.Errorf("%s: %s", c.reason, c.got.body)
		}
	}
	if r := g.do("GET", "/a", ""); r.header.Get("Allow") != "POST, PUT" {
		t.Errorf("Allow: %s", r.header.Get("Allow"))
	}
	if s.count() != 0 {
		t.Errorf("the service saw %d requests", s.count())
	}
	chunked := "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" +
		strings.Repeat("1000\r\n"+strings.Repeat("x", 4096)+"\r\n", 17) + "0\r\n\r\n"
	if r := g.raw(chunked); !strings.HasPrefix(r, "HTTP/1.1 413") {
		t.Errorf("a chunked body beyond the limit: %.100q", r)
	}
}

func TestKeyedRoute(t *testing.T) {
	var n atomic.Int64
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		fmt.Fprintf(w, "order %d", n.Add(1))
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
limits: {few: {scope: local, per: [principal], rate: 3/h}}
routes:
  - {name: create, match: {methods: [POST], path: /v1/orders}, service: a, idempotency: {required: true}, limits: [few]}
`)
	first := g.do("POST", "/v1/orders", "{}", "Idempotency-Key", "k", "X-User", "ann")
	again := g.do("POST", "/v1/orders", "{}", "Idempotency-Key", "k", "X-User", "ann")
	if first.status != 201 || again.status != 201 || first.body != again.body ||
		again.header.Get("Idempotent-Replayed") != "true" || s.count() != 1 {
		t.Fatalf("first %+v, again %+v, the service saw %d", first, again, s.count())
	}
	if again.header.Get("RateLimit") == "" || again.header.Get("Ratelimit-Policy") != `"few";q=3;w=3600` {
		t.Errorf("a replay carries no limits: %v", again.header)
	}
	reused := g.do("POST", "/v1/orders", "{1}", "Idempotency-Key", "k", "X-User", "ann")
	if reused.status != 422 || reused.reason() != "idempotency-key-reused" {
		t.Errorf("reused: %+v", reused)
	}
	limited := g.do("POST", "/v1/orders", "{}", "Idempotency-Key", "l", "X-User", "ann")
	if limited.status != 429 || limited.reason() != "rate-limited" || limited.header.Get("Retry-After") == "" ||
		!strings.Contains(limited.body, `"limit":"few"`) {
		t.Errorf("limited: %+v", limited)
	}
	if r := g.do("POST", "/v1/orders", "{}", "X-User", "bob"); r.status != 400 ||
		r.reason() != "idempotency-key-missing" {
		t.Errorf("no key: %+v", r)
	}

	admin := "http://" + g.at.Admin
	records := fetch(t, admin+"/api/idempotency?route=create&principal=ann&key=k", "GET", "")
	if !strings.Contains(records.body, `"state": "answered"`) || !strings.Contains(records.body, `"status": 201`) {
		t.Errorf("records: %s", records.body)
	}
	for state, want := range map[string]string{"answered": `"principal": "ann"`, "unknown": `"records": []`,
		"in-flight": `"records": []`, "done": "state is in-flight"} {
		if r := fetch(t, admin+"/api/idempotency?state="+state, "GET", ""); !strings.Contains(r.body, want) {
			t.Errorf("records in state %s: %s", state, r.body)
		}
	}
	body := `{"route":"create","principal":"ann","key":"k"}`
	if r := fetch(t, admin+"/api/idempotency/forget", "POST", body, "Origin", "http://evil.test", "Sec-Fetch-Site",
		"cross-site"); r.status != 403 {
		t.Errorf("a web page may forget records: %+v", r)
	}
	if r := fetch(t, admin+"/api/idempotency/forget", "POST", body); r.status != 200 {
		t.Errorf("forget: %+v", r)
	}
	if r := fetch(t, admin+"/api/idempotency/forget", "POST", body); r.status != 404 {
		t.Errorf("forget twice: %+v", r)
	}
}

// The ends that a service can bring about, as the client sees them, and what becomes of the key.
func TestUpstreamFailures(t *testing.T) {
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		conn := func() net.Conn {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
			}
			return c
		}
		switch r.URL.Path {
		case "/reset":
			c := conn()
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		case "/half":
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("half"))
			http.NewResponseController(w).Flush()
			conn().Close()
		case "/garbage":
			c := conn()
			io.WriteString(c, "SMTP ready\r\n\r\n")
			c.Close()
		case "/hang":
			<-r.Context().Done()
		case "/endless":
			c := conn()
			w := bufio.NewWriter(c)
			w.WriteString("HTTP/1.1 200 OK\r\n")
			for range 100000 {
				if _, err := w.WriteString("X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"); err != nil {
					break
				}
			}
			c.Close()
		case "/early":
			io.WriteString(w, "early")
		}
	})
	closed := nobodyAt(t)
	g := start(t, head+`
services:
  a: {endpoints: ["`+s.URL+`"], timeout: 2s}
  gone: {endpoints: ["http://`+closed+`"]}
routes:
  - {name: gone, match: {path: /gone}, service: gone, idempotency: {}}
  - {name: all, match: {path: /**}, service: a, idempotency: {}}
`)
	for _, c := range []struct {
		path, reason, again string
		status              int
	}{
		{"/reset", "upstream-failed", "outcome-unknown", 502},
		{"/half", "upstream-failed", "outcome-unknown", 502},
		{"/garbage", "upstream-failed", "outcome-unknown", 502},
		{"/endless", "upstream-failed", "outcome-unknown", 502},
		{"/hang", "upstream-timeout", "outcome-unknown", 504},
		{"/gone", "upstream-unreachable", "upstream-unreachable", 502},
	} {
		r := g.do("POST", c.path, "{}", "Idempotency-Key", "k"+c.path)
		if r.status != c.status || r.reason() != c.reason {
			t.Errorf("%s: %+v, want %d %s", c.path, r, c.status, c.reason)
		}
		if r := g.do("POST", c.path, "{}", "Idempotency-Key", "k"+c.path); r.reason() != c.again {
			t.Errorf("%s again: %+v, want %s", c.path, r, c.again)
		}
	}
	if s.count() != 5 {
		t.Errorf("the service saw %d requests", s.count())
	}
	// Without a key the response streams; one that breaks off may not look whole.
	req, err := http.NewRequest("GET", "http://"+g.at.HTTP+"/half", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("half a response was passed on as a whole one")
	}
}

// A request is never sent twice, though it carries an Idempotency-Key, and a closed pooled
// connection is found out before.
func TestNoSilentResend(t *testing.T) {
	var served atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // answers the first request on a connection, reads the second and closes without a word
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for i := range 2 {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					served.Add(1)
					if i == 0 {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					}
				}
			}()
		}
	}()
	g := start(t, head+`
services: {a: {endpoints: ["http://`+l.Addr().String()+`"], retries: {attempts: 3, budget: 100%}}}
routes:
  - {name: retry, match: {path: /retry}, service: a, idempotency: {onUnknown: retry}}
  - {name: all, match: {path: /**}, service: a, idempotency: {}}
`)
	if r := g.do("POST", "/a", "{}", "Idempotency-Key", "1"); r.status != 200 {
		t.Fatalf("the first: %+v", r)
	}
	if r := g.do("POST", "/a", "{}", "Idempotency-Key", "2"); r.status != 502 || r.reason() != "upstream-failed" ||
		served.Load() != 2 {
		t.Errorf("the second: %+v, the service saw %d", r, served.Load())
	}
	if r := g.do("POST", "/a", "{}", "Idempotency-Key", "3"); r.status != 200 || served.Load() != 3 {
		t.Errorf("on a new connection: %+v, the service saw %d", r, served.Load())
	}
	// Where the route says that the service honours the key, and the service's retries allow it, it
	// is sent again.
	if r := g.do("POST", "/retry", "{}", "Idempotency-Key", "4"); r.status != 200 || served.Load() != 5 {
		t.Errorf("with onUnknown: retry: %+v, the service saw %d", r, served.Load())
	}
}

func TestClientGoneIsRecorded(t *testing.T) {
	release := make(chan struct{})
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		io.WriteString(w, "done")
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 20s}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {whileInFlight: {wait: 20s}}}]
`)
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+g.at.HTTP+"/a", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "k")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	until(t, func() bool { return s.count() == 1 })
	cancel()
	<-gone
	close(release)
	r := g.do("POST", "/a", "{}", "Idempotency-Key", "k")
	if r.status != 200 || r.body != "done" || s.count() != 1 {
		t.Errorf("got %+v, the service saw %d", r, s.count())
	}
}

func TestBreaker(t *testing.T) {
	var fail atomic.Bool
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if fail.Load() {
			w.WriteHeader(500)
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], breaker: {minRequests: 3, openFor: 200ms, probes: 1}}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`)
	fail.Store(true)
	for range 3 {
		g.do("GET", "/", "")
	}
	r := g.do("POST", "/", "{}", "Idempotency-Key", "k")
	if r.status != 503 || r.reason() != "breaker-open" || r.header.Get("Retry-After") == "" {
		t.Fatalf("got %+v", r)
	}
	if m := fetch(t, "http://"+g.at.Admin+"/metrics", "GET", ""); !strings.Contains(m.body,
		`sluice_breaker_state{service="a"} 2`) ||
		!strings.Contains(m.body, `sluice_requests_total{code="503",reason="breaker-open",route="all"} 1`) {
		t.Error("the metrics do not show the open breaker")
	}
	fail.Store(false)
	// The key was free again.
	until(t, func() bool { return g.do("POST", "/", "{}", "Idempotency-Key", "k").status == 200 })
}

func TestStreaming(t *testing.T) {
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 20s}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	resp, err := client.Get("http://" + g.at.HTTP + "/")
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil || line != "data: 1\n" {
		t.Errorf("got %q, %v", line, err)
	}
	resp.Body.Close()
}

func TestReload(t *testing.T) {
	s := newService(t, echo)
	conf := func(path string) string {
		return head + "services: {a: {endpoints: [\"" + s.URL + "\"]}}\nroutes: [{name: a, match: {path: " + path +
			"}, service: a}]\n"
	}
	g := start(t, conf("/one"))
	g.configure(conf("/two"))
	g.reload <- struct{}{}
	until(t, func() bool { return g.do("GET", "/two", "").status == 200 && g.do("GET", "/one", "").status == 404 })

	for _, broken := range []string{conf("/three") + "nonsense: 1\n",
		strings.Replace(conf("/three"), "4KiB", "8KiB", 1), ": :"} {
		g.configure(broken)
		g.reload <- struct{}{}
	}
	g.reload <- struct{}{} // taken only when the one before has been done
	if g.do("GET", "/two", "").status != 200 || g.do("GET", "/three", "").status != 404 {
		t.Error("a faulty configuration took effect")
	}
	admin := "http://" + g.at.Admin
	if g.metric(`sluice_config_reloads_total{result="applied"}`) < 1 {
		t.Error("the applied reload was not counted")
	}
	until(t, func() bool { return g.metric(`sluice_config_reloads_total{result="refused"}`) >= 3 })
	if st := fetch(t, admin+"/api/status", "GET", "").body; !strings.Contains(st, `"fault"`) {
		t.Errorf("the status does not show the fault: %s", st)
	}
	g.configure(conf("/four")) // found without being asked
	until(t, func() bool { return g.do("GET", "/four", "").status == 200 })
}

func TestDrain(t *testing.T) {
	release := make(chan struct{})
	s := newService(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 20s}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	answered := make(chan got, 1)
	go func() { answered <- g.do("GET", "/", "") }()
	until(t, func() bool { return s.count() == 1 })
	ended := make(chan error, 1)
	go func() { ended <- g.stop() }()
	until(t, func() bool { return fetch(t, "http://"+g.at.Admin+"/readyz", "GET", "").status == 503 })
	until(t, func() bool {
		c, err := net.Dial("tcp", g.at.HTTP)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(release)
	if r := <-answered; r.status != 200 {
		t.Errorf("the request in flight got %+v", r)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A panic behind the chain is one 500, logged, and the chain gets its Done.
func TestPanicInTheEngine(t *testing.T) {
	logs := &lockedBuffer{}
	env := &policy.Env{Logger: slog.New(slog.NewTextHandler(logs, nil)), Metrics: policy.NewMetrics()}
	p := newProcess(env, nil, newMetrics(env.Metrics), nil, context.Background())
	rt := &route{name: "r", target: panicking{}, metrics: p.metrics.route("r"), process: p}
	f := &counting{}
	var err error
	if rt.chain, err = filters.NewChain(rt.panicked, f); err != nil {
		t.Fatal(err)
	}
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	w := &recorder{}
	rt.serve(x, &whole{}, w)
	if w.status != 500 || f.done != 1 || f.outcome != filters.Panicked || !strings.Contains(logs.String(), "boom") {
		t.Errorf("status %d, %d Done with %v, logged %q", w.status, f.done, f.outcome, logs.String())
	}
}

// A keyed request goes on without its client, but not beyond the drain's limit.
func TestDrainLimitHoldsForKeyedRequests(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newService(t, func(http.ResponseWriter, *http.Request) { <-release })
	g := startWith(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 60s}}
routes: [{name: all, match: {path: /**}, service: a, idempotency: {}}]
`, 200*time.Millisecond)
	c := g.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n")
	until(t, func() bool { return s.count() == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Error("the gateway waits for a service that hangs")
	}
	close(release)
}

// The drain's end is no failure: what is still in flight then is cut off.
func TestDrainIsBounded(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	s := newService(t, func(w http.ResponseWriter, r *http.Request) { <-hang })
	gw := startWith(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 20s}}
routes: [{name: all, match: {path: /**}, service: a}]
`, 200*time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+gw.at.HTTP+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	until(t, func() bool { return s.count() == 1 })
	if err := gw.stop(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
}
