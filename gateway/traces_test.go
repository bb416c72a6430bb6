package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
	"github.com/sluice-gateway/sluice/bench/kit/otlptest"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

const (
	clientTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan   = "00f067aa0ba902b7"
	clientParent = "00-" + clientTrace + "-" + clientSpan + "-01"
)

// spanOf returns the one span with that name that satisfies the conditions.
func spanOf(t *testing.T, spans []otlptest.Span, name string, of func(otlptest.Span) bool) otlptest.Span {
	t.Helper()
	var found []otlptest.Span
	for _, s := range spans {
		if s.Name == name && of(s) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %q, want one:\n%s", len(found), name, otlptest.Text(spans))
	}
	return found[0]
}

func anySpan(otlptest.Span) bool { return true }

func below(parent otlptest.Span) func(otlptest.Span) bool {
	return func(s otlptest.Span) bool { return s.Parent == parent.ID && s.Trace == parent.Trace }
}

// nobodyAt returns an address at which nobody listens, now or later: a port that a listener has left may be the next
// one's.
func nobodyAt(t *testing.T) string {
	t.Helper()
	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// wants compares some attributes.
func wants(t *testing.T, s otlptest.Span, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got, ok := s.Attributes[name]; got != value || !ok && value != "" {
			t.Errorf("%s: %s is %q, want %q", s.Name, name, got, value)
		}
	}
}

// atLeast waits for so many spans.
func atLeast(n int) func([]otlptest.Span) bool {
	return func(s []otlptest.Span) bool { return len(s) >= n }
}

// A request has a span with the route's name, the attempt one below it, and the service sees that one. Both protocols.
func TestTracesOfARequest(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	for protocol, endpoint := range map[string]func(*otlptest.Collector) string{
		"grpc": func(c *otlptest.Collector) string { return c.GRPC },
		"http": func(c *otlptest.Collector) string { return c.HTTP },
	} {
		c, access := otlptest.Start(t), filepath.Join(t.TempDir(), "access.log")
		g := start(t, head+`
tracing: {endpoint: "`+endpoint(c)+`", protocol: `+protocol+`, sample: 100%, headers: {Api-Key: k-1}}
log: {access: {output: `+access+`}}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: things, match: {path: "/things/{id}"}, service: a}]
`)
		g.do("GET", "/things/7?token=secret", "", "Traceparent", clientParent, "Tracestate", "v=1", "X-User", "ann",
			"User-Agent", "test")
		r, _ := s.last(t)
		g.do("PURGE", "/nothing", "")
		spans := c.Wait(t, "three spans", atLeast(3))
		server := spanOf(t, spans, "GET /things/{id}", anySpan)
		attempt := spanOf(t, spans, "GET a", below(server))
		host, port, _ := net.SplitHostPort(g.at.HTTP)
		_, servicePort, _ := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
		wants(t, server, map[string]string{
			"http.request.method": "GET", "http.route": "/things/{id}", "sluice.route": "things", "url.path": "/things/7",
			"url.scheme": "http", "http.response.status_code": "200", "server.address": host, "server.port": port,
			"client.address": "127.0.0.1", "user_agent.original": "test", "network.protocol.version": "1.1",
			"sluice.service": "a", "sluice.request_id": r.Header.Get("Sluice-Request-Id"),
			"error.type": "",
		})
		if p := server.Attributes["sluice.principal"]; len(p) != 16 || strings.Contains(p, "ann") {
			t.Errorf("the principal is %q, want it hashed", p)
		}
		wants(t, attempt, map[string]string{
			"http.request.method": "GET", "sluice.service": "a", "http.response.status_code": "200",
			"server.port": servicePort, "url.full": s.URL + "/things/7", "error.type": "",
			"http.request.resend_count": "",
		})
		if server.Trace != clientTrace || server.Parent != clientSpan || server.State != "v=1" || server.Failed ||
			attempt.Failed {
			t.Errorf("%+v", server)
		}
		if server.Resources["service.name"] != "sluice" || server.Resources["service.instance.id"] == "" {
			t.Errorf("whose spans: %v", server.Resources)
		}
		if attempt.Start.Before(server.Start) || attempt.End.After(server.End) {
			t.Errorf("the attempt was from %v to %v, the request from %v to %v", attempt.Start, attempt.End,
				server.Start, server.End)
		}
		if got, want := r.Header.Get("Traceparent"), "00-"+clientTrace+"-"+attempt.ID+"-01"; got != want {
			t.Errorf("the service sees %q, want %q", got, want)
		}
		for _, span := range spans {
			if text := otlptest.Text([]otlptest.Span{span}); strings.Contains(text, "secret") {
				t.Errorf("the query is in %s", text)
			}
		}
		other := spanOf(t, spans, "HTTP", anySpan)
		wants(t, other, map[string]string{"http.request.method": "_OTHER", "http.request.method_original": "PURGE",
			"http.response.status_code": "404", "sluice.reason": "no-route", "error.type": ""})
		if h := c.Headers(); h[0]["api-key"] != "k-1" {
			t.Errorf("the export carries %v", h[0])
		}
		until(t, func() bool { // it is written a fifth of a second later
			log, err := os.ReadFile(access)
			return err == nil && strings.Contains(string(log), `"trace_id":"`+clientTrace+`"`) &&
				strings.Contains(string(log), `"trace_id":"`+other.Trace+`"`)
		})
		exemplars(t, g, server)
	}
}

