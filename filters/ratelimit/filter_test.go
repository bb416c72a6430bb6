package ratelimit_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitlocal"
	"github.com/sluice-gateway/sluice/filters/ref"
)

var t0 = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

// ledger is a Metrics that can be read.
type ledger map[string]int

type entry struct {
	l    ledger
	name string
}

func (e entry) Inc() { e.l[e.name]++ }

func (l ledger) Limit(name string) ratelimit.Counters {
	return ratelimit.Counters{
		Allowed: entry{l, name + " allowed"}, Refused: entry{l, name + " refused"},
		ShadowRefused: entry{l, name + " shadow-refused"}, StoreFailures: entry{l, name + " failures"},
	}
}

// broken is a store that does not answer.
type broken struct{ asked int }

func (b *broken) Charge(context.Context, ratelimit.Charge) (ratelimit.Decision, error) {
	b.asked++
	return ratelimit.Decision{}, errors.New("store: i/o timeout")
}

func limit(name string, count, burst int, period time.Duration) ratelimit.Limit {
	return ratelimit.Limit{Name: name, Count: count, Period: period, Burst: burst}
}

func rule(l ratelimit.Limit, per ...ref.Ref) ratelimit.Rule {
	return ratelimit.Rule{Limit: l, Per: per, Limiter: ratelimitlocal.New(l, 1000)}
}

var (
	principal = ref.Ref{Root: ref.Principal}
	tenant    = ref.Ref{Root: ref.Header, Path: []string{"X-Tenant"}}
	item      = ref.Ref{Root: ref.Header, Path: []string{"X-Item"}}
)

// send makes one request at that time and returns what the client gets.
func send(t *testing.T, f filters.Filter, now time.Time, fill func(*filters.Exchange)) filters.Response {
	t.Helper()
	chain, err := filters.NewChain(func(_ *filters.Exchange, _ string, v any, _ []byte) { t.Errorf("panic: %v", v) }, f)
	if err != nil {
		t.Fatal(err)
	}
	var x filters.Exchange
	x.Begin(context.Background(), nil)
	x.Received, x.Principal = now, "anna"
	x.Client = netip.MustParseAddr("192.0.2.7")
	if fill != nil {
		fill(&x)
	}
	if r, _ := chain.Request(&x); r != nil {
		x.SetReply(r)
	} else {
		x.Response = filters.Response{Status: 200}
		x.Response.Header.Add("RateLimit", `"service";r=0;t=9`)
		x.Response.Header.Add("Ratelimit", `"service2";r=0;t=9`)
		x.Response.Header.Add("RateLimit-Policy", `"service";q=1;w=9`)
	}
	chain.Response(&x)
	chain.Done(&x, filters.Completed)
	return x.Response
}

func wantFields(t *testing.T, r filters.Response, status int, policy, left string) {
	t.Helper()
	if r.Status != status {
		t.Errorf("status is %d, want %d: %s", r.Status, status, r.Body)
	}
	if got := r.Header.Joined("RateLimit-Policy"); got != policy {
		t.Errorf("RateLimit-Policy is %s, want %s", got, policy)
	}
	if got := r.Header.Joined("RateLimit"); got != left {
		t.Errorf("RateLimit is %s, want %s", got, left)
	}
}

