package idempotency

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// keyWays hashes share a set, one cache line with its lock; keySets sets are 1.2 MB for 131,075 keys.
	keyWays = 7
	keySets = 18_725
)

// keyMemory remembers keys that have records, as far as this process has seen, so that a duplicate goes to its record
// also while other requests are refused before their claims. The key that was seen longest ago makes room. A hash that
// two keys share sends one of them to the store in vain. The zero value remembers none and has no memory yet; it is
// safe for concurrent use.
type keyMemory struct{ sets atomic.Pointer[keySetsOf] }

// keySetsOf are the sets, each under a lock of its own, so that a step takes one line of the caches.
type keySetsOf struct {
	sets [keySets]keySet // at the beginning of memory that is aligned to lines
	seed maphash.Seed    // clients choose what is hashed
}

type keySet struct {
	mu   sync.Mutex
	keys [keyWays]uint64
}

// add notes a key as the one that was seen last, and reports whether it was not remembered before.
func (m *keyMemory) add(key string) (fresh bool) {
	s := m.sets.Load()
	if s == nil {
		s = &keySetsOf{seed: maphash.MakeSeed()}
		if !m.sets.CompareAndSwap(nil, s) {
			s = m.sets.Load()
		}
	}
	h, of := s.lookUp(key)
	of.mu.Lock()
	defer of.mu.Unlock()
	set, kept := &of.keys, h
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
	s := m.sets.Load()
	if s == nil {
		return
	}
	h, of := s.lookUp(key)
	of.mu.Lock()
	defer of.mu.Unlock()
	set := &of.keys
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
	s := m.sets.Load()
	if s == nil {
		return false
	}
	h, of := s.lookUp(key)
	of.mu.Lock()
	defer of.mu.Unlock()
	return slices.Contains(of.keys[:], h)
}

// lookUp returns the hash of a key, never 0, and its set.
func (s *keySetsOf) lookUp(key string) (uint64, *keySet) {
	h := max(maphash.String(s.seed, key), 1)
	return h, &s.sets[h%keySets]
}
