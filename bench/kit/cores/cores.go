package cores

import (
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Line is the size of what processors exchange.
const Line = 64

// Run measures a step by as many goroutines as there are processors. worker makes the step of one of them, which are
// numbered from 0, and is called in its goroutine. A step's memory of its own should be allocated there too, so that
// goroutines do not share lines which the table would not have them share.
func Run(b *testing.B, worker func(n int) (step func())) {
	b.Helper()
	b.ReportAllocs()
	var workers atomic.Int64
	runtime.GC() // what came before is not this one's
	cpu, waited := spent(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		step := worker(int(workers.Add(1)) - 1)
		for pb.Next() {
			step()
		}
	})
	b.StopTimer()
	cpuEnd, waitedEnd := spent(b)
	b.ReportMetric(float64(cpuEnd-cpu)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(waitedEnd-waited)/float64(b.N), "wait-ns/op")
}

// spent is the processor time of this process so far, and the time that its goroutines waited for mutexes.
func spent(b *testing.B) (cpu, waited time.Duration) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	wait := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(wait)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), time.Duration(wait[0].Value.Float64() * float64(time.Second))
}

// Apart fails unless neighbours in an array of parts use no line of the caches in common, wherever it begins: size is
// that of a part, of which so much is used, and the rest is left to keep them apart.
func Apart(t testing.TB, what string, size, used uintptr) {
	t.Helper()
	const word = 8 // what begins a part is aligned to it
	used = (used + word - 1) / word * word
	if size < used+Line-word {
		t.Errorf("%s: with %d of %d bytes used two neighbours may share a line of %d", what, used, size, Line)
	}
}
