package gateway

import "testing"

// A list looks at the client that a trusted proxy names, and at no other's word.
func TestAddressesThatMayUseARoute(t *testing.T) {
	t.Parallel()
	g := start(t, `version: 1
listen: {http: "127.0.0.1:0", trustedProxies: [127.0.0.1/32]}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
identity: [{header: {name: X-User, trusted: [127.0.0.1/32]}}]
routes:
  - {name: inside, match: {path: /inside}, respond: {status: 200}, allow: [10.0.0.0/8]}
  - {name: outside, match: {path: /outside}, respond: {status: 200}, deny: [10.0.0.0/8]}
`)
	for _, c := range []struct {
		path, client string
		status       int
	}{
		{"/inside", "10.1.2.3", 200}, {"/inside", "192.0.2.1, 10.1.2.3", 200}, {"/inside", "10.1.2.3, 192.0.2.1", 403},
		{"/inside", "192.0.2.1", 403}, {"/inside", "", 403}, {"/inside", "nobody", 400},
		{"/outside", "10.1.2.3", 403}, {"/outside", "192.0.2.1", 200}, {"/outside", "nobody", 400},
	} {
		var header []string
		if c.client != "" {
			header = []string{"X-Forwarded-For", c.client}
		}
		if r := g.do("GET", c.path, "", header...); r.status != c.status {
			t.Errorf("%s from %q: %d %s, want %d", c.path, c.client, r.status, r.reason(), c.status)
		}
	}
	if n := g.metric(`sluice_addresslist_refused_total{route="inside"}`); n != 3 {
		t.Errorf("%v refused", n)
	}
}
