package linearizability

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

var (
	longer   = flag.Duration("linearizability.for", 0, "how long each scenario goes on doing harm; 0: a few rounds")
	fromSeed = flag.Uint64("linearizability.seed", 0,
		"what clients, service and harm are drawn from; 0: another one each time")
)

func TestMain(m *testing.M) { harness.Main(m) }

// The scenarios run in parallel, their variants one after the other: they wait more than they work.

const (
	lease = time.Second
	// inFlightCap is maxInFlight: nothing is in flight for longer.
	inFlightCap = 10 * time.Second
	// awaitLimit bounds what a test waits for.
	awaitLimit = 60 * time.Second
	// reconnects is how long a gateway may go on refusing when its store is there again: go-redis
	// looks once a second.
	reconnects = 2 * time.Second
)

// configuration is that of a gateway with one keyed route to the service.
func configuration(store, service, onUnknown string) string {
	probe := ""
	if onUnknown == "probe" {
		probe = fmt.Sprintf(", probe: {path: %q, done: [201], notDone: [404]}", probePath+"{key}")
	}
	return fmt.Sprintf(`version: 1
listen: {http: "@http@"}
admin: {address: "@admin@", readyNeedsStore: true}
store: %s
identity:
  - header: {name: X-User, trusted: [127.0.0.0/8]}
  - clientIP: {}
services:
  order: {endpoints: [%q], timeout: 30s, connectTimeout: 5s}
routes:
  - name: create-order
    match: {methods: [POST], path: /v1/orders}
    service: order
    idempotency:
      {required: true, lease: %v, maxInFlight: %v, whileInFlight: {wait: 5s}, onUnknown: %s, maxOpenKeys: 0%s}
`, store, service, lease, inFlightCap, onUnknown, probe)
}

// trial is one scenario at work: gateways, a service and clients.
type trial struct {
	t        *testing.T
	history  *History
	service  *Service
	load     *Load
	gateways []*harness.Gateway
	random   *rand.Rand
	extra    sync.WaitGroup // requests beside the load
}

// startTrial runs n gateways with that store and clients that send to all of them.
func startTrial(t *testing.T, n int, onUnknown, store string) *trial {
	seed := *fromSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-linearizability.seed=%d", seed) // the same choices; what the processes make of them is theirs
	h := NewHistory(onUnknown)
	tr := &trial{t: t, history: h, service: StartService(t, h, seed), random: rand.New(rand.NewPCG(seed, 3))}
	var urls []string
	for range n {
		g := harness.StartGateway(t, configuration(store, tr.service.URL, onUnknown))
		tr.gateways = append(tr.gateways, g)
		urls = append(urls, g.URL)
	}
	tr.load = StartLoad(h, seed, urls...)
	t.Cleanup(tr.load.Stop)
	return tr
}

// rounds does harm at least n times, and longer where the flag says so.
func (tr *trial) rounds(n int, harm func(round int)) {
	for began, i := time.Now(), 0; i < n || time.Since(began) < *longer; i++ {
		harm(i)
	}
}

// await fails the test unless n more operations end that are selected.
func (tr *trial) await(n int, what string, selects func(o *Operation) bool) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(tr.t.Context(), awaitLimit)
	defer cancel()
	if !tr.history.Await(ctx, n, selects) {
		tr.t.Fatalf("never happened within %v: %d × %s", awaitLimit, n, what)
	}
}

// served waits until that gateway has answered some requests, as many as chance says.
func (tr *trial) served(gateway, from, to int) {
	tr.t.Helper()
	tr.await(from+tr.random.IntN(to-from), fmt.Sprint("a response of gateway ", gateway), func(o *Operation) bool {
		return o.Gateway == gateway && o.Response.Status != 0 && o.Response.Reason != "store-unavailable"
	})
}

// allServed waits until each gateway has.
func (tr *trial) allServed(from, to int) {
	tr.t.Helper()
	for i := range tr.gateways {
		tr.served(i, from, to)
	}
}

// refused waits until that gateway has refused requests since its store is away.
func (tr *trial) refused(gateway, n int) {
	tr.t.Helper()
	tr.await(n, fmt.Sprint("store-unavailable by gateway ", gateway), func(o *Operation) bool {
		return o.Gateway == gateway && o.Response.Reason == "store-unavailable"
	})
}

