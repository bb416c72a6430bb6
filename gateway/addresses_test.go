package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestForwardedAddr(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "192.0.2.7:80": "192.0.2.7", "192.0.2.7:0": "192.0.2.7",
		"192.0.2.7:65535": "192.0.2.7",
		"[192.0.2.7]":     "192.0.2.7", "[192.0.2.7]:80": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7",
		"[::ffff:c000:207]:1": "192.0.2.7", "2001:db8::7": "2001:db8::7", "[2001:db8::7]": "2001:db8::7",
		"[2001:db8::7]:443": "2001:db8::7", "2001:DB8::7": "2001:db8::7", "fe80::1%eth0": "fe80::1",
		"[fe80::1%eth0]:80": "fe80::1", "2001:db8::7:443": "2001:db8::7:443", "::1": "::1",
		"": "", "unknown": "", "_hidden": "", "_SEVKISEK": "", "-": "", "192.0.2.7:": "", "192.0.2.7:x": "",
		"192.0.2.7:65536": "", "192.0.2.7:-1": "", "192.0.2.7:+1": "", "192.0.2": "", "192.0.2.07": "",
		"192.0.2.256":  "",
		"[2001:db8::7": "", "2001:db8::7]": "", "[2001:db8::7]443": "", "[2001:db8::7]:": "", "[2001:db8::7]:x": "",
		"[]": "", "[]:80": "", ":80": "", "[unknown]": "", "unknown:80": "", `"192.0.2.7"`: "", "for=192.0.2.7": "",
		"192.0.2.7%eth0": "", "192.0.2.7 80": "", "0.0.0.0": "", "::": "", "[::]:80": "", "::%0": "",
		"::ffff:0.0.0.0": "", "[[::1]]": "", "shop.example": "",
	} {
		got, ok := forwardedAddr(entry)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q is %v, %v; want %q", entry, got, ok, want)
		}
	}
}

func TestClientOf(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct{ first, chain, want string }{
		{"10.0.0.1", "192.0.2.7", "192.0.2.7"},
		{"10.0.0.1", "198.51.100.1, 192.0.2.7", "192.0.2.7"},
		{"10.0.0.1", "unknown, 192.0.2.7:4711", "192.0.2.7"}, // what the client says itself is not looked at
		{"10.0.0.1", "192.0.2.7, 10.0.0.2:80, [fd00::3]:443", "192.0.2.7"},
		{"10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"}, // all of them trusted: the farthest
		{"10.0.0.1", "192.0.2.7, unknown", ""},
		{"10.0.0.1", "192.0.2.7, unknown, 10.0.0.2", ""},
		{"10.0.0.1", "192.0.2.7,", ""},
		{"10.0.0.1", ", 10.0.0.2", ""},
		{"10.0.0.1", "", ""},
		{"10.0.0.1", " 192.0.2.7\t", "192.0.2.7"},
		{"192.0.2.9", "198.51.100.1", "192.0.2.9"}, // for whom a load balancer holds the connection
	} {
		got := clientOf(netip.MustParseAddr(c.first), c.chain, trusted)
		if got.IsValid() != (c.want != "") || got.IsValid() && got.String() != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"192.0.2.7", "[::1]:80, a:1", "unknown,,", "10.0.0.1, [", "fe80::1%a%b", "\x00"} {
		f.Add(s)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	first := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, chain string) {
		got := clientOf(first, chain, trusted)
		if !got.IsValid() {
			return
		}
		if got.Zone() != "" || got.Is4In6() || got.IsUnspecified() {
			t.Errorf("%q: %v is not in its usual form", chain, got)
		}
		// The text of what was found, in each of the forms, is found again.
		for _, form := range []string{"%s", "[%s]", "[%s]:80"} {
			again := fmt.Sprintf(form, got)
			if a, ok := forwardedAddr(again); !ok || a != got {
				t.Errorf("%q: %v, %v; want %v", again, a, ok, got)
			}
		}
	})
}

const addressesHead = `version: 1
listen: {http: "127.0.0.1:0", trustedProxies: [127.0.0.2/32], proxyProtocol: [127.0.0.5/32]}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
`

