//go:build race

package overload

// shortScenarios are few: the detector finds little where one goroutine does everything, and takes its
// time. The marks are judged without it.
var shortScenarios = []string{"C", "storm"}
