package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// manyRoutes is a configuration of n routes that end as tail says. It is a folder, since one file
// has at most 100,000 values.
func manyRoutes(tb testing.TB, n int, tail string) *config.Config {
	tb.Helper()
	const perFile = 2500
	dir := tb.TempDir()
	write := func(name string, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	write("a.yaml", []byte("version: 1\nstore: {memory: {}}\nlimits: {l: {scope: local, rate: 10/s}}\n"+
		"services: {a: {endpoints: [\"http://127.0.0.1:1\"]}}\n"))
	for from := 0; from < n; from += perFile {
		b := []byte("routes:\n")
		for i := from; i < min(from+perFile, n); i++ {
			b = fmt.Appendf(b, "- {name: r%d, match: {methods: [GET], path: /v1/t%d/orders}, %s}\n", i, i, tail)
		}
		write(fmt.Sprintf("routes%05d.yaml", from), b)
	}
	cfg, err := config.Load(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

func testProcess(tb testing.TB, cfg *config.Config) *process {
	tb.Helper()
	env := &policy.Env{Logger: slog.New(slog.DiscardHandler), Metrics: policy.NewMetrics()}
	m := newMetrics(env.Metrics)
	st, err := openStores(context.Background(), cfg, env.Logger, m)
	if err != nil {
		tb.Fatal(err)
	}
	env.Stores = st.forPolicies()
	p := newProcess(env, st, m, nil, context.Background())
	tb.Cleanup(p.close)
	return p
}

// madeRequest is a request without a connection.
type madeRequest struct {
	whole
	*recorder
	account *budget.Account
}

func (*madeRequest) ClientText() string         { return "192.0.2.7" }
func (*madeRequest) LimitBody(int64)            {}
func (*madeRequest) Length() int64              { return 0 }
func (*madeRequest) Covers(string) bool         { return true }
func (m *madeRequest) Account() *budget.Account { return m.account }
func (m *madeRequest) DrawOn(a *budget.Account) { m.account = a }

// BenchmarkRoutes is a request from its head to a static response, with one route and with ten
// thousand.
func BenchmarkRoutes(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cfg := manyRoutes(b, n, "respond: {status: 200}")
			e, err := testProcess(b, cfg).build(cfg, material{}, nil)
			if err != nil {
				b.Fatal(err)
			}
			d := &dispatcher{engine: func() *engine { return e }}
			account := budget.New(limitsOf(&cfg.Listen, 1)).Account(netip.Addr{})
			x, w := new(filters.Exchange), &madeRequest{recorder: &recorder{}, account: account}
			path := fmt.Sprintf("/v1/t%d/orders", n/2)
			b.ReportAllocs()
			for b.Loop() {
				x.Begin(context.Background(), nil)
				x.Method, x.Scheme, x.Version, x.Host, x.Path = "GET", "http", "1.1", "shop.example", path
				x.Peer, x.Received = netip.AddrFrom4([4]byte{192, 0, 2, 7}), time.Now()
				d.dispatch(e, x, w)
			}
			if w.status != 200 {
				b.Fatalf("status %d", w.status)
			}
		})
	}
}
