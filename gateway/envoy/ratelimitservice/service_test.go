package ratelimitservice

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	envoyratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	envoytype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit is longer than a busy machine takes for anything here.
const waitLimit = 30 * time.Second

// t0 is when a minute, an hour and a day begin.
var t0 = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

// plane is a service as `sluice envoy` runs it, without the server.
type plane struct {
	t       testing.TB
	set     *policy.Set
	service *Service
	metrics *policy.Metrics
	log     *bytes.Buffer
	client  rls.RateLimitServiceClient

	mu  sync.Mutex
	now time.Time
}

func (p *plane) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *plane) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

// run serves the configuration over a real connection. stores may be the zero value.
func run(t testing.TB, stores policy.Stores, limits string) *plane {
	t.Helper()
	p := &plane{t: t, metrics: policy.NewMetrics(), log: new(bytes.Buffer), now: t0}
	p.set = policy.New(&policy.Env{Metrics: p.metrics, Stores: stores})
	t.Cleanup(p.set.Close)
	p.service = New(slog.New(slog.NewTextHandler(p.log, nil)), p.metrics)
	p.service.now = p.clock
	p.apply(limits)
	p.client = serve(t, p.service)
	return p
}

// apply puts a configuration in force.
func (p *plane) apply(limits string) {
	p.t.Helper()
	cfg, err := config.Parse("t.yaml", []byte("version: 1\nlimits:\n"+limits), p.t.TempDir())
	if err != nil {
		p.t.Fatal(err)
	}
	b := p.set.Begin(cfg, policy.Material{})
	table, err := NewTable(p.set, b)
	if err != nil {
		p.t.Fatal(err)
	}
	b.Commit()
	p.service.Use(table)
}

func serve(t testing.TB, service rls.RateLimitServiceServer) rls.RateLimitServiceClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	rls.RegisterRateLimitServiceServer(server, service)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-done
	})
	return rls.NewRateLimitServiceClient(conn)
}

