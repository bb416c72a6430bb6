package overload_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/overload"
)

var defaults = overload.Settings{Adaptive: true, Min: 4, Max: 1000, QueueSize: 200, QueueWait: 100 * time.Millisecond}

var start = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

// BenchmarkAcquireRelease is what a request costs: an admission and the end of the call.
func BenchmarkAcquireRelease(b *testing.B) {
	l := overload.New(defaults, start, 1)
	now := start
	var w overload.Waiter
	b.ReportAllocs()
	for i := range b.N {
		now = now.Add(time.Millisecond)
		l.Acquire(now, overload.Request{Class: overload.Normal, Principal: uint64(i) * 0x9e3779b97f4a7c15}, &w)
		l.Release(now, w.Permit(), overload.Sample{Outcome: overload.Success, Latency: 25 * time.Millisecond})
	}
}

// BenchmarkAcquireReleaseParallel is the same on all cores at once.
func BenchmarkAcquireReleaseParallel(b *testing.B) {
	l := overload.New(defaults, start, 1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var w overload.Waiter
		now, principal := start, rand.Uint64()
		for pb.Next() {
			now = now.Add(time.Millisecond)
			principal += 0x9e3779b97f4a7c15
			l.Acquire(now, overload.Request{Class: overload.Normal, Principal: principal}, &w)
			l.Release(now, w.Permit(), overload.Sample{Outcome: overload.Success, Latency: 25 * time.Millisecond})
		}
	})
}

// BenchmarkShed is what a request costs that is shed, with the queue full.
func BenchmarkShed(b *testing.B) {
	l := overload.New(defaults, start, 1)
	now := start
	for range 400 {
		l.Acquire(now, overload.Request{Class: overload.Normal}, new(overload.Waiter))
	}
	var w overload.Waiter
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if d, _ := l.Acquire(now, overload.Request{Class: overload.Low, Principal: 7}, &w); d != overload.Shed {
			b.Fatal(d)
		}
	}
}
