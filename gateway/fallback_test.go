package gateway

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// failing is a service that fails, and hangs where it is asked to.
func failing(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Hang") != "" {
		<-r.Context().Done()
		return
	}
	w.WriteHeader(500)
}

const fallbackRoutes = `
limits: {many: {scope: local, per: [principal], rate: 1000/h}}
routes:
  - name: fixed
    match: {path: /fixed}
    service: a
    limits: [many]
    idempotency: {}
    fallback:
      {status: 200, body: '{"from":"fallback"}', headers: {Content-Type: application/json}, on: [breaker-open, timeout]}
  - {name: other, match: {path: /other/**}, service: a, limits: [many], idempotency: {}, fallback: {service: b}}
  - {name: open, match: {path: /open}, service: a}
  - {name: b, match: {path: /b}, service: b}
`

func TestFallbackToAResponse(t *testing.T) {
	t.Parallel()
	s := newService(t, failing)
	g := start(t, head+`
services:
  a: {endpoints: ["`+s.URL+`"], timeout: 1500ms, breaker: {errors: 90%, minRequests: 4, openFor: 10m}}
  b: {endpoints: ["`+s.URL+`"]}`+fallbackRoutes)
	// After dispatch a safe request falls back, and no other does.
	for _, c := range []struct {
		method, key string
		status      int
	}{{"GET", "", 200}, {"POST", "", 504}, {"GET", "k1", 504}} {
		header := []string{"X-User", "ann", "X-Hang", "1"}
		if c.key != "" {
			header = append(header, "Idempotency-Key", c.key)
		}
		r := g.do(c.method, "/fixed", "", header...)
		fell := r.header.Get("Sluice-Fallback") == "upstream-timeout" && r.body == `{"from":"fallback"}`
		if r.status != c.status || fell != (c.status == 200) || (r.reason() == "") != fell {
			t.Errorf("%+v: %+v", c, r)
		}
	}
	if r := g.do("GET", "/open", ""); r.status != 500 { // which is the service's own
		t.Errorf("%+v", r)
	}
	before := s.count()
	var all sync.WaitGroup
	for range 8 { // at once, and one behind the other: none is recorded, and each has its own
		all.Go(func() {
			for range 2 {
				r := g.do("POST", "/fixed", "{}", "Idempotency-Key", "k2", "X-User", "ann")
				if r.status != 200 || r.body != `{"from":"fallback"}` || r.reason() != "" ||
					r.header.Get("Sluice-Fallback") != "breaker-open" ||
					r.header.Get("Content-Type") != "application/json" || r.header.Get("Retry-After") != "" ||
					r.header.Get("Cache-Control") != "no-store" || r.header.Get("RateLimit") == "" ||
					r.header.Get("Idempotent-Replayed") != "" {
					t.Errorf("a keyed request: %+v", r)
				}
			}
		})
	}
	all.Wait()
	if r := g.do("HEAD", "/fixed", ""); r.status != 200 || r.body != "" || r.header.Get("Content-Length") != "19" {
		t.Errorf("HEAD: %+v", r)
	}
	if s.count() != before {
		t.Errorf("%d requests reached the service", s.count()-before)
	}
	for reason, want := range map[string]float64{"breaker-open": 17, "upstream-timeout": 1} {
		if n := g.metric(`sluice_fallback_total{reason="` + reason + `",route="fixed"}`); n != want {
			t.Errorf("%s: %v fallbacks are counted, want %v", reason, n, want)
		}
	}
	if n := g.metric(`sluice_requests_total{code="200",reason="",route="fixed"}`); n != 18 {
		t.Errorf("%v responses are counted, want 18", n)
	}
	// The key is free: with another body it is not a reused one.
	if r := g.do("POST", "/fixed", "{other}", "Idempotency-Key", "k2", "X-User", "ann"); r.status != 200 {
		t.Errorf("%+v", r)
	}
}

