package idempotency

import (
	"hash/maphash"
	"sync"
)

const (
	// keyWays hashes share a set, one cache line; keySets sets are 1 MiB for 131,072 keys.
	keyWays = 8
	keySets = 1 << 14
)

// keyMemory remembers keys that have records, as far as this process has seen, so that a duplicate goes to its record
// also while other requests are refused before their claims. The key that was seen longest ago makes room. A hash that
// two keys share sends one of them to the store in vain. The zero value remembers none and has no memory yet; it is
// safe for concurrent use.
type keyMemory struct {
	mu   sync.Mutex
	seed maphash.Seed // clients choose what is hashed
	sets *[keySets][keyWays]uint64
}

// add notes a key as the one that was seen last, and reports whether it was not remembered before.
func (m *keyMemory) add(key string) (fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sets == nil {
		m.seed, m.sets = maphash.MakeSeed(), new([keySets][keyWays]uint64)
	}
	h, set := m.lookUpLocked(key)
	kept := h
	for i := range set { // those before it move on by one, and it to the front
		h, set[i] = set[i], h
		if h == kept || h == 0 {
			return h == 0
		}
	}
	return true
}

// remove takes a key out.
func (m *keyMemory) remove(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sets == nil {
		return
	}
	h, set := m.lookUpLocked(key)
	for i := range set {
		if set[i] == h {
			copy(set[i:], set[i+1:])
			set[keyWays-1] = 0
			return
		}
	}
}

// has reports whether the key is remembered.
func (m *keyMemory) has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sets == nil {
		return false
	}
	h, set := m.lookUpLocked(key)
	for _, other := range set {
		if other == h {
			return true
		}
	}
	return false
}

// lookUpLocked returns the hash of a key, never 0, and its set.
func (m *keyMemory) lookUpLocked(key string) (uint64, *[keyWays]uint64) {
	h := max(maphash.String(m.seed, key), 1)
	return h, &m.sets[h%keySets]
}