func TestConform(t *testing.T) {
	ample := limit("ample", 1_000_000, 1_000_000, time.Second)
	none := limit("none", 1, 1, 1000*time.Hour)
	for name, rules := range map[string]func() []ratelimit.Rule{
		"passes": func() []ratelimit.Rule { return []ratelimit.Rule{rule(ample), rule(ample, principal, tenant)} },
		"shadow": func() []ratelimit.Rule { r := rule(none); r.Shadow = true; return []ratelimit.Rule{r, rule(ample)} },
		"refuses": func() []ratelimit.Rule {
			r := rule(none)
			send(t, ratelimit.New([]ratelimit.Rule{r}, nil), time.Now(), nil)
			return []ratelimit.Rule{rule(ample), r}
		},
		"store gone, closed": func() []ratelimit.Rule {
			return []ratelimit.Rule{rule(ample), {Limit: ample, Limiter: new(silent), OnStoreFailure: ratelimit.Closed}}
		},
		"store gone, local": func() []ratelimit.Rule {
			return []ratelimit.Rule{{Limit: ample, Limiter: new(silent), Fallback: ratelimitlocal.New(ample, 10)}}
		},
		"no limits": func() []ratelimit.Rule { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Conform(t, func(*testing.T) (filters.Filter, func(*filters.Exchange)) {
				return ratelimit.New(rules(), nil), func(x *filters.Exchange) { x.Header.Add("X-Tenant", "t1") }
			})
		})
	}
}

// silent is a broken store without a count, for several goroutines.
type silent struct{}

func (silent) Charge(context.Context, ratelimit.Charge) (ratelimit.Decision, error) {
	return ratelimit.Decision{}, context.DeadlineExceeded
}

func TestFieldsAndRefusal(t *testing.T) {
	m := ledger{}
	f := ratelimit.New([]ratelimit.Rule{
		rule(limit("instance", 2000, 400, time.Second)),
		rule(limit("per-user", 20, 2, time.Minute), principal),
		rule(limit("late", 1000, 5, time.Hour)),
	}, m)
	const policy = `"instance";q=2000;w=1, "per-user";q=20;w=60, "late";q=1000;w=3600`
	wantFields(t, send(t, f, t0, nil), 200, policy, `"instance";r=399;t=1, "per-user";r=1;t=3, "late";r=4;t=4`)
	wantFields(t, send(t, f, t0, nil), 200, policy, `"instance";r=398;t=1, "per-user";r=0;t=6, "late";r=3;t=8`)

	r := send(t, f, t0, nil)
	wantFields(t, r, 429, `"per-user";q=20;w=60, "instance";q=2000;w=1, "late";q=1000;w=3600`,
		`"per-user";r=0;t=3, "instance";r=397;t=1`)
	if r.Reason != filters.RateLimited || r.Header.Get("Retry-After") != "3" {
		t.Errorf("reason %s, Retry-After %s", r.Reason, r.Header.Get("Retry-After"))
	}
	var body struct {
		Limit, Detail string
		RetryAfter    int `json:"retry_after"`
	}
	if err := json.Unmarshal(r.Body, &body); err != nil || body.Limit != "per-user" || body.RetryAfter != 3 ||
		body.Detail != "The limit is 20 requests in 1m0s, at most 2 at once." {
		t.Errorf("body %s", r.Body)
	}

	// Another principal has a bucket of its own; the limits before the refusing one were charged,
	// the one after it was not.
	wantFields(t, send(t, f, t0, func(x *filters.Exchange) { x.Principal = "ben" }), 200, policy,
		`"instance";r=396;t=1, "per-user";r=1;t=3, "late";r=2;t=11`)
	for name, want := range map[string]int{
		"instance allowed": 4, "per-user allowed": 3, "per-user refused": 1, "late allowed": 3,
		"per-user shadow-refused": 0, "instance failures": 0,
	} {
		if m[name] != want {
			t.Errorf("%s: %d, want %d", name, m[name], want)
		}
	}
}

func TestFieldsOnAnAnswerOfALaterFilter(t *testing.T) {
	f := ratelimit.New([]ratelimit.Rule{rule(limit("a", 10, 10, time.Second))}, nil)
	var x filters.Exchange
	var s filters.Slot
	x.Begin(context.Background(), nil)
	x.Received = t0
	if r := f.Request(&x, &s); r != nil {
		t.Fatal(r)
	}
	x.SetReply(filters.Refuse(filters.BreakerOpen, filters.Problem{}))
	f.Response(&x, &s)
	wantFields(t, x.Response, 503, `"a";q=10;w=1`, `"a";r=9;t=1`)
	f.Done(&x, &s, filters.Refused)
}