func TestFallbackToAService(t *testing.T) {
	t.Parallel()
	a := newService(t, failing)
	b := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Fail") != "" {
			w.WriteHeader(500)
		}
		w.Header().Set("Sluice-Fallback", "spoofed")
		w.Write([]byte("from b"))
	})
	g := start(t, head+`
services:
  a: {endpoints: ["`+a.URL+`"], timeout: 1500ms, breaker: {errors: 50%, minRequests: 2, openFor: 10m}}
  b: {endpoints: ["`+b.URL+`"], breaker: {errors: 50%, minRequests: 10, openFor: 10m}}`+fallbackRoutes)
	if r := g.do("GET", "/other/x", "", "X-Hang", "1"); r.status != 200 || r.body != "from b" ||
		r.header.Get("Sluice-Fallback") != "upstream-timeout" {
		t.Fatalf("after a timeout: %+v", r)
	}
	g.do("GET", "/open", "") // the second failure
	body := strings.Repeat("x", 50<<10)
	for range 2 {
		r := g.do("POST", "/other/x?q=1", body, "Idempotency-Key", "k", "X-User", "ann")
		if r.status != 200 || r.body != "from b" ||
			strings.Join(r.header.Values("Sluice-Fallback"), ",") != "breaker-open" ||
			r.header.Get("Idempotent-Replayed") != "" || r.header.Get("RateLimit") == "" {
			t.Errorf("a keyed request: %+v", r)
		}
		saw, got := b.last(t)
		if got != body || saw.Method != "POST" || saw.RequestURI != "/other/x?q=1" ||
			saw.Header.Get("Sluice-Principal") != "ann" || len(saw.Header.Values("Idempotency-Key")) != 1 ||
			saw.Header.Get("Idempotency-Key") == "k" || saw.Header.Get("Sluice-Timeout") != "2000" {
			t.Errorf("b saw %v with %d bytes", saw, len(got))
		}
	}
	if a.count() != 2 {
		t.Errorf("a saw %d requests", a.count())
	}
	before := b.count()
	until(t, func() bool { // its own breaker opens, and there is nothing behind it
		r := g.do("GET", "/other/x", "", "X-Fail", "1")
		return r.status == 503 && r.reason() == "breaker-open" && strings.Contains(r.body, `"service":"b"`) &&
			r.header.Get("Sluice-Fallback") == "" && len(r.header.Values("RateLimit")) == 1
	})
	if n := b.count() - before; n == 0 || n > 100 {
		t.Errorf("b saw %d requests until its breaker opened", n)
	}
	if n := g.metric(`sluice_fallback_total{reason="breaker-open",route="other"}`); n < 3 {
		t.Errorf("%v fallbacks are counted", n)
	}
}

// An attempt of a key whose earlier attempt may have happened falls back on nothing, though nothing of its own
// was sent: the fallback would do the request a second time, or say that it is over.
func TestNoFallbackBehindAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	a, b := newService(t, failing), newService(t, echo)
	g := start(t, head+`
services:
  a: {endpoints: ["`+a.URL+`"], timeout: 1500ms, breaker: {errors: 50%, minRequests: 1, openFor: 10m}}
  b: {endpoints: ["`+b.URL+`"]}
routes:
  - {name: a, match: {path: /a}, service: a, idempotency: {onUnknown: retry}, fallback: {service: b}}
`)
	post := func(key string) got {
		return g.do("POST", "/a", "{}", "Idempotency-Key", key, "X-User", "ann", "X-Hang", "1")
	}
	if r := post("k"); r.reason() != "upstream-timeout" {
		t.Fatalf("%+v", r)
	}
	if r := post("k"); r.reason() != "breaker-open" || b.count() != 0 {
		t.Errorf("%+v, and b saw %d", r, b.count())
	}
	if r := post("another"); r.status != 200 || b.count() != 1 {
		t.Errorf("%+v, and b saw %d", r, b.count())
	}
}

func TestWhatFallsBack(t *testing.T) {
	t.Parallel()
	n := prometheus.NewCounter(prometheus.CounterOpts{Name: "n"})
	f := &fallback{on: map[filters.Reason]filters.Counter{filters.UpstreamTimeout: n}, reply: &filters.Reply{}}
	for _, c := range []struct {
		method, key string
		attempt     int
		dispatched  bool
		e           result
		want        bool
	}{
		{"POST", "", 0, false, result{outcome: filters.Refused}, true},
		{"POST", "k", 1, false, result{outcome: filters.Refused}, true},
		{"POST", "k", 2, false, result{outcome: filters.Refused}, false},
		{"POST", "k", 1, true, result{outcome: filters.NoResponse}, false},
		{"POST", "", 0, true, result{outcome: filters.NoResponse}, false},
		{"GET", "k", 1, true, result{outcome: filters.NoResponse}, false},
		{"GET", "", 0, true, result{outcome: filters.NoResponse}, true},
		{"GET", "", 0, true, result{outcome: filters.ClientGone}, false},
		{"GET", "", 0, true, result{outcome: filters.ClientGone, waits: true}, true}, // its own time was short
		{"GET", "", 0, true, result{outcome: filters.Panicked}, false},
	} {
		x := new(filters.Exchange)
		x.Begin(context.Background(), nil)
		x.Method, x.Dispatched = c.method, c.dispatched
		x.Logical = filters.LogicalRequest{Key: c.key, Attempt: c.attempt}
		x.SetReply(filters.Refuse(filters.UpstreamTimeout, filters.Problem{}))
		if got := f.standsIn(x, nil, &c.e); got != c.want {
			t.Errorf("%+v falls back: %v", c, got)
		}
	}
}

