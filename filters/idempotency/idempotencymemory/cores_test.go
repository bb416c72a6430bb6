package idempotencymemory

import (
	"context"
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

func TestPartsLieApart(t *testing.T) {
	t.Parallel()
	var s shard
	cores.Apart(t, "shards", unsafe.Sizeof(s), unsafe.Offsetof(s.records)+unsafe.Sizeof(s.records))
	var a arena
	cores.Apart(t, "arenas", unsafe.Sizeof(a), unsafe.Offsetof(a.heap)+unsafe.Sizeof(a.heap))
}

// BenchmarkCores is claim and finish of a key each, and that of keys which are counted for their owners.
func BenchmarkCores(b *testing.B) {
	for _, c := range []struct {
		name string
		max  int
	}{{"claim and finish", 0}, {"claim and finish, counted", 1 << 30}} {
		b.Run(c.name, func(b *testing.B) {
			s := New(nil)
			ctx := context.Background()
			cores.Run(b, func(worker int) func() {
				response := make([]byte, 200)
				i := 0
				return func() {
					i++
					id := fmt.Sprintf("owner%05d%022d", worker, i)
					_, _, _ = s.Claim(ctx, idempotency.ClaimRequest{
						ID: id, Token: 1, Lease: time.Second, Cap: time.Second, TTL: time.Second, MaxOpen: c.max,
					})
					_ = s.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Finish, Response: response})
				}
			})
		})
	}
}
