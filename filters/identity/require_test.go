package identity

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/filters"
)

// askAs is ask with a method.
func askAs(f *Filter, method string, fields ...string) (*filters.Exchange, *filters.Reply) {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Method, x.Peer, x.Client = method, outside, outside
	for i := 0; i < len(fields); i += 2 {
		x.Header.Add(fields[i], fields[i+1])
	}
	var s filters.Slot
	return x, f.Request(x, &s)
}

// TestTokensEnd: what is written as an end is one, whatever it looks like.
func TestTokensEnd(t *testing.T) {
	k := keyRing()
	f := newFilter(t, tokens(t, "ed"))
	for name, exp := range map[string]any{
		"0": 0, "0.0": 0.0, "a tiny number": 5e-324, "negative": -1, "1970": 1, "null": jwt.ClaimStrings(nil),
		"text": "0",
		"true": true, "a list": []int{1}, "the past": t0.Unix() - 3600,
	} {
		tok := token(t, jwt.SigningMethodEdDSA, k.ed, "ed", map[string]any{"exp": exp})
		x, r := ask(f, outside, "Authorization", "Bearer "+tok)
		t.Run(name, func(t *testing.T) { want401(t, x, r, invalidToken) })
	}
}

func TestAudience(t *testing.T) {
	k := keyRing()
	of := tokens(t, "ed")
	anybody := newFilter(t, of)
	of.Audience = "shop"
	f := newFilter(t, of)
	for _, c := range []struct {
		name string
		aud  any
		want bool
	}{
		{"for it", "shop", true}, {"for it and another", []string{"bank", "shop"}, true}, {"for another", "bank",
			false},
		{"for others", []string{"bank", "shops"}, false}, {"for nobody", nil, false}, {"empty", "", false},
		{"an empty list", []string{}, false}, {"another case", "Shop", false}, {"a number", 7, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := token(t, jwt.SigningMethodEdDSA, k.ed, "ed", map[string]any{"aud": c.aud})
			x, r := ask(f, outside, "Authorization", "Bearer "+tok)
			if c.want {
				wantPrincipal(t, x, r, "anna")
			} else {
				want401(t, x, r, invalidToken)
			}
			if _, number := c.aud.(int); !number {
				x, r = ask(anybody, outside, "Authorization", "Bearer "+tok)
				wantPrincipal(t, x, r, "anna")
			}
		})
	}
}

// TestRequiredToken: none is refused where the source is asked, and a good one passes.
func TestRequiredToken(t *testing.T) {
	good := "Bearer " + token(t, jwt.SigningMethodEdDSA, keyRing().ed, "ed", nil)
	required := tokens(t, "ed")
	required.Required = true
	user := Header{"X-User", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	f := newFilter(t, required, ClientIP{})
	for name, fields := range map[string][]string{
		"nothing": nil, "another scheme": {"Authorization", "Basic YTpi"}, "another field": {"X-User", "ben"},
		"an empty one": {"Authorization", ""},
	} {
		t.Run(name, func(t *testing.T) {
			x, r := ask(f, outside, fields...)
			want401(t, x, r, "Bearer") // RFC 6750 §3.1: no error code without credentials
		})
	}
	x, r := ask(f, outside, "Authorization", good)
	wantPrincipal(t, x, r, "anna")
	x, r = ask(f, outside, "Authorization", "Bearer x")
	want401(t, x, r, invalidToken)
	x, r = ask(newFilter(t, user, required), outside, "X-User", "ben") // a source before it applies
	wantPrincipal(t, x, r, "ben")
	x, r = ask(newFilter(t, user, required), outside)
	want401(t, x, r, "Bearer")
}

// TestCookie: a browser brings a token in a cookie, and any page can have it bring one where
// something is changed.
func TestCookie(t *testing.T) {
	k := keyRing()
	anna := token(t, jwt.SigningMethodEdDSA, k.ed, "ed", nil)
	ben := token(t, jwt.SigningMethodEdDSA, k.ed, "ed", map[string]any{"sub": "ben"})
	s := tokens(t, "ed")
	s.Cookie = "session"
	f := newFilter(t, s)
	const address = "ip:192.0.2.7"
	for _, c := range []struct {
		name   string
		method string
		fields []string
		want   string // "" is 401
	}{
		{"GET", "GET", []string{"Cookie", "session=" + anna}, "anna"},
		{"HEAD", "HEAD", []string{"Cookie", "session=" + anna}, "anna"},
		{"POST", "POST", []string{"Cookie", "session=" + anna}, address},
		{"OPTIONS", "OPTIONS", []string{"Cookie", "session=" + anna}, address},
		{"get", "get", []string{"Cookie", "session=" + anna}, address},
		{"among others", "GET", []string{"Cookie", "a=b; session=" + anna + ";c=d"}, "anna"},
		{"in quotes", "GET", []string{"Cookie", `session="` + anna + `"`}, "anna"},
		{"in a second field", "GET", []string{"cookie", "a=b", "COOKIE", "session=" + anna}, "anna"},
		{"twice the same", "GET", []string{"Cookie", "session=" + anna + "; session=" + anna}, "anna"},
		{"two", "GET", []string{"Cookie", "session=" + anna + "; session=" + ben}, ""},
		{"two fields", "GET", []string{"Cookie", "session=" + anna, "Cookie", "session=" + ben}, ""},
		{"not good", "GET", []string{"Cookie", "session=x"}, ""},
		{"empty", "GET", []string{"Cookie", "session="}, address},
		{"another name", "GET", []string{"Cookie", "Session=" + anna + "; xsession=" + anna}, address},
		{"the field is asked first", "GET", []string{"Cookie", "session=" + anna, "Authorization", "Bearer " + ben},
			"ben"},
		{"the field is not good", "GET", []string{"Cookie", "session=" + anna, "Authorization", "Bearer x"}, ""},
		{"another scheme", "GET", []string{"Cookie", "session=" + anna, "Authorization", "Basic YTpi"}, "anna"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, r := askAs(f, c.method, c.fields...)
			if c.want == "" {
				want401(t, x, r, invalidToken)
			} else {
				wantPrincipal(t, x, r, c.want)
			}
		})
	}
	s.Required = true
	x, r := askAs(newFilter(t, s), "POST", "Cookie", "session="+anna)
	want401(t, x, r, "Bearer")
}

