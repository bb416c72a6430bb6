package identity

import (
	"context"
	"crypto"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
)

var t0 = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

const issuer = "https://id.shop.example"

func tokens(t testing.TB, names ...string) JWT {
	return JWT{Keys: keys(t, set(t, names...)), Issuer: issuer, Claim: "sub", Now: func() time.Time { return t0 }}
}

func newFilter(t testing.TB, s ...Source) *Filter {
	t.Helper()
	f, err := New(Settings{Sources: s})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	inside   = netip.MustParseAddr("127.0.0.1")
	outside  = netip.MustParseAddr("192.0.2.7")
)

// ask runs one request with these fields from that peer and returns the principal or the refusal.
func ask(f *Filter, peer netip.Addr, fields ...string) (*filters.Exchange, *filters.Reply) {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Peer, x.Client = peer, peer
	for i := 0; i < len(fields); i += 2 {
		x.Header.Add(fields[i], fields[i+1])
	}
	var s filters.Slot
	return x, f.Request(x, &s)
}

func wantPrincipal(t *testing.T, x *filters.Exchange, r *filters.Reply, want string) {
	t.Helper()
	if r != nil {
		t.Errorf("refused: %s, want %q", r.Body, want)
	} else if x.Principal != want {
		t.Errorf("principal is %q, want %q", x.Principal, want)
	}
}

func want401(t *testing.T, x *filters.Exchange, r *filters.Reply, challenge string) {
	t.Helper()
	if r == nil {
		t.Errorf("passed as %q, want 401", x.Principal)
		return
	}
	if r.Status != 401 || r.Reason != filters.Unauthenticated || r.Header.Get("WWW-Authenticate") != challenge ||
		x.Principal != "" {
		t.Errorf("%d %s, WWW-Authenticate %q, principal %q", r.Status, r.Reason, r.Header.Get("WWW-Authenticate"),
			x.Principal)
	}
}

const invalidToken = `Bearer error="invalid_token"`

func TestConform(t *testing.T) {
	all := func(t *testing.T) *Filter {
		return newFilter(t, tokens(t, "ed"), Header{"X-User", []netip.Prefix{loopback}}, ClientIP{})
	}
	good := token(t, jwt.SigningMethodEdDSA, keyRing().ed, "ed", nil)
	for name, fill := range map[string]func(*filters.Exchange){
		"token":         func(x *filters.Exchange) { x.Header.Add("Authorization", "Bearer "+good) },
		"invalid token": func(x *filters.Exchange) { x.Header.Add("Authorization", "Bearer x") },
		"header":        func(x *filters.Exchange) { x.Peer = inside; x.Header.Add("X-User", "anna") },
		"two headers": func(x *filters.Exchange) {
			x.Peer = inside
			x.Header.Add("X-User", "a")
			x.Header.Add("X-User",
				"b")
		},
		"address": func(*filters.Exchange) {},
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Conform(t, func(t *testing.T) (filters.Filter, func(*filters.Exchange)) { return all(t), fill })
		})
	}
}

