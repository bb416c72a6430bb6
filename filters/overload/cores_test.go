package overload_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/filters/overload"
)

// BenchmarkCores is an admission and the end of its call.
func BenchmarkCores(b *testing.B) {
	fixed := overload.Settings{Concurrency: 1000, QueueSize: 200, QueueWait: 100 * time.Millisecond}
	success := overload.Sample{Outcome: overload.Success, Latency: 25 * time.Millisecond}
	for name, set := range map[string]overload.Settings{"adaptive": defaults, "fixed": fixed} {
		b.Run(name, func(b *testing.B) {
			l := overload.New(set, start, 1)
			cores.Run(b, func(int) func() {
				w := new(overload.Waiter)
				now, principal := start, rand.Uint64()
				return func() {
					now = now.Add(time.Millisecond)
					principal += 0x9e3779b97f4a7c15
					l.Acquire(now, overload.Request{Class: overload.Normal, Principal: principal}, w)
					l.Release(now, w.Permit(), success)
				}
			})
		})
	}
}
