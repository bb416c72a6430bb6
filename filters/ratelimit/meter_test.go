package ratelimit_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitlocal"
	"github.com/sluice-gateway/sluice/filters/ref"
)

func windows(name string, count int, period time.Duration) ratelimit.Limit {
	return ratelimit.Limit{Name: name, Count: count, Period: period, FixedWindow: true}
}

// TestFieldsOfFixedWindows: r is what is left in the window, t is when it ends, and so is
// Retry-After.
func TestFieldsOfFixedWindows(t *testing.T) {
	m := ledger{}
	shadow := rule(windows("shadow", 1, time.Hour))
	shadow.Shadow = true
	f := ratelimit.New([]ratelimit.Rule{rule(windows("w", 2, time.Minute), principal), shadow}, m)
	const policy = `"w";q=2;w=60`
	now := t0.Add(45 * time.Second)
	wantFields(t, send(t, f, now, nil), 200, policy, `"w";r=1;t=15`)
	wantFields(t, send(t, f, now.Add(time.Second/2), nil), 200, policy, `"w";r=0;t=15`)
	r := send(t, f, now.Add(5*time.Second), nil)
	wantFields(t, r, 429, policy, `"w";r=0;t=10`)
	if r.Header.Get("Retry-After") != "10" ||
		!strings.Contains(string(r.Body), "The limit is 2 requests in each window of 1m0s.") {
		t.Errorf("Retry-After %s, body %s", r.Header.Get("Retry-After"), r.Body)
	}
	wantFields(t, send(t, f, now.Add(15*time.Second), nil), 200, policy, `"w";r=1;t=60`)
	for name, want := range map[string]int{"w allowed": 3, "w refused": 1, "shadow allowed": 1,
		"shadow shadow-refused": 2} {
		if m[name] != want {
			t.Errorf("%s: %d, want %d", name, m[name], want)
		}
	}
}

// TestReservationOfAWindow: a place that is given back after its window has ended is none in the
// next.
func TestReservationOfAWindow(t *testing.T) {
	limit := windows("w", 1, time.Hour)
	store := ratelimitlocal.New(limit, 10)
	f := ratelimit.NewService("stock", []ratelimit.Rule{{Limit: limit, Limiter: store}}, nil)
	var s filters.Slot
	x := request(filters.ClientCall, nil)
	x.Received = time.Now().Add(-2 * time.Hour)
	if reply := f.Reserve(x, &s); reply != nil {
		t.Fatal(reply.Reason)
	}
	taken := ratelimit.Charge{Now: time.Now(), Cost: 1}
	if d, _ := store.Charge(t.Context(), taken); !d.Allowed {
		t.Fatalf("the next window: %+v", d)
	}
	f.Return(&s)
	if d, _ := store.Charge(t.Context(), ratelimit.Charge{Now: time.Now(), Cost: 0}); d.Remaining != 0 {
		t.Errorf("after the return: %+v", d)
	}
}

// TestKeyIsTheFilters: whoever has the values counts with the requests of the filter.
func TestKeyIsTheFilters(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, values := range [][]string{
		{}, {""}, {"a"}, {"\x00a"}, {long}, {"a", "bc"}, {"", ""}, {long, "a"}, {"a", long},
		{"a", strings.Repeat("y", 128)},
	} {
		spy := new(spyLimiter)
		var per []ref.Ref
		for i := range values {
			per = append(per, ref.Ref{Root: ref.Header, Path: []string{"X-" + string(rune('A'+i))}})
		}
		f := ratelimit.New([]ratelimit.Rule{{Limit: limit("l", 1, 1, time.Second), Per: per, Limiter: spy}}, nil)
		send(t, f, t0, func(x *filters.Exchange) {
			for i, v := range values {
				x.Header.Add("X-"+string(rune('A'+i)), v)
			}
		})
		if got := ratelimit.Key(values); got != spy.keys[0] {
			t.Errorf("%.20q: key %q, the filter's is %q", values, got, spy.keys[0])
		}
	}
}

// asked is a limiter that remembers what it was asked.
type asked struct {
	err error
	got []ratelimit.Charge
}

func (a *asked) Charge(_ context.Context, c ratelimit.Charge) (ratelimit.Decision, error) {
	a.got = append(a.got, c)
	return ratelimit.Decision{Allowed: true}, a.err
}

// TestMeter: the cost and the rate of a charge reach the limiter that decides, and the one that
// stands in for it.
func TestMeter(t *testing.T) {
	m := ledger{}
	first, second := &asked{err: errors.New("gone")}, new(asked)
	meter := ratelimit.NewMeter(ratelimit.Rule{Limit: limit("l", 1, 1, time.Second), Limiter: first,
		Fallback: second}, m)
	c := ratelimit.Charge{Key: "k", Now: t0, Cost: 7, Rate: ratelimit.Rate{Count: 3, Period: time.Minute}}
	v := meter.Charge(t.Context(), c)
	if !v.Allowed || v.From != ratelimit.Limiter(second) || first.got[0] != c || second.got[0] != c {
		t.Errorf("%+v; asked %v, %v", v, first.got, second.got)
	}
	if meter.Count(&v, false) || m["l failures"] != 1 || m["l allowed"] != 1 {
		t.Errorf("counted %v", m)
	}
	for _, cost := range []int64{1 << 62, -1 << 62} {
		meter.Charge(t.Context(), ratelimit.Charge{Cost: cost})
		if got := second.got[len(second.got)-1].Cost; got != ratelimit.CostMax && got != -ratelimit.CostMax {
			t.Errorf("a cost of %d reaches the limiter as %d", cost, got)
		}
	}
	// A rate of nothing lets nothing pass and asks nobody.
	n := len(first.got)
	v = meter.Charge(t.Context(), ratelimit.Charge{Cost: 1, Rate: ratelimit.Rate{Period: time.Minute}})
	if v.Allowed || v.RetryAfter != time.Minute || len(first.got) != n || !meter.Count(&v, false) ||
		meter.Count(&v, true) {
		t.Errorf("a rate of nothing: %+v", v)
	}
}
