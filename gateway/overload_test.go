package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters"
)

// held is a service that keeps its requests until it is let go.
type held struct {
	*service
	release func()
}

func holding(t *testing.T) *held {
	until := make(chan struct{})
	h := &held{release: sync.OnceFunc(func() { close(until) })}
	h.service = newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/free" {
			<-until
		}
		io.WriteString(w, "done")
	})
	t.Cleanup(h.release) // before the server is closed, which waits for it
	return h
}

// overloaded checks the refusal of what is beyond the budget.
func overloaded(t *testing.T, r got) {
	t.Helper()
	if r.status != 503 || r.reason() != string(filters.Overloaded) || r.header.Get("Retry-After") == "" {
		t.Errorf("beyond the budget: %+v", r)
	}
}

// TestInFlight: requests under way have a total over all connections and protocols, which those
// whose clients have left count in too.
func TestInFlight(t *testing.T) {
	t.Parallel()
	s := holding(t)
	text := strings.Replace(head, "listen: {", "listen: {maxInFlight: 10, ", 1) + `
services: {a: {endpoints: ["` + s.URL + `"], timeout: 60s}}
routes:
  - {name: keyed, match: {methods: [POST], path: /**}, service: a, idempotency: {}}
  - {name: all, match: {path: /**}, service: a}
`
	g := start(t, text)
	two := http2Client(t)
	for i := range 9 { // all that one client may have by the first of each connection; each leaves
		c, err := net.Dial("tcp", g.at.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /kept HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k%d\r\nContent-Length: 2\r\n\r\n{}", i)
		until(t, func() bool { return s.count() == i+1 })
		c.Close()
	}
	if n := g.metric("sluice_requests_in_flight"); n != 9 {
		t.Errorf("%v requests are in flight, want the 9 whose clients have left", n)
	}
	overloaded(t, g.do("GET", "/free", ""))
	resp, err := two.Get("http://" + g.at.HTTP + "/free")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Sluice-Reason") != "overloaded" {
		t.Errorf("over HTTP/2: %v", resp)
	}
	if n := g.metric(`sluice_budget_refusals_total{resource="in-flight"}`); n != 2 {
		t.Errorf("%v refusals are counted, want 2", n)
	}
	if n := g.metric(`sluice_requests_in_flight_max`); n != 10 {
		t.Errorf("the limit is published as %v", n)
	}
	for _, path := range []string{"/readyz", "/metrics"} {
		if r := fetch(t, "http://"+g.at.Admin+path, "GET", ""); r.status != 200 {
			t.Errorf("%s: %+v", path, r)
		}
	}

	// A reload raises the limit in place.
	g.configure(strings.Replace(text, "maxInFlight: 10", "maxInFlight: 100", 1))
	g.reload <- struct{}{}
	until(t, func() bool { return g.metric(`sluice_requests_in_flight_max`) == 100 })
	if r := g.do("GET", "/free", ""); r.status != 200 {
		t.Errorf("with a higher limit: %+v", r)
	}
	s.release()
	until(t, func() bool { return g.metric("sluice_requests_in_flight") == 0 })
	if !strings.Contains(g.logs.String(), "listen.maxInFlight") {
		t.Error("the log does not say which limit it was")
	}
}

// TestBuffered: bodies that are kept whole have a total over all connections. What is announced does
// not count, what is refused is not kept, and a client that takes all it can leaves others theirs.
func TestBuffered(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, strings.Replace(head, "maxBody: 64KiB", "maxBody: 256KiB, maxBuffered: 1MiB", 1)+`
services: {a: {endpoints: ["`+s.URL+`"]}}
limits: {sku: {scope: local, per: [body.sku], rate: 1000/s, burst: 1000}}
routes:
  - {name: keyed, match: {path: /keyed/**}, service: a, idempotency: {}}
  - {name: limited, match: {path: /limited}, service: a, limits: [sku]}
  - {name: all, match: {path: /**}, service: a}
`)
	// Each announces 200,000 bytes and sends most of them.
	var waiting []net.Conn
	for i := 0; ; i++ {
		c, err := net.Dial("tcp", g.at.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "POST /keyed/a HTTP/1.1\r\nHost: a\r\nIdempotency-Key: %d\r\nContent-Length: 200000\r\n\r\n%s",
			i, strings.Repeat("x", 190_000))
		waiting = append(waiting, c)
		refused := func() float64 { return g.metric(`sluice_budget_refusals_total{resource="buffered"}`) }
		until(t, func() bool { return refused() > 0 || g.metric("sluice_buffered_bytes") >= float64(190_000*(i+1)) })
		if used := g.metric("sluice_buffered_bytes"); used > 1<<20 {
			t.Fatalf("%v of 1 MiB are used", used)
		}
		if refused() > 0 {
			break
		}
		if i > 10 {
			t.Fatal("2 MB of unfinished bodies are kept within 1 MiB")
		}
	}
	if len(waiting) < 3 {
		t.Errorf("%d bodies of 200 kB fit into 1 MiB", len(waiting)-1)
	}
	last := waiting[len(waiting)-1]
	resp, err := http.ReadResponse(bufio.NewReader(last), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 503 || resp.Header.Get("Sluice-Reason") != "overloaded" ||
		resp.Header.Get("Retry-After") == "" {
		t.Errorf("the body that does not fit: %v", resp)
	}
	body := `{"sku":"s","pad":"` + strings.Repeat("p", 150_000) + `"}`
	overloaded(t, g.do("POST", "/limited", body)) // whoever reads it, the reason is the same
	overloaded(t, g.do("POST", "/keyed/b", body, "Idempotency-Key", "b"))
	if r := g.do("POST", "/passed", body); r.status != 200 {
		t.Errorf("a body that nobody keeps: %+v", r)
	}
	if r := g.do("POST", "/keyed/c", `{}`, "Idempotency-Key", "c"); r.status != 200 {
		t.Errorf("a body that came with its head: %+v", r)
	}
	for _, c := range waiting {
		c.Close()
	}
	until(t, func() bool { return g.metric("sluice_buffered_bytes") == 0 })
	if r := g.do("POST", "/keyed/b", body, "Idempotency-Key", "b"); r.status != 200 {
		t.Errorf("the refused key, when there is room: %+v", r)
	}
	if !strings.Contains(g.logs.String(), "listen.maxBuffered") {
		t.Error("the log does not say which limit it was")
	}
}