// messageOf is a request whose message is that.
type messageOf struct{ m message.Message }

func (i *messageOf) Message() (*message.Message, error) { return &i.m, nil }

// A body of which a part went to the service is not sent elsewhere, be its rest there or not.
func TestWhatCanBeSentAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		m      message.Message
		loaded bool
		want   bool
	}{
		{"without a body", message.Message{}, false, true},
		{"a body that was read before", message.Message{Bytes: []byte("body")}, true, true},
		{"the rest of a body", message.Message{Bytes: []byte("dy"), Length: 4}, false, false},
		{"nothing more of a body", message.Message{Length: 4}, false, false},
		{"a stream", message.Message{Stream: message.NewInMemory([]byte("dy")), Length: 4}, false, false},
		{"a stream without an end", message.Message{Stream: message.NewInMemory(nil), Length: -1}, false, false},
	} {
		x := new(filters.Exchange)
		x.Begin(context.Background(), func(int64) ([]byte, error) { return c.m.Bytes, nil })
		if c.loaded {
			x.Body()
		}
		if got := sendable(x, &messageOf{c.m}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A service sheds what it has no room for, and the rest of its route's requests goes elsewhere; but not
// one of whose body a part is gone.
func TestFallbackOfWhatIsShed(t *testing.T) {
	t.Parallel()
	b := newService(t, echo)
	inside, release := make(chan struct{}), make(chan struct{})
	a := newService(t, func(w http.ResponseWriter, r *http.Request) {
		inside <- struct{}{}
		<-release
	})
	g := start(t, head+`
services:
  a: {endpoints: ["`+a.URL+`"], timeout: 20s, overload: {concurrency: 1, queue: {size: 0}}}
  b: {endpoints: ["`+b.URL+`"]}
  hung: {endpoints: ["`+a.URL+`"], timeout: 100ms}
routes:
  - {name: a, match: {path: /a}, service: a, priority: critical, fallback: {service: b, on: [overloaded]}}
  - {name: hung, match: {path: /hung}, service: hung, fallback: {service: b}}
`)
	first := make(chan got, 1)
	go func() { first <- g.do("GET", "/a", "") }()
	<-inside
	if r := g.do("POST", "/a", "{}"); r.status != 200 || r.body != "POST /a" ||
		r.header.Get("Sluice-Fallback") != "overloaded" {
		t.Errorf("%+v", r)
	}
	go func() { <-inside }() // the service reads the body first
	raw := g.raw("GET /hung HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" +
		"2\r\nab\r\n0\r\n\r\n")
	if !strings.HasPrefix(raw, "HTTP/1.1 504") {
		t.Errorf("a body that is gone: %.200q", raw)
	}
	close(release)
	if r := <-first; r.status != 200 || r.header.Get("Sluice-Fallback") != "" {
		t.Errorf("%+v", r)
	}
}

// The route's deadline is over when it falls back on it; a client of gRPC keeps its status.
func TestFallbackBeyondADeadline(t *testing.T) {
	t.Parallel()
	a := newService(t, failing)
	b := newService(t, echo)
	closed := nobodyAt(t)
	g := start(t, head+`
services:
  a: {endpoints: ["`+a.URL+`"], timeout: 20s}
  b: {endpoints: ["`+b.URL+`"]}
  c: {endpoints: ["h2c://`+closed+`"], breaker: {errors: 50%, minRequests: 1, openFor: 10m}}
routes:
  - {name: a, match: {path: /a}, service: a, timeout: 100ms, fallback: {service: b, on: [timeout]}}
  - {name: c, match: {path: /s/**}, service: c, fallback: {status: 200}}
`)
	if r := g.do("GET", "/a", "", "X-Hang", "1"); r.status != 200 || r.body != "GET /a" {
		t.Errorf("%+v", r)
	}
	c := http2Client(t)
	until(t, func() bool {
		r := grpcCall(t, c, "http://"+g.at.HTTP+"/s/unary", "")
		return r.status() == "head 14" && r.header.Get("Sluice-Reason") == string(filters.BreakerOpen)
	})
}
