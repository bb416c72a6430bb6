package idempotencymemory

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		c := &clock{t: time.Unix(1_790_000_000, 0).UTC()}
		s := New(c.now)
		t.Cleanup(func() {
			if n := s.waiting.Len(); n != 0 {
				t.Errorf("%d entries of waiters are left", n)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return storetest.Harness{Store: s, Advance: c.advance, Now: c.now}
	})
}

func TestConformanceOnTheRealClock(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Harness { return storetest.Harness{Store: New(nil)} })
}

// TestExpiredRecordsAreSwept: the number of records follows that of the live ones, though no call ever asks for
// the dead ones again.
func TestExpiredRecordsAreSwept(t *testing.T) {
	c := &clock{t: time.Unix(1_790_000_000, 0)}
	s := New(c.now)
	ctx := context.Background()
	for i := range 20_000 {
		req := idempotency.ClaimRequest{
			ID: fmt.Sprint(i), Token: 1, Lease: time.Second, Cap: time.Second, TTL: 9 * time.Second,
		}
		if _, claimed, err := s.Claim(ctx, req); err != nil || !claimed {
			t.Fatal(claimed, err)
		}
		c.advance(10 * time.Millisecond) // 1000 live at a time
		if n := s.Len(); n > 1500 {
			t.Fatalf("%d records after %d claims, 1000 are live; want 1500 at most", n, i+1)
		}
	}
}

// TestIDsOfOneHash: records whose IDs have the same hash are told apart, whichever of them goes first.
func TestIDsOfOneHash(t *testing.T) {
	t.Parallel()
	const hash = 64
	for gone := range 3 {
		s := newStore(time.Now, 1)
		a := &s.arenas[0]
		for _, id := range []string{"a", "b", "c"} {
			r, _, _ := a.reserveLocked(hash, id)
			a.addLocked(hash, r, &idempotency.Record{ID: id, Route: "route of " + id, Expires: s.base.Add(time.Hour)})
		}
		id := string(rune('a' + gone))
		r, e, _ := a.findLocked(hash, id)
		a.removeLocked(r, e)
		for _, other := range []string{"a", "b", "c"} {
			_, e, _ := a.findLocked(hash, other)
			if (e == nil) != (other == id) {
				t.Fatalf("without %s: %s is there: %v", id, other, e != nil)
			}
			if rec, _ := a.viewLocked(e, s.base); e != nil && (rec.ID != other || rec.Route != "route of "+other) {
				t.Errorf("%+v, want %s", rec, other)
			}
		}
	}
}

// TestMemoryIsGivenBack: what a burst of records took is free again when they have expired.
func TestMemoryIsGivenBack(t *testing.T) {
	c := &clock{t: time.Unix(1_790_000_000, 0)}
	s := New(c.now)
	ctx := context.Background()
	claim := func(i int) {
		id := fmt.Sprintf("%032d", i)
		req := idempotency.ClaimRequest{ID: id, Token: 1, Route: "route", Principal: "somebody", ClientKey: id,
			Lease: time.Second, Cap: time.Second, TTL: time.Second}
		if _, claimed, err := s.Claim(ctx, req); err != nil || !claimed {
			t.Fatal(claimed, err)
		}
		ch := idempotency.Change{Op: idempotency.Finish, Response: make([]byte, 300+i%5000)}
		if err := s.Change(ctx, id, 1, ch); err != nil {
			t.Fatal(err)
		}
	}
	chunks := func() (n int) {
		for i := range s.arenas {
			a := &s.arenas[i]
			for _, m := range a.entries.memory {
				if m != nil {
					n++
				}
			}
			for _, r := range a.heap.rooms {
				for _, m := range r.memory {
					if m != nil {
						n++
					}
				}
			}
		}
		return n
	}
	for i := range 20_000 {
		claim(i)
	}
	full := chunks()
	c.advance(10 * time.Second)
	for i := range 20_000 { // each call sweeps a few
		claim(20_000 + i)
		c.advance(time.Second)
	}
	if n := s.Len(); n > 64*8 {
		t.Fatalf("%d records", n)
	}
	if left := chunks(); left > full/3 {
		t.Errorf("%d chunks of memory at %d records, %d are left at %d", full, 20_000, left, s.Len())
	}
}

// TestPageCopiesWhatItHas: a page of few records of many costs the memory of few.
func TestPageCopiesWhatItHas(t *testing.T) {
	s := New(nil)
	ctx := context.Background()
	const records, response = 64 * 100, 4 << 10
	for i := range records {
		id := fmt.Sprintf("%032d", i)
		c := idempotency.ClaimRequest{ID: id, Token: 1, Lease: time.Hour, Cap: time.Hour, TTL: time.Hour}
		if _, _, err := s.Claim(ctx, c); err != nil {
			t.Fatal(err)
		}
		ch := idempotency.Change{Op: idempotency.Finish, Response: make([]byte, response)}
		if err := s.Change(ctx, id, 1, ch); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	list, next, err := s.Page(ctx, idempotency.Query{}, "", 2)
	runtime.ReadMemStats(&after)
	if len(list) != 2 || next == "" || err != nil {
		t.Fatalf("%d records, cursor %q, %v", len(list), next, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 20*response {
		t.Errorf("a page of 2 records of %d bytes took %d bytes", response, n)
	}
}

func BenchmarkClaimFinish(b *testing.B) {
	s := New(nil)
	ctx := context.Background()
	a := make([]byte, 200)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		id := fmt.Sprint(i)
		c := idempotency.ClaimRequest{ID: id, Token: 1, Lease: time.Second, Cap: time.Second, TTL: time.Second}
		_, _, _ = s.Claim(ctx, c)
		_ = s.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Finish, Response: a})
	}
}
