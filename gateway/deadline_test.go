package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

func TestServicesAreToldHowLongTheyHave(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 7s}}
routes:
  - {name: own, match: {path: /own}, service: a, timeout: 5s}
  - {name: keyed, match: {methods: [POST], path: /keyed}, service: a, timeout: 5s, idempotency: {required: true}}
  - {name: all, match: {path: /**}, service: a}
`)
	for _, c := range []struct {
		method, path string
		least, most  int
	}{{"GET", "/x", 7000, 7000}, {"POST", "/x", 7000, 7000}, {"GET", "/own", 1, 5000}, {"POST", "/keyed", 1, 5000}} {
		if r := g.do(c.method, c.path, "{}", "Sluice-Timeout", "1", "sluice_timeout", "2", "Idempotency-Key", "k",
			"X-User", "ann"); r.status != 200 {
			t.Fatalf("%+v", r)
		}
		saw, _ := s.last(t)
		values := saw.Header.Values("Sluice-Timeout")
		ms, err := strconv.Atoi(strings.Join(values, ","))
		if err != nil || ms < c.least || ms > c.most || saw.Header.Get("sluice_timeout") != "" {
			t.Errorf("%s %s: told %v, %v", c.method, c.path, values, saw.Header)
		}
	}
}

func TestTimeoutOfAKeyedRoute(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Hang") != "" {
			<-r.Context().Done()
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"], timeout: 20s}}
routes:
  - name: keyed
    match: {methods: [POST], path: /keyed}
    service: a
    timeout: 300ms
    idempotency: {required: true, whileInFlight: {wait: 19s}}
`)
	r := g.do("POST", "/keyed", "{}", "Idempotency-Key", "k", "X-User", "ann", "X-Hang", "1")
	if r.status != 504 || r.reason() != "upstream-timeout" {
		t.Errorf("a service that hangs: %+v", r)
	}
	if r := g.do("POST", "/keyed", "{}", "Idempotency-Key", "k", "X-User", "ann"); r.reason() != "outcome-unknown" {
		t.Errorf("after something was sent: %+v", r)
	}
}

func TestGRPCTimeout(t *testing.T) {
	t.Parallel()
	s := newGRPCService(t)
	told := make(chan [2]string, 10)
	echo := newHTTP2Service(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		told <- [2]string{r.Header.Get("Grpc-Timeout"), r.Header.Get("Sluice-Timeout")}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	}))
	hangs := newHTTP2Service(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	g := start(t, head+`
services:
  a: {endpoints: ["h2c://`+s.address+`"], timeout: 20s, breaker: {errors: 1%, minRequests: 1}}
  echo: {endpoints: ["h2c://`+echo.address+`"], timeout: 20s}
  hangs: {endpoints: ["h2c://`+hangs.address+`"], timeout: 200ms}
routes:
  - {name: hangs, match: {path: /hangs}, service: hangs}
  - {name: echo, match: {path: /echo}, service: echo}
  - {name: route, match: {path: /route}, service: echo, timeout: 5s}
  - {name: keyed, match: {path: /s/**}, service: a, idempotency: {required: true}}
  - {name: plain, match: {path: /plain/**}, service: a}
`)
	c := http2Client(t)
	base := "http://" + g.at.HTTP
	callWith := func(path, key string, timeouts ...string) call {
		t.Helper()
		req := grpcRequest(t, base+path, key, strings.NewReader(string(framed("question"))))
		req.Header["Grpc-Timeout"] = timeouts
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d %q, %v", path, resp.StatusCode, b, err)
		}
		return call{string(b), resp.Header, resp.Trailer}
	}

	for _, c := range []struct {
		path, timeout string
		most          time.Duration
	}{{"/echo", "10S", 10 * time.Second}, {"/route", "10S", 5 * time.Second}, {"/route", "2S", 2 * time.Second},
		{"/echo", "99999999H", timeoutMax}} {
		if r := callWith(c.path, "", c.timeout); r.status() != "head 0" {
			t.Fatalf("%+v: %v", c, r)
		}
		got := <-told
		left, ok := filters.ParseGRPCTimeout(got[0])
		ms, err := strconv.Atoi(got[1])
		if !ok || err != nil || left > c.most || left <= 0 ||
			time.Duration(ms)*time.Millisecond > c.most+time.Millisecond {
			t.Errorf("%+v: told %v", c, got)
		}
	}
	callWith("/echo", "")
	if got := <-told; got != [2]string{"", "20000"} {
		t.Errorf("without a timeout: told %v", got)
	}

	for _, timeouts := range [][]string{{"5"}, {"S"}, {"1s"}, {"-1S"}, {"123456789n"}, {"1S", "1S"}, {""}} {
		if r := callWith("/s/unary", "bad", timeouts...); r.status() != "head 13" ||
			r.header.Get("Sluice-Reason") != "bad-request" {
			t.Errorf("%q: %v", timeouts, r)
		}
	}
	if r := callWith("/s/unary", "k", "0n"); r.status() != "head 4" ||
		r.header.Get("Sluice-Reason") != "upstream-timeout" {
		t.Errorf("out of time: %v", r)
	}
	if s.runs.Load() != 0 {
		t.Errorf("%d calls reached the service", s.runs.Load())
	}
	if r := callWith("/s/unary", "k", "20S"); r.status() != "trailer 0" { // the key was free
		t.Errorf("in time: %v", r)
	}
	for timeout, want := range map[string]string{
		"150m": "The service did not respond within the time that the client had set.",
		"20S":  "The service did not respond within 200ms.",
	} {
		r := callWith("/hangs", "", timeout)
		if got := r.header.Get("Grpc-Message"); r.status() != "head 4" || got != want {
			t.Errorf("%s: %s %q, want %q", timeout, r.status(), got, want)
		}
	}
	// The head does not come in time, nor does the end of a stream; a client's short time says nothing of
	// the service, so its breaker stays closed.
	if r := callWith("/plain/late", "", "100m"); r.status() != "trailer 4" {
		t.Errorf("a stream that does not end: %v", r)
	}
	if r := callWith("/s/late", "k2", "100m"); !strings.HasSuffix(r.status(), " 4") {
		t.Errorf("a call that does not end: %v", r)
	}
	if r := callWith("/plain/unary", "", "20S"); r.status() != "trailer 0" {
		t.Errorf("behind them: %v %v", r, fmt.Sprint(r.header))
	}
}
