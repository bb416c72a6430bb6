package abuse_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// attackFor is how long the attacks last; the time that is meant is 60 s.
var attackFor = flag.Duration("attack-for", 5*time.Second, "how long all attacks on the process's budget last")

const (
	attackRate     = 1500     // steps of all attackers, a second
	raceSteps      = 15       // how many times as much a step costs under the race detector
	budgetBuffered = 32 << 20 // listen.maxBuffered
	budgetBeyond   = 64 << 20 // what the process may take beyond it
	budgetFactor   = 2        // of what a bystander waits where nobody attacks
)

// startBudgeted runs a gateway with routes for every attack.
func startBudgeted(t *testing.T, service string, prepare, listen string) *target {
	t.Helper()
	if prepare != "" {
		useShell(t, prepare)
	}
	g := harness.StartGateway(t, `version: 1
listen: {http: "@http@", `+listen+`}
admin: {address: "@admin@"}
store: {memory: {}}
services:
  up: {endpoints: ["`+service+`"], timeout: 60s, connectTimeout: 10s}
limits: {deep: {scope: local, per: [body.a.b], rate: 1000/s}}
routes:
  - {name: keyed, match: {path: /keyed/**}, service: up, idempotency: {}}
  - {name: limited, match: {path: /limited}, service: up, limits: [deep]}
  - {name: all, match: {path: /**}, service: up}
`)
	return &target{Gateway: g, address: strings.TrimPrefix(g.URL, "http://"), pid: g.PID()}
}

// budgetService is what stands behind the gateways: /big is 1 MiB, what ends in hold takes a while.
func budgetService(t *testing.T) string {
	big := bytes.Repeat([]byte("x"), 1<<20)
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		switch {
		case r.URL.Path == "/big":
			w.Write(big)
		case strings.HasSuffix(r.URL.Path, "/hold"):
			select {
			case <-stop:
			case <-time.After(8 * time.Second):
			}
		default:
			io.WriteString(w, "served")
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(stop) })
	return s.URL
}

// observer is a client that has nothing to do with the attack and notes how long each response takes.
type observer struct {
	client *http.Client
	url    string
	stop   chan struct{}
	done   sync.WaitGroup
	took   []time.Duration
	failed []string
}

// observe asks for a URL every few milliseconds, from an address of its own, now and then on a new
// connection.
func observe(url, from string, every time.Duration) *observer {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	o := &observer{url: url, stop: make(chan struct{}), client: &http.Client{
		Transport: &http.Transport{DialContext: d.DialContext}, Timeout: 10 * time.Second}}
	o.done.Go(func() {
		defer o.client.CloseIdleConnections()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-o.stop:
				return
			case <-tick.C:
			}
			if i%20 == 0 {
				o.client.CloseIdleConnections()
			}
			began := time.Now()
			err := ask(o.client, o.url)
			o.took = append(o.took, time.Since(began))
			if err != nil {
				o.failed = append(o.failed, err.Error())
			}
		}
	})
	return o
}

// beyondQuantile is how many requests have to lie beyond a quantile, so that it does not rest on a
// handful of them.
const beyondQuantile = 100

// end returns how long all but the slowest requests took, of which there are [beyondQuantile], or
// one in a hundred where that is more: in a run of a minute it is the p99. It fails the test for
// what was not served.
func (o *observer) end(t *testing.T) time.Duration {
	t.Helper()
	close(o.stop)
	o.done.Wait()
	if len(o.failed) > 0 || len(o.took) == 0 {
		t.Errorf("%s: %d of %d requests failed, the first one: %v", o.url, len(o.failed), len(o.took),
			o.failed[:min(len(o.failed), 1)])
		return 0
	}
	slices.Sort(o.took)
	return o.took[max(len(o.took)-1-max(beyondQuantile, len(o.took)/100), len(o.took)/2)]
}

// highWater returns the most memory that the gateway has had.
func (x *target) highWater(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", x.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in /proc")
	return 0
}

