package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 9}, 3},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("%v became %v", before, c.values)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		sorted  []time.Duration
		percent float64
		want    time.Duration
	}{
		{nil, 50, 0},
		{hundred[:1], 99.9, 1},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.9, 100},
		{hundred, 100, 100},
		{hundred, 0, 1},
	} {
		if got := percentile(c.sorted, c.percent); got != c.want {
			t.Errorf("percentile %v of %d values is %v, want %v", c.percent, len(c.sorted), got, c.want)
		}
	}
}

func TestResponse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, wire string
		status     int
		broken     bool
	}{
		{name: "with a body", wire: "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello", status: 200},
		{name: "without a body", wire: "HTTP/1.1 503 No\r\ncontent-length:0\r\n\r\n", status: 503},
		{name: "a name that begins the same", wire: "HTTP/1.1 201 C\r\nContent-Length-Old: 9\r\nCONTENT-LENGTH: 1\r\n\r\nx", status: 201},
		{name: "no length", wire: "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", broken: true},
		{name: "negative length", wire: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", broken: true},
		{name: "no status", wire: "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", broken: true},
		{name: "no HTTP", wire: "SSH-2.0-something\r\n\r\n", broken: true},
		{name: "more than its length", wire: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy", broken: true},
		{name: "an endless head", wire: "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", headBytesMax), broken: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{len(c.wire), 7, 1} {
				var r response
				for again := range 2 { // a connection is used more than once
					done, err := feedIn(&r, c.wire, size)
					if c.broken {
						if err == nil {
							t.Fatalf("pieces of %d: no error", size)
						}
						break
					}
					if err != nil || !done || r.status != c.status {
						t.Fatalf("pieces of %d, answer %d: done %v, status %d, %v; want %d", size, again, done, r.status, err, c.status)
					}
				}
			}
		})
	}
}

// feedIn feeds an answer in pieces of that size and reports what the last one gave; it must not be whole before.
func feedIn(r *response, wire string, size int) (done bool, err error) {
	for len(wire) > 0 && err == nil {
		if done {
			return false, errors.New("whole before its end")
		}
		n := min(size, len(wire))
		done, err = r.feed([]byte(wire[:n]))
		wire = wire[n:]
	}
	return done, err
}

func TestRequests(t *testing.T) {
	t.Parallel()
	r := newRequest(loadPost, "h.example")
	first := string(r.next())
	second := string(r.next())
	key := regexp.MustCompile(`Idempotency-Key: key-(\d{12})\r\n`)
	a, b := key.FindStringSubmatch(first), key.FindStringSubmatch(second)
	if a == nil || b == nil || a[1] == b[1] {
		t.Fatalf("keys %q and %q, want two of them:\n%s", a, b, first)
	}
	if !strings.Contains(first, "X-User: user-001\r\n") || !strings.Contains(second, "X-User: user-002\r\n") {
		t.Fatalf("the users do not change:\n%s\n%s", first, second)
	}
	_, body, _ := strings.Cut(first, "\r\n\r\n")
	if len(body) != bodyBytes || !json.Valid([]byte(body)) {
		t.Fatalf("a body of %d bytes, want %d of JSON: %s", len(body), bodyBytes, body)
	}
	if len(smallAnswer) != 200 || !json.Valid([]byte(smallAnswer)) {
		t.Fatalf("an answer of %d bytes, want 200 of JSON", len(smallAnswer))
	}
}

