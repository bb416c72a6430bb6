package config

import "net/netip"

// Addresses are networks of clients.
type Addresses []netip.Prefix

func (a Addresses) check(s site) {
	if s.route == nil || !s.written(s.path) {
		return
	}
	if len(a) == 0 {
		s.fault(s.path, "is empty: leave it out, or name the addresses")
	}
}

// checkLists checks that a route has one list at most.
func (r *Route) checkLists(s site) {
	if s.has("allow") && s.has("deny") {
		s.fault(s.at("deny"), "and allow are two answers to one question: what allow does not have is refused")
	}
}
