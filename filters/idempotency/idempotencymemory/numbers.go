package idempotencymemory

import "math/bits"

// numbers hands out the numbers of slots, from 0. Slots lie in chunks, whose memory belongs to the caller,
// and a chunk that nothing is left in is told, so that what a burst took is given back. It is after Bonwick,
// "The Slab Allocator: An Object-Caching Kernel Memory Allocator", 1994.
type numbers struct {
	per    int // slots of a chunk, at most 64
	chunks []chunk
	open   []uint32 // chunks with memory and a free slot
	bare   []uint32 // chunks without memory
}

type chunk struct {
	used uint64 // a bit a slot
	at   int    // its place in open, from 1; 0: it is not there
}

// take returns a free slot. fresh: its chunk has no memory yet.
func (n *numbers) take() (slot uint32, fresh bool) {
	if len(n.open) == 0 {
		fresh = true
		if last := len(n.bare) - 1; last >= 0 {
			n.reopen(n.bare[last])
			n.bare = n.bare[:last]
		} else {
			n.chunks = append(n.chunks, chunk{})
			n.reopen(uint32(len(n.chunks) - 1))
		}
	}
	i := n.open[len(n.open)-1]
	c := &n.chunks[i]
	bit := bits.TrailingZeros64(^c.used)
	if c.used |= 1 << bit; bits.OnesCount64(c.used) == n.per {
		n.shut(c)
	}
	return i*uint32(n.per) + uint32(bit), fresh
}

// put takes a slot back. empty: the memory of its chunk can go. One empty chunk is kept.
func (n *numbers) put(slot uint32) (empty bool) {
	i := slot / uint32(n.per)
	c := &n.chunks[i]
	c.used &^= 1 << (slot % uint32(n.per))
	if c.at == 0 {
		n.reopen(i)
	}
	if c.used != 0 || len(n.open) == 1 {
		return false
	}
	n.shut(c)
	n.bare = append(n.bare, i)
	return true
}

func (n *numbers) reopen(i uint32) {
	n.open = append(n.open, i)
	n.chunks[i].at = len(n.open)
}

// shut takes a chunk out of those that are open.
func (n *numbers) shut(c *chunk) {
	last := len(n.open) - 1
	moved := n.open[last]
	n.open[c.at-1] = moved
	n.chunks[moved].at = c.at
	n.open = n.open[:last]
	c.at = 0
}
