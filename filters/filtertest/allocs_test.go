package filtertest_test

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/breaker"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
	"github.com/sluice-gateway/sluice/filters/identity"
	"github.com/sluice-gateway/sluice/filters/overload"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitlocal"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// limitCounters counts with the library that the gateway counts with.
type limitCounters struct{}

func (limitCounters) Limit(string) ratelimit.Counters {
	return ratelimit.Counters{
		Allowed: counter(), Refused: counter(), ShadowRefused: counter(), StoreFailures: counter(),
	}
}

func counter() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "events_total"})
}

var anyPeer = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}

// route is the chain of one route with ample limits, put together as the gateway does it.
func route(t testing.TB, sources identity.Settings, per []ref.Ref, keys *idempotency.Settings) *filters.Chain {
	t.Helper()
	id, err := identity.New(sources)
	if err != nil {
		t.Fatal(err)
	}
	limit := ratelimit.Limit{Name: "per-user", Count: 1 << 30, Period: time.Second, Burst: 1 << 30}
	list := []filters.Filter{id, ratelimit.New([]ratelimit.Rule{{
		Limit: limit, Per: per, Limiter: ratelimitlocal.New(limit, 1000),
	}}, limitCounters{})}
	if keys != nil {
		calls := idempotency.NewCalls()
		t.Cleanup(calls.Close)
		list = append(list, idempotency.New(*keys, idempotency.Options{
			Store: idempotencymemory.New(nil), Calls: calls, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Metrics: idempotency.Metrics{
				Claims: counter(), Answered: counter(), Freed: counter(), Unknown: counter(), Replays: counter(),
				Joins: counter(), Conflicts: counter(), Mismatches: counter(), Lost: counter(), Failures: counter(),
				TooMany: counter(), Settled: counter(), Undecided: counter(), Untrusted: counter(),
			},
		}))
	}
	now := time.Now()
	list = append(list, overload.NewFilter(overload.Options{Service: overload.NewService("order", overload.Settings{
		Adaptive: true, Min: 4, Max: 1000, QueueSize: 200, QueueWait: 100 * time.Millisecond,
	}, overload.NewProcess(now), now)}))
	guard, err := breaker.New(breaker.Settings{
		Errors: .5, Window: 10 * time.Second, MinRequests: 20, OpenFor: time.Second, Probes: 3, Lease: time.Minute,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, breaker.NewFilter("order", guard, time.Now))
	chain, err := filters.NewChain(func(_ *filters.Exchange, f string, v any, stack []byte) {
		t.Errorf("panic in %s: %v\n%s", f, v, stack)
	}, list...)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func keySettings(ttl time.Duration) *idempotency.Settings {
	return &idempotency.Settings{
		Required: true, Header: "Idempotency-Key",
		Scope: []ref.Ref{{Root: ref.Principal}, {Root: ref.Route}},
		Fingerprint: []ref.Ref{{Root: ref.Method}, {Root: ref.Path},
			{Root: ref.Query}, {Root: ref.Body}},
		TTL: ttl, Lease: 30 * time.Second, MaxInFlight: time.Minute, Wait: time.Second,
		Record: []idempotency.StatusRange{{From: 200, To: 299}}, MaxBody: 1 << 20,
	}
}

var peer = netip.MustParseAddr("192.0.2.7")

// get takes one GET through the chain as an engine does.
func get(t testing.TB, c *filters.Chain, x *filters.Exchange, ctx context.Context, now time.Time) {
	x.Begin(ctx, nil)
	x.Method, x.Scheme, x.Version, x.Host, x.Path = "GET", "http", "1.1", "shop.example", "/v1/stock/SKU-1"
	x.Header.Add("User-Agent", "curl/8")
	x.Header.Add("Accept", "*/*")
	x.Header.Add("X-User", "anna")
	x.Peer, x.Client, x.Received, x.Route = peer, peer, now, "stock"
	through(t, c, x)
}

// post takes one POST with a key through the chain.
func post(
	t testing.TB, c *filters.Chain, x *filters.Exchange, ctx context.Context, now time.Time, key string,
	load func(int64) ([]byte, error),
) {
	x.Begin(ctx, load)
	x.Method, x.Scheme, x.Version, x.Host, x.Path = "POST", "http", "1.1", "shop.example", "/v1/orders"
	x.Header.Add("User-Agent", "curl/8")
	x.Header.Add("Accept", "*/*")
	x.Header.Add("Content-Type", "application/json")
	x.Header.Add("Content-Length", "512")
	x.Header.Add("Idempotency-Key", key)
	x.Header.Add("X-User", "anna")
	x.Peer, x.Client, x.Received, x.Route = peer, peer, now, "create-order"
	through(t, c, x)
}

func through(t testing.TB, c *filters.Chain, x *filters.Exchange) {
	if r, _ := c.Request(x); r != nil {
		t.Fatalf("refused: %s", r.Body)
	}
	x.Dispatched = true
	x.Response = filters.Response{Status: 200, Header: x.Response.Header[:0], Body: responseBody, Whole: true}
	x.Response.Header.Add("Content-Type", "application/json")
	x.Response.Header.Add("Date", "Fri, 20 Nov 2026 10:00:00 GMT")
	x.Response.Header.Add("Server", "orders")
	x.Response.Header.Add("Content-Length", "64")
	c.Response(x)
	c.Done(x, filters.Completed)
}

var responseBody = make([]byte, 64)

// order is a JSON document of 512 bytes.
func order() []byte {
	b := make([]byte, 0, 512)
	b = append(b, `{"sku":"SKU-1","count":1,"note":"`...)
	for len(b) < 510 {
		b = append(b, 'x')
	}
	return append(b, `"}`...)
}

var (
	byAddress = identity.Settings{Sources: []identity.Source{identity.ClientIP{}}}
	byHeader  = identity.Settings{
		Sources: []identity.Source{identity.Header{Name: "X-User", Trusted: anyPeer}}}
	perUser = []ref.Ref{{Root: ref.Principal}}
	perBoth = []ref.Ref{{Root: ref.Principal}, {Root: ref.Route}}
	perIP   = []ref.Ref{{Root: ref.ClientIP}}
)

func TestChainAllocationsGET(t *testing.T) {
	if raceDetector {
		t.Skip("allocations are not counted under the race detector")
	}
	for _, c := range []struct {
		name    string
		sources identity.Settings
		per     []ref.Ref
	}{
		{"address", byAddress, perUser}, {"header", byHeader, perUser}, {"two parts", byHeader, perBoth},
		{"client IP", byHeader, perIP},
	} {
		t.Run(c.name, func(t *testing.T) {
			chain := route(t, c.sources, c.per, nil)
			var x filters.Exchange
			ctx, now := t.Context(), time.Now()
			if n := testing.AllocsPerRun(1000, func() { get(t, chain, &x, ctx, now) }); n != 0 {
				t.Errorf("%v allocations a request, want none", n)
			}
		})
	}
}

func TestChainAllocationsKeyedPOST(t *testing.T) {
	if raceDetector {
		t.Skip("allocations are not counted under the race detector")
	}
	const runs = 2000
	chain := route(t, byHeader, perUser, keySettings(time.Hour))
	keys := make([]string, runs+1)
	for i := range keys {
		keys[i] = `"8e03978e-40d5-43e8-bc93-` + strconv.Itoa(100000000000+i) + `"`
	}
	var x filters.Exchange
	ctx, now := t.Context(), time.Now()
	body := order()
	load := func(int64) ([]byte, error) { return body, nil }
	i := 0
	if n := testing.AllocsPerRun(runs, func() {
		post(t, chain, &x, ctx, now, keys[i], load)
		i++
	}); n > 4 {
		t.Errorf("%v allocations a request, want at most 4", n)
	}
}

func BenchmarkChainGET(b *testing.B) {
	chain := route(b, byHeader, perUser, nil)
	var x filters.Exchange
	ctx, now := b.Context(), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		get(b, chain, &x, ctx, now)
	}
}

func BenchmarkChainKeyedPOST(b *testing.B) {
	const ttl = 10 * time.Millisecond // so that some thousand records live at a time
	chain := route(b, byHeader, perUser, keySettings(ttl))
	var x filters.Exchange
	ctx, now := b.Context(), time.Now()
	body := order()
	load := func(int64) ([]byte, error) { return body, nil }
	key := []byte(`"8e03978e-40d5-43e8-bc93-000000000000"`)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		strconv.AppendInt(key[:len(key)-13], int64(100000000000+i), 10)
		key[len(key)-1] = '"'
		post(b, chain, &x, ctx, now, x.Text(key), load)
	}
}
