package overload

import (
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Process is what the filters of one process share: its guard, and the memory of whom they have
// shed. It is safe for concurrent use.
type Process struct {
	Guard Guard

	seed   maphash.Seed // clients choose what is hashed
	memory *ShedMemory
	base   time.Time
	until  atomic.Int64 // when the last of the memory is over; most requests come when it is empty
}

// shedEntries is how many keys and principals are remembered, 16 bytes each.
const shedEntries = 1 << 16

// NewProcess returns one that remembers nobody.
func NewProcess(now time.Time) *Process {
	return &Process{seed: maphash.MakeSeed(), memory: NewShedMemory(shedEntries, now), base: now}
}

// hash is of one text in one service; 0 is nobody.
func (p *Process) hash(salt uint64, text string) uint64 {
	if text == "" {
		return 0
	}
	h := (maphash.String(p.seed, text) ^ salt) * 0x9e3779b97f4a7c15 // spread the salt over all bits
	return max(h^h>>32, 1)
}

// remember notes that a request was shed: a key and a principal by their hashes.
func (p *Process) remember(now time.Time, until time.Time, hashes ...uint64) {
	for _, h := range hashes {
		p.memory.Remember(now, h, until)
	}
	for end := int64(until.Sub(p.base)); ; {
		before := p.until.Load()
		if end <= before || p.until.CompareAndSwap(before, end) {
			return
		}
	}
}

// remembers reports whether there is anybody whose time is not over.
func (p *Process) remembers(now time.Time) bool { return int64(now.Sub(p.base)) < p.until.Load() }

const retryAfterMax = 60 * time.Second

// spread turns the time until there is room into when a client is told to come again: at least one
// whole second, and up to as much again and two seconds later, so that those who were shed together
// do not come back together.
func spread(d time.Duration) time.Duration {
	whole := max((min(d, retryAfterMax)+time.Second-1)/time.Second, 1)
	return (whole + rand.N(whole+2)) * time.Second
}
