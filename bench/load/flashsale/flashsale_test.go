package flashsale

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/load/flashsale/openloop"
	"github.com/sluice-gateway/sluice/bench/shop"
)

func TestMain(m *testing.M) { build.Main(m) }

func usual() Options {
	return Options{Program: "/bin/true", Scenario: scenarioSale, Seed: 1, Gateways: 2, Store: storeRedis}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	o := usual()
	if err := o.complete(); err != nil || o.Half != 30*time.Second || o.Peak != time.Minute ||
		o.Capacity.PerSecond() != 320 {
		t.Errorf("%+v, %v", o, err)
	}
	for name, change := range map[string]func(o *Options){
		"scenario":          func(o *Options) { o.Scenario = "e" },
		"half":              func(o *Options) { o.Half = time.Millisecond },
		"peak":              func(o *Options) { o.Peak = time.Hour },
		"gateways":          func(o *Options) { o.Gateways = 100 },
		"store":             func(o *Options) { o.Store = "memory" },
		"embedded":          func(o *Options) { o.Store = storeEmbedded },
		"capacity":          func(o *Options) { o.Capacity = shop.Capacity{Workers: 1000, Latency: time.Millisecond} },
		"control":           func(o *Options) { o.Controls = []string{"apache"} },
		"target":            func(o *Options) { o.Targets = []string{"https://shop.example"} },
		"target with fault": func(o *Options) { o.Targets, o.Faults = []string{"http://127.0.0.1:1"}, []string{"all"} },
		"profile alone":     func(o *Options) { o.Profile = "profile.json" },
	} {
		o := usual()
		change(&o)
		if err := o.complete(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// sampled is a run of one kind for each class.
func sampled(samples ...openloop.Sample) (*openloop.Profile, *openloop.Result) {
	p := &openloop.Profile{
		Kinds: []openloop.Kind{{Name: "checkout", Class: "critical"}, {Name: "look", Class: "low"}},
		Phases: []openloop.Phase{{Name: "half", Duration: 2 * time.Second, Rate: 1}, {Name: "peak",
			Duration: 2 * time.Second, Rate: 1}},
	}
	return p, &openloop.Result{Samples: samples, Reasons: []string{"", "overloaded"}}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	p, r := sampled(
		openloop.Sample{At: 100 * ms, Latency: 10 * ms, Outcome: openloop.Succeeded, Final: true, Status: 200},
		openloop.Sample{At: 200 * ms, Latency: 900 * ms, Outcome: openloop.Succeeded, Final: true, Slow: true,
			Status: 200},
		openloop.Sample{At: 2100 * ms, Latency: 2 * ms, Outcome: openloop.Shed, Status: 503, Reason: 1},
		openloop.Sample{At: 2900 * ms, Latency: 20 * ms, Outcome: openloop.Refused, Final: true, Attempt: 1,
			Status: 409},
		openloop.Sample{At: 3000 * ms, Latency: 3 * ms, Outcome: openloop.Shed, Final: true, Kind: 1, Status: 503,
			Reason: 1},
		openloop.Sample{At: 3500 * ms, Outcome: openloop.Unsent, Final: true, Kind: 1},
	)
	f := measured(p, r)
	half, peak := f.Phases[0], f.Phases[1]
	if half.Goodput != 1 || half.Admitted.P99 != 10 || half.Admitted.Count != 1 || half.ShedShare != 0 {
		t.Errorf("half %+v", half)
	}
	if peak.Offered != 2 || peak.ShedShare != 0.5 || peak.FailShare != 0.25 || peak.Shed.P99 != 3 {
		t.Errorf("peak %+v", peak)
	}
	if c := f.class("critical"); c.Requests != 3 || c.Served != 1 || c.Latency.P999 != 10 {
		t.Errorf("critical %+v", c)
	}
	if c := f.class("low"); c.Served != 0 || c.Requests != 2 || f.class("normal") != nil || f.Unsent != 1 {
		t.Errorf("low %+v", c)
	}
	if !slices.Equal(f.Series.Critical, []float64{1, noValue, 1, noValue}) {
		t.Errorf("critical by second %v", f.Series.Critical)
	}
	if len(f.Reasons) != 5 || f.Reasons[0].Reason != "409" || f.Reasons[1].Reason != "overloaded" {
		t.Errorf("reasons %+v", f.Reasons)
	}
}

func entry(id, user, kind, sku string, amount int64) shop.Entry {
	return shop.Entry{ID: id, User: user, Kind: kind, SKU: sku, Amount: amount}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	told := func(user, id string, kind, status int) openloop.Bought {
		return openloop.Bought{User: user, ID: id, Kind: kind, Status: status}
	}
	checkouts := map[int]bool{0: true}
	for _, c := range []struct {
		name             string
		orders, payments []shop.Entry
		stock            []shop.Entry
		bought           []openloop.Bought
		want             Audit
	}{
		{"nothing", nil, nil, nil, nil, Audit{}},
		{"a checkout and an order",
			[]shop.Entry{entry("g1", "a", "ordered", "HOT", 1), entry("o1", "b", "ordered", "HOT", 1)},
			[]shop.Entry{entry("g1", "a", "charged", "", 500)},
			[]shop.Entry{entry("g1", "a", "reserved", "HOT", 1)},
			[]openloop.Bought{told("a", "g1", 0, 200), told("a", "g1", 0, 200), told("b", "o1", 1, 201)},
			Audit{Acknowledged: 2, SoldHot: 2}},
		{"oversold by orders",
			[]shop.Entry{entry("o1", "a", "ordered", "HOT", 2), entry("o2", "b", "ordered", "HOT", 1)}, nil, nil, nil,
			Audit{SoldHot: 3, Oversold: 1}},
		{"given back in time",
			[]shop.Entry{entry("o1", "a", "ordered", "HOT", 2), entry("o1", "a", "cancelled", "HOT", 2),
				entry("o2", "b", "ordered", "HOT", 1)}, nil, nil, nil, Audit{SoldHot: 1}},
		{"ordered twice",
			[]shop.Entry{entry("o1", "a", "ordered", "X", 1), entry("o2", "a", "ordered", "X", 1)}, nil, nil,
			[]openloop.Bought{told("a", "o1", 1, 201)}, Audit{Acknowledged: 1, Double: 1}},
		{"charged twice, once refunded",
			nil, []shop.Entry{entry("g1", "a", "charged", "", 5), entry("g2", "a", "charged", "", 5),
				entry("g2", "a", "refunded", "", 5)}, nil, nil, Audit{}},
		{"lost order", nil, nil, nil, []openloop.Bought{told("a", "o1", 1, 201)}, Audit{Acknowledged: 1, Lost: 1}},
		{"told, then cancelled",
			[]shop.Entry{entry("g1", "a", "ordered", "X", 1), entry("g1", "a", "cancelled", "X", 1)}, nil, nil,
			[]openloop.Bought{told("a", "g1", 0, 200)}, Audit{Acknowledged: 1, Lost: 1}},
		{"told, and not charged", []shop.Entry{entry("g1", "a", "ordered", "X", 1)}, nil, nil,
			[]openloop.Bought{told("a", "g1", 0, 200)}, Audit{Acknowledged: 1, Lost: 1}},
		{"accepted, then rolled back", nil, nil, nil, []openloop.Bought{told("a", "g1", 0, 202)},
			Audit{Acknowledged: 1}},
		{"another body", nil, nil, nil, []openloop.Bought{{User: "a", ID: "o9", Other: true, Status: 201}}, Audit{}},
	} {
		got := Audit{Units: 2}
		c.want.Units = 2
		got.compare(keepBooks(shop.Ledger{Entries: c.orders}, shop.Ledger{Entries: c.payments},
			shop.Ledger{Entries: c.stock}), c.bought, checkouts, true)
		examples := got.Examples
		got.Examples = nil
		if !equalAudit(got, c.want) || (len(examples) > 0) != (c.want.Double+c.want.Lost > 0) {
			t.Errorf("%s: %+v %q, want %+v", c.name, got, examples, c.want)
		}
	}
}

func equalAudit(a, b Audit) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func TestPlanOfFaults(t *testing.T) {
	t.Parallel()
	o := usual()
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	plan, err := planFaults([]string{"kill-gateway@40s", "payment-slow"}, &o)
	if err != nil || len(plan) != 2 || plan[0].begins != 40*time.Second || plan[1].lasts != 15*time.Second {
		t.Errorf("%+v, %v", plan, err)
	}
	plan, err = planFaults([]string{"all"}, &o)
	if err != nil || len(plan) != len(FaultNames()) {
		t.Fatalf("%+v, %v", plan, err)
	}
	for i, p := range plan[1:] {
		if p.begins < plan[i].begins+plan[i].lasts {
			t.Errorf("%s begins at %v, before %s has ended", p.name, p.begins, plan[i].name)
		}
	}
	short := Options{Short: true, Scenario: scenarioSale, Gateways: 2, Store: storeRedis}
	if err := short.complete(); err != nil {
		t.Fatal(err)
	}
	plan, err = planFaults([]string{"all"}, &short)
	if err != nil || len(plan) != len(FaultNames()) || plan[1].name != killRedis || plan[1].lasts != outage {
		t.Errorf("short: %+v, %v", plan, err) // sentinels notice no shorter outage
	}
	for _, late := range []string{"kill-redis@29s", "kill-gateway@32s"} {
		if _, err := planFaults([]string{late}, &short); err == nil {
			t.Errorf("%s in a run of 32 s: no error, and nothing would be tested", late)
		}
	}
	short.Peak = 2 * time.Second
	if _, err := planFaults([]string{"all"}, &short); err == nil {
		t.Error("all faults at once: no error")
	}
	o.Store, o.Gateways = storeEmbedded, 1
	for _, bad := range []string{"fire", "kill-gateway@soon", "kill-gateway@1h", "kill-redis", "all@3s"} {
		if _, err := planFaults([]string{bad}, &o); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestRecoveries(t *testing.T) {
	t.Parallel()
	var samples []openloop.Sample
	for i := range 4000 { // 100/s for 40 s
		s := openloop.Sample{At: time.Duration(i) * 10 * time.Millisecond, Outcome: openloop.Succeeded}
		switch at := s.At.Seconds(); {
		case at >= 10 && at < 13.5: // of a fault from 10 to 12 s
			s.Outcome = openloop.Broken
		case at >= 20 && at < 22: // of one from 20 to 25 s
			s.Outcome = openloop.TimedOut
		case at >= 30 && at < 33: // shed is not failed
			s.Outcome = openloop.Shed
		}
		samples = append(samples, s)
	}
	all := []FaultFigures{{Began: 10, Ended: 12}, {Began: 20, Ended: 25}, {Began: 30, Ended: 32}}
	recoveries(all, samples, 40*time.Second)
	for i, want := range []FaultFigures{{Gap: 3.5, Recovery: 1.5}, {Gap: 2}, {}} {
		if math.Abs(all[i].Gap-want.Gap) > 0.01 || math.Abs(all[i].Recovery-want.Recovery) > 0.01 {
			t.Errorf("fault %d: %+v, want %+v", i, all[i], want)
		}
	}
}

func TestLeaks(t *testing.T) {
	t.Parallel()
	start := Holding{Goroutines: 100, Descriptors: 50, Memory: 100 << 20, Live: 50 << 20}
	for _, c := range []struct {
		end  Holding
		want int
	}{
		{start, 0}, {Holding{110, 60, 110 << 20, 55 << 20}, 0}, {Holding{111, 50, 1, 1}, 1},
		{Holding{300, 300, 300 << 20, 100 << 20}, 4}, {Holding{100, 50, 100 << 20, 60 << 20}, 1},
		{Holding{100, 50, 111 << 20, 55 << 20}, 1}, // garbage, or fragments
	} {
		l := Leak{Process: "gateway", Start: start, End: c.end}
		if got := l.grown(); len(got) != c.want {
			t.Errorf("%+v: %q, want %d", c.end, got, c.want)
		}
	}
	if h, err := hold(t.Context(), os.Getpid(), ""); err != nil || h.Descriptors == 0 || h.Memory == 0 {
		t.Errorf("%+v, %v", h, err)
	}
}

// report is a run of the gateway and two controls.
func report() *bench {
	figures := func(goodput, served, fails float64) *Figures {
		return &Figures{Phases: []PhaseFigures{{Name: "half"}, {Name: "ten times", From: 1, To: 3, Goodput: goodput,
			FailShare: fails}}, Classes: []ClassFigures{{Name: "critical", Served: served, Requests: 10}},
			Reasons: []ReasonFigures{{Class: "critical", Outcome: "succeeded", Reason: "200"}},
			Series:  Series{Offered: []float64{1, 2}, Goodput: []float64{1, 2}, Critical: []float64{1, noValue}}}
	}
	sound := Audit{SoldHot: unitsMost, Units: unitsMost}
	return &bench{o: Options{Short: true}, report: &Report{Title: "a sale", Findings: []*Finding{
		{Name: ours, Figures: figures(300, 1, 0), Audit: &sound,
			Faults: []FaultFigures{{Name: killRedis, Recovery: 2, Gap: 3}}, Notes: []string{"<noted>"}},
		{Name: noShedding, Figures: figures(20, 0.1, 0.9), Audit: &sound},
		{Name: noKeys, Figures: figures(300, 1, 0),
			Audit: &Audit{SoldHot: unitsMost, Units: unitsMost, Double: 3, Repeated: 9}},
		{Name: envoyLimit, Missing: "envoy is not installed"},
	}}}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	b := report()
	b.judgeSale()
	if !b.report.Met() {
		t.Errorf("missed: %+v", b.report.Marks)
	}
	for name, spoil := range map[string]func(b *bench){
		"oversold": func(b *bench) {
			b.report.Findings[0].Audit = &Audit{SoldHot: 1001, Units: unitsMost, Oversold: 1}
		},
		"nothing sold":   func(b *bench) { b.report.Findings[0].Audit = &Audit{Units: unitsMost} },
		"slow recovery":  func(b *bench) { b.report.Findings[0].Faults[0].Recovery = 11 },
		"long gap":       func(b *bench) { b.report.Findings[0].Faults[0].Gap = 6 },
		"broken fault":   func(b *bench) { b.report.Findings[0].Faults[0].Error = "no process" },
		"worse":          func(b *bench) { b.report.Findings[0].Figures.Phases[1].Goodput = 10 },
		"unsent":         func(b *bench) { b.report.Findings[0].Figures.Unsent = 1 },
		"weak control":   func(b *bench) { b.report.Findings[2].Audit = b.report.Findings[0].Audit },
		"failed control": func(b *bench) { b.report.Findings[2] = &Finding{Name: noKeys, Failed: "no port"} },
	} {
		b := report()
		switch name {
		case "slow recovery", "long gap", "unsent": // bars of an idle machine
			b.o.Short = false
		}
		spoil(b)
		b.judgeSale()
		if b.report.Met() {
			t.Errorf("%s: all bars are met", name)
		}
	}
	for _, m := range b.report.Marks {
		if strings.Contains(m.What, envoyLimit) {
			t.Errorf("a control that was not run has the bar %+v", m)
		}
	}
	var table, page bytes.Buffer
	if err := b.report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if err := b.report.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{envoyLimit + ": not run: envoy is not installed", "misses buyers with two"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	for _, not := range []string{"http://", "https://", "<noted>"} {
		if strings.Contains(page.String(), not) {
			t.Errorf("the page has %q", not)
		}
	}
	if _, err := json.Marshal(b.report); err != nil {
		t.Error(err)
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	f := &Finding{Figures: &Figures{Series: Series{Offered: []float64{100, 100, 100, 100},
		Goodput: []float64{100, 10, 45, 100}}}}
	f.possible = possible(f.Figures, func(at time.Duration) shop.Capacity {
		if at >= time.Second && at < 3*time.Second {
			return shop.Capacity{Workers: 5, Latency: 100 * time.Millisecond}
		}
		return shop.Capacity{Workers: 50, Latency: 100 * time.Millisecond}
	})
	if !slices.Equal(f.possible, []float64{100, 50, 50, 100}) {
		t.Fatal(f.possible)
	}
	if got := f.share(time.Second, 3*time.Second); got != 0.55 {
		t.Errorf("share %g", got)
	}
	if got := f.worst(0, 4*time.Second); got != 0.2 {
		t.Errorf("worst %g", got)
	}
	if got := f.backAfter(time.Second); got != 1 {
		t.Errorf("back after %g s", got)
	}
}

func TestFinishedOrders(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	made := func(id, kind string, after time.Duration) shop.Entry {
		return shop.Entry{ID: id, Kind: kind, At: at.Add(after)}
	}
	stand, undone := finished([]shop.Entry{
		made("early", "ordered", -time.Second), made("a", "ordered", 0), made("b", "ordered", time.Second),
		made("early", "cancelled", time.Second), made("b", "cancelled", time.Minute),
		made("late", "ordered", 2*time.Second),
	}, at, at.Add(2*time.Second))
	if stand != 1 || undone != 1 {
		t.Errorf("%g stand, %g undone; want 1 and 1", stand, undone)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := usual()
	o.Half, o.Peak, o.Capacity = time.Second, time.Second, shop.Capacity{Workers: 2, Latency: 25 * time.Millisecond}
	if err := Export(dir, o); err != nil {
		t.Fatal(err)
	}
	m, err := readMix(filepath.Join(dir, "profile.json"))
	if err != nil {
		t.Fatal(err)
	}
	p, want := m.profile(), saleMix(1, 80, time.Second, time.Second)
	again := want.profile()
	var drawn []openloop.Arrival
	openloop.Draw(&again, func(a openloop.Arrival) bool { drawn = append(drawn, a); return true })
	i := 0
	openloop.Draw(&p, func(a openloop.Arrival) bool { i++; return i <= len(drawn) && a == drawn[i-1] })
	if i != len(drawn) {
		t.Errorf("the profile that was read back draws something else at arrival %d of %d", i, len(drawn))
	}
	for i := range m.Phases {
		text, err := os.ReadFile(filepath.Join(dir, vegetaFile(i)))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var target struct {
				Method, URL string
				Body        []byte
				Header      map[string][]string
			}
			if err := json.Unmarshal(line, &target); err != nil ||
				!strings.HasPrefix(target.URL, "http://127.0.0.1:8080/") ||
				(target.Method == "POST") != (len(target.Header["Idempotency-Key"]) == 1) ||
				(target.Method == "POST") != json.Valid(target.Body) {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	for _, name := range []string{"sale.js", "README.md"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bytes.Contains(text, []byte("<no value>")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{`{`, `{"phases":[]}`, `{"unknown":1}`,
		`{"phases":[{"name":"x","seconds":1,"rate":1e9}]}`} {
		path := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readMix(path); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestMissingProgramIsNotAFault(t *testing.T) {
	t.Parallel()
	_, err := find("no-such-program-anywhere")
	if !isNotInstalled(err) || isNotInstalled(os.ErrNotExist) {
		t.Error(err)
	}
}