// d makes a descriptor of keys and values.
func d(pairs ...string) *descriptor {
	out := new(descriptor)
	for i := 0; i < len(pairs); i += 2 {
		out.Entries = append(out.Entries, &entry{Key: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func hits(d *descriptor, n uint64) *descriptor {
	d.HitsAddend = wrapperspb.UInt64(n)
	return d
}

func negative(d *descriptor, n uint64) *descriptor {
	d.IsNegativeHits = true
	return hits(d, n)
}

func override(d *descriptor, n uint32, unit envoytype.RateLimitUnit) *descriptor {
	d.Limit = &envoyratelimit.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: n, Unit: unit}
	return d
}

func (p *plane) ask(domain string, descriptors ...*descriptor) *rls.RateLimitResponse {
	p.t.Helper()
	return ask(p.t, p.client, &rls.RateLimitRequest{Domain: domain, Descriptors: descriptors})
}

func ask(t testing.TB, c rls.RateLimitServiceClient, r *rls.RateLimitRequest) *rls.RateLimitResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	response, err := c.ShouldRateLimit(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// brief writes a response in short: the code, then each status as its code, name, rate, what is
// left and until when.
func brief(r *rls.RateLimitResponse) string {
	var b strings.Builder
	b.WriteString(r.OverallCode.String())
	for _, s := range r.Statuses {
		fmt.Fprintf(&b, "; %v", s.Code)
		if l := s.CurrentLimit; l != nil {
			fmt.Fprintf(&b, " %s %d/", l.Name, l.RequestsPerUnit)
			if m := l.UnitMultiplier.GetValue(); m > 1 {
				fmt.Fprintf(&b, "%d", m)
			}
			fmt.Fprintf(&b, "%v %d %ds", l.Unit, s.LimitRemaining, s.DurationUntilReset.GetSeconds())
		}
	}
	return b.String()
}

func (p *plane) want(want string, domain string, descriptors ...*descriptor) {
	p.t.Helper()
	if got := brief(p.ask(domain, descriptors...)); got != want {
		p.t.Errorf("%s %v:\n%s, want\n%s", domain, descriptors, got, want)
	}
}

// TestOwnDomain: a limit is found by its name and the references that it is counted per, and counts
// with the routes of the gateway.
func TestOwnDomain(t *testing.T) {
	p := run(t, policy.Stores{}, `  all: {rate: 2/m}
  per-user: {rate: 10/s, burst: 3, per: [principal, header.X-Tenant]}
  quiet: {rate: 1/h, mode: shadow}
`)
	p.want("OK; OK all 2/MINUTE 1 30s", "sluice", d("limit", "all"))
	p.want("OK; OK all 2/MINUTE 0 60s", "sluice", d("limit", "all"))
	p.want("OVER_LIMIT; OVER_LIMIT all 2/MINUTE 0 30s", "sluice", d("limit", "all"))
	p.want("OK; OK per-user 10/SECOND 2 1s", "sluice", d("limit", "per-user", "principal", "ann", "header.X-Tenant",
		"t"))
	p.want("OK; OK per-user 10/SECOND 2 1s", "sluice", d("limit", "per-user", "principal", "ben", "header.X-Tenant",
		"t"))
	p.want("OK; OK quiet 1/HOUR 0 3600s", "sluice", d("limit", "quiet"))
	p.want("OK; OK quiet 1/HOUR 0 3600s", "sluice", d("limit", "quiet"))

	for _, unknown := range []*descriptor{
		d(), d("limit", "none"), d("all", "limit"), d("limit", "per-user"), d("limit", "per-user", "principal", "ann"),
		d("limit", "per-user", "header.X-Tenant", "t", "principal", "ann"), d("limit", "all", "principal", "ann"),
	} {
		p.want("OK; OK", "sluice", unknown)
	}
	p.want("OK; OK; OK", "other", d("limit", "all"), d("limit", "none"))
	if log := p.log.String(); !strings.Contains(log, "no limit takes the descriptor of an Envoy") {
		t.Errorf("log: %s", log)
	}

	// The limit's own key: what a route of the gateway charges, Envoy sees.
	meters := p.meters()
	v := meters.Limits["per-user"].Charge(t.Context(), ratelimit.Charge{Key: ratelimit.Key([]string{"ann", "t"}),
		Now: t0, Cost: 1})
	if !v.Allowed {
		t.Fatalf("%+v", v)
	}
	p.want("OK; OK per-user 10/SECOND 0 1s", "sluice", d("limit", "per-user", "principal", "ann", "header.X-Tenant",
		"t"))
	p.series(map[string]float64{
		`sluice_limit_decisions_total{decision="allowed",limit="all"}`:                    2,
		`sluice_limit_decisions_total{decision="refused",limit="all"}`:                    1,
		`sluice_limit_decisions_total{decision="shadow-refused",limit="quiet"}`:           1,
		`sluice_rate_limit_service_requests_total{result="over-limit"}`:                   1,
		`sluice_rate_limit_service_unmatched_total{reason="unknown-descriptor"}`:          7,
		`sluice_rate_limit_service_unmatched_total{reason="unknown-domain"}`:              2,
		`sluice_rate_limit_service_requests_total{result="error"}`:                        0,
		`sluice_limit_store_failures_total{limit="all"}`:                                  0,
		`sluice_limit_decisions_total{decision="allowed",limit="override:sluice"}`:        0,
		`sluice_limit_decisions_total{decision="shadow-refused",limit="override:sluice"}`: 0,
	})
}

// meters returns the limits in force, as another user of the process has them.
func (p *plane) meters() *policy.Meters {
	cfg, err := config.Parse("t.yaml", []byte("version: 1\nlimits: {per-user: {rate: 10/s, burst: 3}}\n"),
		p.t.TempDir())
	if err != nil {
		p.t.Fatal(err)
	}
	b := p.set.Begin(cfg, policy.Material{})
	defer b.Abort()
	m, err := p.set.Meters(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

func (p *plane) series(want map[string]float64) {
	p.t.Helper()
	families, err := p.metrics.Registry.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			got[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetCounter().GetValue()
		}
	}
	for name, n := range want {
		if v, ok := got[name]; !ok || v != n {
			p.t.Errorf("%s is %v (%v), want %v", name, v, ok, n)
		}
	}
}

// TestDescriptors: level by level, the value before a beginning before the key alone, without a way
// back.
func TestDescriptors(t *testing.T) {
	p := run(t, policy.Stores{}, `  key: {rate: 9/m, compat: fixed-window, descriptor: {domain: x, entries: [{key: k}]}}
  value: {rate: 8/m, compat: fixed-window, descriptor: {domain: x, entries: [{key: k, value: v}]}}
  files: {rate: 7/m, compat: fixed-window, descriptor: {domain: x, entries: [{key: k, value: "f/*", share: true}]}}
  deep: {rate: 6/m, compat: fixed-window, descriptor: {domain: x, entries: [{key: k, value: "f/a/*"}]}}
  nested: {rate: 5/m, compat: fixed-window, descriptor: {domain: x, entries: [{key: k, value: v}, {key: u}]}}
  wide: {rate: 4/m, compat: fixed-window, descriptor: {domain: x, entries: [{key: k}, {key: w, value: "1"}]}}
  two: {rate: 3/m, compat: fixed-window, descriptor: {domain: x, entries: [{key: a}, {key: b}]}}
  other: {rate: 2/m, compat: fixed-window, descriptor: {domain: y, entries: [{key: k}]}}
`)
	for _, c := range []struct {
		want        string
		descriptors []*descriptor
	}{
		{"OK; OK key 9/MINUTE 8 60s", []*descriptor{d("k", "1")}},
		{"OK; OK key 9/MINUTE 8 60s", []*descriptor{d("k", "2")}},
		{"OK; OK key 9/MINUTE 8 60s", []*descriptor{d("k", "")}},
		{"OK; OK key 9/MINUTE 7 60s", []*descriptor{d("k", "1")}},
		{"OK; OK value 8/MINUTE 7 60s", []*descriptor{d("k", "v")}},
		{"OK; OK files 7/MINUTE 6 60s; OK files 7/MINUTE 5 60s", []*descriptor{d("k", "f/1"), d("k", "f/2")}},
		{"OK; OK deep 6/MINUTE 5 60s; OK deep 6/MINUTE 5 60s", []*descriptor{d("k", "f/a/1"), d("k", "f/a/2")}},
		{"OK; OK nested 5/MINUTE 4 60s", []*descriptor{d("k", "v", "u", "ann")}},
		{"OK; OK wide 4/MINUTE 3 60s; OK", []*descriptor{d("k", "z", "w", "1"), d("k", "z", "w", "2")}},
		{"OK; OK", []*descriptor{d("k", "v", "w", "1")}}, // wide would take it, but k=v comes first
		{"OK; OK two 3/MINUTE 2 60s; OK two 3/MINUTE 2 60s", []*descriptor{d("a", "1", "b", "23"),
			d("a", "12", "b", "3")}},
		{"OK; OK; OK; OK", []*descriptor{d("a", "1"), d("b", "1", "a", "1"), d("a", "1", "b", "1", "c", "1")}},
	} {
		p.want(c.want, "x", c.descriptors...)
	}
	p.want("OK; OK other 2/MINUTE 1 60s", "y", d("k", "v"))
}

// TestHits: of the descriptor, else of the request, else one; 0 asks only, and negative ones give
// back.
func TestHits(t *testing.T) {
	p := run(t, policy.Stores{}, "  w: {rate: 10/m, compat: fixed-window}\n  b: {rate: 10/m}\n")
	w, b := func() *descriptor { return d("limit", "w") }, func() *descriptor { return d("limit", "b") }
	response := ask(t, p.client, &rls.RateLimitRequest{Domain: "sluice", HitsAddend: 3,
		Descriptors: []*descriptor{w(), hits(b(), 4)}})
	if got := brief(response); got != "OK; OK w 10/MINUTE 7 60s; OK b 10/MINUTE 6 24s" {
		t.Error(got)
	}
	p.want("OK; OK w 10/MINUTE 7 60s; OK b 10/MINUTE 6 24s", "sluice", hits(w(), 0), hits(b(), 0))
	p.want("OVER_LIMIT; OVER_LIMIT w 10/MINUTE 0 60s; OVER_LIMIT b 10/MINUTE 6 24s", "sluice", hits(w(), 15),
		hits(b(), 15))
	// The window has counted what it refused, the bucket has not.
	p.want("OVER_LIMIT; OVER_LIMIT w 10/MINUTE 0 60s; OK b 10/MINUTE 5 30s", "sluice", w(), b())
	p.want("OK; OK w 10/MINUTE 1 60s; OK b 10/MINUTE 10 0s", "sluice", negative(w(), 10), negative(b(), 10))
	p.want("OK; OK w 10/MINUTE 0 60s; OK b 10/MINUTE 9 6s", "sluice", w(), b())
	p.want("OVER_LIMIT; OVER_LIMIT w 10/MINUTE 0 60s; OVER_LIMIT b 10/MINUTE 9 6s", "sluice", hits(w(), 1<<63),
		hits(b(), 1<<63))
	p.pass(time.Minute)
	p.want("OK; OK w 10/MINUTE 9 60s", "sluice", w())
}

// TestOverride: a rate in the request decides in place of the limit's, and where there is none.
func TestOverride(t *testing.T) {
	p := run(t, policy.Stores{}, "  w: {rate: 2/m, compat: fixed-window}\n  b: {rate: 2/m}\n"+
		"  x: {rate: 1/h, descriptor: {domain: basic, entries: [{key: key1}]}}\n")
	w, b := func() *descriptor { return d("limit", "w") }, func() *descriptor { return d("limit", "b") }
	p.want("OK; OK w 42/MINUTE 41 60s; OK b 42/MINUTE 41 2s", "sluice",
		override(w(), 42, envoytype.RateLimitUnit_MINUTE), override(b(), 42, envoytype.RateLimitUnit_MINUTE))
	p.want("OK; OK w 2/MINUTE 0 60s; OK b 2/MINUTE 1 30s", "sluice", w(), b()) // windows share, buckets do not
	p.want("OK; OK w 3/SECOND 2 1s; OK b 3/HOUR 2 1200s", "sluice",
		override(w(), 3, envoytype.RateLimitUnit_SECOND), override(b(), 3, envoytype.RateLimitUnit_HOUR))
	p.want("OVER_LIMIT; OVER_LIMIT w 0/DAY 0 86400s; OVER_LIMIT b 0/MINUTE 0 60s", "sluice",
		override(w(), 0, envoytype.RateLimitUnit_DAY), override(b(), 0, envoytype.RateLimitUnit_MINUTE))
	weeks := override(w(), 5, envoytype.RateLimitUnit_MINUTE)
	weeks.Limit.UnitMultiplier = wrapperspb.UInt32(10)
	p.want("OK; OK w 5/10MINUTE 4 600s", "sluice", weeks)

	other := func() *descriptor { return override(d("new", "1"), 2, envoytype.RateLimitUnit_MINUTE) }
	p.want("OK; OK basic 2/MINUTE 1 60s", "basic", other())
	p.want("OK; OK basic 2/MINUTE 0 60s", "basic", other())
	p.want("OVER_LIMIT; OVER_LIMIT basic 2/MINUTE 0 60s", "basic", other())
	p.want("OK; OK basic 2/MINUTE 1 60s", "basic", override(d("new", "2"), 2, envoytype.RateLimitUnit_MINUTE))
	p.want("OK; OK", "unknown", other())
	for _, wrong := range []*descriptor{override(w(), 1, envoytype.RateLimitUnit_UNKNOWN), override(w(), 1, 99),
		tooLong()} {
		_, err := p.client.ShouldRateLimit(t.Context(), &rls.RateLimitRequest{Domain: "sluice",
			Descriptors: []*descriptor{wrong}})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}

func tooLong() *descriptor {
	o := override(d("limit", "w"), 1, envoytype.RateLimitUnit_YEAR)
	o.Limit.UnitMultiplier = wrapperspb.UInt32(1 << 31)
	return o
}

// TestErrors: those of envoyproxy/ratelimit, and the bound.
func TestErrors(t *testing.T) {
	p := run(t, policy.Stores{}, "  a: {rate: 1/h}\n")
	many := make([]*descriptor, descriptorsMax+1)
	for i := range many {
		many[i] = d("limit", "a")
	}
	for _, c := range []struct {
		request *rls.RateLimitRequest
		want    string
	}{
		{&rls.RateLimitRequest{Descriptors: many[:1]}, "Unknown rate limit domain must not be empty"},
		{&rls.RateLimitRequest{Domain: "sluice"}, "Unknown rate limit descriptor list must not be empty"},
		{&rls.RateLimitRequest{Domain: "none"}, "Unknown rate limit descriptor list must not be empty"},
		{&rls.RateLimitRequest{Domain: "sluice", Descriptors: many},
			"InvalidArgument 101 descriptors are more than 100"},
	} {
		_, err := p.client.ShouldRateLimit(t.Context(), c.request)
		if got := status.Code(err).String() + " " + status.Convert(err).Message(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	p.want("OK; OK a 1/HOUR 0 3600s", "sluice", d("limit", "a")) // nothing of that was charged
	p.series(map[string]float64{`sluice_rate_limit_service_requests_total{result="error"}`: 4})

	early := New(nil, policy.NewMetrics())
	if _, err := early.ShouldRateLimit(t.Context(), &rls.RateLimitRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("before a configuration is there: %v", err)
	}
}

// fields writes the headers to add.
func fields(r *rls.RateLimitResponse) string {
	var b strings.Builder
	for _, h := range r.ResponseHeadersToAdd {
		fmt.Fprintf(&b, "%s: %s\n", h.Key, h.Value)
	}
	return b.String()
}

// TestHeaders: clients are told of the limits that are enforced, as by the gateway's own routes.
func TestHeaders(t *testing.T) {
	p := run(t, policy.Stores{}, `  minute: {rate: 2/m, compat: fixed-window}
  bucket: {rate: 10/s, burst: 3}
  quiet: {rate: 1/h, mode: shadow}
`)
	p.pass(15 * time.Second)
	all := []*descriptor{d("limit", "quiet"), d("limit", "bucket"), d("limit", "none"), d("limit", "minute")}
	const policies = `RateLimit-Policy: "bucket";q=10;w=1, "minute";q=2;w=60` + "\n"
	if got := fields(p.ask("sluice", all...)); got != policies+`RateLimit: "bucket";r=2;t=1, "minute";r=1;t=45
x-ratelimit-limit: 2
x-ratelimit-remaining: 1
x-ratelimit-reset: 45
` {
		t.Error(got)
	}
	p.ask("sluice", all...)
	r := p.ask("sluice", all...)
	if got := fields(r); got != `RateLimit-Policy: "minute";q=2;w=60, "bucket";q=10;w=1
RateLimit: "minute";r=0;t=45, "bucket";r=0;t=1
x-ratelimit-limit: 2
x-ratelimit-remaining: 0
x-ratelimit-reset: 45
Content-Type: application/problem+json
Sluice-Reason: rate-limited
Cache-Control: no-store
Retry-After: 45
` {
		t.Error(got)
	}
	if body := string(r.RawBody); !strings.Contains(body,
		`"limit":"minute","reason":"rate-limited","retry_after":45,"status":429`) ||
		!strings.Contains(body, "The limit is 2 requests in each window of 1m0s.") {
		t.Error(body)
	}
	for _, silent := range [][]*descriptor{{d("limit", "quiet")}, {d("limit", "none")},
		{negative(d("limit", "bucket"), 1)}} {
		if got := fields(p.ask("sluice", silent...)); got != "" {
			t.Errorf("%v: %s", silent, got)
		}
	}
}

// TestReload: limits come, go and change, and what was counted stays, in a running service.
func TestReload(t *testing.T) {
	p := run(t, policy.Stores{}, "  a: {rate: 5/m, compat: fixed-window}\n  b: {rate: 5/m}\n")
	a, b := d("limit", "a"), d("limit", "b")
	p.want("OK; OK a 5/MINUTE 4 60s; OK b 5/MINUTE 4 12s; OK", "sluice", a, b, d("limit", "c"))
	p.apply("  a: {rate: 7/m, compat: fixed-window}\n  b: {rate: 10/m}\n  c: {rate: 1/s}\n")
	p.want("OK; OK a 7/MINUTE 5 60s; OK b 10/MINUTE 3 42s; OK c 1/SECOND 0 1s", "sluice", a, b, d("limit", "c"))
	p.apply("  a: {rate: 7/m, compat: fixed-window}\n")
	p.want("OK; OK a 7/MINUTE 4 60s; OK", "sluice", a, b)
	// A build that is given up changes nothing.
	cfg, err := config.Parse("t.yaml", []byte("version: 1\nlimits: {a: {rate: 100/m, compat: fixed-window}}\n"),
		t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	build := p.set.Begin(cfg, policy.Material{})
	if _, err := NewTable(p.set, build); err != nil {
		t.Fatal(err)
	}
	build.Abort()
	p.want("OK; OK a 7/MINUTE 3 60s", "sluice", a)
}

// TestReloadUnderLoad: no request sees a mix, and none is lost.
func TestReloadUnderLoad(t *testing.T) {
	p := run(t, policy.Stores{}, "  a: {rate: 1000000/h, compat: fixed-window}\n")
	const callers, each = 4, 200
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				r, err := p.client.ShouldRateLimit(t.Context(), &rls.RateLimitRequest{Domain: "sluice",
					Descriptors: []*descriptor{d("limit", "a"), d("limit", "a")}})
				if err != nil {
					t.Error(err)
					return
				}
				first, second := r.Statuses[0].CurrentLimit, r.Statuses[1].CurrentLimit
				if r.OverallCode != rls.RateLimitResponse_OK ||
					first.GetRequestsPerUnit() != second.GetRequestsPerUnit() {
					t.Errorf("%s", brief(r))
				}
			}
		})
	}
	for i := range 50 {
		p.apply(fmt.Sprintf("  a: {rate: %d/h, compat: fixed-window}\n", 1_000_000-i%2))
	}
	wg.Wait()
	r := p.ask("sluice", hits(d("limit", "a"), 0))
	if left, s := 2*callers*each, r.Statuses[0]; s.CurrentLimit.RequestsPerUnit-s.LimitRemaining != uint32(left) {
		t.Errorf("%s, want %d hits", brief(r), left)
	}
}

// gone is a store that does not answer: at once, or by the deadline.
type gone struct{ hangs bool }

func (g gone) Charge(ctx context.Context, _ ratelimit.Charge) (ratelimit.Decision, error) {
	if !g.hangs {
		return ratelimit.Decision{}, context.DeadlineExceeded
	}
	at, ok := ctx.Deadline()
	if !ok {
		at = time.Now()
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ratelimit.Decision{}, context.DeadlineExceeded
	case <-ctx.Done():
		return ratelimit.Decision{}, ctx.Err()
	}
}

// TestStoreGone: each limit follows its policy, and in time for the caller.
func TestStoreGone(t *testing.T) {
	const limits = `  local: {rate: 2/m}
  open: {rate: 2/m, onStoreFailure: open}
  closed: {rate: 2/m, onStoreFailure: closed}
  quiet: {rate: 2/m, onStoreFailure: closed, mode: shadow}
`
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprintf("hangs %v", hangs), func(t *testing.T) {
			stores := policy.Stores{LiveGateways: func() int { return 2 },
				SharedLimiter: func(ratelimit.Limit) ratelimit.Limiter { return gone{hangs} }}
			p := run(t, stores, limits)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			r, err := p.client.ShouldRateLimit(ctx, &rls.RateLimitRequest{Domain: "sluice", Descriptors: []*descriptor{
				d("limit", "local"), d("limit", "open"), d("limit", "quiet"), d("limit", "closed"),
			}})
			if err != nil {
				t.Fatal(err)
			}
			if got := brief(r); got != "OVER_LIMIT; OK local 2/MINUTE 0 60s; OK; OK; OVER_LIMIT closed 2/MINUTE 0 0s" {
				t.Error(got)
			}
			if got := fields(r); !strings.Contains(got, "Sluice-Reason: store-unavailable\n") ||
				!strings.Contains(got, "Retry-After: 1\n") || strings.Contains(got, `"closed";r=`) {
				t.Error(got)
			}
			p.series(map[string]float64{
				`sluice_limit_store_failures_total{limit="local"}`:                      1,
				`sluice_limit_decisions_total{decision="refused",limit="closed"}`:       1,
				`sluice_limit_decisions_total{decision="shadow-refused",limit="quiet"}`: 1,
			})
		})
	}
}

// broken is a store with a bug.
type broken struct{}

func (broken) Charge(context.Context, ratelimit.Charge) (ratelimit.Decision, error) { panic("a bug") }

// TestPanic: it ends neither the process nor the limit.
func TestPanic(t *testing.T) {
	p := run(t, policy.Stores{SharedLimiter: func(ratelimit.Limit) ratelimit.Limiter { return broken{} }},
		"  a: {rate: 2/m}\n  b: {rate: 2/m, mode: shadow}\n")
	p.want("OVER_LIMIT; OVER_LIMIT a 2/MINUTE 0 0s; OK", "sluice", d("limit", "a"), d("limit", "b"))
}

// TestHostileValues: values of clients bound neither a key nor a series, and what looks like a key
// is none.
func TestHostileValues(t *testing.T) {
	p := run(t, policy.Stores{}, "  u: {rate: 2/m, per: [principal]}\n  v: {rate: 2/m, per: [host, path]}\n")
	long := strings.Repeat("x", 100_000)
	for _, value := range []string{"", long, long + "y", "\x00own 1/1 k", strings.Repeat("\x00", 33), "a\r\nb"} {
		p.want("OK; OK u 2/MINUTE 1 30s", "sluice", d("limit", "u", "principal", value))
		p.want("OK; OK v 2/MINUTE 1 30s", "sluice", d("limit", "v", "host", value, "path", "1"))
		p.want("OK; OK", "sluice", d("limit", value))
	}
	if n := len(p.log.String()); n > 2000 {
		t.Errorf("%d bytes of log", n)
	}
}
