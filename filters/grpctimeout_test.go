package filters

import (
	"math"
	"testing"
	"time"
)

func TestGRPCTimeout(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"1H", time.Hour, true}, {"2M", 2 * time.Minute, true}, {"3S", 3 * time.Second, true},
		{"4m", 4 * time.Millisecond, true}, {"5u", 5 * time.Microsecond, true}, {"6n", 6, true},
		{"99999999S", 99999999 * time.Second, true}, {"99999999H", math.MaxInt64, true}, {"0n", 0, true},
		{"", 0, false}, {"S", 0, false}, {"1", 0, false}, {"1s", 0, false}, {"100000000n", 0, false},
		{"-1S", 0, false}, {"+1S", 0, false}, {"1.5S", 0, false}, {" 1S", 0, false}, {"1S ", 0, false},
		{"1 S", 0, false}, {"1S, 1S", 0, false}, {"0x1S", 0, false},
	} {
		if got, ok := ParseGRPCTimeout(c.text); got != c.want || ok != c.ok {
			t.Errorf("%q: %v, %v", c.text, got, ok)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0n", -time.Second: "0n", 1: "1n", time.Millisecond: "1000000n", 99_999_999: "99999999n",
		100 * time.Millisecond: "100000u", 2 * time.Minute: "120000m", 48 * time.Hour: "172800S",
		math.MaxInt64: "153722867M",
	} {
		got := string(AppendGRPCTimeout(nil, d))
		if d == math.MaxInt64 {
			want = "2562047H"
		}
		if got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
		back, ok := ParseGRPCTimeout(got)
		if !ok || back > max(d, 0) || max(d, 0)-back > max(d, 0)/1000 {
			t.Errorf("%v: %s reads as %v, %v", d, got, back, ok)
		}
	}
}

func FuzzGRPCTimeout(f *testing.F) {
	f.Add("1S")
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := ParseGRPCTimeout(text)
		if !ok {
			return
		}
		if again, ok := ParseGRPCTimeout(string(AppendGRPCTimeout(nil, d))); d < 0 || !ok || again > d {
			t.Errorf("%q is %v, and that is %v", text, d, again)
		}
	})
}

// The deadline of a route moves by the time that the client takes for its body; one that the client
// has named does not.
func TestDeadlineOfAnExchange(t *testing.T) {
	long := func(int64) ([]byte, error) {
		for began := time.Now(); !time.Now().After(began); { // the clock goes on
		}
		return nil, nil
	}
	now := time.Now()
	for _, c := range []struct {
		name          string
		route, client time.Duration // 0: none
		moves         bool
	}{
		{"none", 0, 0, false}, {"the route's", time.Second, 0, true}, {"the client's", 0, time.Second, false},
		{"the client's first", 2 * time.Second, time.Second, false},
		{"the route's first", time.Second, time.Hour, true},
	} {
		var x Exchange
		x.Begin(t.Context(), long)
		if c.route > 0 {
			x.Deadline = now.Add(c.route)
		}
		if c.client > 0 {
			x.SetClientDeadline(now.Add(c.client))
		}
		before := x.Deadline
		x.Body()
		if x.Deadline.After(before) != c.moves || x.Deadline.Before(before) {
			t.Errorf("%s: it was %v and is %v", c.name, before, x.Deadline)
		}
		x.Begin(t.Context(), nil)
		if !x.Deadline.IsZero() || !x.ClientDeadline().IsZero() {
			t.Errorf("%s: the next request has it too", c.name)
		}
	}
}
