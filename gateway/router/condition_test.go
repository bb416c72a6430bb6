package router

import (
	"slices"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

func TestConditions(t *testing.T) {
	var r Router[string]
	beta := filters.Header{{Name: "X-Beta", Value: "1"}}
	for _, c := range []struct {
		pattern string
		methods []string
		where   Condition
		name    string
	}{
		{"/a", []string{"GET"}, Condition{Host: "shop.example", Header: beta}, "beta"},
		{"/a", []string{"GET"}, Condition{Host: "shop.example"}, "shop"},
		{"/a", []string{"POST"}, Condition{Host: "*.shop.example"}, "below"},
		{"/{x}", nil, Condition{Header: beta}, "parameter"},
		{"/only", []string{"GET"}, Condition{Host: "one.example"}, "only"},
		{"/a", []string{"GET"}, Condition{}, "any"},
	} {
		if err := r.AddWhere(c.pattern, c.methods, c.where, c.name); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		method, host, path string
		header             filters.Header
		want               string
		result             Result
	}{
		{"GET", "shop.example", "/a", beta, "beta", Found},
		{"GET", "SHOP.example:8080", "/a", filters.Header{{Name: "x-beta", Value: "1"}}, "beta", Found},
		{"GET", "shop.example.", "/a", nil, "shop", Found},
		{"GET", "a.shop.example", "/a", nil, "any", Found},
		{"POST", "a.b.shop.example:1", "/a", nil, "below", Found},
		{"POST", "shop.example", "/a", nil, "", NoMethod},
		{"POST", "evilshop.example", "/a", nil, "", NoMethod},
		{"POST", "other.example", "/a", beta, "parameter", Found},
		{"POST", "shop.example", "/a", filters.Header{{Name: "X-Beta", Value: "0"}, {Name: "X-Beta", Value: "1"}},
			"parameter", Found},
		{"GET", "[::1]:80", "/a", nil, "any", Found},
		{"GET", "two.example", "/only", nil, "", NoPath},
		{"POST", "two.example", "/only", nil, "", NoPath},
		{"POST", "one.example", "/only", nil, "", NoMethod},
		{"GET", "", "/a", nil, "any", Found},
	} {
		x := &filters.Exchange{Host: c.host, Path: c.path, Header: c.header}
		if got, _, result := r.FindFor(x, c.method, nil); got != c.want || result != c.result {
			t.Errorf("%s %s%s %v: %q %v, want %q %v", c.method, c.host, c.path, c.header, got, result, c.want, c.result)
		}
	}
	x := &filters.Exchange{Host: "b.shop.example", Path: "/a"}
	if got := r.AllowFor(x); !slices.Equal(got, []string{"GET", "POST"}) {
		t.Errorf("Allow: %v", got)
	}
	if got, _, result := r.Find("GET", "/a", nil); got != "any" || result != Found {
		t.Errorf("without a host: %q %v", got, result)
	}
	params := make([]filters.Param, 0, 4)
	x.Header = beta
	if n := testing.AllocsPerRun(100, func() { r.FindFor(x, "PUT", params) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
