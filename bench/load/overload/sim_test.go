package overload

import (
	"context"
	"sync"
	"testing"
)

// shortSeed is that of the short report.
const shortSeed = 1

var shortOnce = sync.OnceValues(func() (*Report, error) {
	return Run(context.Background(), Options{Seed: shortSeed, Short: true, Scenarios: shortScenarios}, nil)
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