func TestShadow(t *testing.T) {
	m := ledger{}
	shadow := rule(limit("shadow", 1, 1, time.Hour))
	shadow.Shadow = true
	f := ratelimit.New([]ratelimit.Rule{shadow, rule(limit("real", 2, 2, time.Hour))}, m)
	for i, want := range []int{200, 200, 429} {
		r := send(t, f, t0, nil)
		if r.Status != want {
			t.Errorf("request %d: status %d, want %d", i, r.Status, want)
		}
		for _, field := range []string{"RateLimit", "RateLimit-Policy"} {
			if v := r.Header.Joined(field); strings.Contains(v, "shadow") || !strings.Contains(v, "real") {
				t.Errorf("request %d: %s is %s", i, field, v)
			}
		}
	}
	if m["shadow allowed"] != 1 || m["shadow shadow-refused"] != 2 || m["shadow refused"] != 0 ||
		m["real allowed"] != 2 || m["real refused"] != 1 {
		t.Errorf("counted %v", m)
	}
	// With shadow limits only, the fields are the service's.
	r := send(t, ratelimit.New([]ratelimit.Rule{shadow}, nil), t0, nil)
	wantFields(t, r, 200, `"service";q=1;w=9`, `"service";r=0;t=9, "service2";r=0;t=9`)
}

func TestStoreFailure(t *testing.T) {
	l := limit("global", 1, 1, time.Minute)
	real := rule(limit("real", 100, 100, time.Second))
	for _, c := range []struct {
		name     string
		change   func(*ratelimit.Rule)
		statuses []int
		left     string // RateLimit of the last
		counted  map[string]int
	}{
		{"local", func(r *ratelimit.Rule) { r.Fallback = ratelimitlocal.New(l, 10) }, []int{200, 429},
			`"global";r=0;t=60`, map[string]int{"global failures": 2, "global allowed": 1, "global refused": 1}},
		{"local without a share", func(*ratelimit.Rule) {}, []int{503}, "",
			map[string]int{"global failures": 1, "global refused": 1}},
		{"open", func(r *ratelimit.Rule) { r.OnStoreFailure = ratelimit.Open }, []int{200, 200}, `"real";r=98;t=1`,
			map[string]int{"global failures": 2, "global allowed": 2}},
		{"closed", func(r *ratelimit.Rule) { r.OnStoreFailure = ratelimit.Closed }, []int{503}, "",
			map[string]int{"global failures": 1, "global refused": 1}},
		{"closed, shadow", func(r *ratelimit.Rule) { r.OnStoreFailure, r.Shadow = ratelimit.Closed, true }, []int{200},
			`"real";r=99;t=1`,
			map[string]int{"global failures": 1, "global shadow-refused": 1, "global refused": 0}},
		{"local, shadow", func(r *ratelimit.Rule) { r.Fallback, r.Shadow = ratelimitlocal.New(l, 10), true },
			[]int{200, 200}, `"real";r=98;t=1`,
			map[string]int{"global failures": 2, "global allowed": 1, "global shadow-refused": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ledger{}
			store := new(broken)
			failing := ratelimit.Rule{Limit: l, Limiter: store}
			c.change(&failing)
			real.Limiter = ratelimitlocal.New(real.Limit, 10)
			f := ratelimit.New([]ratelimit.Rule{failing, real}, m)
			var r filters.Response
			for i, want := range c.statuses {
				if r = send(t, f, t0, nil); r.Status != want {
					t.Fatalf("request %d: status %d, want %d: %s", i, r.Status, want, r.Body)
				}
			}
			if got := r.Header.Get("RateLimit"); got != c.left {
				t.Errorf("RateLimit is %q, want %q", got, c.left)
			}
			if r.Status == 503 && (r.Reason != filters.StoreUnavailable || r.Header.Get("Retry-After") == "" ||
				strings.Contains(string(r.Body), "i/o")) {
				t.Errorf("refusal %s %s", r.Reason, r.Body)
			}
			for name, want := range c.counted {
				if m[name] != want {
					t.Errorf("%s: %d, want %d", name, m[name], want)
				}
			}
			if store.asked != len(c.statuses) {
				t.Errorf("the store was asked %d times", store.asked)
			}
		})
	}
}