// TestPrincipalsAreUTF8: what is not can be written in several ways, or reads as another one.
func TestPrincipalsAreUTF8(t *testing.T) {
	k := keyRing()
	f := newFilter(t, tokens(t, "ed"), Header{"X-User", []netip.Prefix{loopback}})
	for _, v := range []string{"\xff", "anna\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80",
		"a\x80b"} {
		x, r := ask(f, inside, "X-User", v)
		want401(t, x, r, "Bearer")
	}
	x, r := ask(f, inside, "X-User", "Bän")
	wantPrincipal(t, x, r, "Bän")
	// In JSON: the bytes themselves, and half a pair of surrogates.
	for _, claim := range []string{`"a` + "\xff" + `"`, `"a\ud800"`, `"a\udfff\ud800"`, `"\ufffd"`} {
		parts := strings.Split(token(t, jwt.SigningMethodEdDSA, k.ed, "ed", nil), ".")
		signed := parts[0] + "." + b64([]byte(`{"iss":"`+issuer+`","sub":`+claim+`}`))
		signature, err := jwt.SigningMethodEdDSA.Sign(signed, k.ed)
		if err != nil {
			t.Fatal(err)
		}
		x, r := ask(f, outside, "Authorization", "Bearer "+signed+"."+b64(signature))
		want401(t, x, r, invalidToken)
	}
}

// TestUnreadableAddress: nobody is one with somebody else whose address could not be read either.
func TestUnreadableAddress(t *testing.T) {
	user := Header{"X-User", []netip.Prefix{loopback}}
	for _, c := range []struct {
		rests  Rests
		fields []string
		want   string // "-" is refused
	}{
		{0, nil, ""}, {OnPrincipal, nil, "-"}, {OnClient, nil, "-"}, {OnPrincipal | OnClient, nil, "-"},
		{0, []string{"X-User", "ben"}, "ben"}, {OnPrincipal, []string{"X-User", "ben"}, "ben"},
		{OnClient, []string{"X-User", "ben"}, "-"},
	} {
		f, err := New(Settings{Sources: []Source{user, ClientIP{}}, Rests: c.rests})
		if err != nil {
			t.Fatal(err)
		}
		x := new(filters.Exchange)
		x.Begin(context.Background(), nil)
		x.Peer = inside
		for i := 0; i < len(c.fields); i += 2 {
			x.Header.Add(c.fields[i], c.fields[i+1])
		}
		var s filters.Slot
		r := f.Request(x, &s)
		if c.want == "-" {
			if r == nil || r.Reason != filters.BadRequest || r.Status != 400 || x.Principal != "" {
				t.Errorf("%+v: %+v, principal %q", c, r, x.Principal)
			}
			continue
		}
		wantPrincipal(t, x, r, c.want)
	}
}

func TestNetworks(t *testing.T) {
	f := newFilter(t)
	for _, c := range []struct {
		client string
		bits   uint8
		want   string
	}{
		{"2001:db8:1:2::7", 0, "ip:2001:db8:1:2::/64"}, {"2001:db8:1:2:ffff::", 64, "ip:2001:db8:1:2::/64"},
		{"2001:db8:1:2::7", 56, "ip:2001:db8:1::/56"}, {"2001:db8:1:2::7", 128, "ip:2001:db8:1:2::7"},
		{"192.0.2.7", 56, "ip:192.0.2.7"}, {"::ffff:192.0.2.7", 0, "ip:192.0.2.7"}, {"fe80::1%eth0", 128, "ip:fe80::1"},
	} {
		x := new(filters.Exchange)
		x.Begin(context.Background(), nil)
		x.Client, x.Prefix6 = netip.MustParseAddr(c.client), c.bits
		var s filters.Slot
		wantPrincipal(t, x, f.Request(x, &s), c.want)
		if text, ok, err := x.Part("client.ip", ""); !ok || err != nil || addressPrefix+text != c.want {
			t.Errorf("%s: client.ip is %q", c.client, text)
		}
	}
}

func TestNamesThatLookTheSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"X-User", "X_User", true}, {"X-User", "x.user", true}, {"X-User", "X-User", false}, {"X-User", "x-user",
			false},
		{"X-User", "X_Users", false}, {"X-User", "XxUser", false}, {"X-User", "X-Uzer", false}, {"XaUser", "X-User",
			false},
	} {
		if sameButUnderscores(c.a, c.b) != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, !c.want)
		}
	}
}
