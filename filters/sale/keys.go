package sale

import "sync"

// keys are the IDs that the items of one sale mirror, each with how many of them do: more than one where a key came
// again with another item. The zero value is empty; it is safe for concurrent use.
type keys struct {
	mu sync.RWMutex
	of map[string]uint32
}

func (k *keys) has(id string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.of[id]
	return ok
}

// add takes an ID in for one more item. It keeps the string.
func (k *keys) add(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil {
		k.of = map[string]uint32{}
	}
	k.of[id]++
}

// remove takes IDs out that an item mirrors no more.
func (k *keys) remove(ids ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		if n := k.of[id]; n > 1 {
			k.of[id] = n - 1
		} else {
			delete(k.of, id)
		}
	}
}