// exemplars looks for the span in the histograms, which say so only to those who ask for that format.
func exemplars(t *testing.T, g *running, server otlptest.Span) {
	t.Helper()
	const openMetrics = "application/openmetrics-text; version=1.0.0"
	url := "http://" + g.at.Admin + "/metrics"
	asked, plain := fetch(t, url, "GET", "", "Accept", openMetrics), fetch(t, url, "GET", "")
	for _, histogram := range []string{"sluice_request_duration_seconds_bucket{route=\"things\"",
		"sluice_upstream_duration_seconds_bucket{service=\"a\""} {
		found := false
		for line := range strings.Lines(asked.body) {
			found = found || strings.HasPrefix(line, histogram) && strings.Contains(line, server.Trace)
		}
		if !found {
			t.Errorf("%s has no exemplar of the trace", histogram)
		}
	}
	if !strings.HasPrefix(asked.header.Get("Content-Type"), "application/openmetrics-text") ||
		!strings.HasPrefix(plain.header.Get("Content-Type"), "text/plain") ||
		strings.Contains(plain.body, server.Trace) {
		t.Errorf("%s, and without asking for it %s", asked.header.Get("Content-Type"), plain.header.Get("Content-Type"))
	}
}

// Each attempt has a span; those that fail say why.
func TestTracesOfAttempts(t *testing.T) {
	t.Parallel()
	c := otlptest.Start(t)
	g := start(t, head+`
tracing: {endpoint: "`+c.GRPC+`", sample: 100%}
services: {gone: {endpoints: ["http://`+nobodyAt(t)+`"], retries: {attempts: 2}}}
routes: [{name: all, match: {path: /**}, service: gone}]
`)
	if a := g.do("GET", "/x", ""); a.status != 502 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	spans := c.Wait(t, "four spans", atLeast(4))
	server := spanOf(t, spans, "GET /**", anySpan)
	wants(t, server, map[string]string{"http.response.status_code": "502", "sluice.reason": "upstream-unreachable",
		"error.type": "upstream-unreachable"})
	if !server.Failed {
		t.Error("the span of a request that failed says nothing of it")
	}
	for _, number := range []string{"", "1", "2"} {
		s := spanOf(t, spans, "GET gone", func(s otlptest.Span) bool {
			return below(server)(s) && s.Attributes["http.request.resend_count"] == number
		})
		wants(t, s, map[string]string{"error.type": "connection-refused", "http.response.status_code": ""})
		if !s.Failed || !strings.Contains(s.Message, "refused") {
			t.Errorf("%+v", s)
		}
	}
}

