package idempotencymemory

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// has walks the table as a search does.
func (t *table) has(tag uint32, p place) bool {
	for i := t.home(tag); t.slots[i] != 0; i = t.after(i) {
		if t.slots[i] == slotOf(tag, p) {
			return true
		}
	}
	return false
}

// TestTable adds and removes entries of few and of many tags in a random order: all that are there are found, and in
// the end the memory is given back.
func TestTable(t *testing.T) {
	t.Parallel()
	for _, tags := range []uint32{1, 5, 100, 1 << (tagBits - 1)} {
		random := rand.New(rand.NewPCG(7, uint64(tags)))
		var b table
		live, largest := map[place]uint32{}, 0
		for step := range 20_000 {
			n := place(step+1) | place(step%arenasMax)<<refBits
			if step < 10_000 && random.IntN(10) < 6 && len(live) < 3000 {
				live[n] = random.Uint32N(tags) << random.IntN(2)
				b.add(live[n], n)
			} else {
				for r, tag := range live {
					b.remove(tag, r)
					if delete(live, r); b.has(tag, r) {
						t.Fatalf("%d tags: an entry that was removed is found", tags)
					}
					break
				}
			}
			largest = max(largest, len(b.slots))
			if b.n != len(live) {
				t.Fatalf("%d tags: the table counts %d entries of %d", tags, b.n, len(live))
			}
			if step%100 == 0 {
				for r, tag := range live {
					if !b.has(tag, r) {
						t.Fatalf("%d tags: entry %d of tag %d is not found, step %d", tags, r, tag, step)
					}
				}
			}
		}
		if len(live) == 0 && (largest < 256 || len(b.slots) != tableLeast) {
			t.Errorf("%d tags: %d slots at the most, %d when all is removed", tags, largest, len(b.slots))
		}
	}
}

// TestLateEnds: records that are settled at different times after their claims are removed when they have expired, each
// in its time, though the calendar had them under earlier seconds.
func TestLateEnds(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Unix(1_790_000_000, 0)}
	s := New(c.now)
	ctx := t.Context()
	const records, ttl = 40, 10 * time.Second
	id := func(i int) string { return string(rune('A' + i)) }
	for i := range records {
		req := idempotency.ClaimRequest{ID: id(i), Token: 1, Lease: time.Hour, Cap: time.Hour, TTL: ttl}
		if _, claimed, err := s.Claim(ctx, req); err != nil || !claimed {
			t.Fatal(claimed, err)
		}
	}
	look := func() { // each call on a shard sweeps a few
		for i := range 20 * shards {
			if _, _, err := s.Get(ctx, id(records+i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range records { // one a second
		c.advance(time.Second)
		ch := idempotency.Change{Op: idempotency.Finish, Response: []byte("a")}
		if err := s.Change(ctx, id(i), 1, ch); err != nil {
			t.Fatal(err)
		}
		look()
		gone := max(0, i-int(ttl/time.Second)) // those whose seconds have passed
		if n := s.Len(); n < records-gone-1 || n > records-gone+1 {
			t.Fatalf("%d s on: %d records, want about %d", i+1, n, records-gone)
		}
	}
	c.advance(2 * ttl)
	if look(); s.Len() != 0 {
		t.Errorf("%d records are left", s.Len())
	}
}
