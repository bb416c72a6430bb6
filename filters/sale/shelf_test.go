package sale

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestMirrorIsBounded: beyond so many IDs nothing is told from memory, and little is kept.
func TestMirrorIsBounded(t *testing.T) {
	h := newShelf(Item{"s", "i"}, Metrics{}, new(keys))
	ids := make([]string, idsMax+1)
	for i := range ids {
		ids[i] = fmt.Sprint("id", i)
	}
	taken := Counts{Taken: len(ids), Version: uint64(len(ids))}
	h.merge(Mark{}, Changes{Counts: taken, IDs: ids[:idsMax], Until: Mark{Version: idsMax}})
	if h.tells("other", 1) {
		t.Error("it is told before all IDs are known")
	}
	h.merge(Mark{Version: idsMax}, Changes{Counts: taken, IDs: ids[idsMax:], Until: Mark{Version: taken.Version}})
	if h.tells("other", 1) || len(h.ids) > idsMax {
		t.Errorf("told with %d IDs", len(h.ids))
	}
}

// TestMirrorOfFailedPurchases: what a process has begun makes room when there is too much of it, and is read again.
func TestMirrorOfFailedPurchases(t *testing.T) {
	h := newShelf(Item{"s", "i"}, Metrics{}, new(keys))
	version := uint64(0)
	for i := range idsMax + 10 {
		id := fmt.Sprint("id", i)
		h.begin(id)
		version += 2 // it takes a unit, and gives it back
		h.observe(Counts{Taken: 1, Version: version - 1}, id, true)
		h.observe(Counts{Version: version}, "", true)
	}
	if len(h.ids) > idsMax || h.many {
		t.Errorf("%d IDs, many %v", len(h.ids), h.many)
	}
	since, _ := h.since(0)
	if since.Version != 0 || h.tells("other", 0) {
		t.Errorf("told by IDs of which a part was dropped, complete up to %d", since.Version)
	}
	h.merge(Mark{}, Changes{
		Counts: Counts{Taken: 1, Version: version + 1}, IDs: []string{"sold"}, Until: Mark{Version: version + 1},
	})
	if h.tells("sold", 1) || !h.tells("other", 1) {
		t.Error("it is not told by what was read again")
	}
}

// TestMirrorOfAnotherEpoch: where the store has lost steps, versions may have been given twice, and by the time at
// which it is looked at they can be as high as before. The buyers of the second time are known all the same.
func TestMirrorOfAnotherEpoch(t *testing.T) {
	h := newShelf(Item{"s", "i"}, Metrics{}, new(keys))
	h.merge(Mark{}, Changes{Counts: Counts{Taken: 2, Version: 2}, IDs: []string{"a", "b"}, Until: Mark{Version: 2}})
	since, _ := h.since(2)
	for more := true; more; since, _ = h.since(2) { // b is lost, and c has taken its unit
		all := Changes{Counts: Counts{Taken: 2, Version: 2}, Until: Mark{Version: 2}, Epoch: 1}
		if since.Version == 0 {
			all.IDs = []string{"a", "c"}
		}
		more = h.merge(since, all)
	}
	if h.tells("c", 2) || !h.tells("d", 2) {
		t.Error("a buyer is told that all is sold")
	}
}

// TestMirrorOfAStoreThatLost: steps that the store has lost are forgotten.
func TestMirrorOfAStoreThatLost(t *testing.T) {
	h := newShelf(Item{"s", "i"}, Metrics{}, new(keys))
	h.merge(Mark{}, Changes{Counts: Counts{Taken: 2, Version: 2}, IDs: []string{"a", "b"}, Until: Mark{Version: 2}})
	if !h.tells("c", 2) {
		t.Fatal("it is not told")
	}
	if more := h.merge(Mark{Version: 2}, Changes{Counts: Counts{Taken: 1, Version: 1}, Until: Mark{Version: 1}}); !more {
		t.Error("what is left is not read")
	}
	h.merge(Mark{}, Changes{Counts: Counts{Taken: 1, Version: 1}, IDs: []string{"a"}, Until: Mark{Version: 1}})
	if h.tells("c", 2) || !h.tells("c", 1) || h.tells("a", 1) {
		t.Error("it is told by what was lost")
	}
}

// TestMayBeSoldAgain: only where units came back, and as many as were left could have been taken before.
func TestMayBeSoldAgain(t *testing.T) {
	for _, c := range []struct {
		taken, returned int
		want            bool
	}{{10, 0, false}, {9, 0, false}, {10, 1, true}, {9, 1, true}, {8, 1, false}} {
		if got := mayBeSoldAgain(Counts{Taken: c.taken, Returned: c.returned}, 10); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestWhatWasReadIsUsedForAWhile: a gateway that could not read for long does not tell from memory.
func TestWhatWasReadIsUsedForAWhile(t *testing.T) {
	h := newShelf(Item{"s", "i"}, Metrics{}, new(keys))
	if h.isRead() {
		t.Error("nothing was read")
	}
	h.read.Store(elapsed() + int64(time.Hour))
	if !h.isRead() {
		t.Error("it was read just now")
	}
	h.read.Store(elapsed() - int64(readFor))
	if h.isRead() {
		t.Error("it was read long ago")
	}
}

// TestKeysAreCounted: the keys of a sale are those that its items mirror, however they come and go.
func TestKeysAreCounted(t *testing.T) {
	k := new(keys)
	a, b := newShelf(Item{"s", "a"}, Metrics{}, k), newShelf(Item{"s", "b"}, Metrics{}, k)
	random := rand.New(rand.NewPCG(1, 2))
	version := uint64(0)
	for step := range 20_000 {
		h, id := a, fmt.Sprint("id", random.IntN(50))
		if random.IntN(2) == 0 {
			h = b
		}
		switch random.IntN(4) {
		case 0:
			h.begin(id)
		case 1:
			h.forget(id)
		case 2:
			version++
			h.observe(Counts{Version: version}, id, true)
		case 3:
			since, _ := h.since(0)
			epoch := h.epoch
			if random.IntN(20) == 0 {
				epoch++ // all is read again
			}
			version++
			c := Changes{Counts: Counts{Version: version}, IDs: []string{id, id}, Until: Mark{Version: version}, Epoch: epoch}
			h.merge(since, c)
		}
		for i := range 50 {
			id := fmt.Sprint("id", i)
			_, ofA := a.ids[id]
			_, ofB := b.ids[id]
			if k.has(id) != (ofA || ofB) {
				t.Fatalf("step %d: %s is among the keys: %v; of a %v, of b %v", step, id, k.has(id), ofA, ofB)
			}
		}
	}
}
