package overload

import (
	"context"
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
)

// shortSeed is that of the short report.
const shortSeed = 1

var shortOnce = sync.OnceValues(func() (*Report, error) {
	return Run(context.Background(), Options{Seed: shortSeed, Short: true}, nil)
})

// shortReport simulates everything in the short form, once for all tests.
func shortReport(t *testing.T) *Report {
	t.Helper()
	r, err := shortOnce()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var (
	show = flag.String("show", "", "scenarios to simulate in full, by comma, or all; prints the table")
	with = flag.String("with", Ours, "contenders of -show, by comma, or all")
	page = flag.String("page", "", "file of the report of -show")
	seed = flag.Uint64("seed", 1, "of -show")
)

// names splits a list; nil for all.
func names(list string) []string {
	if list == "all" {
		return nil
	}
	return strings.Split(list, ",")
}

// TestShow is for people who work on a controller:
//
//	go test ./bench/load/overload -run TestShow -v -show A,C -with sluice,gradient2
func TestShow(t *testing.T) {
	if *show == "" {
		*show = "A"
	}
	o := Options{Seed: *seed, Scenarios: names(*show), Contenders: names(*with)}
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
