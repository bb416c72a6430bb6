package upstream

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/gateway/http1"
)

// BenchmarkCores is what a request does to what all requests to a service share.
func BenchmarkCores(b *testing.B) {
	b.Run("pool", func(b *testing.B) {
		service := new(Service)
		service.current.Store(&configuration{settings: Settings{KeepAlive: KeepAlive{Idle: time.Hour}}})
		p := &pool{e: &endpoint{service: service}}
		now := time.Now()
		defer p.closeIdle()
		for range 64 {
			c := &conn{Client: new(http1.Client), pool: p, expires: now.Add(time.Hour)}
			c.IdleSince = now
			p.keep(c)
		}
		cores.Run(b, func(int) func() {
			return func() {
				c := p.idle.pop()
				p.keep(c)
			}
		})
	})
	b.Run("retry budget", func(b *testing.B) {
		budget := new(retryBudget)
		now := time.Now()
		cores.Run(b, func(int) func() {
			return func() { budget.request(now) }
		})
	})
	b.Run("latencies", func(b *testing.B) {
		now := time.Now()
		l := newLatencies(0.95, now)
		cores.Run(b, func(int) func() {
			i := 0
			return func() {
				i++
				l.add(now, time.Duration(i%64)*50*time.Microsecond)
			}
		})
	})
}
