package policy

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/salememory"
)

const withSale = `
version: 1
store: {memory: {}}
identity: [{header: {name: X-User, trusted: [127.0.0.0/8]}}]
services:
  a: {endpoints: ["http://127.0.0.1:1"], breaker: {errors: 50%}}
routes:
  - {name: buy, match: {methods: [POST], path: /buy}, service: a, idempotency: {required: true}}
  - {name: other, match: {path: /other}, service: a}
sales:
  flash: {routes: [buy], item: body.sku, quantity: body.qty, stock: {SKU-1: 5}, perPrincipal: 2 TIMES}
`

func saleText(times string) string { return strings.ReplaceAll(withSale, " TIMES", times) }

func buyExchange(t *testing.T, user, body string) *filters.Exchange {
	t.Helper()
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(body), nil })
	x.Method, x.Route, x.Path, x.Principal, x.Received = "POST", "buy", "/buy", "", time.Now()
	x.Peer = netip.MustParseAddr("127.0.0.1")
	x.Client = x.Peer
	x.Header.Add("X-User", user)
	x.Header.Add("Idempotency-Key", "k")
	return x
}

func TestSaleIsExplained(t *testing.T) {
	for _, c := range []struct {
		times, body string
		want        []string
	}{
		{"", `{"sku":"SKU-1","qty":2}`, []string{"flash: open, for good; store gone: closed",
			`body.sku = "SKU-1": 5 units are let through; a principal may have at most 2`, "the request is for 2"}},
		{"", `{"sku":"SKU-2"}`, []string{`body.sku = "SKU-2" is not part of the sale`}},
		{"", `{}`, []string{"the request has no body.sku: it is not part of the sale"}},
		{"", `{"sku":"SKU-1","qty":"x"}`, []string{"400 bad-request"}},
		{", opens: 2099-11-11T00:00:00Z", `{"sku":"SKU-1"}`, []string{
			"opens 2099-11-11T00:00:00Z", "403 sale-not-open"}},
		{", closes: 2009-11-11T00:00:00Z", `{"sku":"SKU-1"}`, []string{
			"closes 2009-11-11T00:00:00Z", "403 sale-closed"}},
	} {
		cfg := parse(t, saleText(c.times))
		s := New(&Env{})
		b := s.Begin(cfg, Material{})
		var out strings.Builder
		e := NewExplainer(&out, b, buyExchange(t, "anna", c.body))
		e.Chain(ScopeOf(cfg, cfg.Routes[0]))
		b.Abort()
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s%s: no %q in\n%s", c.body, c.times, want, out.String())
			}
		}
	}
}

// TestSaleStandsBehindTheClaim: the order of the chain, and where there is no sale there is no filter and no status.
func TestSaleStandsBehindTheClaim(t *testing.T) {
	cfg := parse(t, saleText(""))
	s := New(testEnv(t))
	if got := s.Names(ScopeOf(cfg, cfg.Routes[0])); !slices.Equal(got[len(got)-3:], []string{"idempotency", "sale",
		"breaker"}) {
		t.Errorf("the chain is %v", got)
	}
	if got := s.Names(ScopeOf(cfg, cfg.Routes[1])); slices.Contains(got, "sale") {
		t.Errorf("the other route's chain is %v", got)
	}
	i := slices.IndexFunc(s.list, func(p Policy) bool { return p.Name() == "sale" })
	if st := s.list[i].Status(); st.Member != "" {
		t.Errorf("a status without a sale: %+v", st)
	}
}

// TestSaleOverItsRecords: the chain of a route with a real record store. The units follow the records.
func TestSaleOverItsRecords(t *testing.T) {
	env := testEnv(t)
	ends := new(idempotency.Ends)
	env.Stores.Records, env.Stores.Ends = ends.Observe(env.Stores.Records), ends
	units := salememory.New(time.Now)
	env.Stores.Sales = func() (sale.Store, error) { return units, nil }
	s := New(env)
	defer s.Close()
	cfg := parse(t, saleText(""))
	b := s.Begin(cfg, Material{})
	chain, err := b.Chain(ScopeOf(cfg, cfg.Routes[0]), ignorePanics)
	if err != nil {
		t.Fatal(err)
	}
	b.Commit()
	buy := func(user string, status int) filters.Reason {
		x := buyExchange(t, user, `{"sku":"SKU-1"}`)
		reply, _ := chain.Request(x)
		if reply != nil {
			x.SetReply(reply)
		} else {
			x.Dispatched = true
			x.Response = filters.Response{Status: status, Whole: true}
		}
		chain.Response(x)
		chain.Done(x, filters.Completed)
		return x.Response.Reason
	}
	await := func(want sale.Counts) {
		t.Helper()
		var got sale.Counts
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			c, err := units.Changes(context.Background(), sale.Item{Sale: "flash", Name: "SKU-1"}, sale.Mark{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			got = c.Counts
			want.Version = got.Version
			if got == want {
				return
			}
		}
		t.Fatalf("%+v, want %+v", got, want)
	}
	for user, status := range map[string]int{"a": 201, "b": 402, "c": 503, "d": 500, "e": 200} {
		if reason := buy(user, status); reason != "" {
			t.Errorf("%s: %s", user, reason)
		}
	}
	await(sale.Counts{Taken: 3, Confirmed: 2, Unknown: 1, Returned: 2})
	if reason := buy("d", 200); reason != filters.OutcomeUnknown {
		t.Errorf("the unknown one again: %q", reason)
	}
	record, ok := RecordID(cfg, idempotency.Query{Route: "buy", Principal: "d", ClientKey: "k"})
	if found, err := env.Stores.Records.Resolve(context.Background(), record, nil, true); !ok || !found || err != nil {
		t.Fatal(found, err)
	}
	await(sale.Counts{Taken: 2, Confirmed: 2, Returned: 3})
	for _, user := range []string{"f", "g", "h"} {
		if reason := buy(user, 201); reason != "" {
			t.Errorf("%s: %s", user, reason)
		}
	}
	if reason := buy("i", 201); reason != sale.Sold {
		t.Errorf("the sixth: %q", reason)
	}
	for _, user := range []string{"a", "b"} { // replayed, also who was declined
		if reason := buy(user, 500); reason != "" {
			t.Errorf("%s again: %q", user, reason)
		}
	}
}

// TestSaleOfAnyName: clients can name items that are no text, where a service has units of whatever it is asked for.
// They are counted with the others.
func TestSaleOfAnyName(t *testing.T) {
	env := &Env{Stores: Stores{Sales: func() (sale.Store, error) { return salememory.New(time.Now), nil }}}
	env.setDefaults()
	p := newSale(env).(*salePolicy)
	p.metrics("flash")("\xff").Admitted.Inc()
	settler := sale.NewSettler(sale.SettlerOptions{Logger: env.Logger})
	defer settler.Close()
	stock := sale.Numbers{"\xff": 1, "SKU-1": 2}
	s := settler.Open("flash", salememory.New(time.Now), p.metrics("flash"), sale.Settings{Stock: stock})
	p.sales.replace(map[string]*sale.Sale{"flash": s})
	families, err := env.Metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sluice_sale_units" && len(f.GetMetric()) != 4 {
			t.Errorf("%d states of one item", len(f.GetMetric()))
		}
	}
}