// TestBudget: all attacks at once cost the process its budget and not more, and others what their
// share of the processor costs. A gateway beside it that nobody attacks tells what that is.
func TestBudget(t *testing.T) {
	service := budgetService(t)
	x := startBudgeted(t, service, "", "maxBuffered: 32MiB, maxConnections: 600")
	beside := startBudgeted(t, service, "", "maxBuffered: 32MiB, maxConnections: 600")
	rate := attackRate
	if raceFactor > 1 {
		rate /= raceSteps
	}
	a := startAssault(x.address, rate)
	observers := map[string]*observer{}
	for _, path := range []string{"/readyz", "/metrics"} {
		observers[path] = observe(x.AdminURL+path, "127.0.2.1", 250*time.Millisecond)
	}
	attacked := observe(x.URL+"/small", "127.0.2.2", 5*time.Millisecond)
	other := observe(beside.URL+"/small", "127.0.2.2", 5*time.Millisecond)
	time.Sleep(*attackFor) // how long the attack lasts
	for _, o := range observers {
		o.end(t)
	}
	got, want := attacked.end(t), other.end(t)
	metrics := adminMetrics(t, x)
	a.end()
	most := x.highWater(t)
	t.Logf("%d steps; %d requests, the slow ones took %v attacked, %v beside; at most %d MB of memory; %s",
		a.steps.Load(), len(attacked.took), got, want, most>>20, metrics)
	if got > budgetFactor*want {
		t.Errorf("another client waits %v, and %v where the attackers work on another process", got, want)
	}
	if raceFactor == 1 && most > budgetBuffered+budgetBeyond {
		t.Errorf("the attacks cost %d MB of memory, at most %d are allowed", most>>20,
			(budgetBuffered+budgetBeyond)>>20)
	}
	harness.Until(t, waitLimit, "what the attackers held is given back", func() bool {
		m := adminMetrics(t, x)
		return strings.Contains(m, "sluice_buffered_bytes 0")
	})
}

// adminMetrics returns the metrics of the budget.
func adminMetrics(t *testing.T, x *target) string {
	t.Helper()
	resp, err := http.Get(x.AdminURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var of []string
	for line := range strings.Lines(string(text)) {
		for _, name := range []string{"sluice_buffered_bytes ", "sluice_requests_in_flight ",
			"sluice_upstream_connections ", "sluice_budget_refusals_total", "sluice_client_connections{"} {
			if strings.HasPrefix(line, name) {
				of = append(of, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(of, ", ")
}

// TestFewDescriptors: with 1024 open files, and 1,250 responses that nobody takes, newcomers are
// served and the operators' address answers.
func TestFewDescriptors(t *testing.T) {
	x := startBudgeted(t, budgetService(t), "ulimit -n 1024", "maxConnections: 20000")
	a := &assault{address: x.address, tokens: make(chan struct{}, 1), stop: make(chan struct{}),
		conns: map[net.Conn]struct{}{}}
	defer a.end()
	a.running.Go(func() { // as fast as they can
		for {
			select {
			case a.tokens <- struct{}{}:
			case <-a.stop:
				return
			}
		}
	})
	for range 5 {
		a.running.Go(func() { a.window("127.0.1.1", 0) })
	}
	harness.Until(t, waitLimit, "the attackers have opened their streams",
		func() bool { return a.steps.Load() >= 1200 })
	newcomer := observe(x.URL+"/small", "127.0.2.2", 20*time.Millisecond)
	ready := observe(x.AdminURL+"/readyz", "127.0.2.1", 50*time.Millisecond)
	metrics := observe(x.AdminURL+"/metrics", "127.0.2.1", 50*time.Millisecond)
	time.Sleep(2 * time.Second) // how long they are watched
	for _, o := range []*observer{newcomer, ready, metrics} {
		o.end(t)
	}
	t.Log(adminMetrics(t, x))
}
