package idempotencymemory

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

func TestPartsLieApart(t *testing.T) {
	t.Parallel()
	var s shard
	cores.Apart(t, "shards", unsafe.Sizeof(s), unsafe.Offsetof(s.records)+unsafe.Sizeof(s.records))
	for index, i := newStore(time.Now, 1).arenas[0].index, 0; i < shards; i++ {
		h := &index[i]
		first, behind := uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&h.records))+unsafe.Sizeof(h.records)
		if first/cores.Line != (behind-1)/cores.Line {
			t.Fatalf("shard %d is in two lines: from %x to %x", i, first, behind)
		}
	}
	var a arena
	cores.Apart(t, "arenas", unsafe.Sizeof(a), unsafe.Offsetof(a.heap)+unsafe.Sizeof(a.heap))
}

// BenchmarkCores is claim and finish of a key each, and that of keys which are counted for their owners, where 200,000
// live at a time, so that each claim removes an expired one. Where the memory grows from nothing the runtime and the
// kernel take most of what the second processor costs: page faults, and pages given back that both have in their TLBs.
func BenchmarkCores(b *testing.B) {
	for _, c := range []struct {
		name  string
		max   int
		alive int
	}{
		{"claim and finish", 0, 200_000}, {"claim and finish, counted", 1 << 30, 200_000},
		{"claim and finish, growing", 0, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			clock, ctx := (func() time.Time)(nil), context.Background()
			var passed atomic.Int64
			const steps = 64 // between two of the clock's
			if begin := time.Now(); c.alive > 0 {
				clock = func() time.Time { return begin.Add(time.Duration(passed.Load())) }
			}
			s := New(clock)
			claim := func(worker int) func() {
				response := make([]byte, 200)
				id := []byte(fmt.Sprintf("owner%05d%022d", worker, 0))
				i := 0
				return func() {
					i++
					for at, n := len(id)-1, i; n > 0; n, at = n/10, at-1 {
						id[at] = byte('0' + n%10)
					}
					key := filters.Alias(id)
					rec, _, _ := s.Claim(ctx, idempotency.ClaimRequest{
						ID: key, Token: 1, Lease: time.Second, Cap: time.Second, TTL: time.Second, MaxOpen: c.max,
					})
					_ = s.Change(ctx, key, 1, idempotency.Change{
						Op: idempotency.Finish, Response: response, Created: rec.Created, Place: rec.Place,
					})
					if c.alive > 0 && i%steps == 0 {
						passed.Add(steps * int64(time.Second) / int64(c.alive))
					}
				}
			}
			step := claim(99_999)
			for range 2 * c.alive {
				step()
			}
			cores.Run(b, claim)
		})
	}
}