// recovered waits until all gateways work with their store again, and not only now and then.
func (tr *trial) recovered() {
	tr.t.Helper()
	for i, g := range tr.gateways {
		tr.served(i, 1, 2)
		harness.Until(tr.t, awaitLimit, "the gateway is ready: "+g.AdminURL,
			func() bool { return status(tr.t, g.AdminURL+"/readyz") == http.StatusOK })
	}
	from := tr.history.now() + int64(reconnects)
	for i := range tr.gateways {
		tr.await(10, fmt.Sprint("a response by gateway ", i, " that has recovered"), func(o *Operation) bool {
			return o.Gateway == i && o.Call > from && o.Response.Status != 0 && o.Response.Reason != "store-unavailable"
		})
	}
}

// caught waits until the service works on a request of that gateway and holds its response back
// until release.
func (tr *trial) caught(gateway int) (r Request, release func()) {
	tr.t.Helper()
	arrived, release := tr.service.Stall(gateway)
	tr.t.Cleanup(release)
	select {
	case operation := <-arrived:
		r, ok := tr.load.RequestOf(operation)
		if !ok {
			tr.t.Fatalf("the service works on %q, which nobody asked for", operation)
		}
		return r, release
	case <-time.After(awaitLimit):
		tr.t.Fatalf("nothing reaches the service by gateway %d", gateway)
	}
	return Request{}, release
}

// joined sends duplicates of a request that is under way at that gateway and returns when they have
// joined it there, or one like it.
func (tr *trial) joined(gateway int, r Request) {
	tr.t.Helper()
	const duplicates = 3
	joins := func() float64 {
		_, text := get(tr.t, tr.gateways[gateway].AdminURL+"/metrics")
		return metric(text, `sluice_idempotency_joins_total{`)
	}
	before := joins()
	for range duplicates {
		tr.extra.Go(func() { tr.load.Send(context.Background(), gateway, requestLimit, r) })
	}
	harness.Until(tr.t, awaitLimit, "duplicates have joined", func() bool { return joins() >= before+duplicates })
}

// status returns the status of a GET, 0 without a response.
func status(t *testing.T, url string) int {
	code, _ := get(t, url)
	return code
}

func get(t *testing.T, url string) (status int, body string) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(b)
}

// metric returns the sum of the gateways' values of a metric whose lines begin so.
func (tr *trial) metric(begin string) (sum float64) {
	for _, g := range tr.gateways {
		_, text := get(tr.t, g.AdminURL+"/metrics")
		sum += metric(text, begin)
	}
	return sum
}

func metric(text, begin string) (sum float64) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, begin); ok {
			var v float64
			if _, err := fmt.Sscan(rest[strings.LastIndex(rest, " ")+1:], &v); err == nil {
				sum += v
			}
		}
	}
	return sum
}

// settle sends every request that was ever sent once more, until it gets something other than that
// the first one still runs: nothing is in flight beyond its cap.
func (tr *trial) settle() {
	tr.t.Helper()
	requests := make(chan Request)
	var running sync.WaitGroup
	deadline := time.Now().Add(inFlightCap + awaitLimit)
	for i := range clientsPerGateway {
		gateway := i % len(tr.gateways)
		running.Go(func() {
			for r := range requests {
				for {
					a, sent := tr.load.Send(context.Background(), gateway, requestLimit, r)
					if sent && a.Status != 0 && a.Reason != "request-in-progress" && a.Reason != "store-unavailable" {
						break
					}
					if time.Now().After(deadline) {
						tr.t.Errorf("still not settled: %+v: %+v", r, a)
						break
					}
					pause(context.Background(), 20*time.Millisecond)
				}
			}
		})
	}
	for _, r := range tr.load.Requests() {
		requests <- r
	}
	close(requests)
	running.Wait()
}

// end stops the load, settles every key, asks once more for each of them after between, and checks
// the history.
func (tr *trial) end(between func()) Report {
	tr.t.Helper()
	tr.load.Stop()
	tr.extra.Wait()
	tr.settle()
	between()
	tr.settle()
	report, err := tr.history.Check()
	tr.t.Log(report)
	if err != nil {
		tr.t.Error(err)
	}
	if report.Replays == 0 || report.Executions == 0 {
		tr.t.Error("a history without executions or replays shows nothing")
	}
	return report
}

func nothing() {}
