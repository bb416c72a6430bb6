package router

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

func TestCanonical(t *testing.T) {
	for _, c := range []struct {
		in, want string
		err      error
	}{
		{in: "/", want: "/"},
		{in: "/v1/orders", want: "/v1/orders"},
		{in: "/v1/orders/", want: "/v1/orders/"},
		{in: "//deny/a", want: "/deny/a"},
		{in: "/./deny/a", want: "/deny/a"},
		{in: "/pub/../deny/a", want: "/deny/a"},
		{in: "/pub/%2e%2e/deny/a", want: "/deny/a"},
		{in: "/%64eny/a", want: "/deny/a"},
		{in: "/a/..", want: "/"},
		{in: "/a/b/.", want: "/a/b/"},
		{in: "/...", want: "/..."},
		{in: "/.well-known/x", want: "/.well-known/x"},
		{in: "/pub/%252e%252e/deny", want: "/pub/%252e%252e/deny"},
		{in: "/a%c3%a9", want: "/a%C3%A9"},
		{in: "/a|b", want: "/a%7Cb"},
		{in: "/a%3Bb", err: ErrPathParameter},
		{in: "/a:b@c,d", want: "/a:b@c,d"},
		{in: "/..", err: ErrPathAbove},
		{in: "/../deny", err: ErrPathAbove},
		{in: "/pub/..%2fdeny/a", err: ErrPathSlash},
		{in: "/pub/..;/deny/a", err: ErrPathParameter},
		{in: "/deny;x=1/a", err: ErrPathParameter},
		{in: `/pub\..\deny`, err: ErrPathByte},
		{in: "/a%5cb", err: ErrPathByte},
		{in: "/a%00b", err: ErrPathByte},
		{in: "/a b", err: ErrPathByte},
		{in: "/a\x80", err: ErrPathByte},
		{in: "/a%", err: ErrPathEscape},
		{in: "/a%4", err: ErrPathEscape},
		{in: "/a%zz", err: ErrPathEscape},
		{in: "", err: ErrPathForm},
		{in: "*", err: ErrPathForm},
	} {
		got, err := Canonical(c.in)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("Canonical(%q) = %q, %v; want %q, %v", c.in, got, err, c.want, c.err)
		}
	}
}

// A canonical path stays as it is, and nothing in it can be read as a step up or as two readings of
// one segment.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2E/x", "//x//", "/a%2Fb", "/;", "/%25%32%65"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		once, err := Canonical(in)
		if err != nil {
			return
		}
		twice, err := Canonical(once)
		if err != nil || twice != once {
			t.Fatalf("Canonical(%q) = %q, again %q, %v", in, once, twice, err)
		}
		for _, s := range strings.Split(once[1:], "/") {
			if s == ".." || s == "." || strings.ContainsAny(s, "\\; ") {
				t.Fatalf("Canonical(%q) = %q", in, once)
			}
		}
		if strings.Contains(once, "//") {
			t.Fatalf("Canonical(%q) = %q", in, once)
		}
	})
}

func TestFind(t *testing.T) {
	var r Router[string]
	for _, a := range []struct {
		pattern, methods, target string
	}{
		{"/v1/orders", "POST", "create"},
		{"/v1/orders/{id}", "GET", "show"},
		{"/v1/orders/{id}", "DELETE", "remove"},
		{"/v1/orders/new", "GET", "shadowed"},
		{"/static/**", "", "static"},
		{"/a/{x}/b/{y}", "", "two"},
		{"/", "", "root"},
		{"/all/{x}/**", "GET", "all"},
	} {
		var methods []string
		if a.methods != "" {
			methods = strings.Split(a.methods, ",")
		}
		if err := r.Add(a.pattern, methods, a.target); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		method, path, want string
		result             Result
		params             string
	}{
		{"POST", "/v1/orders", "create", Found, ""},
		{"GET", "/v1/orders", "", NoMethod, ""},
		{"POST", "/v1/orders/", "", NoPath, ""},
		{"GET", "/v1/orders/7", "show", Found, "id=7"},
		{"GET", "/v1/orders/new", "show", Found, "id=new"},
		{"DELETE", "/v1/orders/a%20b", "remove", Found, "id=a b"},
		{"PUT", "/v1/orders/7", "", NoMethod, ""},
		{"GET", "/static", "static", Found, ""},
		{"GET", "/static/", "static", Found, ""},
		{"GET", "/static/a/b", "static", Found, ""},
		{"GET", "/statics", "", NoPath, ""},
		{"GET", "/a/1/b/2", "two", Found, "x=1,y=2"},
		{"GET", "/a/1/c/2", "", NoPath, ""},
		{"GET", "/", "root", Found, ""},
		{"GET", "/all/7", "all", Found, "x=7"},
		{"GET", "/all/7/8/9", "all", Found, "x=7"},
		{"GET", "/all", "", NoPath, ""},
	} {
		got, params, result := r.Find(c.method, c.path, nil)
		var list []string
		for _, p := range params {
			list = append(list, p.Name+"="+p.Value)
		}
		if got != c.want || result != c.result || strings.Join(list, ",") != c.params {
			t.Errorf("%s %s: %q %v %v, want %q %v %s", c.method, c.path, got, result, list, c.want, c.result, c.params)
		}
	}
	if got := strings.Join(r.Allow("/v1/orders/7"), ","); got != "DELETE,GET" {
		t.Errorf("Allow = %s", got)
	}
	var all Router[int]
	if err := all.Add("/**", nil, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, result := all.Find("GET", "/x/y", nil); result != Found {
		t.Errorf("/** does not match everything")
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	var r Router[int]
	if err := r.Add("/v1/orders/{id}", []string{"GET"}, 1); err != nil {
		t.Fatal(err)
	}
	params := make([]filters.Param, 0, 4)
	if n := testing.AllocsPerRun(100, func() {
		p, err := Canonical("/v1/orders/7")
		if err != nil {
			t.Fatal(err)
		}
		r.Find("GET", p, params)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
