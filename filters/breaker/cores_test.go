package breaker

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
)

// BenchmarkCores is a call that succeeds, at a service that has not failed of late and at one that has.
func BenchmarkCores(b *testing.B) {
	for _, c := range []struct {
		name   string
		failed bool
	}{{"successes", false}, {"successes behind a failure", true}} {
		b.Run(c.name, func(b *testing.B) {
			guard, err := New(settings(), nil)
			if err != nil {
				b.Fatal(err)
			}
			for range 4 {
				call1(guard, t0, Success, 0)
			}
			if c.failed {
				call1(guard, t0, Failure, 0)
			}
			cores.Run(b, func(int) func() {
				return func() {
					p, _, _ := guard.Acquire(t0)
					p.Release(Success, time.Millisecond)
				}
			})
		})
	}
}