func TestMetric(t *testing.T) {
	t.Parallel()
	text := "# HELP a_total Something.\na_total_more 7\na_total 1.25e+06\n"
	if v, err := metric(text, "a_total"); err != nil || v != 1.25e6 {
		t.Fatalf("%v, %v", v, err)
	}
	if _, err := metric(text, "b_total"); err == nil {
		t.Fatal("no error for a metric that is not there")
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	t.Parallel()
	sound := Options{Duration: time.Second, Rounds: 1, Connections: 1, IdleConnections: 1, Rate: 1}
	if err := sound.check(); err != nil {
		t.Fatal(err)
	}
	for flag, spoil := range map[string]func(*Options){
		"--duration":    func(o *Options) { o.Duration = 0 },
		"--rounds":      func(o *Options) { o.Rounds = 0 },
		"--connections": func(o *Options) { o.Connections = connectionsMax + 1 },
		"--idle":        func(o *Options) { o.IdleConnections = -1 },
		"--rate":        func(o *Options) { o.Rate = 0 },
	} {
		o := sound
		spoil(&o)
		if err := o.check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// startPart runs a part in this process and returns its address.
func startPart(t *testing.T, name, target string) string {
	t.Helper()
	address, admin := pick(t), pick(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- RunPart(ctx, []string{name, address, admin, target}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return address
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("%s ended: %v", name, err)
		case <-time.After(time.Millisecond):
		}
	}
}

func pick(t *testing.T) string {
	t.Helper()
	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestHTTP2Loads(t *testing.T) {
	t.Parallel()
	up := startPart(t, "upstream", "http://127.0.0.1:0")
	for _, c := range []struct {
		name, scheme string
		grpc         bool
	}{{"GET, service on HTTP/1.1", "http", false}, {"gRPC", "h2c", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newH2Load(startPart(t, "reverseproxy", c.scheme+"://"+up), c.grpc)
			defer l.close()
			got, err := l.closed(t.Context(), 20*time.Millisecond)
			if err != nil || got.errors > 0 || got.requests < h2Connections*h2Streams {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}

// TestHTTP2Connections: all streams of a connection share it, also at the start, when none is there yet.
func TestHTTP2Connections(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(serveUpstream))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	l := newH2Load(server.Listener.Addr().String(), false)
	defer l.close()
	if got, err := l.closed(t.Context(), 20*time.Millisecond); err != nil || got.errors > 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if n := opened.Load(); n != h2Connections {
		t.Fatalf("%d connections, want %d", n, h2Connections)
	}
}

func TestUnknownPart(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"nothing", "", "", "http://x"}, {"relay", "", "", ":"}} {
		if err := RunPart(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// sampleReport is a report in which every mark can be judged.
func sampleReport() *Report {
	figure := func(cpu, mallocs float64) *Figure {
		return &Figure{CPUMicros: cpu, CPURounds: []float64{cpu, cpu, 2 * cpu}, PerSecond: 1e6 / cpu, Mallocs: &mallocs, Requests: 1000}
	}
	three := func(cpu, mallocs float64) map[string]*Figure {
		return map[string]*Figure{loadGet: figure(cpu, mallocs), loadPost: figure(cpu, mallocs), loadBig: figure(cpu, mallocs)}
	}
	idle := 5.0 * 1024
	t := tally{requests: 2000}
	for i := range 2000 {
		t.latencies = append(t.latencies, time.Duration(i)*time.Microsecond)
	}
	r := &Report{Loads: []string{loadGet, loadPost, loadBig}, Contenders: []Result{
		{Name: relay, Figures: three(8, 0)},
		{Name: nginx, Figures: three(10, 0), Latency: newLatency([]tally{t})},
		{Name: nginxLimit, Figures: three(10, 0)},
		{Name: haproxy, Missing: "not available: <not here>"},
		{Name: gateway, Figures: three(9, 0.04), IdleBytes: &idle, Latency: newLatency([]tally{t})},
		{Name: gatewayFilters, Figures: three(11, 3)},
	}}
	r.relate()
	r.judge()
	return r
}

func TestMarks(t *testing.T) {
	t.Parallel()
	verdicts := func(r *Report) map[string]string {
		m := map[string]string{}
		for _, mark := range r.Marks {
			m[mark.What] = mark.verdict()
		}
		return m
	}
	r := sampleReport()
	for what, want := range map[string]string{
		"plain route, GET: CPU against nginx":                    "met",
		"plain route, 64 KiB answers: CPU against nginx":         "missed",
		"all filters, GET: CPU against nginx + limit_req":        "missed",
		"all filters, keyed POST: CPU against nginx + limit_req": "met",
		"HTTP/2: CPU against ReverseProxy":                       "not measured",
		"all filters: allocations a GET":                         "missed",
		"all filters: allocations a keyed POST":                  "met",
		"memory an idle connection":                              "met",
	} {
		if got := verdicts(r)[what]; got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	if got := *r.figure(gateway, loadGet).ToRelay; math.Abs(got-9.0/8) > 1e-9 {
		t.Errorf("ratio to the relay %v, want %v", got, 9.0/8)
	}
	r.figure(gateway, loadGet).Errors = 1
	r.Marks = nil
	r.judge()
	if got := verdicts(r)["plain route, GET: CPU against nginx"]; got != "there were errors" {
		t.Errorf("with errors: %q", got)
	}
}

func TestRatioIsOfRounds(t *testing.T) {
	t.Parallel()
	slow := &Figure{CPURounds: []float64{10, 100, 10}}
	if got := *ratio(slow, &Figure{CPURounds: []float64{20, 200, 20}}); got != 0.5 {
		t.Errorf("ratio %v, want 0.5", got)
	}
	if got := ratio(slow, nil); got != nil {
		t.Errorf("ratio to nothing is %v", *got)
	}
}

func TestLatencyIsTheMedianOfTheRounds(t *testing.T) {
	t.Parallel()
	round := func(of time.Duration) tally {
		return tally{requests: 100, errors: 1, latencies: slices.Repeat([]time.Duration{of}, 100)}
	}
	l := newLatency([]tally{round(3 * time.Microsecond), round(time.Second), round(2 * time.Microsecond)})
	if l.P50 != 3 || l.P999 != 3 || l.Requests != 300 || l.Errors != 3 {
		t.Errorf("%+v, want 3 µs of 300 requests with 3 errors", l)
	}
	if last := l.Curve[len(l.Curve)-1]; last != (Point{99, 3}) {
		t.Errorf("the curve ends with %+v, want 99 %%: a hundred requests show no more", last)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	r := sampleReport()
	r.Contenders[4].Figures[loadPost].Errors = 2
	r.Contenders[4].Figures[loadPost].FirstError = "status 503"
	var out bytes.Buffer
	if err := r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^ +sluice +9\.00 +0\.90 +1\.12 +111111 +0\.04 +0 *$`,
		`(?m)^haproxy: not available: <not here>$`,
		`(?m)^sluice: POST, 512 bytes, keyed: 2 errors in 1000 requests, first: status 503$`,
		`(?m)^ +sluice +5\.00 +999 +1979 +1997 +0 *$`,
		`(?m)^memory an idle connection +6 KiB +5\.00 +met`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("nothing like %s in\n%s", want, out.String())
		}
	}
}

func TestHTML(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sampleReport().WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"<polyline", `class="ours"`, "&lt;not here&gt;", "99.9 %", `class="met"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, never := range []string{"NaN", "Inf", "http://", "https://", "<script", "ZgotmplZ"} {
		if strings.Contains(text, never) {
			t.Errorf("%q is in the page", never)
		}
	}
	if err := new(Report).WriteHTML(&out); err != nil {
		t.Errorf("an empty report: %v", err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var lines, bar bytes.Buffer
	for _, p := range []*progress{newProgress(&lines, false), newProgress(&bar, true)} {
		p.total = 4
		for _, s := range [][2]string{{"GET", "a"}, {"GET", "b"}, {"POST", "a"}, {"POST", "b"}} {
			p.step(s[0], s[1])
		}
		p.end()
	}
	if want := "  0% GET\n 50% POST\n"; lines.String() != want {
		t.Errorf("lines %q, want %q", lines.String(), want)
	}
	if !strings.Contains(bar.String(), "\r[#######.......................]  25% GET: b") || strings.Contains(bar.String(), "\n") {
		t.Errorf("bar %q", bar.String())
	}
}