func TestFirstThatApplies(t *testing.T) {
	k := keyRing()
	good := "Bearer " + token(t, jwt.SigningMethodEdDSA, k.ed, "ed", nil)
	user := Header{"X-User", []netip.Prefix{loopback}}
	mapped := netip.MustParseAddr("::ffff:127.0.0.1")
	for _, c := range []struct {
		name   string
		set    []Source
		peer   netip.Addr
		fields []string
		want   string // "" is 401
	}{
		{"nothing configured", nil, outside, nil, "ip:192.0.2.7"},
		{"nothing configured: a token is not looked at", nil, outside, []string{"Authorization", "Bearer x"},
			"ip:192.0.2.7"},
		{"token first", []Source{tokens(t, "ed"), user, ClientIP{}}, inside,
			[]string{"X-User", "ben", "Authorization", good}, "anna"},
		{"header first", []Source{user, tokens(t, "ed"), ClientIP{}}, inside,
			[]string{"X-User", "ben", "Authorization", good}, "ben"},
		{"header first, not there", []Source{user, tokens(t, "ed")}, inside, []string{"Authorization", good}, "anna"},
		{"header first, not trusted", []Source{user, tokens(t, "ed")}, outside,
			[]string{"X-User", "ben", "Authorization", good}, "anna"},
		{"address first", []Source{ClientIP{}, tokens(t, "ed")}, outside, []string{"Authorization", "Bearer x"},
			"ip:192.0.2.7"},
		{"only tokens, none there", []Source{tokens(t, "ed")}, outside, nil, "ip:192.0.2.7"},
		{"only tokens, another scheme", []Source{tokens(t, "ed")}, outside, []string{"Authorization", "Basic YTpi"},
			"ip:192.0.2.7"},
		{"only tokens, a longer scheme", []Source{tokens(t, "ed")}, outside, []string{"Authorization", "BearerX YTpi"},
			"ip:192.0.2.7"},
		{"header of a mapped peer", []Source{user}, mapped, []string{"x-user", "ben"}, "ben"},
		{"header as it is", []Source{user}, inside, []string{"X-User", "Ben Ü. <b@x>, 2"}, "Ben Ü. <b@x>, 2"},
		{"empty header", []Source{user}, inside, []string{"X-User", ""}, "ip:127.0.0.1"},
		{"two headers", []Source{user}, inside, []string{"X-User", "a", "x-user", "a"}, ""},
		{"two headers, one empty", []Source{user}, inside, []string{"X-User", "", "x-user", "a"}, ""},
		{"two headers from a stranger", []Source{user}, outside, []string{"X-User", "a", "x-user", "a"},
			"ip:192.0.2.7"},
		{"header is an address", []Source{user}, inside, []string{"X-User", "ip:10.0.0.1"}, ""},
		{"header of 255 bytes", []Source{user}, inside, []string{"X-User", strings.Repeat("x", 255)},
			strings.Repeat("x", 255)},
		{"header of 256 bytes", []Source{user}, inside, []string{"X-User", strings.Repeat("x", 256)}, ""},
		{"header with a tab", []Source{user}, inside, []string{"X-User", "a\tb"}, ""},
		{"header with DEL", []Source{user}, inside, []string{"X-User", "a\x7fb"}, ""},
		{"mapped address", []Source{ClientIP{}}, netip.MustParseAddr("::ffff:192.0.2.7"), nil, "ip:192.0.2.7"},
		{"IPv6 with a zone", []Source{ClientIP{}}, netip.MustParseAddr("fe80::1%eth0"), nil, "ip:fe80::/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, r := ask(newFilter(t, c.set...), c.peer, c.fields...)
			if c.want == "" {
				want401(t, x, r, "Bearer")
			} else {
				wantPrincipal(t, x, r, c.want)
			}
		})
	}
}

// TestTrustIsInThePeer: an address that is only reported earns no trust, and none is
// lost by it.
func TestTrustIsInThePeer(t *testing.T) {
	f := newFilter(t, Header{"X-User", []netip.Prefix{loopback}})
	for _, c := range []struct {
		peer, client netip.Addr
		want         string
	}{{outside, inside, "ip:127.0.0.1"}, {inside, outside, "ben"}} {
		x := new(filters.Exchange)
		x.Begin(context.Background(), nil)
		x.Peer, x.Client = c.peer, c.client
		x.Header.Add("X-User", "ben")
		var s filters.Slot
		wantPrincipal(t, x, f.Request(x, &s), c.want)
	}
	x, r := ask(f, netip.Addr{}, "X-User", "ben")
	if r != nil || x.Principal != "" || x.Header.Count("X-User") != 0 {
		t.Errorf("without any address: %v, principal %q, header %v", r, x.Principal, x.Header)
	}
}