// spyLimiter remembers the keys.
type spyLimiter struct{ keys []string }

func (s *spyLimiter) Charge(_ context.Context, c ratelimit.Charge) (ratelimit.Decision, error) {
	s.keys = append(s.keys, c.Key)
	return ratelimit.Decision{Allowed: true}, nil
}

func TestKeys(t *testing.T) {
	keys := func(fill func(*filters.Exchange), per ...ref.Ref) string {
		spy := new(spyLimiter)
		send(t, ratelimit.New([]ratelimit.Rule{{Limit: limit("l", 1, 1, time.Second), Per: per, Limiter: spy}}, nil),
			t0, fill)
		return spy.keys[0]
	}
	headers := func(tenant, item string) func(*filters.Exchange) {
		return func(x *filters.Exchange) {
			x.Header.Add("X-Tenant", tenant)
			x.Header.Add("X-Item", item)
		}
	}
	if k := keys(nil); k != "" {
		t.Errorf("without references: %q", k)
	}
	if k := keys(nil, principal); k != "anna" {
		t.Errorf("principal: %q", k)
	}
	if a, b := keys(nil, tenant), keys(headers("", ""), tenant); a != "" || b != "" {
		t.Errorf("no value counts under the empty one: %q, %q", a, b)
	}
	long := strings.Repeat("x", 200)
	digestOfLong := keys(headers(long, ""), tenant)
	distinct := map[string]string{}
	for name, k := range map[string]string{
		"a,bc":            keys(headers("a", "bc"), tenant, item),
		"ab,c":            keys(headers("ab", "c"), tenant, item),
		"abc,":            keys(headers("abc", ""), tenant, item),
		",abc":            keys(headers("", "abc"), tenant, item),
		"1:a,":            keys(headers("1:a", ""), tenant, item),
		"long":            digestOfLong,
		"long y":          keys(headers(long+"y", ""), tenant),
		"long,":           keys(headers(long, ""), tenant, item),
		",long":           keys(headers("", long), tenant, item),
		"digest as value": keys(headers(digestOfLong, ""), tenant),
	} {
		if len(k) > 128 {
			t.Errorf("%s: a key of %d bytes", name, len(k))
		}
		if other, ok := distinct[k]; ok {
			t.Errorf("%s and %s have the same key %q", name, other, k)
		}
		distinct[k] = name
	}
}

func TestNamesAreQuoted(t *testing.T) {
	f := ratelimit.New([]ratelimit.Rule{rule(limit("a\"b\\c\r\nü", 1, 1, time.Second))}, nil)
	wantFields(t, send(t, f, t0, nil), 200, `"a\"b\\c___";q=1;w=1`, `"a\"b\\c___";r=0;t=1`)
}

func TestTheAllowedPathAllocatesNothing(t *testing.T) {
	ample := limit("ample", 1_000_000_000, 1_000_000, time.Second)
	f := ratelimit.New([]ratelimit.Rule{rule(ample), rule(ample, principal)}, ledger{"": 0})
	var x filters.Exchange
	var s filters.Slot
	ctx := context.Background()
	now := time.Now()
	request := func() {
		x.Begin(ctx, nil)
		x.Received, x.Principal = now, "anna"
		s = filters.Slot{}
		if f.Request(&x, &s) != nil {
			t.Error("refused")
		}
	}
	if n := testing.AllocsPerRun(1000, func() {
		request()
		f.Done(&x, &s, filters.Completed)
	}); n != 0 {
		t.Errorf("%v allocations in Request and Done", n)
	}
	request()
	x.Response.Status = 200
	f.Response(&x, &s)
	if n := testing.AllocsPerRun(1000, func() { f.Response(&x, &s) }); n != 0 {
		t.Errorf("%v allocations in Response", n)
	}
	f.Done(&x, &s, filters.Completed)
}