// Both attempts of a hedge have a span, and the one that nobody waits for any more says so.
func TestTracesOfAHedge(t *testing.T) {
	t.Parallel()
	c, release := otlptest.Start(t), make(chan struct{})
	t.Cleanup(func() { close(release) })
	var first atomic.Bool
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		echo(w, r)
	})
	g := start(t, head+`
tracing: {endpoint: "`+c.GRPC+`", sample: 100%}
services: {a: {endpoints: ["`+s.URL+`"], timeout: 60s, hedge: {after: 5ms}}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	if a := g.do("GET", "/", ""); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	spans := c.Wait(t, "three spans", atLeast(3))
	server := spanOf(t, spans, "GET /**", anySpan)
	for number, want := range map[string]map[string]string{
		"":  {"error.type": "cancelled", "http.response.status_code": ""},
		"1": {"error.type": "", "http.response.status_code": "200"},
	} {
		attempt := spanOf(t, spans, "GET a", func(s otlptest.Span) bool {
			return below(server)(s) && s.Attributes["http.request.resend_count"] == number
		})
		if wants(t, attempt, want); attempt.Failed {
			t.Errorf("%+v", attempt)
		}
		seen := false
		s.mu.Lock()
		for _, r := range s.seen {
			seen = seen || strings.Contains(r.Header.Get("Traceparent"), attempt.ID)
		}
		s.mu.Unlock()
		if !seen {
			t.Errorf("the service did not see %s", attempt.ID)
		}
	}
}

// The policies' decisions are events: of the first request with a key, of its repeat, and of a refusal.
func TestTracesOfDecisions(t *testing.T) {
	t.Parallel()
	c, s := otlptest.Start(t), newService(t, echo)
	g := start(t, head+`
tracing: {endpoint: "`+c.GRPC+`", sample: 100%}
limits: {two: {scope: local, per: [principal], rate: 2/h, burst: 2}}
services: {a: {endpoints: ["`+s.URL+`"], breaker: {errors: 50%}, overload: {concurrency: 8}}}
routes: [{name: orders, match: {path: /orders}, service: a, limits: [two], idempotency: {required: true}}]
`)
	post := func(key string) { g.do("POST", "/orders", "{}", "X-User", "ann", "Idempotency-Key", key) }
	post("k")
	post("k")
	post("l")
	spans := c.Wait(t, "the spans of three requests", func(s []otlptest.Span) bool {
		return len(s) >= 4
	})
	with := func(event string) otlptest.Span {
		return spanOf(t, spans, "POST /orders", func(s otlptest.Span) bool { return s.Has(event) })
	}
	first, repeat, refused := with("idempotency claimed"), with("idempotency replayed"), with("ratelimit rate-limited")
	for _, event := range []string{"ratelimit allowed", "breaker closed", "overload admitted"} {
		if !first.Has(event) {
			t.Errorf("the first request has no event %q: %v", event, first.Events)
		}
	}
	i := slices.IndexFunc(refused.Events, func(e otlptest.Event) bool { return e.Name == "ratelimit rate-limited" })
	if e := refused.Events[i]; e.Attributes["sluice.subject"] != "two" || e.Attributes["sluice.policy"] != "ratelimit" {
		t.Errorf("which limit refused: %v", e)
	}
	wants(t, first, map[string]string{"sluice.attempt": "1", "sluice.replayed": ""})
	wants(t, repeat, map[string]string{"sluice.replayed": "true",
		"sluice.record": first.Attributes["sluice.record"]})
	wants(t, refused, map[string]string{"sluice.reason": "rate-limited", "http.response.status_code": "429"})
	if first.Attributes["sluice.record"] == "" || refused.Failed {
		t.Errorf("%+v", refused)
	}
	attempts := 0
	for _, s := range spans {
		if s.Name == "POST a" {
			attempts++
		}
	}
	if attempts != 1 {
		t.Errorf("%d attempts, want the one of the first request", attempts)
	}
}

// The branches of a transaction are below the request that began it, whoever calls which gateway when: here another
// gateway is called, when the request has long been answered.
func TestTracesOfATransaction(t *testing.T) {
	t.Parallel()
	c, s := otlptest.Start(t), newService(t, echo)
	d := newKeeper(t)
	redis := redistest.Run(t, redistest.Options{})
	text := strings.Replace(head, "{memory: {}}", `{redis: {addresses: ["`+redis.Addr()+`"], timeout: 10s}}`, 1) + `
tracing: {endpoint: "` + c.HTTP + `", protocol: http, sample: %s}
coordinator: {dtm: {endpoints: ["` + d.URL + `"], branches: "127.0.0.1:0", secret: 0123456789abcdef0123456789abcdef}}
services: {stock: {endpoints: ["` + s.URL + `"]}}
transactions:
  checkout:
    wait: 10ms
    steps: [{name: reserve, do: {service: stock, path: /do}, undo: {service: stock, path: /undo}}]
routes: [{name: checkout, match: {path: /checkout}, transaction: checkout, idempotency: {}}]
`
	one, other := start(t, fmt.Sprintf(text, "100%")), start(t, fmt.Sprintf(text, "0%"))
	if a := one.do("POST", "/checkout", "{}", "Tracestate", "v=1", "Traceparent", clientParent); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	server := spanOf(t, c.Wait(t, "the request's span", atLeast(1)), "POST /checkout", anySpan)
	if !server.Has("transaction submitted") {
		t.Errorf("the request has the events %v", server.Events)
	}
	d.callAt(t, other.at.Branches)
	spans := c.Wait(t, "the spans of the branch", atLeast(3))
	branch := spanOf(t, spans, "branch reserve action", below(server))
	attempt := spanOf(t, spans, "POST stock", below(branch))
	wants(t, branch, map[string]string{"sluice.step": "reserve", "sluice.op": "action", "sluice.service": "stock",
		"sluice.transaction": server.Attributes["sluice.transaction"], "sluice.outcome": "completed",
		"sluice.request_id": server.Attributes["sluice.request_id"], "sluice.route": "checkout"})
	r, _ := s.last(t)
	if got, want := r.Header.Get("Traceparent"), "00-"+clientTrace+"-"+attempt.ID+"-01"; got != want {
		t.Errorf("the service sees %q, want %q", got, want)
	}
	if branch.Resources["service.instance.id"] == server.Resources["service.instance.id"] || branch.State != "v=1" {
		t.Errorf("the branch is %+v", branch)
	}

	// One of a request that is not traced is not either, though this gateway traces all.
	if a := other.do("POST", "/checkout", "{}", "Traceparent", clientParent); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	d.callAt(t, one.at.Branches)
	r, _ = s.last(t)
	if got, want := r.Header.Get("Traceparent"), "00-"+clientTrace+"-"+clientSpan+"-00"; got != want {
		t.Errorf("the service sees %q, want %q", got, want)
	}
	one.stop()
	other.stop()
	if n := len(c.Spans()); n != 3 {
		t.Errorf("%d spans, want 3:\n%s", n, otlptest.Text(c.Spans()))
	}
}

// keeper plays DTM that takes sagas and does nothing until it is told to.
type keeper struct {
	*coordinator
	kept []byte
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{coordinator: newCoordinator(t)}
	inner := k.Config.Handler
	k.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/submit") {
			inner.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		k.mu.Lock()
		k.kept = body
		k.mu.Unlock()
		io.WriteString(w, `{"dtm_result":"SUCCESS"}`)
	})
	return k
}

// callAt calls the step of the last saga at a branch address.
func (k *keeper) callAt(t *testing.T, address string) {
	t.Helper()
	k.mu.Lock()
	kept := k.kept
	k.mu.Unlock()
	var saga struct {
		GID      string              `json:"gid"`
		Steps    []map[string]string `json:"steps"`
		Payloads []string            `json:"payloads"`
	}
	if err := json.Unmarshal(kept, &saga); err != nil {
		t.Fatal(err)
	}
	k.set(saga.GID, "submitted")
	_, path, _ := strings.Cut(strings.TrimPrefix(saga.Steps[0]["action"], "http://"), "/")
	target := "http://" + address + "/" + path + "?gid=" + saga.GID + "&trans_type=saga&op=action&branch_id=01"
	if status := k.call(t, target, saga.Payloads[0]); status != http.StatusOK {
		t.Fatalf("the branch is answered %d", status)
	}
}

// What clients send cannot have a batch refused: neither bytes that are no UTF-8 nor texts of any length.
func TestTracesOfHostileRequests(t *testing.T) {
	t.Parallel()
	c, s := otlptest.Start(t), newService(t, echo)
	g := start(t, head+`
tracing: {endpoint: "`+c.GRPC+`", sample: 100%}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: "/a/**"}, service: a}]
`)
	g.raw("GET /a/%ff%fe HTTP/1.1\r\nHost: h\r\nUser-Agent: \xff\xfe" + strings.Repeat("é", 400) +
		"\r\nTracestate: \xff=,,,\r\nTraceparent: " + clientParent + "\r\nConnection: close\r\n\r\n")
	g.raw("GET / HTTP/1.1\r\nno field\r\n\r\n")
	spans := c.Wait(t, "three spans", atLeast(3))
	server := spanOf(t, spans, "GET /a/**", anySpan)
	if ua := server.Attributes["user_agent.original"]; len(ua) > 400 || !strings.HasPrefix(ua, "\uFFFD") {
		t.Errorf("the user agent is %q", ua)
	}
	refused := spanOf(t, spans, "GET", func(s otlptest.Span) bool { return s.Parent == "" })
	wants(t, refused, map[string]string{"http.response.status_code": "400", "sluice.reason": "bad-request"})
	if n := g.metric(`sluice_tracing_spans_dropped_total{why="not-taken"}`); n != 0 {
		t.Errorf("%v spans were dropped: %s", n, g.logs)
	}
}

// Requests that Envoy carries are traced alike; what Envoy does with one is its attempt.
func TestTracesOfEnvoy(t *testing.T) {
	t.Parallel()
	c, s := otlptest.Start(t), newService(t, echo)
	e := startEnvoy(t, envoyHead+`tracing: {endpoint: "`+c.GRPC+`", sample: 100%}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: keyed, match: {methods: [POST], path: /keyed}, service: a, idempotency: {}}]
