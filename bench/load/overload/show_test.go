//go:build !race

package overload

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var (
	show = flag.String("show", "A", "scenarios to simulate in full, by comma, or all")
	with = flag.String("with", Ours, "contenders of -show, by comma, or all")
	page = flag.String("page", "", "file of the report of -show")
	seed = flag.Uint64("seed", 1, "of -show, the first of -seeds")
	many = flag.Int("seeds", 0, "simulate what -show says with so many seeds, and print how the marks stand over them")
)

// names splits a list; nil for all.
func names(list string) []string {
	if list == "all" {
		return nil
	}
	return strings.Split(list, ",")
}

// TestShow is for people who work on a controller; -short takes the short form:
//
//	go test ./bench/load/overload -run TestShow -v -show A,C -with sluice,gradient2
func TestShow(t *testing.T) {
	o := Options{Seed: *seed, Short: testing.Short(), Scenarios: names(*show), Contenders: names(*with)}
	r, err := runWith(t.Context(), o, withFailsafe(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if testing.Verbose() {
		if err := r.WriteTable(os.Stdout); err != nil {
			t.Fatal(err)
		}
	}
	if *page != "" {
		file, err := os.Create(*page)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := r.WriteHTML(file); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSeeds is the long form: every mark over many seeds.
//
//	go test ./bench/load/overload -run TestSeeds -v -seeds 20 -show all
func TestSeeds(t *testing.T) {
	if *many == 0 {
		return // only on demand
	}
	o := Options{Seed: *seed, Short: testing.Short(), Scenarios: names(*show), Contenders: names(*with)}
	all, err := seedsWith(t.Context(), o, *many, withFailsafe(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteSpreads(os.Stdout, all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if !s.Met {
			t.Errorf("%s: missed with seeds %v", s.What, s.Missed)
		}
	}
}
