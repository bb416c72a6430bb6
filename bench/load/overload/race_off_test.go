//go:build !race

package overload

// shortScenarios are all.
var shortScenarios []string
