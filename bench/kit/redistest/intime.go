package redistest

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// EachInTime makes calls at once, each of which returns by how much it came after its own time, until none of a round
// was late. A machine that stands still makes some late; what is late by itself, by a second try for instance, is so in
// every round.
func EachInTime(t testing.TB, calls int, call func(n int) (late time.Duration)) {
	t.Helper()
	const busy, rounds = 500 * time.Millisecond, 10 // of a machine
	var worst time.Duration
	for range rounds {
		var wg sync.WaitGroup
		late := make([]time.Duration, calls)
		for n := range late {
			wg.Go(func() { late[n] = call(n) })
		}
		wg.Wait()
		if worst = slices.Max(late); worst <= busy {
			return
		}
	}
	t.Errorf("redistest: one of %d calls came %v after its own time, and some did in each of %d rounds", calls, worst,
		rounds)
}
