package addresslist

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func ask(f *Filter, client string) *filters.Reply {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	if client != "" {
		x.Client = netip.MustParseAddr(client)
	}
	return f.Request(x, new(filters.Slot))
}

func TestConform(t *testing.T) {
	for name, client := range map[string]string{"passes": "10.1.2.3", "refused": "192.0.2.1"} {
		t.Run(name, func(t *testing.T) {
			filtertest.Conform(t, func(*testing.T) (filters.Filter, func(*filters.Exchange)) {
				return New(Settings{Allow: prefixes("10.0.0.0/8")}, filters.Discard), func(x *filters.Exchange) {
					x.Client = netip.MustParseAddr(client)
				}
			})
		})
	}
}

func TestLists(t *testing.T) {
	list := prefixes("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::ffff:198.51.100.0/120", "::1/128")
	for client, on := range map[string]bool{
		"10.0.0.0": true, "10.255.255.255": true, "9.255.255.255": false, "11.0.0.0": false,
		"192.0.2.7": true, "192.0.2.6": false, "192.0.2.8": false,
		"2001:db8::1": true, "2001:db9::": false, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": true,
		"198.51.100.9": true, "::ffff:198.51.100.9": true, "::ffff:10.1.1.1": true, "198.51.101.0": false,
		"::1": true, "::": false, "::2": false, "0.0.0.1": false, "fe80::1%eth0": false,
	} {
		allowed, denied := ask(New(Settings{Allow: list}, filters.Discard), client),
			ask(New(Settings{Deny: list}, filters.Discard), client)
		if (allowed == nil) != on || (denied == nil) == on {
			t.Errorf("%s: allow %v, deny %v; on the list: %v", client, allowed, denied, on)
		}
		for _, r := range []*filters.Reply{allowed, denied} {
			if r != nil && r.Reason != filters.Forbidden {
				t.Errorf("%s: %s", client, r.Reason)
			}
		}
	}
	for _, s := range []Settings{{Allow: list}, {Deny: list}} {
		if r := ask(New(s, filters.Discard), ""); r == nil || r.Reason != filters.BadRequest {
			t.Errorf("a client without an address: %v", r)
		}
	}
}

// TestSetIsExact holds the sorted spans against the networks one by one.
func TestSetIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(256)), byte(r.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0: 0x20, 1: byte(r.IntN(3)), 15: byte(r.IntN(256))})
	}
	for range 200 {
		var list []netip.Prefix
		for range r.IntN(12) {
			a := address()
			list = append(list, netip.PrefixFrom(a, a.BitLen()-r.IntN(18)))
		}
		s := newSet(list)
		for range 200 {
			a := address()
			want := slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
			if s.has(a) != want {
				t.Fatalf("%s on %v: %v", a, list, !want)
			}
		}
	}
}