// An address that cannot be read makes nobody one principal with somebody else: what rests on the
// address is refused, and the rest passes.
func TestUnreadableAddress(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, addressesHead+`
identity: [{header: {name: X-User, trusted: [127.0.0.2/32]}}]
limits: {by-ip: {per: [client.ip], rate: 100/s}, by-who: {per: [principal], rate: 100/s}, all: {rate: 100/s}}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: keyed, match: {path: /keyed}, service: a, idempotency: {}}
  - {name: by-ip, match: {path: /by-ip}, service: a, limits: [by-ip]}
  - {name: by-who, match: {path: /by-who}, service: a, limits: [by-who]}
  - {name: fingerprint, match: {path: /fingerprint}, service: a, idempotency: {fingerprint: [body, client.ip]}}
  - {name: plain, match: {path: /plain}, service: a, limits: [all]}
`)
	for _, entry := range []string{"unknown", "_hidden", "", "192.0.2.7, unknown", "192.0.2.7:x", "nonsense"} {
		for _, c := range []struct {
			path, user string
			want       string
		}{
			{"/keyed", "", "400"}, {"/by-ip", "", "400"}, {"/by-who", "", "400"}, {"/fingerprint", "", "400"},
			{"/plain", "", "200"}, {"/keyed", "ann", "200"}, {"/by-who", "ann", "200"}, {"/plain", "ann", "200"},
			{"/by-ip", "ann", "400"}, {"/fingerprint", "ann", "400"},
		} {
			w := dialFrom(t, "127.0.0.2", g.at.HTTP)
			request := "POST " + c.path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nIdempotency-Key: k\r\n" +
				"X-Forwarded-For: " + entry + "\r\n"
			if c.user != "" {
				request += "X-User: " + c.user + "\r\n"
			}
			w.send(request + "\r\n")
			r := w.readResponse()
			if fmt.Sprint(r.status) != c.want || r.status == 400 && r.reason() != "bad-request" {
				t.Errorf("%s as %q from %q: %d %s, want %s", c.path, c.user, entry, r.status, r.reason(), c.want)
			}
		}
	}
	if logs := g.logs.String(); !strings.Contains(logs, "proxy=127.0.0.2 x_forwarded_for=unknown") {
		t.Errorf("the operator is not told: %s", logs)
	}
}

// The entries of a balancer that writes ports or brackets are as many clients as it has.
func TestEachClientOfABalancerIsItself(t *testing.T) {
	t.Parallel()
	s := newService(t, whoAsked)
	g := start(t, addressesHead+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
	for entry, want := range map[string]string{
		"192.0.2.7:1": "ip:192.0.2.7", "192.0.2.8:1": "ip:192.0.2.8", "[2001:db8:1:2::7]": "ip:2001:db8:1:2::/64",
		"[2001:db8:1:3::7]:80": "ip:2001:db8:1:3::/64", "2001:db8:1:3:ffff::": "ip:2001:db8:1:3::/64",
		"::ffff:192.0.2.9": "ip:192.0.2.9", "unknown": "",
	} {
		w := dialFrom(t, "127.0.0.2", g.at.HTTP)
		w.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: " + entry + "\r\n\r\n")
		if r := w.readResponse(); !strings.HasPrefix(r.body, want+" ") {
			t.Errorf("%q: %q, want %q", entry, r.body, want)
		}
	}
}

// An IPv6 client is its network, for a limit by its address too, whatever it picks in there.
func TestIPv6ClientIsItsNetwork(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	for _, c := range []struct {
		identity string
		same     bool // whether two addresses of a /64 are one client
	}{{"", true}, {"identity: [{clientIP: {}}]", true}, {"identity: [{clientIP: {prefix6: 128}}]", false},
		{"identity: [{clientIP: {prefix6: 56}}]", true}} {
		g := start(t, addressesHead+c.identity+`
limits: {by-ip: {per: [client.ip], rate: 1/h, burst: 1}, by-who: {per: [principal], rate: 1/h, burst: 1}}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: by-ip, match: {path: /by-ip}, service: a, limits: [by-ip]}
  - {name: by-who, match: {path: /by-who}, service: a, limits: [by-who]}
`)
		for _, path := range []string{"/by-ip", "/by-who"} {
			for i, address := range []string{"2001:db8:1:2::1", "2001:db8:1:2:ffff::2"} {
				w := dialFrom(t, "127.0.0.2", g.at.HTTP)
				w.send("GET " + path + " HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: " + address + "\r\n\r\n")
				want := 200
				if i > 0 && c.same {
					want = 429
				}
				if r := w.readResponse(); r.status != want {
					t.Errorf("%q: %s of %s: %d, want %d", c.identity, path, address, r.status, want)
				}
			}
		}
	}
}

// Trust is asked of the connection, whatever address its PROXY header names.
func TestTrustIsInTheConnection(t *testing.T) {
	t.Parallel()
	s := newService(t, whoAsked)
	const forged = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n" +
		"X-User: ann\r\n\r\n"
	for _, c := range []struct{ trusted, source, want string }{
		// The address in the header is a trusted one, the balancer is not.
		{"192.0.2.0/24", "192.0.2.7:1", "ip:192.0.2.7 192.0.2.7 http"},
		// The balancer is; the address in its header is the client, whatever that client says.
		{"127.0.0.5/32", "192.0.2.7:1", "ann 198.51.100.1, 192.0.2.7 https"},
	} {
		g := start(t, strings.Replace(addressesHead, "127.0.0.2/32", c.trusted, 1)+`
identity: [{header: {name: X-User, trusted: [`+c.trusted+`]}}]
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
		w := dialFrom(t, "127.0.0.5", g.at.HTTP)
		w.send(proxyHeader(c.source) + forged)
		if r := w.readResponse(); r.body != c.want {
			t.Errorf("%+v: %q", c, r.body)
		}
		w = dialFrom(t, "127.0.0.5", g.at.HTTP)
		w.send(proxyHeader(c.source) + strings.Replace(forged, "X-User: ann\r\n", "", 1))
		if r := w.readResponse(); !strings.HasPrefix(r.body, "ip:192.0.2.7 ") {
			t.Errorf("%+v: the client is %q", c, r.body)
		}
	}
}
