package ratelimitlocal

import (
	"context"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

func TestShardsLieApart(t *testing.T) {
	t.Parallel()
	var s shard
	cores.Apart(t, "keys", unsafe.Sizeof(s), unsafe.Offsetof(s.limit)+unsafe.Sizeof(s.limit))
}

func BenchmarkCores(b *testing.B) {
	const clients = 1000
	for _, c := range []struct {
		name string
		keys int
	}{{"a thousand keys", clients}, {"one key", 1}} {
		b.Run(c.name, func(b *testing.B) {
			s := New(ratelimit.Limit{Name: "l", Count: 1 << 30, Period: time.Second, Burst: 1 << 30}, 1<<20)
			var keys [clients]string
			for i := range keys {
				keys[i] = "ip:192.0.2." + strconv.Itoa(i)
			}
			ctx := context.Background()
			cores.Run(b, func(worker int) func() {
				i, now := worker*c.keys/2, at(0)
				return func() {
					i++
					now = now.Add(time.Microsecond)
					_, _ = s.Allow(ctx, keys[i%c.keys], now)
				}
			})
		})
	}
}
