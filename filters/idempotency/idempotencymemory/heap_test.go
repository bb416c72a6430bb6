package idempotencymemory

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestHeap takes and frees runs of all lengths in a random order: each keeps its bytes whatever becomes of the
// others, and in the end the memory is given back.
func TestHeap(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	type run struct {
		blob
		want []byte
	}
	var h heap
	var live []run
	check := func(r run) {
		if got := h.bytes(r.blob); !bytes.Equal(got, r.want) || cap(got) != len(got) {
			t.Fatalf("seed %d: a run of %d bytes has others, or room for %d", seed, len(r.want), cap(got))
		}
	}
	drop := func(i int) {
		check(live[i])
		h.free(live[i].blob)
		live[i] = live[len(live)-1]
		live = live[:len(live)-1]
	}
	for step := range 40_000 {
		if step%2 == 0 || random.IntN(3) == 0 {
			n := random.IntN(1 << random.IntN(14))
			want := bytes.Repeat([]byte{byte(step), byte(step >> 8)}, n)[:n]
			live = append(live, run{h.store(want[:n/3], want[n/3:]), want})
		}
		if step%2 == 1 && len(live) > 0 {
			drop(random.IntN(len(live)))
		}
	}
	for len(live) > 0 {
		drop(random.IntN(len(live)))
	}
	for i := range h.rooms {
		chunks := 0
		for _, m := range h.rooms[i].memory {
			if m != nil {
				chunks++
			}
		}
		if chunks > 1 {
			t.Errorf("seed %d: %d empty chunks of runs of %d bytes are kept", seed, chunks, sizes[i])
		}
	}
	for _, b := range h.large {
		if b != nil {
			t.Errorf("seed %d: a long run is kept", seed)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for n := 1; n <= sizeMost; n++ {
		size := sizes[sizeOf[(n+31)/32]]
		if size < n || n > 64 && size > n+n/2 {
			t.Errorf("a run of %d bytes takes %d", n, size)
		}
	}
}

// TestNumbers: no number is handed out twice, and a chunk has its memory told once before its use.
func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, per := range []int{1, 4, 64} {
		random := rand.New(rand.NewPCG(7, uint64(per)))
		n := numbers{per: per}
		taken, memory := map[uint32]bool{}, map[int]bool{}
		for range 20_000 {
			if random.IntN(2) == 0 || len(taken) == 0 {
				slot, fresh := n.take()
				i := int(slot) / per
				if taken[slot] || fresh == memory[i] {
					t.Fatalf("%d a chunk: slot %d taken twice (%v), or its memory (fresh %v, there %v)", per, slot,
						taken[slot], fresh, memory[i])
				}
				taken[slot], memory[i] = true, true
				continue
			}
			for slot := range taken {
				delete(taken, slot)
				if n.put(slot) {
					memory[int(slot)/per] = false
				}
				break
			}
		}
		for slot := range taken {
			if !memory[int(slot)/per] {
				t.Errorf("%d a chunk: the memory of slot %d is gone", per, slot)
			}
		}
	}
}
