package idempotencymemory

// table finds entries by the hashes of their IDs. It is open addressing with linear probing (Knuth, TAOCP 3, 6.4) in
// one array without pointers, so that to find one of a million takes one look at memory that is not in the caches.
// Entries of one hash stand side by side. Zero value: empty.
type table struct {
	slots []slot // their number is a power of two
	n     int
}

// place is where an entry lies: the number of its arena, and its place there. 0 is none.
type place uint64

const (
	refBits   = 32
	arenaBits = 6
	tagBits   = 64 - arenaBits - refBits
)

func (p place) ref() ref     { return ref(p) }
func (p place) arena() uint8 { return uint8(p >> refBits & (1<<arenaBits - 1)) }

// slot is the upper part of a hash, whose lower part has chosen the shard, and the place of the entry; 0 without.
type slot uint64

func slotOf(tag uint32, p place) slot { return slot(uint64(tag)<<(arenaBits+refBits) | uint64(p)) }

func (s slot) tag() uint32  { return uint32(s >> (arenaBits + refBits)) }
func (s slot) place() place { return place(s & (1<<(arenaBits+refBits) - 1)) }

const tableLeast = 16

// home is where the search for a tag begins.
func (t *table) home(tag uint32) int { return int(tag) & (len(t.slots) - 1) }

func (t *table) after(i int) int { return (i + 1) & (len(t.slots) - 1) }

func (t *table) add(tag uint32, p place) {
	if 4*(t.n+1) > 3*len(t.slots) {
		t.resize(max(tableLeast, 2*len(t.slots)))
	}
	t.put(slotOf(tag, p))
	t.n++
}

func (t *table) put(s slot) {
	i := t.home(s.tag())
	for t.slots[i] != 0 {
		i = t.after(i)
	}
	t.slots[i] = s
}

func (t *table) resize(size int) {
	old := t.slots
	t.slots = make([]slot, size)
	for _, s := range old {
		if s != 0 {
			t.put(s)
		}
	}
}

// remove takes an entry out, which is there, and moves those behind it up, so that no search ends too early
// (algorithm R of the same section).
func (t *table) remove(tag uint32, p place) {
	i := t.home(tag)
	for t.slots[i].place() != p {
		i = t.after(i)
	}
	mask := len(t.slots) - 1
	for j := t.after(i); t.slots[j] != 0; j = t.after(j) {
		if home := t.home(t.slots[j].tag()); (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = 0
	if t.n--; len(t.slots) > tableLeast && 8*t.n < len(t.slots) {
		t.resize(len(t.slots) / 2)
	}
}
