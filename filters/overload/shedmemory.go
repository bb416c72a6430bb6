package overload

import (
	"sync"
	"time"
)

// ShedMemory remembers whose requests were shed until when, by a seeded hash of the key or the
// principal. Its memory is fixed. It is safe for concurrent use.
type ShedMemory struct {
	mu   sync.Mutex
	base time.Time
	sets [][shedWays]shedEntry
}

const shedWays = 4

type shedEntry struct {
	hash  uint64
	until int64
}

// NewShedMemory makes one with room for at least entries hashes, 16 bytes each.
func NewShedMemory(entries int, now time.Time) *ShedMemory {
	sets := 1
	for sets*shedWays < entries {
		sets *= 2
	}
	return &ShedMemory{base: now, sets: make([][shedWays]shedEntry, sets)}
}

// Remember notes that a request with that hash was shed and told to come back at until. What ends
// soonest makes room. A hash of 0 is nobody.
func (m *ShedMemory) Remember(now time.Time, hash uint64, until time.Time) {
	if hash == 0 {
		return
	}
	at, end := int64(now.Sub(m.base)), int64(until.Sub(m.base))
	m.mu.Lock()
	defer m.mu.Unlock()
	set := m.set(hash)
	victim := 0
	for i := range set {
		if set[i].hash == hash || set[i].until <= at {
			victim = i
			break
		}
		if set[i].until < set[victim].until {
			victim = i
		}
	}
	set[victim] = shedEntry{hash, end}
}

// Shed tells whether a request with that hash was shed and its time has not yet passed.
func (m *ShedMemory) Shed(now time.Time, hash uint64) bool {
	if hash == 0 {
		return false
	}
	at := int64(now.Sub(m.base))
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.set(hash) {
		if e.hash == hash {
			return at < e.until
		}
	}
	return false
}

func (m *ShedMemory) set(hash uint64) *[shedWays]shedEntry {
	return &m.sets[hash>>32&uint64(len(m.sets)-1)]
}
