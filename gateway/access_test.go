package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
)

// accessLine is a line of an access log as its readers see it.
type accessLine struct {
	Time      string
	RequestID string `json:"request_id"`
	TraceID   string `json:"trace_id"`
	Peer, Client, Principal, Method, Host, Path, Protocol,
	Route, Service, Endpoint, Reason, Record string
	Upgraded, Replayed bool
	Status, Attempt    int
	BytesIn            int64   `json:"bytes_in"`
	BytesOut           int64   `json:"bytes_out"`
	Total              float64 `json:"total_ms"`
	ServiceTime        float64 `json:"service_ms"`
	StoreTime          float64 `json:"store_ms"`
	QueueTime          float64 `json:"queue_ms"`
}

// accessLines reads an access log.
func accessLines(t *testing.T, file string) (list []accessLine) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break // is being written
		}
		var l accessLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		list = append(list, l)
	}
	return list
}

// logged waits for the line of a request.
func logged(t *testing.T, file string, is func(*accessLine) bool) (found accessLine) {
	t.Helper()
	until(t, func() bool {
		for _, l := range accessLines(t, file) {
			if is(&l) {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

func withID(r got) func(*accessLine) bool {
	return func(l *accessLine) bool { return l.RequestID == r.header.Get(requestIDField) }
}

func accessHead(file, more string) string {
	return head + "log: {access: {output: " + file + more + "}}\n"
}

// TestAccessLogOfRequests: what a line says, for a request of each kind and protocol.
func TestAccessLogOfRequests(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "twelve bytes")
	})
	file := filepath.Join(t.TempDir(), "access.log")
	g := start(t, accessHead(file, "")+`
services: {a: {endpoints: ["`+s.URL+`"], overload: {concurrency: 8}}}
limits: {few: {scope: local, rate: 1/h, per: [query.who]}}
routes:
  - {name: keyed, match: {methods: [POST], path: "/keyed/{id}"}, service: a, idempotency: {}}
  - {name: limited, match: {path: /limited}, service: a, limits: [few]}
  - {name: plain, match: {methods: [GET], path: /**}, service: a}
`)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	r := g.do("POST", "/keyed/7?secret=1", "{}", "Idempotency-Key", "k1", "X-User", "alice",
		"Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	l := logged(t, file, withID(r))
	if l.Method != "POST" || l.Host != g.at.HTTP || l.Path != "/keyed/7" || l.Route != "keyed" || l.Status != 200 ||
		l.Service != "a" || l.Endpoint != hostPortOf(s.URL) || l.Principal != filters.HashedPrincipal("alice") ||
		l.Record == "" || l.Attempt != 1 || l.Replayed || l.BytesIn != 2 || l.BytesOut != 12 || l.TraceID != trace ||
		l.Protocol != "HTTP/1.1" || l.Peer != "127.0.0.1" || l.Client != "127.0.0.1" || l.Reason != "" ||
		l.ServiceTime <= 0 || l.Total < l.ServiceTime+l.StoreTime || l.Time == "" {
		t.Errorf("a keyed request: %+v", l)
	}
	record := l.Record
	r = g.do("POST", "/keyed/7?secret=1", "{}", "Idempotency-Key", "k1", "X-User", "alice")
	if l = logged(t, file, withID(r)); !l.Replayed || l.Record != record || l.Endpoint != "" || l.ServiceTime != 0 ||
		l.BytesOut != 12 || l.Service != "a" {
		t.Errorf("a replay: %+v", l)
	}
	g.do("GET", "/limited?who=x", "")
	for what, c := range map[string]struct {
		r    got
		want accessLine
	}{
		"limited": {g.do("GET", "/limited?who=x", ""), accessLine{Status: 429, Reason: "rate-limited", Route: "limited",
			Service: "a"}},
		"no route": {g.do("DELETE", "/none", ""), accessLine{Status: 405, Reason: "method-not-allowed"}},
		"broken": {g.do("GET", "/broken", ""), accessLine{Status: 502, Reason: "upstream-failed", Route: "plain",
			Service: "a", Endpoint: hostPortOf(s.URL)}},
		"too long": {g.do("POST", "/keyed/1", strings.Repeat("x", 70<<10)), accessLine{Status: 413,
			Reason: "body-too-large"}},
	} {
		l := logged(t, file, withID(c.r))
		if l.Status != c.want.Status || l.Reason != c.want.Reason || l.Route != c.want.Route ||
			l.Service != c.want.Service || l.Endpoint != c.want.Endpoint {
			t.Errorf("%s: %+v", what, l)
		}
	}
	g.raw("GET /x HTTP/1.1\r\nHost: x\r\nbad\r\n\r\n")
	if l := logged(t, file, func(l *accessLine) bool { return l.Reason == "bad-request" }); l.Status != 400 ||
		l.Path != "/x" || l.Route != "" {
		t.Errorf("a request that cannot be parsed: %+v", l)
	}
	resp, err := http2Client(t).Post("http://"+g.at.HTTP+"/keyed/2", "text/plain", strings.NewReader("seven b"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	r = got{header: resp.Header}
	if l := logged(t, file, withID(r)); l.Protocol != "HTTP/2" || l.BytesIn != 7 || l.BytesOut != 12 ||
		l.Status != 200 {
		t.Errorf("HTTP/2: %+v", l)
	}
	if b, _ := os.ReadFile(file); strings.Contains(string(b), "secret") || strings.Contains(string(b), "alice") {
		t.Errorf("the log has what it must not have:\n%s", b)
	}
}

// TestAccessLogOfUpgrade: an upgraded connection has its line at its end, with what it carried.
func TestAccessLogOfUpgrade(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "access.log")
	g := start(t, accessHead(file, "")+`
services: {a: {endpoints: ["http://`+wireService(t, echoTunnel)+`"], streamIdleTimeout: 400ms}}`+allToA)
	c := g.dial()
	c.send(upgradeRequest)
	if resp := c.head("GET"); resp.StatusCode != 101 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	if n := len(accessLines(t, file)); n != 0 {
		t.Errorf("%d lines while the connection is open", n)
	}
	if got := c.rest(); got != "hello " {
		t.Errorf("got %q", got)
	}
	l := logged(t, file, func(*accessLine) bool { return true })
	if !l.Upgraded || l.Status != 101 || l.Reason != "upstream-timeout" || l.BytesOut != 6 || l.Total < 300 ||
		l.Endpoint == "" {
		t.Errorf("%+v", l)
	}
}

// TestAccessLogReloads: a reload turns it on and off, moves it, and changes its sample, form and principals; a file
// that cannot be opened has the configuration refused, and the old one stays.
func TestAccessLogReloads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	routes := "services: {a: {endpoints: [\"" + newService(t, echo).URL + "\"]}}\n" +
		"routes: [{name: r, match: {path: /ok}, service: a}]\n"
	g := start(t, head+routes)
	applied := 0.
	apply := func(text string) {
		t.Helper()
		g.configure(text)
		g.reload <- struct{}{}
		applied++
		until(t, func() bool { return g.metric(`sluice_config_reloads_total{result="applied"}`) == applied })
	}
	g.do("GET", "/ok", "")
	apply(accessHead(first, "") + routes)
	logged(t, first, withID(g.do("GET", "/ok", "", "X-User", "bob")))
	apply(accessHead(second, ", principal: plain") + routes)
	if l := logged(t, second, withID(g.do("GET", "/ok", "", "X-User", "bob"))); l.Principal != "bob" {
		t.Errorf("%+v", l)
	}
	apply(accessHead(second, ", sample: 0%") + routes)
	g.do("GET", "/ok", "")
	logged(t, second, withID(g.do("GET", "/none", "")))
	if n := len(accessLines(t, first)); n != 1 {
		t.Errorf("%d lines in the first file", n)
	}
	if n := len(accessLines(t, second)); n != 2 {
		t.Errorf("%d lines in the second file", n)
	}
	g.configure(accessHead(filepath.Join(dir, "none", "x"), "") + routes)
	g.reload <- struct{}{}
	until(t, func() bool { return g.metric(`sluice_config_reloads_total{result="refused"}`) == 1 })
	if !strings.Contains(g.logs.String(), "no such file or directory") {
		t.Error(g.logs.String())
	}
	logged(t, second, withID(g.do("GET", "/none", "")))
	apply(head + routes)
	g.do("GET", "/none", "")
	if n := len(accessLines(t, second)); n != 3 {
		t.Errorf("%d lines in the second file when the log is off", n)
	}
	if n := g.metric("sluice_access_log_written_total"); n != 4 {
		t.Errorf("%v lines are counted", n)
	}
}

// TestAccessLogIsReopened: after a rotation the lines go to a new file, and what is written at the end is not lost.
func TestAccessLogIsReopened(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "access.log")
	reopen := make(chan struct{})
	g := startOptions(t, accessHead(file, "")+"routes: [{name: r, match: {path: /ok}, respond: {status: 200}}]\n",
		Options{ReopenLogs: reopen})
	before := g.do("GET", "/ok", "")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	reopen <- struct{}{}
	until(t, func() bool { return strings.Contains(g.logs.String(), "opened again") })
	after := g.do("GET", "/ok", "")
	if err := g.stop(); err != nil { // which writes all
		t.Fatal(err)
	}
	for f, want := range map[string]got{file + ".1": before, file: after} {
		if lines := accessLines(t, f); len(lines) != 1 || !withID(want)(&lines[0]) {
			t.Errorf("%s has %+v", f, lines)
		}
	}
}

// TestAccessLogCannotBeOpened: a gateway whose log cannot be written does not come up, and says why.
func TestAccessLogCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "sluice.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "%slog: {access: {output: %s}}\n", head, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), Options{Source: &source.File{Path: config}, Logger: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkAccessLog is a request from its head to a static response, without an access log and with one.
func BenchmarkAccessLog(b *testing.B) {
	for _, output := range []string{"", filepath.Join(b.TempDir(), "access.log")} {
		b.Run(map[bool]string{true: "off", false: "on"}[output == ""], func(b *testing.B) {
			cfg := manyRoutes(b, 1, "respond: {status: 200}")
			p := testProcess(b, cfg)
			e, err := p.build(cfg, material{}, nil)
			if err != nil {
				b.Fatal(err)
			}
			if output != "" {
				l, err := p.access.prepare(&config.AccessLog{Format: config.AccessJSON, Output: output, Sample: 100})
				if err != nil {
					b.Fatal(err)
				}
				p.access.use(l)
			}
			d := &dispatcher{engine: func() *engine { return e }, access: &p.access}
			account := budget.New(limitsOf(&cfg.Listen, 1)).Account(netip.Addr{})
			x, w := new(filters.Exchange), &madeRequest{recorder: &recorder{}, account: account}
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				x.Begin(context.Background(), nil)
				x.Method, x.Scheme, x.Version, x.Host, x.Path = "GET", "http", "1.1", "shop.example", "/v1/t0/orders"
				x.Peer, x.Received = netip.AddrFrom4([4]byte{192, 0, 2, 7}), time.Now()
				l := d.access.begin(x)
				d.dispatch(e, x, w)
				if l != nil {
					d.access.end(l, x, w)
				}
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
			p.access.use(nil)
			if w.status != 200 {
				b.Fatalf("status %d", w.status)
			}
		})
	}
}

// processorTime is what this process has used of it: on a busy machine it says more than the time that passes.
func processorTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// TestAccessLogOfEnvoy: requests that Envoy carries have the same line.
func TestAccessLogOfEnvoy(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "done") })
	file := filepath.Join(t.TempDir(), "access.log")
	e := startEnvoy(t, envoyHead+"log: {access: {output: "+file+`}}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: keyed, match: {methods: [POST], path: /keyed}, service: a, idempotency: {}}]
`, s.URL)
	r := <-e.start(t.Context(), "/keyed?secret=1", "seven b", field{"idempotency-key", "k"})
	l := logged(t, file, withID(r))
	if l.Status != 200 || l.Route != "keyed" || l.Service != "a" || l.Record == "" || l.Path != "/keyed" ||
		l.BytesIn != 7 || l.ServiceTime <= 0 || l.Replayed {
		t.Errorf("%+v", l)
	}
	r = <-e.start(t.Context(), "/none", "")
	if l := logged(t, file, withID(r)); l.Status != 404 || l.Reason != "no-route" || l.Route != "" {
		t.Errorf("%+v", l)
	}
}