`, s.URL)
	<-e.start(t.Context(), "/keyed", "x", field{"idempotency-key", "k"}, field{"traceparent", clientParent})
	spans := c.Wait(t, "two spans", atLeast(2))
	server := spanOf(t, spans, "POST /keyed", anySpan)
	attempt := spanOf(t, spans, "POST a", below(server))
	wants(t, attempt, map[string]string{"http.response.status_code": "200"})
	if server.Trace != clientTrace || server.Parent != clientSpan || !server.Has("idempotency claimed") {
		t.Errorf("%+v", server)
	}
	r, _ := s.last(t)
	if got, want := r.Header.Get("Traceparent"), "00-"+clientTrace+"-"+attempt.ID+"-01"; got != want {
		t.Errorf("the service sees %q, want %q", got, want)
	}
}

// The status of a call of gRPC is behind its body, which lies in memory that is used again when the exchange is over.
func TestTracesOfAReplayedCall(t *testing.T) {
	t.Parallel()
	c, s := otlptest.Start(t), newGRPCService(t)
	g := start(t, head+`
tracing: {endpoint: "`+c.GRPC+`", sample: 100%}
services: {a: {endpoints: ["h2c://`+s.address+`"]}}`+grpcRoutes)
	client := http2Client(t)
	for range 2 {
		if got := grpcCall(t, client, "http://"+g.at.HTTP+"/s/empty", "k").status(); got != "trailer 9" {
			t.Fatal(got)
		}
	}
	ended := map[string]string{"rpc.grpc.status_code": "9", "http.response.status_code": "200"}
	spans := c.Wait(t, "three spans", atLeast(3))
	wants(t, spanOf(t, spans, "POST /s/**", func(s otlptest.Span) bool { return s.Has("idempotency claimed") }), ended)
	wants(t, spanOf(t, spans, "POST /s/**", func(s otlptest.Span) bool {
		return !s.Has("idempotency claimed")
	}), ended)
}
