package tracing

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/filters"
)

// BenchmarkCores is a request that is not sampled, and one that is, of which the queue has no room.
func BenchmarkCores(b *testing.B) {
	for name, share := range map[string]float64{"not sampled": 0, "sampled": 1} {
		b.Run(name, func(b *testing.B) {
			tr := traces(b, share)
			cores.Run(b, func(int) func() {
				x := new(filters.Exchange)
				return func() {
					x.Begin(context.Background(), nil)
					x.Method, x.Path, x.Received = "GET", "/", time.Time{}
					tr.Begin(x, "", false)
					tr.EndRequest(x)
				}
			})
		})
	}
}
