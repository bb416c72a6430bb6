package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

func TestWrittenValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		to    encoding.TextUnmarshaler
		text  string
		print string // empty: refused
	}{
		{new(Duration), "250ms", "250ms"}, {new(Duration), "10s", "10s"}, {new(Duration), "24h", "24h"}, {new(Duration), "75s", "75s"},
		{new(Duration), "1h30m", "90m"}, {new(Duration), "1.5s", "1500ms"}, {new(Duration), "0.5ms", "0.5ms"}, {new(Duration), "0s", "0s"},
		{new(Duration), "", ""}, {new(Duration), "0", ""}, {new(Duration), "1d", ""}, {new(Duration), "-1s", ""}, {new(Duration), "9999999999h", ""},
		{new(Size), "512B", "512B"}, {new(Size), "64KiB", "64KiB"}, {new(Size), "1024KiB", "1MiB"}, {new(Size), "2GiB", "2GiB"}, {new(Size), "0B", "0B"},
		{new(Size), "64KB", ""}, {new(Size), "64", ""}, {new(Size), "99999999999GiB", ""}, {new(Size), "99999999999999999999B", ""},
		{new(Percent), "50%", "50%"}, {new(Percent), "0.5%", "0.5%"}, {new(Percent), "100%", "100%"}, {new(Percent), "100.1%", ""}, {new(Percent), "50", ""},
		{new(Rate), "100/s", "100/s"}, {new(Rate), "20/m", "20/m"}, {new(Rate), "1000/h", "1000/h"}, {new(Rate), "0/s", ""}, {new(Rate), "1/d", ""},
		{new(Rate), "2000000000/s", ""},
		{new(StatusRange), "404", "404"}, {new(StatusRange), "2xx", "2xx"}, {new(StatusRange), "6xx", ""}, {new(StatusRange), "99", ""}, {new(StatusRange), "2XX", ""},
	} {
		err := c.to.UnmarshalText([]byte(c.text))
		if c.print == "" {
			if err == nil {
				t.Errorf("%T %q is taken", c.to, c.text)
			}
			continue
		}
		if got := fmt.Sprint(reflect.ValueOf(c.to).Elem().Interface()); err != nil || got != c.print {
			t.Errorf("%T %q: %s, %v, want %s", c.to, c.text, got, err, c.print)
		}
	}
}

func TestStatusRange(t *testing.T) {
	t.Parallel()
	r := StatusRange{200, 299}
	if !r.Contains(200) || !r.Contains(299) || r.Contains(300) || r.Contains(199) {
		t.Error("2xx is 200 to 299")
	}
	b, err := json.Marshal([]StatusRange{r, {404, 404}})
	if err != nil || string(b) != `["2xx",404]` {
		t.Errorf("%s, %v", b, err)
	}
}

func TestParseRef(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want Ref
	}{
		{"principal", Ref{Root: "principal"}}, {"client.ip", Ref{Root: "client.ip"}}, {"route", Ref{Root: "route"}}, {"method", Ref{Root: "method"}},
		{"path", Ref{Root: "path"}}, {"path.sku", Ref{"path", []string{"sku"}}}, {"query", Ref{Root: "query"}}, {"query.a.b", Ref{"query", []string{"a.b"}}},
		{"header.X-Tenant", Ref{"header", []string{"X-Tenant"}}}, {"body", Ref{Root: "body"}}, {"body.cart.0.id", Ref{"body", []string{"cart", "0", "id"}}},
		{"gid", Ref{Root: "gid"}}, {"steps.pay.id", Ref{"steps", []string{"pay", "id"}}},
	} {
		got, err := ParseRef(c.text)
		if err != nil || !reflect.DeepEqual(got, c.want) || got.String() != c.text {
			t.Errorf("ParseRef(%q) = %#v, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"", "client", "client.port", "principal.x", "path.", "path.a.b", "path.{x}", "header", "header.a b", "body.", "body.a..b",
		"steps", "gid.x", "Body.a", " body", "query.{", "body.a\n"} {
		if got, err := ParseRef(text); err == nil {
			t.Errorf("ParseRef(%q) = %v, want an error", text, got)
		}
	}
}

func TestParseTemplate(t *testing.T) {
	t.Parallel()
	gid, sku := &Ref{Root: "gid"}, &Ref{"body", []string{"sku"}}
	for _, c := range []struct {
		text string
		want []TemplatePart
		lone bool
	}{
		{"", nil, false},
		{"plain", []TemplatePart{{Text: "plain"}}, false},
		{"{gid}", []TemplatePart{{Ref: gid}}, true},
		{"/a/{gid}/{body.sku}/b", []TemplatePart{{Text: "/a/"}, {Ref: gid}, {Text: "/"}, {Ref: sku}, {Text: "/b"}}, false},
		{"{{{gid}}}", []TemplatePart{{Text: "{"}, {Ref: gid}, {Text: "}"}}, false},
		{"{{gid}}", []TemplatePart{{Text: "{gid}"}}, false},
	} {
		got, err := ParseTemplate(c.text)
		if _, lone := got.Lone(); err != nil || !reflect.DeepEqual(got.Parts, c.want) || lone != c.lone || got.String() != c.text {
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