// TestBodiesThatReadTwoWays: a body by which the service might see another item than the limit counts is refused, and
// no limit is charged for it, be it enforced or not.
func TestBodiesThatReadTwoWays(t *testing.T) {
	sku := ref.Ref{Root: ref.Body, Path: []string{"sku"}}
	for _, shadow := range []bool{false, true} {
		perItem := rule(limit("per-sku", 1, 1, time.Hour), principal, sku)
		perItem.Shadow = shadow
		counts := ledger{}
		f := ratelimit.New([]ratelimit.Rule{perItem}, counts)
		for body, status := range map[string]int{
			`{"sku":"a"}`:                    200,
			`{"sku":"b","sku":"b"}`:          200,
			`{"sku":"c","sku":"d"}`:          400,
			`{"sku":"c","\u0073ku":"d"}`:     400,
			`{"sku":"c"} {"sku":"d"}`:        400,
			`{"sku":"c"`:                     400,
			`{"sku":"\udc00"}`:               400,
			"{\"sku\":\"c\",\"x\":\"\xff\"}": 400,
		} {
			got := send(t, f, t0, func(x *filters.Exchange) {
				x.Begin(t.Context(), func(int64) ([]byte, error) { return []byte(body), nil })
				x.Received, x.Principal = t0, "anna"
			})
			if got.Status != status || status == 400 && got.Reason != filters.BadRequest {
				t.Errorf("%s: %d %s, want %d", body, got.Status, got.Reason, status)
			}
		}
		if got := counts["per-sku allowed"] + counts["per-sku refused"] + counts["per-sku shadow-refused"]; got != 2 {
			t.Errorf("%d requests were counted, want 2: %v", got, counts)
		}
		tooLong := send(t, f, t0, func(x *filters.Exchange) {
			x.Begin(t.Context(), func(int64) ([]byte, error) { return nil, filters.ErrBodyTooLarge })
		})
		if tooLong.Reason != filters.BodyTooLarge {
			t.Errorf("a body that is too long: %d %s", tooLong.Status, tooLong.Reason)
		}
	}
}

// TestLongKeysCostNoMoreThanTheBody: the value that a limit is counted by may be the whole body.
func TestLongKeysCostNoMoreThanTheBody(t *testing.T) {
	const size = 1 << 20
	big := ref.Ref{Root: ref.Body, Path: []string{"a"}}
	for name, body := range map[string]string{
		"a string":      `{"a":"` + strings.Repeat("x", size) + `"}`,
		"escapes":       `{"a":"` + strings.Repeat(`\u0041`, size/6) + `"}`,
		"small objects": `{"a":[{"a":0}` + strings.Repeat(`,{"a":0}`, size/8) + `]}`,
		"a spaced list": `{"a":[0` + strings.Repeat(` ,1`, size/3) + `]}`,
	} {
		for _, per := range [][]ref.Ref{{big}, {principal, big}} {
			f := ratelimit.New([]ratelimit.Rule{rule(limit("big", 1, 1, time.Hour), per...)}, ledger{})
			chain, err := filters.NewChain(func(*filters.Exchange, string, any, []byte) {}, f)
			if err != nil {
				t.Fatal(err)
			}
			bytes := []byte(body)
			var x filters.Exchange
			x.Begin(t.Context(), func(int64) ([]byte, error) { return bytes, nil })
			x.Received, x.Principal = t0, "anna"
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			reply, _ := chain.Request(&x)
			runtime.ReadMemStats(&after)
			chain.Done(&x, filters.Completed)
			if got := after.TotalAlloc - before.TotalAlloc; reply != nil || got > 2*size {
				t.Errorf("%s, %d references: %d bytes allocated for a body of %d", name, len(per), got, len(body))
			}
		}
	}
}
