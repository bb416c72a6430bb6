package idempotencyredis

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// BenchmarkClaimFinish reports the CPU time of this process, in which Redis is not, for a claim and
// its end.
func BenchmarkClaimFinish(b *testing.B) {
	for _, callers := range []int{1, 8, 16, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := open(b, dial(b, redistest.Start(b), waitLimit, false), "s:")
			ctx := context.Background()
			end := idempotency.Change{Op: idempotency.Finish, Response: make([]byte, 200)}
			var wg sync.WaitGroup
			began := cpu(b)
			b.ReportAllocs()
			b.ResetTimer()
			for w := range callers {
				wg.Go(func() {
					for n := w; n < b.N; n += callers {
						c := request(fmt.Sprintf("%010d%022d", n, n), 1)
						if _, claimed, err := s.Claim(ctx, c); err != nil || !claimed {
							b.Error(claimed, err)
							return
						}
						if err := s.Change(ctx, c.ID, 1, end); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(cpu(b)-began)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