// TestClientsBehindProxy: behind a trusted proxy each client has a share of its own, so that one of
// them does not take what is there for all.
func TestClientsBehindProxy(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, strings.Replace(head, "maxBody: 64KiB", "maxBody: 256KiB, maxBuffered: 1MiB", 1)+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: keyed, match: {path: /**}, service: a, idempotency: {}}]
`)
	proxy := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}
	post := func(client string, key, announced, sent int) net.Conn {
		t.Helper()
		c, err := proxy.Dial("tcp", g.at.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %s\r\nIdempotency-Key: k%d\r\n"+
			"Content-Length: %d\r\n\r\n%s", client, key, announced, strings.Repeat("x", sent))
		return c
	}
	refused := func() bool { return g.metric(`sluice_budget_refusals_total{resource="buffered"}`) > 0 }
	for i := 0; !refused(); i++ {
		if i > 10 {
			t.Fatal("2 MB of one client's bodies are kept within 1 MiB")
		}
		post("192.0.2.1", i, 200_000, 190_000)
		until(t, func() bool { return refused() || g.metric("sluice_buffered_bytes") >= float64(190_000*(i+1)) })
	}
	resp, err := http.ReadResponse(bufio.NewReader(post("192.0.2.2", 100, 100_000, 100_000)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Errorf("another client of the same proxy: %v", resp)
	}
}

// TestReadyWithoutStore: a store that fails after the start leaves the gateway ready, as its status
// and metrics say what is wrong; with readyNeedsStore it does not.
func TestReadyWithoutStore(t *testing.T) {
	t.Parallel()
	redis := redistest.Run(t, redistest.Options{})
	text := `version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0"}
store: {redis: {addresses: ["` + redis.Addr() + `"]}}
routes: [{name: all, match: {path: /**}, respond: {status: 204}}]
`
	g := start(t, text)
	ready := func() int { return fetch(t, "http://"+g.at.Admin+"/readyz", "GET", "").status }
	until(t, func() bool { return ready() == 200 })
	redis.Kill()
	until(t, func() bool { return g.metric("sluice_store_up") == 0 })
	if s := ready(); s != 200 {
		t.Errorf("/readyz is %d when the store fails after the start", s)
	}
	if r := fetch(t, "http://"+g.at.Admin+"/api/status", "GET", ""); !strings.Contains(r.body, `"up": false`) {
		t.Errorf("the status does not say that the store is down: %s", r.body)
	}
	g.configure(strings.Replace(text, `admin: {`, `admin: {readyNeedsStore: true, `, 1))
	g.reload <- struct{}{}
	until(t, func() bool { return ready() == 503 })
}

// TestUnreadyUntilStore: before the store has been reached once the gateway is not ready.
func TestUnreadyUntilStore(t *testing.T) {
	t.Parallel()
	taken := nobodyAt(t)
	g := start(t, `version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0"}
store: {redis: {addresses: ["`+taken+`"]}}
routes: [{name: all, match: {path: /**}, respond: {status: 204}}]
`)
	r := fetch(t, "http://"+g.at.Admin+"/readyz", "GET", "")
	if r.status != 503 || !strings.Contains(r.body, "the store has not been reached") {
		t.Errorf("/readyz: %+v", r)
	}
	until(t, func() bool {
		return strings.Contains(g.logs.String(), `msg="not ready yet" waits_for="the store has not been reached"`)
	})
	if strings.Contains(g.logs.String(), "msg=ready ") {
		t.Error("it says that it is ready")
	}
}

// TestNoCleartextListener: whoever writes only https has no other port open.
func TestNoCleartextListener(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("listener", "gateway")
	dir := a.dir
	g := start(t, `version: 1
listen: {https: {address: "127.0.0.1:0", cert: `+filepath.Join(dir, "listener.crt")+`, key: `+filepath.Join(dir, "listener.key")+`}}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
routes: [{name: all, match: {path: /**}, respond: {status: 204}}]
`)
	if g.at.HTTP != "" || g.at.HTTPS == "" {
		t.Errorf("it listens on %+v", g.at)
	}
	until(t, func() bool { return strings.Contains(g.logs.String(), `msg=ready http="" https=`+g.at.HTTPS) })
	if _, err := os.Stat(filepath.Join(dir, "listener.crt")); err != nil {
		t.Fatal(err)
	}
}
