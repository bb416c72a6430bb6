package openloop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sale(n int64, r *rand.Rand) Content {
	item := "HOT"
	if r.Float64() >= 0.8 {
		item = fmt.Sprint("SKU-", r.IntN(50))
	}
	return Content{Path: "/v1/orders", Body: fmt.Sprintf(`{"sku":%q,"n":%d}`, item, n), Item: item, Other: "{}"}
}

func profile() Profile {
	return Profile{
		Seed: 7,
		Kinds: []Kind{
			{Name: "order", Class: "normal", Method: "POST", Share: 0.75, Timeout: 20 * time.Second, Keyed: true,
				Make: sale},
			{Name: "look", Class: "low", Method: "GET", Share: 0.25, Timeout: 20 * time.Second,
				Make: func(int64, *rand.Rand) Content { return Content{Path: "/v1/stock/HOT"} }},
		},
		Phases: []Phase{{"half", 20 * time.Second, 100}, {"nothing", 5 * time.Second, 0},
			{"peak", 20 * time.Second, 1000}},
		Duplicates: 0.2, Concurrent: 0.5, OtherBody: 0.01, Slow: 0.05, Retrying: 0.4, Retries: 2, Ignoring: 0.5,
	}
}

func TestArrivals(t *testing.T) {
	t.Parallel()
	p := profile()
	var all []Arrival
	Draw(&p, func(a Arrival) bool { all = append(all, a); return true })
	if !slices.IsSortedFunc(all, func(a, b Arrival) int { return int(a.At - b.At) }) {
		t.Error("not in the order of the time")
	}
	var n, phases [3]float64
	share := func(keep func(Arrival) bool) float64 {
		n := 0
		for _, a := range all {
			if keep(a) {
				n++
			}
		}
		return float64(n)
	}
	first := map[int64]Arrival{}
	for _, a := range all {
		phases[p.PhaseAt(a.At)]++
		if !a.Repeat && !a.Other {
			first[a.Logical] = a
		}
		if f, ok := first[a.Logical]; !ok || f.Key != a.Key || f.User != a.User || a.Other == (a.Body == f.Body) {
			t.Fatalf("%+v does not match its first %+v", a, f)
		}
	}
	keyed := share(func(a Arrival) bool { return a.Key != "" })
	repeats := share(func(a Arrival) bool { return a.Repeat })
	n[0] = share(func(a Arrival) bool { return a.Repeat && a.At == first[a.Logical].At })
	for _, c := range []struct {
		what      string
		got, want float64
		slack     float64
	}{
		{"arrivals at 100/s", phases[0], 2000, 0.06}, {"arrivals at 1000/s", phases[2], 20000, 0.03},
		{"repeats", repeats / keyed, 0.2, 0.05}, {"concurrent repeats", n[0] / repeats, 0.5, 0.06},
		{"other bodies", share(func(a Arrival) bool { return a.Other }) / keyed, 0.01, 0.4},
		{"of one item", share(func(a Arrival) bool { return a.Item == "HOT" }) / keyed, 0.8, 0.03},
		{"slow", share(func(a Arrival) bool { return a.Slow }) / float64(len(all)), 0.05, 0.1},
		{"retry", share(func(a Arrival) bool { return a.Retries > 0 }) / float64(len(all)), 0.4, 0.05},
		{"do not heed", share(func(a Arrival) bool { return !a.Heeds }) / float64(len(all)), 0.2, 0.05},
	} {
		if math.Abs(c.got-c.want) > c.slack*c.want {
			t.Errorf("%s: %g, want %g", c.what, c.got, c.want)
		}
	}
	i := 0
	Draw(&p, func(a Arrival) bool { i++; return a == all[i-1] && i < 5000 })
	if i != 5000 {
		t.Errorf("the same seed drew something else at arrival %d", i)
	}
}

