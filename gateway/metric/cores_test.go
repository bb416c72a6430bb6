package metric

import (
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
)

// BenchmarkCores is an event of a route, and an observation of a duration.
func BenchmarkCores(b *testing.B) {
	b.Run("event", func(b *testing.B) {
		row := New().Events("route", Family{Name: "cores_total", By: "what", Events: []string{"a", "b"}}).Row("r")
		cores.Run(b, func(int) func() {
			return func() { row[0].Inc() }
		})
	})
	b.Run("histogram", func(b *testing.B) {
		h := New().Histogram("cores_seconds", "Durations.", "route").WithLabelValues("r")
		cores.Run(b, func(int) func() {
			return func() { h.Observe(0.003) }
		})
	})
}
