package cores_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
)

// BenchmarkCores has the bounds between which tables lie: nothing in common, one counter, one mutex.
func BenchmarkCores(b *testing.B) {
	work := func(n *[8]uint64) { // some 50 ns
		for i := range 48 {
			n[i%8] = n[(i+1)%8]*31 + uint64(i)
		}
	}
	b.Run("nothing shared", func(b *testing.B) {
		cores.Run(b, func(int) func() {
			own := new([32]uint64)
			return func() { work((*[8]uint64)(own[16:])) }
		})
	})
	b.Run("one counter", func(b *testing.B) {
		var shared atomic.Uint64
		cores.Run(b, func(int) func() {
			own := new([32]uint64)
			return func() { work((*[8]uint64)(own[16:])); shared.Add(1) }
		})
	})
	b.Run("one mutex", func(b *testing.B) {
		var mu sync.Mutex
		cores.Run(b, func(int) func() {
			own := new([32]uint64)
			return func() {
				work((*[8]uint64)(own[16:]))
				mu.Lock()
				own[0]++
				mu.Unlock()
			}
		})
	})
}
