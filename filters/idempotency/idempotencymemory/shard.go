package idempotencymemory

import "sync"

// shards is how many parts the table from IDs to places has, a power of two.
const (
	shardBits = 32 - tagBits
	shards    = 1 << shardBits
)

// shard is a part of the table, by the hashes of IDs. Its lock is taken under that of an arena, for a few looks at the
// table.
//
// Invariant: the entries of one tag in a shard lie in one arena, so that whoever holds the arena's lock can compare
// their IDs with the one that is looked for. Who adds one has seen that no other arena has any.
type shard struct {
	mu      sync.Mutex
	records table
	_       [88]byte // what is used is in one line, and nothing in the one beside it, which processors fetch with it
}

// index is the table of a store.
type index [shards]shard

// of returns the shard and the tag of a hash.
func (x *index) of(hash uint32) (*shard, uint32) { return &x[hash%shards], hash >> shardBits }

// lookLocked returns the entry of an ID in an arena whose lock is held, 0 and nil without. elsewhere is a number of
// another arena which may have it, and then this one has not; else none.
func (h *shard) lookLocked(a *arena, tag uint32, id string) (r ref, e *entry, elsewhere int) {
	t := &h.records
	if t.n == 0 {
		return 0, nil, none
	}
	for i := t.home(tag); t.slots[i] != 0; i = t.after(i) {
		if t.slots[i].tag() != tag {
			continue
		}
		p := t.slots[i].place()
		if p.arena() != a.number {
			return 0, nil, int(p.arena())
		}
		if e := a.entries.at(p.ref()); a.named(e, id) {
			return p.ref(), e, none
		}
	}
	return 0, nil, none
}

// none is no arena's number.
const none = -1

// findLocked returns the entry of an ID as lookLocked does.
func (a *arena) findLocked(hash uint32, id string) (r ref, e *entry, elsewhere int) {
	h, tag := a.index.of(hash)
	h.mu.Lock()
	r, e, elsewhere = h.lookLocked(a, tag, id)
	h.mu.Unlock()
	return r, e, elsewhere
}

// reserveLocked is findLocked, but that an ID without an entry gets one here: r without e, to be written before the
// arena's lock is given back.
func (a *arena) reserveLocked(hash uint32, id string) (r ref, e *entry, elsewhere int) {
	h, tag := a.index.of(hash)
	h.mu.Lock()
	if r, e, elsewhere = h.lookLocked(a, tag, id); e == nil && elsewhere == none {
		r = a.entries.new()
		h.records.add(tag, a.place(r))
	}
	h.mu.Unlock()
	return r, e, elsewhere
}

// releaseLocked takes an entry out of the table and gives its place back.
func (a *arena) releaseLocked(hash uint32, r ref) {
	h, tag := a.index.of(hash)
	h.mu.Lock()
	h.records.remove(tag, a.place(r))
	h.mu.Unlock()
	a.entries.drop(r)
}
