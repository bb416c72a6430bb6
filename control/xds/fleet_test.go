package xds

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/bench/kit/xdsclient"
	"github.com/sluice-gateway/sluice/control/nativedialect"
)

// fleetSize is how many clients TestFleet has; 3000 is the long form:
//
//	go test -run TestFleet -v ./control/xds -args -fleet 3000
var fleetSize = flag.Int("fleet", 300, "clients of TestFleet")

// What a fleet may cost, both sides together.
const (
	heapOfOne    = 90 << 10              // bytes a client
	heapBase     = 16 << 20              // and what the process has anyhow: 45 MB for 300, 293 MB for 3,000
	processorOne = 10 * time.Millisecond // of processor time a client and change, on a busy machine
)

// shopOf is a configuration of some size: fifty routes to a service.
func shopOf(head string, status int) string {
	var b strings.Builder
	b.WriteString(head + "services: {order: {endpoints: [\"http://127.0.0.1:7001\"], timeout: 2s}}\n" +
		"limits: {per-user: {scope: global, per: [principal], rate: 100/s, burst: 20}}\nroutes:\n")
	for i := range 50 {
		fmt.Fprintf(&b, "  - {name: route-%d, match: {methods: [POST], path: \"/v1/orders/%d/{sku}\"}, service: order, "+
			"limits: [per-user], idempotency: {required: true, ttl: 24h, lease: 10s, fingerprint: [method, path, body]}}\n",
			i, i)
	}
	fmt.Fprintf(&b, "  - {name: a, match: {path: /a}, respond: {status: %d}}\n", status)
	return b.String()
}

// heapAfter returns the bytes of the heap that are live.
func heapAfter() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func processorTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// awaitAll waits for all clients to have a version.
func awaitAll(t testing.TB, clients []*xdsclient.Client, version string) {
	t.Helper()
	for _, c := range clients {
		awaitVersion(t, c, resource.ExtensionConfigType, version)
	}
}

// fleet connects clients all at once.
func (r *running) fleet(n int, judge func(xdsclient.Response) error) []*xdsclient.Client {
	r.t.Helper()
	clients := make([]*xdsclient.Client, n)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c, err := xdsclient.Dial(xdsclient.Options{
				Address: r.address, Node: nativeNode(fmt.Sprintf("edge-%d", i)), Buffer: 4 << 10, Judge: judge,
				Names: map[string][]string{resource.ExtensionConfigType: {nativedialect.ResourceName}},
			})
			if err != nil {
				r.t.Error(err)
				return
			}
			clients[i] = c
		})
	}
	wg.Wait()
	r.t.Cleanup(func() {
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
	})
	return clients
}

// TestFleet: a change reaches a fleet of gateways, a bad one reaches none, and a fleet that comes all
// at once is served.
func TestFleet(t *testing.T) {
	n := *fleetSize
	before := heapAfter()
	first := parse(t, shopOf(control, 200))
	r := startDocument(t, first)
	bad := parse(t, shopOf(control, 204))
	judge := func(r xdsclient.Response) error {
		if r.Version == bad.Hash() {
			return errors.New("routes[50]: not here")
		}
		return nil
	}
	began := time.Now()
	clients := r.fleet(n, judge)
	awaitAll(t, clients, first.Hash())
	connected := time.Since(began)
	r.awaitStable(first.Hash())

	var took []time.Duration
	used := processorTime(t)
	const changes = 5
	last := first
	for i := range changes {
		last = parse(t, shopOf(control, 205+i))
		began := time.Now()
		if err := r.sink.Apply(last, false); err != nil {
			t.Fatal(err)
		}
		awaitAll(t, clients, last.Hash())
		took = append(took, time.Since(began))
		r.awaitStable(last.Hash())
	}
	used = processorTime(t) - used
	heap := heapAfter() - before
	t.Logf("%d clients, document of %d bytes: all at once %s; a change %s; heap of both sides %.1f MiB "+
		"(%.1f KiB each); processor %s a client and change", n, len(first.JSON()), connected.Round(time.Millisecond),
		took, float64(heap)/(1<<20), float64(heap)/float64(n)/(1<<10),
		(used / time.Duration(changes*n)).Round(time.Microsecond))
	if most := int64(heapBase + n*heapOfOne); heap > most && !raceEnabled {
		t.Errorf("the heap has %d bytes, more than %d", heap, most)
	}
	if each := used / time.Duration(changes*n); each > processorOne && !raceEnabled {
		t.Errorf("a change takes %s of processor time a client, more than %s", each, processorOne)
	}

	if err := r.sink.Apply(bad, false); err != nil {
		t.Fatal(err)
	}
	s := r.await("the bad one taken back", func(s Status) bool { return s.Rollout.TakenBack != nil })
	if s.Rollout.Stable != last.Hash() || len(s.Nacks) != 1 {
		t.Errorf("stable %s, %d NACKs", s.Rollout.Stable, len(s.Nacks))
	}
	refused := 0
	for _, c := range clients {
		state, _ := c.State()
		refused += state.Refused
	}
	awaitAll(t, clients, last.Hash())
	if refused != 1 {
		t.Errorf("the bad one reached %d nodes, want the first only", refused)
	}
}
