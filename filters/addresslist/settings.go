package addresslist

import "net/netip"

// Settings are those of one route: one of both lists.
type Settings struct {
	Allow []netip.Prefix // only these may use the route
	Deny  []netip.Prefix // these may not
}
