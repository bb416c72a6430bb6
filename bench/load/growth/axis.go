package growth

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// axis is one thing that there can be many of.
type axis struct {
	name     string
	steps    []int
	settings func(n int, upstreams []string) map[string]any // for the template
	loads    func(n int) []measure.Load
	hold     holding
	servers  bool // each of the items is an address of a server of its own
	memory   bool // is judged
	start    bool // is judged, and so is a reload of the last step
}

// holding says how so many come to be there.
type holding int

const (
	configured holding = iota // they are in the configuration
	asked                     // the first load has each of them once
	idle                      // that many connections are open beside those of the load
	busy                      // the load has that many connections
)

// keysFrom is the first of the recorded keys; no other load gets as far.
const keysFrom = 500_000_000_000

func axes() []axis {
	get := func(int) []measure.Load { return []measure.Load{measure.Get} }
	return []axis{
		{
			name: "routes", steps: []int{1, 100, 1_000, 10_000}, memory: true, start: true,
			settings: func(n int, _ []string) map[string]any { return map[string]any{"Routes": numbers(n)} },
			loads: func(n int) []measure.Load {
				return []measure.Load{{Name: "GET", Path: "/r" + measure.PathDigits + "/item", Paths: n}}
			},
		},
		{
			name: "endpoints", steps: []int{1, 10, 100}, loads: get, servers: true,
			settings: func(n int, upstreams []string) map[string]any {
				return map[string]any{"Endpoints": upstreams[:n]}
			},
		},
		{
			name: "records", steps: []int{10, 1_000, 100_000, 1_000_000}, hold: asked, memory: true,
			settings: func(int, []string) map[string]any { return map[string]any{"Keyed": true} },
			loads: func(n int) []measure.Load {
				return []measure.Load{
					{
						Name: "replay", Path: measure.SmallPath, Post: true, Keys: measure.RecordedKeys, Users: n,
						KeysFrom: keysFrom,
					},
					{Name: "fresh key", Path: measure.SmallPath, Post: true, Keys: measure.FreshKeys, Users: n},
				}
			},
		},
		{
			name: "keys of a limit", steps: []int{10, 1_000, 100_000, 1_000_000}, hold: asked, memory: true,
			settings: func(int, []string) map[string]any { return map[string]any{"Limited": true} },
			loads: func(n int) []measure.Load {
				return []measure.Load{{Name: "GET", Path: measure.SmallPath, Users: n}}
			},
		},
		{name: "idle connections", steps: []int{10, 1_000, 6_000}, hold: idle, memory: true, loads: get},
		{name: "busy connections", steps: []int{10, 100, 1_000, 4_000}, hold: busy, memory: true, loads: get},
	}
}

// numbers returns the names of so many routes.
func numbers(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%0*d", len(measure.PathDigits), i)
	}
	return list
}

// mostServers returns how many servers the axes need.
func mostServers(list []axis) (n int) {
	for i := range list {
		if list[i].servers {
			n = max(n, slices.Max(list[i].steps))
		}
	}
	return n
}

// stepName is how a step is called in progress and reports.
func stepName(a *axis, n int) string { return strconv.Itoa(n) + " " + a.name }
