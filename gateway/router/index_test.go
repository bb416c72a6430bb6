package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

// table is a table of many routes and some requests to them.
type table struct {
	name     string
	routes   []tableRoute
	requests []tableRequest
	visited  int // nodes at most, for any of the requests
}

type tableRoute struct {
	pattern string
	methods []string
}

type tableRequest struct{ method, path string }

const many = 10_000

// tables are route tables as they are found, and such as make a search slow.
func tables() []table {
	fill := func(name string, visited int, at func(i int) (pattern, methods string), requests ...string) table {
		t := table{name: name, visited: visited}
		for i := range many {
			pattern, methods := at(i)
			t.routes = append(t.routes, tableRoute{pattern, strings.Fields(methods)})
		}
		for _, r := range requests {
			method, path, _ := strings.Cut(r, " ")
			t.requests = append(t.requests, tableRequest{method, path})
		}
		return t
	}
	return []table{
		fill("static", 4, func(i int) (string, string) { return fmt.Sprintf("/v1/service%d/orders", i), "GET POST" },
			"GET /v1/service0/orders", "POST /v1/service9999/orders", "GET /v1/service7/none"),
		fill("parameters", 5, func(i int) (string, string) { return fmt.Sprintf("/v1/things%d/{id}/parts", i), "GET" },
			"GET /v1/things0/7/parts", "GET /v1/things9999/7/parts", "PUT /v1/things9999/7/parts"),
		fill("prefixes", 6, func(i int) (string, string) { return fmt.Sprintf("/static/site%d/**", i), "" },
			"GET /static/site0/a/b/c", "GET /static/site9999", "GET /static/none/a"),
		fill("last segment behind parameters", 6, func(i int) (string, string) {
			return fmt.Sprintf("/{a}/{b}/{c}/{d}/x%d", i), "GET"
		},
			"GET /1/2/3/4/x0", "GET /1/2/3/4/x9999", "GET /1/2/3/4/none", "PUT /1/2/3/4/x9999"),
		fill("one pattern, a method each", 3, func(i int) (string, string) { return "/v1/{id}", fmt.Sprintf("M%d", i) },
			"M0 /v1/7", "M9999 /v1/7", "GET /v1/7"),
		fill("one pattern and method", 3, func(int) (string, string) { return "/v1/{id}", "GET" },
			"GET /v1/7", "PUT /v1/7"),
		fill("a method each, then the first for all", 3, func(i int) (string, string) {
			if i == many-1 {
				return "/**", ""
			}
			return "/v1/{id}", fmt.Sprintf("M%d", i)
		}, "M0 /v1/7", "GET /v1/7", "GET /none"),
		// Every combination of a literal and a parameter in 13 places: a path matches half of all
		// routes and more, and none takes its method but the last.
		fill("literal or parameter", 1<<14, func(i int) (string, string) {
			if i == many-1 {
				return "/**", "GET"
			}
			return combination(i), "PUT"
		}, "GET "+strings.Repeat("/a", 13), "DELETE "+strings.Repeat("/a", 13), "PUT "+strings.Repeat("/a", 13)),
	}
}

// combination has a literal in each of 13 places, or a parameter where i has a bit.
func combination(i int) string {
	var b strings.Builder
	for place := range 13 {
		if i>>place&1 == 0 {
			b.WriteString("/a")
		} else {
			fmt.Fprintf(&b, "/{p%d}", place)
		}
	}
	return b.String()
}

func (t *table) router(tb testing.TB) *Router[int] {
	r := new(Router[int])
	for i, rt := range t.routes {
		if err := r.Add(rt.pattern, rt.methods, i); err != nil {
			tb.Fatal(err)
		}
	}
	return r
}

func TestLargeTables(t *testing.T) {
	for _, table := range tables() {
		t.Run(table.name, func(t *testing.T) {
			r := table.router(t)
			var model linear
			for i, rt := range table.routes {
				if err := model.Add(rt.pattern, rt.methods, i); err != nil {
					t.Fatal(err)
				}
			}
			params := make([]filters.Param, 0, 16)
			for _, q := range table.requests {
				got, captured, result := r.Find(q.method, q.path, params)
				want, wantCaptured, wantResult := model.Find(q.method, q.path, nil)
				if got != want || result != wantResult || !slices.Equal(captured, wantCaptured) {
					t.Errorf("%s %s: route %d %v, %d; want %d %v, %d",
						q.method, q.path, got, captured, result, want, wantCaptured, wantResult)
				}
				if got, want := r.Allow(q.path), model.Allow(q.path); !slices.Equal(got, want) {
					t.Errorf("%s: %d methods allowed, want %d", q.path, len(got), len(want))
				}
				if n := testing.AllocsPerRun(10, func() { r.Find(q.method, q.path, params) }); n != 0 {
					t.Errorf("%s %s: %v allocations", q.method, q.path, n)
				}
				limit := min(bound(&r.index, q.path), table.visited)
				if n := steps(&r.index, q.method, q.path); n > limit {
					t.Errorf("%s %s: %d nodes visited, want at most %d", q.method, q.path, n, limit)
				}
			}
		})
	}
}

// A search visits a node at most once, however patterns overlap: it does not grow with the number
// of ways through a path of equal segments, and ends where the patterns do.
func TestSearchIsBounded(t *testing.T) {
	var r Router[int]
	for i := range 64 { // one more parameter each: /{p}/{p}/…/x
		if err := r.Add(strings.Repeat("/{p}", i)+"/x", nil, i); err != nil {
			t.Fatal(err)
		}
		if err := r.Add(strings.Repeat("/a", i)+"/{p}/x", []string{"PUT"}, 64+i); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("/a", 60)
	for _, path := range []string{long, long + "/x", strings.Repeat("/a", 4000)} {
		for _, method := range []string{"GET", "PUT"} {
			if n := steps(&r.index, method, path); n > len(r.index.nodes) {
				t.Errorf("%s with %d bytes: %d of %d nodes visited", method, len(path), n, len(r.index.nodes))
			}
		}
	}
}

// A pattern that is found early keeps the search from those that come later.
func TestSearchSkipsLaterRoutes(t *testing.T) {
	var r Router[int]
	if err := r.Add("/**", nil, 0); err != nil {
		t.Fatal(err)
	}
	for i := range 1 << 13 {
		if err := r.Add(combination(i), nil, i); err != nil {
			t.Fatal(err)
		}
	}
	if n := steps(&r.index, "GET", strings.Repeat("/a", 13)); n != 1 {
		t.Errorf("%d nodes visited, want the root alone", n)
	}
	var branches Router[int]
	for i, pattern := range []string{"/a/a", "/{p}/a", "/a/{p}", "/{p}/{q}"} {
		if err := branches.Add(pattern, nil, i); err != nil {
			t.Fatal(err)
		}
	}
	if n := steps(&branches.index, "GET", "/a/a"); n != 3 {
		t.Errorf("%d nodes visited, want those of the first pattern", n)
	}
}

func BenchmarkFind(b *testing.B) {
	small := table{
		name: "one route", routes: []tableRoute{{"/v1/orders/{id}", []string{"GET"}}},
		requests: []tableRequest{{"GET", "/v1/orders/7"}},
	}
	for _, table := range append(tables(), small) {
		r := table.router(b)
		params := make([]filters.Param, 0, 16)
		for _, q := range table.requests {
			b.Run(table.name+"/"+q.method+" "+q.path, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r.Find(q.method, q.path, params)
				}
			})
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, table := range tables() {
		b.Run(table.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.router(b)
			}
		})
	}
}
