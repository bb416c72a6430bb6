package weighted

import (
	"fmt"
	"math"
	"net/netip"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

const principals = 8_000

// picks returns the service of each principal.
func picks(list ...Choice) []string {
	p := NewPicker(list)
	out := make([]string, principals)
	for i := range out {
		out[i] = p.Pick(Hash(fmt.Sprintf("user-%d", i)))
	}
	return out
}

func TestSharesAreThoseOfTheWeights(t *testing.T) {
	t.Parallel()
	for _, list := range [][]Choice{
		{{"order", 95}, {"order-canary", 5}},
		{{"order", 950_000}, {"order-canary", 50_000}},
		{{"a", 1}, {"b", 1}},
		{{"a", 1}, {"b", 2}, {"c", 3}, {"d", 0}, {"e", 4}},
		{{"only", 7}},
	} {
		count, total := map[string]int{}, 0
		for _, service := range picks(list...) {
			count[service]++
		}
		for _, c := range list {
			total += c.Weight
		}
		for _, c := range list {
			share := float64(c.Weight) / float64(total)
			want, deviation := share*principals, math.Sqrt(principals*share*(1-share))
			if got := float64(count[c.Service]); math.Abs(got-want) > 4*deviation {
				t.Errorf("%v: %s has %v of %d, want %.0f ± %.0f", list, c.Service, got, principals, want, 4*deviation)
			}
		}
	}
}

// What one weight takes over comes from the others, and between those nothing moves.
func TestOnlyTheShareMovesThatHasTo(t *testing.T) {
	t.Parallel()
	before := picks(Choice{"a", 50}, Choice{"b", 45}, Choice{"new", 5})
	after := picks(Choice{"a", 50}, Choice{"b", 45}, Choice{"new", 30})
	gone := picks(Choice{"a", 50}, Choice{"b", 45})
	moved := 0
	for i := range before {
		if before[i] != after[i] {
			moved++
			if after[i] != "new" {
				t.Fatalf("user-%d moves from %s to %s, whose weight is what it was", i, before[i], after[i])
			}
		}
		if before[i] != "new" && gone[i] != before[i] {
			t.Fatalf("user-%d moves from %s to %s when another service goes", i, before[i], gone[i])
		}
	}
	share := 30./125 - 5./100
	if want := share * principals; math.Abs(float64(moved)-want) > 5*math.Sqrt(want) {
		t.Errorf("%d move, want %.0f", moved, want)
	}
}

// The choice is kept in records and has to be the same at every gateway of a fleet: this pins it.
func TestChoiceIsTheSameInEveryVersion(t *testing.T) {
	t.Parallel()
	p := NewPicker([]Choice{{"order", 60}, {"order-canary", 40}})
	got := ""
	for _, who := range []string{"ann", "bob", "cid", "dan", "eve", "fay", "ip:192.0.2.7", "ip:2001:db8::/64"} {
		got += map[string]string{"order": "o", "order-canary": "c"}[p.Pick(Hash(who))]
	}
	if want := "occoocoo"; got != want {
		t.Errorf("chosen %s, want %s", got, want)
	}
	if p := NewPicker([]Choice{{"a", 0}}); p.Pick(1) != "" {
		t.Error("a service with weight 0 is chosen")
	}
}

// Who asks is the principal, else the client by its network, else nobody.
func TestWhoAsks(t *testing.T) {
	t.Parallel()
	f := NewFilter([]Choice{{"a", 1}, {"b", 1}})
	seen := map[string]bool{}
	for range 64 {
		service, by := f.Choose(new(filters.Exchange))
		if seen[service] = true; by != "" {
			t.Fatalf("nobody is known by %q", by)
		}
	}
	if len(seen) != 2 {
		t.Errorf("of nobody 64 requests went to %v", seen)
	}
	network := ""
	for i := range 64 {
		x := &filters.Exchange{Client: netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2::%x", i))}
		service, by := f.Choose(x)
		if network = network + service; by != "client.ip" || network != fmt.Sprintf("%s%s", network[:i], network[:1]) {
			t.Fatalf("addresses of one network go to %s, by %q", network, by)
		}
		if _, by := f.Choose(&filters.Exchange{Principal: "ann", Client: x.Client}); by != "principal" {
			t.Fatalf("by %q", by)
		}
	}
}

func TestChoosingAllocatesNothing(t *testing.T) {
	f := NewFilter([]Choice{{"order", 95}, {"order-canary", 5}})
	one, err1 := filters.NewEnd("order")
	other, err2 := filters.NewEnd("order-canary")
	chain, err3 := filters.NewChain(func(*filters.Exchange, string, any, []byte) {}, f)
	if err1 != nil || err2 != nil || err3 != nil || chain.Fork(one, other) != nil {
		t.Fatal(err1, err2, err3)
	}
	x := new(filters.Exchange)
	for _, principal := range []string{"ann", ""} {
		if n := testing.AllocsPerRun(100, func() {
			x.Begin(t.Context(), nil)
			x.Principal, x.Client = principal, netip.AddrFrom4([4]byte{192, 0, 2, 7})
			if reply, _ := chain.Request(x); reply != nil || x.LeadsTo() == "" {
				t.Fatal("nothing was chosen")
			}
			chain.Done(x, filters.Completed)
		}); n != 0 {
			t.Errorf("principal %q: %v allocations", principal, n)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	f := NewFilter([]Choice{{"order", 95}, {"order-canary", 5}})
	x := &filters.Exchange{Principal: "user-4711"}
	for b.Loop() {
		f.Choose(x)
	}
}
