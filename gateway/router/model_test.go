package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/filters"
)

// both is the router and its model, with the same routes.
type both struct {
	router Router[int]
	model  linear
	routes int
}

// add adds a route to both; they refuse the same patterns, with the same words.
func (b *both) add(pattern string, methods []string) error {
	b.routes++
	err, want := b.router.Add(pattern, methods, b.routes), b.model.Add(pattern, methods, b.routes)
	if fmt.Sprint(err) != fmt.Sprint(want) {
		return fmt.Errorf("Add(%q) is %v, want %v", pattern, err, want)
	}
	return nil
}

// compare finds the same route in both, with the same parameters, and the same methods for Allow.
// The search stays within its bound.
func (b *both) compare(method, path string) error {
	before := []filters.Param{{Name: "before", Value: "1"}}
	got, params, result := b.router.Find(method, path, before)
	want, wantParams, wantResult := b.model.Find(method, path, before)
	if got != want || result != wantResult || !slices.Equal(params, wantParams) {
		return fmt.Errorf("%s %s: route %d %v, result %d; want %d %v, %d",
			method, path, got, params, result, want, wantParams, wantResult)
	}
	if got, want := b.router.Allow(path), b.model.Allow(path); !slices.Equal(got, want) {
		return fmt.Errorf("Allow(%s) = %q, want %q", path, got, want)
	}
	if visited, limit := steps(&b.router.index, method, path), bound(&b.router.index, path); visited > limit {
		return fmt.Errorf("%s %s: %d nodes visited, at most %d may be", method, path, visited, limit)
	}
	return nil
}

// steps returns how many nodes a search visits.
func steps(ix *index, method, path string) int {
	s := search{index: ix, query: query{method: method}, best: none}
	s.run(path)
	return s.visited
}

// bound is the documented bound of a search: all nodes, or those behind a literal and a parameter
// at each of the segments.
func bound(ix *index, path string) int {
	limit := len(ix.nodes)
	if segments := strings.Count(path, "/"); segments < 30 {
		limit = min(limit, 1<<(segments+1)-1)
	}
	return limit
}

func TestFindAsLinearSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few segments and methods, so that patterns share prefixes, overlap and repeat.
		part := rapid.SampledFrom([]string{"a", "b", "c", "{x}", "{y}", "{x}", "a b", "%41", "**", ""})
		methods := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"GET", "POST", "PUT", "HEAD"}), 0, 2, rapid.ID)
		var b both
		for range rapid.IntRange(0, 40).Draw(t, "routes") {
			pattern := "/" + strings.Join(rapid.SliceOfN(part, 0, 5).Draw(t, "segments"), "/")
			pattern += rapid.SampledFrom([]string{"", "", "/", "/**"}).Draw(t, "end")
			if err := b.add(pattern, methods.Draw(t, "methods")); err != nil {
				t.Fatal(err)
			}
		}
		value := rapid.SampledFrom([]string{"a", "b", "c", "d", "a%20b", "A", "**", ""})
		for range 30 {
			path := "/" + strings.Join(rapid.SliceOfN(value, 0, 6).Draw(t, "path"), "/")
			method := rapid.SampledFrom([]string{"GET", "POST", "PUT", "HEAD", "DELETE"}).Draw(t, "method")
			if err := b.compare(method, path); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A table is a route a line: its methods, separated by commas, a space, its pattern.
func FuzzFindAsLinearSearch(f *testing.F) {
	f.Add("GET /v1/orders/{id}\nPOST /v1/orders\n /static/**\nPUT /v1/{x}/7", "PUT", "/v1/orders/7")
	f.Add("GET,POST /a/{x}/**\nPUT /a/**\n /**", "DELETE", "/a/b/c")
	f.Add(" /{a}/{b}\n /{a}/x\n /x/{b}\n /x/x", "GET", "/x/x")
	f.Add(" /\n \n //\n /{}/{a}\n /%41/|", "GET", "/%7B%7D/a")
	f.Fuzz(func(t *testing.T, table, method, path string) {
		var b both
		for line := range strings.Lines(table) {
			words, pattern, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			var methods []string
			if words != "" {
				methods = strings.Split(words, ",")
			}
			if err := b.add(pattern, methods); err != nil {
				t.Fatal(err)
			}
		}
		paths := []string{path}
		if canonical, err := Canonical(path); err == nil {
			paths = append(paths, canonical)
		}
		for _, p := range paths {
			if p == "" || p[0] != '/' { // [Canonical] lets none through
				continue
			}
			if err := b.compare(method, p); err != nil {
				t.Fatal(err)
			}
		}
	})
}
