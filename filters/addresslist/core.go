package addresslist

import (
	"net/netip"
	"slices"
)

// set is a set of addresses, as ranges that do not touch each other, in order. The zero value is empty.
type set []span

type span struct{ first, last netip.Addr }

func newSet(list []netip.Prefix) set {
	spans := make([]span, 0, len(list))
	for _, p := range list {
		p = unmapped(p).Masked()
		spans = append(spans, span{p.Addr(), lastOf(p)})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	merged := spans[:0]
	for _, s := range spans {
		if n := len(merged); n > 0 && s.first.Compare(merged[n-1].last) <= 0 {
			if merged[n-1].last.Less(s.last) {
				merged[n-1].last = s.last
			}
			continue
		}
		merged = append(merged, s)
	}
	return slices.Clip(merged)
}

// unmapped returns a network of IPv4 addresses that are written as IPv6 as one of IPv4.
func unmapped(p netip.Prefix) netip.Prefix {
	const mapped = 96 // bits of ::ffff:0:0/96
	if p.Addr().Is4In6() && p.Bits() >= mapped {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	return p
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	host := p.Addr().BitLen() - p.Bits()
	for i := len(b) - 1; host > 0; i-- {
		bits := min(host, 8)
		b[i] |= byte(1<<bits - 1)
		host -= bits
	}
	if a := netip.AddrFrom16(b); p.Addr().Is6() {
		return a
	} else {
		return a.Unmap()
	}
}

// has reports whether an address is in the set.
func (s set) has(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	i, found := slices.BinarySearchFunc(s, a, func(sp span, a netip.Addr) int { return sp.first.Compare(a) })
	return found || i > 0 && s[i-1].first.BitLen() == a.BitLen() && a.Compare(s[i-1].last) <= 0
}
