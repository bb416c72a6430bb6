package filters

import (
	"slices"
	"strings"
	"testing"
)

func sample() Header {
	return Header{{"Host", "shop.example"}, {"X-A", "1"}, {"Accept", "*/*"}, {"x-a", "2"}, {"X-B", ""}}
}

func TestHeaderReads(t *testing.T) {
	h := sample()
	for _, c := range []struct {
		name, get, joined string
		there             bool
		count             int
	}{
		{"X-A", "1", "1, 2", true, 2},
		{"x-A", "1", "1, 2", true, 2},
		{"host", "shop.example", "shop.example", true, 1},
		{"X-B", "", "", true, 1},
		{"X", "", "", false, 0},
		{"X-AA", "", "", false, 0},
		{"", "", "", false, 0},
	} {
		v, ok := h.Lookup(c.name)
		if h.Get(c.name) != c.get || v != c.get || ok != c.there || h.Joined(c.name) != c.joined ||
			h.Count(c.name) != c.count {
			t.Errorf("%q: get %q, lookup %q %v, joined %q, count %d; want %+v", c.name, h.Get(c.name), v, ok,
				h.Joined(c.name), h.Count(c.name), c)
		}
	}
	if two := (Header{{"a", ""}, {"a", ""}}); two.Joined("a") != "" && two.Joined("a") != ", " {
		t.Errorf("two empty fields joined are %q", two.Joined("a"))
	}
}

func TestHeaderChanges(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*Header)
		want Header
	}{
		{"set keeps the first place and drops the others", func(h *Header) { h.Set("X-A", "9") },
			Header{{"Host", "shop.example"}, {"X-A", "9"}, {"Accept", "*/*"}, {"X-B", ""}}},
		{"set the last", func(h *Header) { h.Set("x-b", "9") },
			Header{{"Host", "shop.example"}, {"X-A", "1"}, {"Accept", "*/*"}, {"x-a", "2"}, {"X-B", "9"}}},
		{"set appends", func(h *Header) { h.Set("New", "9") }, append(sample(), Field{"New", "9"})},
		{"add", func(h *Header) { h.Add("X-A", "9") }, append(sample(), Field{"X-A", "9"})},
		{"del", func(h *Header) { h.Del("x-a") }, Header{{"Host", "shop.example"}, {"Accept", "*/*"}, {"X-B", ""}}},
		{"del none", func(h *Header) { h.Del("nobody") }, sample()},
		{"del by prefix", func(h *Header) { h.DelFunc(func(n string) bool { return HasNamePrefix(n, "x-") }) },
			Header{{"Host", "shop.example"}, {"Accept", "*/*"}}},
	} {
		h := sample()
		c.do(&h)
		if !slices.Equal(h, c.want) {
			t.Errorf("%s: %v, want %v", c.name, h, c.want)
		}
	}
}

func TestHeaderDropsWhatItRemoves(t *testing.T) {
	h := sample()
	whole := h
	h.Del("X-A")
	for _, f := range whole[len(h):] {
		if f != (Field{}) {
			t.Errorf("a removed field stays reachable in the pooled list: %v", f)
		}
	}
	c := h.Clone()
	c.Set("Host", "other")
	if h.Get("Host") != "shop.example" {
		t.Error("a clone shares its list")
	}
	var zero Header
	zero.Set("A", "1")
	zero.Add("A", "2")
	if zero.Joined("a") != "1, 2" {
		t.Errorf("the zero header gives %q", zero.Joined("a"))
	}
}

func TestNames(t *testing.T) {
	if !EqualName("eTag", "ETag") || EqualName("ETag", "ETag ") || EqualName("a", "b") {
		t.Error("EqualName")
	}
	if !HasNamePrefix("SLUICE-Attempt", "Sluice-") || HasNamePrefix("Sluice", "Sluice-") || !HasNamePrefix("x", "") {
		t.Error("HasNamePrefix")
	}
	h := sample()
	if n := testing.AllocsPerRun(100, func() {
		h.Set("X-A", "3")
		h.Del(strings.Repeat("x", 0))
		_ = h.Get("accept")
	}); n != 0 {
		t.Errorf("%v allocations to read and set a field", n)
	}
}

func TestEqualName(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"Host", "Host", true}, {"Host", "hOST", true}, {"X-Az", "x-aZ", true},
		{"Host", "Hosts", false}, {"Host", "Hast", false}, {"X-A", "X_A", false},
		// one bit apart, and no letters
		{"[", "{", false}, {"@", "`", false}, {"^", "~", false}, {"\x0d", "-", false}, {"1", "\x11", false},
		{"K12", "\u212a", false}, {"\u212a", "k\xe2\x84", false}, // the Kelvin sign is nobody's k
	} {
		if got := EqualName(c.a, c.b); got != c.want {
			t.Errorf("EqualName(%q, %q) is %v", c.a, c.b, got)
		}
		if got := EqualName(c.b, c.a); got != c.want {
			t.Errorf("EqualName(%q, %q) is %v", c.b, c.a, got)
		}
		if got := HasNamePrefix(c.a+"-more", c.b); len(c.a) == len(c.b) && got != c.want {
			t.Errorf("HasNamePrefix(%q, %q) is %v", c.a+"-more", c.b, got)
		}
	}
	if HasNamePrefix("Slu", "Sluice-") {
		t.Error("a prefix is longer than the name")
	}
}
