package idempotencymemory

// blob is where a run of bytes lies. The zero value is none.
type blob struct {
	at, n uint32 // at: the slot in the room of its size, or the place among the large ones
}

// sizes are those of the slots, so that at most a third of one is empty, but for the smallest.
var sizes = [...]int{32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096}

const (
	sizeMost   = 4096
	chunkBytes = 16 << 10 // about what a chunk takes
)

// sizeOf has the index in sizes for a length, by 32 bytes.
var sizeOf = func() (of [sizeMost/32 + 1]uint8) {
	size := 0
	for i := range of {
		for sizes[size] < 32*i {
			size++
		}
		of[i] = uint8(size)
	}
	return of
}()

// heap keeps runs of bytes in memory in which the collector finds no pointer and has nothing to do. Those of
// more than sizeMost bytes are the runtime's. Zero value: empty.
type heap struct {
	rooms [len(sizes)]room
	large [][]byte
	unset []uint32 // places in large
}

// room has the runs of one size.
type room struct {
	numbers
	memory [][]byte // by chunk; nil without
}

// store copies bytes.
func (h *heap) store(parts ...[]byte) blob {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n == 0 {
		return blob{}
	}
	b := h.take(n)
	to := h.bytes(b)[:0]
	for _, p := range parts {
		to = append(to, p...)
	}
	return b
}

// adopt keeps bytes without a copy, which must be more than sizeMost: they are the heap's from now on.
func (h *heap) adopt(b []byte) blob {
	at := uint32(len(h.large))
	if last := len(h.unset) - 1; last >= 0 {
		at, h.unset = h.unset[last], h.unset[:last]
	} else {
		h.large = append(h.large, nil)
	}
	h.large[at] = b
	return blob{at, uint32(len(b))}
}

func (h *heap) take(n int) blob {
	if n > sizeMost {
		return h.adopt(make([]byte, n))
	}
	of := sizeOf[(n+31)/32]
	r := &h.rooms[of]
	if r.per == 0 {
		r.per = max(4, min(64, chunkBytes/sizes[of]))
	}
	slot, fresh := r.take()
	if fresh {
		i := int(slot) / r.per
		if i == len(r.memory) {
			r.memory = append(r.memory, nil)
		}
		r.memory[i] = make([]byte, r.per*sizes[of])
	}
	return blob{slot, uint32(n)}
}

// bytes returns the memory of a run, good until it is freed.
func (h *heap) bytes(b blob) []byte {
	switch {
	case b.n == 0:
		return nil
	case b.n > sizeMost:
		return h.large[b.at]
	}
	of := sizeOf[(b.n+31)/32]
	r := &h.rooms[of]
	from := int(b.at) % r.per * sizes[of]
	return r.memory[int(b.at)/r.per][from : from+int(b.n) : from+int(b.n)]
}

func (h *heap) free(b blob) {
	switch {
	case b.n == 0:
	case b.n > sizeMost:
		h.large[b.at] = nil
		h.unset = append(h.unset, b.at)
	default:
		r := &h.rooms[sizeOf[(b.n+31)/32]]
		if r.put(b.at) {
			r.memory[int(b.at)/r.per] = nil
		}
	}
}