func TestForgedFieldsAreRemoved(t *testing.T) {
	k := keyRing()
	good := "Bearer " + token(t, jwt.SigningMethodEdDSA, k.ed, "ed", nil)
	other := netip.MustParsePrefix("192.0.2.0/24")
	sources := map[string][]Source{
		"header only":               {Header{"X-User", []netip.Prefix{loopback}}},
		"an earlier source applies": {tokens(t, "ed"), Header{"X-User", []netip.Prefix{loopback}}},
		"an earlier address":        {ClientIP{}, Header{"X-User", []netip.Prefix{loopback}}},
	}
	for name, s := range sources {
		t.Run(name, func(t *testing.T) {
			x, r := ask(newFilter(t, s...), outside, "X-User", "ben", "Accept", "*/*", "x-uSER", "ben", "X_User", "ben",
				"Authorization", good)
			if r != nil {
				t.Fatalf("refused: %s", r.Body)
			}
			if got := len(x.Header); got != 2 || x.Header.Get("Accept") != "*/*" ||
				x.Header.Get("Authorization") != good {
				t.Errorf("header is %v", x.Header)
			}
			x, r = ask(newFilter(t, s...), inside, "X-User", "ben", "X_User", "mallory", "Authorization", good)
			if r != nil || x.Header.Get("X-User") != "ben" || x.Header.Count("X_User") != 0 {
				t.Errorf("from a trusted peer the header is %v", x.Header)
			}
		})
	}
	t.Run("a refused token", func(t *testing.T) {
		x, _ := ask(newFilter(t, sources["an earlier source applies"]...), outside, "X-User", "ben", "Authorization",
			"Bearer x")
		if x.Header.Count("X-User") != 0 {
			t.Errorf("header is %v", x.Header)
		}
	})
	t.Run("two sources read one field", func(t *testing.T) {
		f := newFilter(t, Header{"X-User", []netip.Prefix{loopback}}, Header{"x-user", []netip.Prefix{other}})
		x, r := ask(f, outside, "X-User", "ben")
		wantPrincipal(t, x, r, "ben")
		x, r = ask(f, netip.MustParseAddr("198.51.100.1"), "X-User", "ben")
		wantPrincipal(t, x, r, "ip:198.51.100.1")
		if len(x.Header) != 0 {
			t.Errorf("header is %v", x.Header)
		}
	})
}

// TestDefaults: any issuer, and the claim sub.
func TestDefaults(t *testing.T) {
	ed, k := keys(t, set(t, "ed")), keyRing().ed
	f := newFilter(t, JWT{Keys: ed, Now: func() time.Time { return t0 }})
	x, r := ask(f, outside, "Authorization", "Bearer "+token(t, jwt.SigningMethodEdDSA, k, "ed",
		map[string]any{"iss": "x"}))
	wantPrincipal(t, x, r, "anna")
	f = newFilter(t, JWT{Keys: ed, Claim: "email", Now: func() time.Time { return t0 }})
	tok := token(t, jwt.SigningMethodEdDSA, k, "ed", map[string]any{"email": "a@shop.example"})
	x, r = ask(f, outside, "Authorization", "Bearer "+tok)
	wantPrincipal(t, x, r, "a@shop.example")
}

// TestPrivateKeysInTheSet: a set may be written with the private parts; they verify all the same.
func TestPrivateKeysInTheSet(t *testing.T) {
	k := keyRing()
	raw := strings.Replace(string(set(t, "ed")), `"kid"`, `"d":"`+b64(k.ed.Seed())+`","kid"`, 1)
	f := newFilter(t, JWT{Keys: keys(t, []byte(raw)), Now: func() time.Time { return t0 }})
	for _, kid := range []string{"ed", ""} {
		x, r := ask(f, outside, "Authorization",
			"Bearer "+token(t, jwt.SigningMethodEdDSA, crypto.Signer(k.ed), kid, nil))
		wantPrincipal(t, x, r, "anna")
	}
}

func TestFaultySettings(t *testing.T) {
	for _, c := range []struct {
		name string
		set  Settings
		want []string
	}{
		{"everything at once", Settings{Sources: []Source{JWT{Cookie: "a b"}, Header{Name: "X User"},
			Header{Name: "sluice-user", Trusted: []netip.Prefix{{}}}}},
			[]string{"no keys", `"a b" is not the name`, `"X User" is not a field name`, "has no trusted peers",
				"sluice-user", "not valid"}},
		{"two sets", Settings{Sources: []Source{tokens(t, "ed"), tokens(t, "ec")}}, []string{"2 jwt sources"}},
	} {
		_, err := New(c.set)
		wantError(t, c.name, err, c.want)
	}
}

func wantError(t *testing.T, name string, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", name)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q is not in %q", name, w, err)
		}
	}
}

func TestAddressAllocatesNothing(t *testing.T) {
	f := newFilter(t, Header{"X-User", []netip.Prefix{loopback}}, ClientIP{})
	var x filters.Exchange
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		x.Begin(ctx, nil)
		x.Peer, x.Client = outside, outside
		x.Header.Add("Accept", "*/*")
		x.Header.Add("X-User", "ben")
		var s filters.Slot
		f.Request(&x, &s)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
