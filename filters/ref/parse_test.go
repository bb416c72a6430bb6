package ref

import (
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want Ref
	}{
		{"principal", Ref{Root: "principal"}}, {"client.ip", Ref{Root: "client.ip"}}, {"host", Ref{Root: "host"}}, {"route",
			Ref{Root: "route"}}, {"method", Ref{Root: "method"}},
		{"path", Ref{Root: "path"}}, {"path.sku", Ref{"path", []string{"sku"}}}, {"query", Ref{Root: "query"}},
		{"query.a.b", Ref{"query", []string{"a.b"}}},
		{"header.X-Tenant", Ref{"header", []string{"X-Tenant"}}}, {"body", Ref{Root: "body"}},
		{"body.cart.0.id", Ref{"body", []string{"cart", "0", "id"}}},
		{"gid", Ref{Root: "gid"}}, {"steps.pay.id", Ref{"steps", []string{"pay", "id"}}},
	} {
		got, err := Parse(c.text)
		if err != nil || !reflect.DeepEqual(got, c.want) || got.String() != c.text {
			t.Errorf("Parse(%q) = %#v, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"", "client", "client.port", "principal.x", "host.x", "path.", "path.a.b", "path.{x}",
		"header", "header.a b", "body.", "body.a..b",
		"steps", "gid.x", "Body.a", " body", "query.{", "body.a\n"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", text, got)
		}
	}
}

func TestParseTemplate(t *testing.T) {
	t.Parallel()
	gid, sku := &Ref{Root: "gid"}, &Ref{"body", []string{"sku"}}
	for _, c := range []struct {
		text string
		want []Part
		lone bool
	}{
		{"", nil, false},
		{"plain", []Part{{Text: "plain"}}, false},
		{"{gid}", []Part{{Ref: gid}}, true},
		{"/a/{gid}/{body.sku}/b", []Part{{Text: "/a/"}, {Ref: gid}, {Text: "/"}, {Ref: sku}, {Text: "/b"}}, false},
		{"{{{gid}}}", []Part{{Text: "{"}, {Ref: gid}, {Text: "}"}}, false},
		{"{{gid}}", []Part{{Text: "{gid}"}}, false},
	} {
		got, err := ParseTemplate(c.text)
		if _, lone := got.Lone(); err != nil || !reflect.DeepEqual(got.Parts,
			c.want) || lone != c.lone || got.String() != c.text {
			t.Errorf("ParseTemplate(%q) = %v, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"{", "}", "{gid", "gid}", "{}", "{a}", "{gid{", "{gid}}", "{{gid}", "{ gid }"} {
		if got, err := ParseTemplate(text); err == nil {
			t.Errorf("ParseTemplate(%q) = %v, want an error", text, got)
		}
	}
}

func FuzzParseTemplate(f *testing.F) {
	for _, s := range []string{"", "/a/{gid}", "{{{body.a}}}", "${body.x}", "{query.a b}", "{path.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, err := ParseTemplate(s)
		if err != nil {
			return
		}
		again, err := ParseTemplate(first.String())
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Fatalf("%q prints as %q, which is %v, %v", s, first, again, err)
		}
	})
}
