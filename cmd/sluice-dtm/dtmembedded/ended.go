package dtmembedded

import (
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// ended is the index of the transactions that have ended: a hash of the key and the place of the entry.
// Two keys of one hash are told apart by the entry's key; the second one is in a map of its own. The
// list has them in the order in which they ended, for scans and for forgetting.
type ended struct {
	byHash  map[uint64]endedSlot
	another map[string]endedSlot // those whose hash was taken
	list    []endedItem
	first   uint64 // the number of list[0]
	dead    int    // items of the list that are not there any more
}

// endedSlot is 16 bytes; at 8 for the hash, a map slot takes 24 and is idle for up to a half.
type endedSlot struct {
	at     seglog.Ref
	number uint32 // in the list, modulo 2^32
}

// endedItem is 16 bytes.
type endedItem struct {
	hash     uint64
	forgetAt uint32 // seconds since 1970; 0: the item is not there any more
	endedAt  uint32 // seconds since 1970, in whose place the two lowest bits are flags
}

const (
	flagSucceeded uint32 = 1 << iota
	flagAnother          // it is in the map another
	flagsMask     = flagSucceeded | flagAnother
)

func newEnded() ended {
	return ended{byHash: map[uint64]endedSlot{}, another: map[string]endedSlot{}}
}

func (x *ended) count() int { return len(x.byHash) + len(x.another) }

// find returns the place of a key, and whether it is certain: else the entry is another key's when its key
// differs.
func (x *ended) find(key string, hash uint64) (at seglog.Ref, certain, ok bool) {
	if s, ok := x.another[key]; ok {
		return s.at, true, true
	}
	s, ok := x.byHash[hash]
	return s.at, false, ok
}

// add puts a key in that is not there.
func (x *ended) add(key string, hash uint64, at seglog.Ref, endedAt, forgetAt uint32, succeeded bool) {
	s := endedSlot{at: at, number: uint32(x.first + uint64(len(x.list)))}
	item := endedItem{hash: hash, forgetAt: max(forgetAt, 1), endedAt: endedAt &^ flagsMask}
	if succeeded {
		item.endedAt |= flagSucceeded
	}
	if _, taken := x.byHash[hash]; taken {
		item.endedAt |= flagAnother
		x.another[key] = s
	} else {
		x.byHash[hash] = s
	}
	x.list = append(x.list, item)
}

// remove takes out the key whose entry lies there.
func (x *ended) remove(key string, hash uint64, at seglog.Ref) {
	if s, ok := x.another[key]; ok && s.at == at {
		delete(x.another, key)
		x.drop(s.number)
	} else if s, ok := x.byHash[hash]; ok && s.at == at {
		delete(x.byHash, hash)
		x.drop(s.number)
	}
}

// move says that the entry lies elsewhere now; false: it does not count at that place.
func (x *ended) move(key string, hash uint64, from, to seglog.Ref) bool {
	if s, ok := x.another[key]; ok && s.at == from {
		x.another[key] = endedSlot{to, s.number}
		return true
	}
	if s, ok := x.byHash[hash]; ok && s.at == from {
		x.byHash[hash] = endedSlot{to, s.number}
		return true
	}
	return false
}

// drop marks an item of the list, and shortens the list when much of it is dead.
func (x *ended) drop(number uint32) {
	i := number - uint32(x.first)
	x.list[i] = endedItem{}
	x.dead++
	for len(x.list) > 0 && x.list[0].forgetAt == 0 {
		x.list = x.list[1:]
		x.first++
		x.dead--
	}
}

// pack copies the list without what is dead when that is more than half of it. Numbers get smaller by it at
// most, so that a scan towards the older ones leaves none out.
func (x *ended) pack() {
	if x.dead < 1024 || x.dead < len(x.list)/2 {
		return
	}
	old := x.list
	x.list = make([]endedItem, 0, len(old)-x.dead)
	numbers := make(map[uint32]uint32, len(old)-x.dead)
	for i, item := range old {
		if item.forgetAt != 0 {
			numbers[uint32(x.first)+uint32(i)] = uint32(x.first) + uint32(len(x.list))
			x.list = append(x.list, item)
		}
	}
	x.dead = 0
	for h, s := range x.byHash {
		s.number = numbers[s.number]
		x.byHash[h] = s
	}
	for k, s := range x.another {
		s.number = numbers[s.number]
		x.another[k] = s
	}
}

// end is the number behind the newest item.
func (x *ended) end() uint64 { return x.first + uint64(len(x.list)) }

// item returns what the list has under a number between first and end; false: it is not there any more.
func (x *ended) item(number uint64) (endedItem, bool) {
	if number < x.first || number >= x.end() {
		return endedItem{}, false
	}
	it := x.list[number-x.first]
	return it, it.forgetAt != 0
}

// at returns the place of the item of that number; false: it is not there any more.
func (x *ended) at(number uint64) (seglog.Ref, bool) {
	it, ok := x.item(number)
	if !ok {
		return seglog.Ref{}, false
	}
	if it.endedAt&flagAnother == 0 {
		return x.byHash[it.hash].at, true
	}
	for _, s := range x.another { // there are hardly any
		if s.number == uint32(number) {
			return s.at, true
		}
	}
	return seglog.Ref{}, false
}

// forget takes out the item of that number, and returns the place that does not count any more.
func (x *ended) forget(number uint64) seglog.Ref {
	it, ok := x.item(number)
	at, _ := x.at(number)
	switch {
	case !ok:
		return seglog.Ref{}
	case it.endedAt&flagAnother == 0:
		delete(x.byHash, it.hash)
	default:
		for key, s := range x.another {
			if s.at == at {
				delete(x.another, key)
			}
		}
	}
	x.drop(uint32(number))
	return at
}
