package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A load of each kind.
var (
	big       = Load{Name: "big", Path: BigPath}
	plainPost = Load{Name: "plain POST", Path: "/plain", Post: true}
	keyed     = Load{Name: "keyed POST", Path: "/keyed", Post: true, Keys: FreshKeys}
	recorded  = Load{Name: "replay", Path: "/keyed", Post: true, Keys: RecordedKeys}
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
		if got := Median(c.values); got != c.want {
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
		{name: "a name that begins the same",
			wire: "HTTP/1.1 201 C\r\nContent-Length-Old: 9\r\nCONTENT-LENGTH: 1\r\n\r\nx", status: 201},
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
						t.Fatalf("pieces of %d, response %d: done %v, status %d, %v; want %d", size, again, done,
							r.status, err, c.status)
					}
				}
			}
		})
	}
}

// feedIn feeds a response in pieces of that size and reports what the last one gave; it must not be
// whole before.
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
	r := newRequest(keyed, "h.example")
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
	if len(body) != BodyBytes || !json.Valid([]byte(body)) {
		t.Fatalf("a body of %d bytes, want %d of JSON: %s", len(body), BodyBytes, body)
	}
	if len(smallResponse) != 200 || !json.Valid([]byte(smallResponse)) {
		t.Fatalf("a response of %d bytes, want 200 of JSON", len(smallResponse))
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
	if err := sound.Check(); err != nil {
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
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestHTTP2Connections: all streams of a connection share it, also at the start, when none is there
// yet. With TLS what is spoken on it is HTTP/2 too.
func TestHTTP2Connections(t *testing.T) {
	t.Parallel()
	for protocol, start := range map[Protocol]func(*httptest.Server){
		HTTP2:    (*httptest.Server).Start,
		HTTP2TLS: func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		var opened, others atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 || (r.TLS != nil) != (protocol == HTTP2TLS) ||
				r.TLS != nil && (r.Host != benchHost || r.TLS.ServerName != benchHost) {
				others.Add(1)
			}
			ServeUpstream(w, r)
		}))
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Config.Protocols.SetHTTP2(true)
		server.Config.Protocols.SetHTTP1(true)
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				opened.Add(1)
			}
		}
		start(server)
		defer server.Close()
		l := newH2Load(server.Listener.Addr().String(), protocol)
		defer l.Close()
		if got, err := l.Closed(t.Context(), 20*time.Millisecond); err != nil || got.Errors > 0 {
			t.Fatalf("%d: %+v, %v", protocol, got, err)
		}
		if n := opened.Load(); n != h2Connections || others.Load() > 0 {
			t.Fatalf("%d: %d connections, want %d; %d requests by other means", protocol, n, h2Connections, others.Load())
		}
	}
}

func TestRatioIsOfRounds(t *testing.T) {
	t.Parallel()
	slow := &Figure{CPURounds: []float64{10, 100, 10}}
	if got := *Ratio(slow, &Figure{CPURounds: []float64{20, 200, 20}}); got != 0.5 {
		t.Errorf("ratio %v, want 0.5", got)
	}
	if got := Ratio(slow, nil); got != nil {
		t.Errorf("ratio to nothing is %v", *got)
	}
}

func TestLatencyIsTheMedianOfTheRounds(t *testing.T) {
	t.Parallel()
	round := func(of time.Duration) Tally {
		return Tally{Requests: 100, Errors: 1, Latencies: slices.Repeat([]time.Duration{of}, 100)}
	}
	l := NewLatency([]Tally{round(3 * time.Microsecond), round(time.Second), round(2 * time.Microsecond)})
	if l.P50 != 3 || l.P999 != 3 || l.Requests != 300 || l.Errors != 3 {
		t.Errorf("%+v, want 3 µs of 300 requests with 3 errors", l)
	}
	if last := l.Curve[len(l.Curve)-1]; last != (Point{99, 3}) {
		t.Errorf("the curve ends with %+v, want 99 %%: a hundred requests show no more", last)
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
	if !strings.Contains(bar.String(), "\r[#######.......................]  25% GET: b") ||
		strings.Contains(bar.String(), "\n") {
		t.Errorf("bar %q", bar.String())
	}
}

func TestKeysOfRequests(t *testing.T) {
	t.Parallel()
	keyOf := regexp.MustCompile(`(?s)^POST (/\w+) .*X-User: (\S+)\r\n.*Idempotency-Key: (\S+)\r\n`)
	for _, c := range []struct {
		load Load
		path string
		keys int // different ones in three times as many requests as there are users
	}{
		{keyed, "/keyed", 3 * users},
		{recorded, "/keyed", users},
	} {
		r := newRequest(c.load, "x")
		owners := map[string]string{}
		for range 3 * users {
			m := keyOf.FindSubmatch(r.next())
			if m == nil || string(m[1]) != c.path {
				t.Fatalf("%s: request %q", c.load, r.wire)
			}
			user, key := string(m[2]), string(m[3])
			if owner, ok := owners[key]; ok && owner != user {
				t.Fatalf("%s: key %s is %s's and %s's", c.load, key, owner, user)
			}
			owners[key] = user
		}
		if len(owners) != c.keys {
			t.Errorf("%s: %d keys, want %d", c.load, len(owners), c.keys)
		}
	}
	if plain := newRequest(plainPost, "x").next(); bytes.Contains(plain, []byte("Idempotency-Key")) ||
		!bytes.HasPrefix(plain, []byte("POST /plain ")) {
		t.Errorf("without a key: %q", plain)
	}
}
