package config

import (
	"net/netip"
	"testing"
)

func TestAddressLists(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
routes:
  - {name: a, match: {path: /a}, respond: {status: 200}, allow: [10.0.0.0/8, 192.0.2.1]}
  - {name: b, match: {path: /b}, respond: {status: 200}, deny: ["2001:db8::/32"]}
`, t.TempDir())
	expect(t, "allow", c.Routes[0].Allow, Addresses{netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("192.0.2.1/32")})
	expect(t, "deny", c.Routes[1].Deny, Addresses{netip.MustParsePrefix("2001:db8::/32")})
	runFaultCases(t, []faultCase{{"addresses", `version: 1
routes:
  - {name: a, match: {path: /a}, respond: {status: 200}, allow: []}
  - {name: b, match: {path: /b}, respond: {status: 200}, allow: [10.0.0.0/8], deny: [10.1.0.0/16]}
  - {name: c, match: {path: /c}, respond: {status: 200}, deny: [10.0.0.0/40, shop]}
`, []string{
		"3:58: routes[0].allow: is empty: leave it out, or name the addresses",
		"4:79: routes[1].deny: and allow are two answers to one question: what allow does not have is refused",
		`5:65: routes[2].deny[0]: "10.0.0.0/40" is not ` + wantPrefix,
		`5:78: routes[2].deny[1]: "shop" is not ` + wantPrefix,
	}}})
}
