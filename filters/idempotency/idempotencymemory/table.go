package idempotencymemory

// table finds entries by the hashes of their IDs. It is open addressing with linear probing (Knuth, TAOCP 3, 6.4) in
// one array without pointers, so that to find one of a million takes one look at memory that is not in the caches.
// Entries of one hash stand side by side. Zero value: empty.
type table struct {
	slots []slot // their number is a power of two
	n     int
}

// slot has the upper half of a hash, whose lower half has chosen the shard, and the entry, 0 without.
type slot struct {
	tag   uint32
	entry ref
}

const tableLeast = 16

func tagOf(hash uint64) uint32 { return uint32(hash >> 32) }

// home is where the search for a tag begins.
func (t *table) home(tag uint32) int { return int(tag) & (len(t.slots) - 1) }

func (t *table) after(i int) int { return (i + 1) & (len(t.slots) - 1) }

func (t *table) add(tag uint32, r ref) {
	if 4*(t.n+1) > 3*len(t.slots) {
		t.resize(max(tableLeast, 2*len(t.slots)))
	}
	t.put(slot{tag, r})
	t.n++
}

func (t *table) put(s slot) {
	i := t.home(s.tag)
	for t.slots[i].entry != 0 {
		i = t.after(i)
	}
	t.slots[i] = s
}

func (t *table) resize(size int) {
	old := t.slots
	t.slots = make([]slot, size)
	for _, s := range old {
		if s.entry != 0 {
			t.put(s)
		}
	}
}

// remove takes an entry out, which is there, and moves those behind it up, so that no search ends too early
// (algorithm R of the same section).
func (t *table) remove(tag uint32, r ref) {
	i := t.home(tag)
	for t.slots[i].entry != r {
		i = t.after(i)
	}
	mask := len(t.slots) - 1
	for j := t.after(i); t.slots[j].entry != 0; j = t.after(j) {
		if home := t.home(t.slots[j].tag); (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = slot{}
	if t.n--; len(t.slots) > tableLeast && 8*t.n < len(t.slots) {
		t.resize(len(t.slots) / 2)
	}
}