// run carries out a profile against a handler.
func run(t *testing.T, p Profile, h http.HandlerFunc) *Result {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	r, err := New(p, []string{strings.TrimPrefix(server.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	result, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func short(rate float64, d time.Duration) Profile {
	p := profile()
	p.Slow, p.Retrying = 0, 0
	p.Phases = []Phase{{"all", d, rate}}
	return p
}

func TestStallCountsForAllThatWereDue(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	var once sync.Once
	var open atomic.Bool
	free := make(chan struct{})
	got := run(t, short(200, time.Second), func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { time.AfterFunc(stall, func() { open.Store(true); close(free) }) })
		if !open.Load() {
			<-free
		}
		w.WriteHeader(http.StatusCreated)
	})
	late := 0
	for _, s := range got.Samples {
		if s.Outcome != Succeeded {
			t.Fatalf("%+v", s)
		}
		if s.Latency >= stall/3 {
			late++
		}
	}
	if late < 20 { // 40 were due within the first 200 ms of the stall
		t.Errorf("%d of %d requests show the stall, want 20 or more", late, len(got.Samples))
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	p := short(100, 500*time.Millisecond)
	p.Retrying, p.Retries, p.Ignoring, p.Duplicates, p.OtherBody = 1, 2, 0.5, 0, 0
	var mu sync.Mutex
	seen := map[string]int{}
	got := run(t, p, func(w http.ResponseWriter, r *http.Request) {
		user := r.Header.Get("X-User")
		mu.Lock()
		seen[user]++
		n := seen[user]
		mu.Unlock()
		if n == 3 {
			w.Write([]byte(`{"id":"` + user + `"}`))
			return
		}
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Sluice-Reason", "overloaded")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	count := map[Outcome]int64{}
	quick, heeded := 0, 0
	for _, s := range got.Samples {
		count[s.Outcome]++
		if s.Outcome == Shed && got.Reasons[s.Reason] != "overloaded" {
			t.Errorf("reason %q", got.Reasons[s.Reason])
		}
		if s.Attempt == 2 && s.At >= 2*time.Second {
			heeded++
		} else if s.Attempt == 2 {
			quick++
		}
	}
	if count[Succeeded] != got.Logicals || count[Shed] != 2*got.Logicals || quick == 0 || heeded == 0 {
		t.Errorf("%d requests: %v, %d retried at once, %d when they should", got.Logicals, count, quick, heeded)
	}
	for _, b := range got.Bought {
		if b.ID != b.User || b.Item == "" {
			t.Errorf("%+v", b)
		}
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		err    error
		want   Outcome
	}{
		{200, nil, Succeeded}, {202, nil, Succeeded}, {404, nil, Refused}, {409, nil, Refused}, {422, nil, Refused},
		{429, nil, Shed}, {503, nil, Shed}, {500, nil, Failed}, {502, nil, Failed}, {504, nil, Failed},
		{408, nil, Failed}, {0, errors.New("reset"), Broken}, {0, context.DeadlineExceeded, TimedOut},
		{0, &net.OpError{Err: context.DeadlineExceeded}, TimedOut},
	} {
		if got := outcomeOf(c.status, c.err); got != c.want {
			t.Errorf("%d, %v: %v, want %v", c.status, c.err, got, c.want)
		}
	}
}

func TestUnsentBeyondTheBound(t *testing.T) {
	t.Parallel()
	p := short(200, 500*time.Millisecond)
	p.InFlightMax, p.Kinds[0].Timeout, p.Kinds[1].Timeout = 3, time.Second, time.Second
	got := run(t, p, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server notice that the client has left
		<-r.Context().Done()
	})
	count := map[Outcome]int{}
	for _, s := range got.Samples {
		count[s.Outcome]++
	}
	if count[TimedOut] < 3 || count[Unsent] == 0 || count[TimedOut]+count[Unsent] != len(got.Samples) {
		t.Errorf("%v", count)
	}
}

// serveText answers each connection with one text, for as many requests as come.
func serveText(t *testing.T, text string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() { l.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				buf := make([]byte, 4096)
				if _, err := c.Read(buf); err == nil {
					fmt.Fprint(c, text)
				}
			})
		}
	})
	return l.Addr().String()
}

func TestResponses(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		text   string
		status int
		body   string
		fails  bool
	}{
		{ok + "Content-Length: 2\r\n\r\nhi", 200, "hi", false},
		{ok + "\r\nto the end", 200, "to the end", false},
		{ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: r\r\n\r\n", 200, "abcde", false},
		{"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 204, "", false},
		{ok + "Content-Length: 2\r\n\r\nh", 0, "", true},
		{ok + "Content-Length: two\r\n\r\nhi", 0, "", true},
		{ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 0, "", true},
		{ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 0, "", true},
		{ok + "X: " + strings.Repeat("x", bufferBytes), 0, "", true},
		{ok + "Content-Length: 1000000\r\n\r\n", 0, "", true},
		{"SMTP ready\r\n", 0, "", true}, {"HTTP/1.1 abc\r\n", 0, "", true}, {"", 0, "", true},
	} {
		b := newBalancer([]string{serveText(t, c.text)})
		resp, err := b.do(t.Context(), func(string) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }, false,
			time.Now().Add(20*time.Second))
		b.close()
		if c.fails != (err != nil) || err == nil && (resp.Status != c.status || string(resp.Body) != c.body) {
			t.Errorf("%.60q: %+v, %v", c.text, resp, err)
		}
	}
}

func TestAddressThatIsGone(t *testing.T) {
	t.Parallel()
	gone, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	there := serveText(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	b := newBalancer([]string{gone, there})
	defer b.close()
	for i := range 20 {
		resp, err := b.do(t.Context(), func(string) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }, i%9 == 0,
			time.Now().Add(20*time.Second))
		if err != nil || resp.Status != 200 {
			t.Fatalf("request %d: %+v, %v", i, resp, err)
		}
	}
}

func TestProfileOutOfRange(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(p *Profile){
		"rate":       func(p *Profile) { p.Phases[0].Rate = 1e6 },
		"length":     func(p *Profile) { p.Phases[0].Duration = 2 * time.Hour },
		"kinds":      func(p *Profile) { p.Kinds = nil },
		"share":      func(p *Profile) { p.Slow = 1.5 },
		"duplicates": func(p *Profile) { p.Duplicates = 0.95 },
		"retries":    func(p *Profile) { p.Retries = 100 },
	} {
		p := profile()
		change(&p)
		if _, err := New(p, []string{"127.0.0.1:1"}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(profile(), nil); err == nil {
		t.Error("no error without an address")
	}
}
