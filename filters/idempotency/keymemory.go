package idempotency

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
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
type keyMemory struct{ sets atomic.Pointer[keySetsOf] }

// keySetsOf are the sets, each under the lock of its part: processors that work on two keys rarely wait for each other.
type keySetsOf struct {
	sets  [keySets][keyWays]uint64 // at the beginning of memory that is aligned to lines
	parts [keyParts]keyPart
	seed  maphash.Seed // clients choose what is hashed
}

// keyParts is a power of two.
const keyParts = 64

type keyPart struct {
	mu sync.Mutex
	_  [56]byte // so that no two share a line
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
	h, part := s.lookUp(key)
	part.mu.Lock()
	defer part.mu.Unlock()
	set, kept := s.setLocked(h), h
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
	h, part := s.lookUp(key)
	part.mu.Lock()
	defer part.mu.Unlock()
	set := s.setLocked(h)
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
	h, part := s.lookUp(key)
	part.mu.Lock()
	defer part.mu.Unlock()
	return slices.Contains(s.setLocked(h)[:], h)
}

// lookUp returns the hash of a key, never 0, and the part whose lock guards its set.
func (s *keySetsOf) lookUp(key string) (uint64, *keyPart) {
	h := max(maphash.String(s.seed, key), 1)
	return h, &s.parts[h%keyParts]
}

func (s *keySetsOf) setLocked(h uint64) *[keyWays]uint64 { return &s.sets[h%keySets] }
