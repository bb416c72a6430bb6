package idempotencyembedded

import (
	"math/bits"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// index says where the records lie that are not in flight. A slot names a record by a hash of its ID only:
// the entry has the ID. The index has no pointers, so that the garbage collector does not walk it, and
// grows a shard at a time, so that no call waits long for it.
type index struct {
	shards [indexShards]table
	n      int
}

const indexShards = 256

// slot costs 24 bytes.
type slot struct {
	hash    uint64
	expires uint32 // Unix seconds, rounded up
	seglog.Ref
}

// table is a hash table with linear probing. Its size is no power of two: it grows by a half, so that at
// most that much lies idle.
type table struct {
	slots []slot
	n     int
}

func seconds(t time.Time) uint32 {
	return uint32(min(max(t.Add(time.Second-1).Unix(), 0), 1<<32-1))
}

func (x *index) table(hash uint64) *table { return &x.shards[hash>>56] }

// home is where the search for a hash begins. The shard has used up its first bits.
func (t *table) home(hash uint64) int {
	hi, _ := bits.Mul64(hash<<8, uint64(len(t.slots)))
	return int(hi)
}

func (t *table) after(i int) int {
	if i++; i < len(t.slots) {
		return i
	}
	return 0
}

// find appends where records of that hash lie.
func (x *index) find(hash uint64, to []seglog.Ref) []seglog.Ref {
	t := x.table(hash)
	if t.n == 0 {
		return to
	}
	for i := t.home(hash); t.slots[i].Len != 0; i = t.after(i) {
		if t.slots[i].hash == hash {
			to = append(to, t.slots[i].Ref)
		}
	}
	return to
}

func (x *index) add(hash uint64, at seglog.Ref, expires uint32) {
	t := x.table(hash)
	if t.n*5 >= len(t.slots)*4 {
		t.resize(max(16, len(t.slots)+len(t.slots)/2))
	}
	t.put(slot{hash, expires, at})
	t.n++
	x.n++
}

func (t *table) put(s slot) {
	i := t.home(s.hash)
	for t.slots[i].Len != 0 {
		i = t.after(i)
	}
	t.slots[i] = s
}

func (t *table) resize(size int) {
	old := t.slots
	t.slots = make([]slot, size)
	for _, s := range old {
		if s.Len != 0 {
			t.put(s)
		}
	}
}

// slot returns the slot of a record at a place, nil when there is none.
func (x *index) slot(hash uint64, at seglog.Ref) *slot {
	t := x.table(hash)
	if t.n == 0 {
		return nil
	}
	for i := t.home(hash); t.slots[i].Len != 0; i = t.after(i) {
		if t.slots[i].hash == hash && t.slots[i].Ref == at {
			return &t.slots[i]
		}
	}
	return nil
}

func (x *index) remove(hash uint64, at seglog.Ref) bool {
	t := x.table(hash)
	if t.n == 0 {
		return false
	}
	for i := t.home(hash); t.slots[i].Len != 0; i = t.after(i) {
		if t.slots[i].hash == hash && t.slots[i].Ref == at {
			t.clear(i)
			x.n--
			return true
		}
	}
	return false
}

// clear empties a slot and moves those behind it up, so that no search ends too early (Knuth, TAOCP 3, 6.4,
// algorithm R).
func (t *table) clear(i int) {
	t.n--
	for j := i; ; {
		t.slots[i] = slot{}
		for {
			j = t.after(j)
			if t.slots[j].Len == 0 {
				return
			}
			if home := t.home(t.slots[j].hash); i <= j && (home <= i || home > j) || i > j && home <= i && home > j {
				break
			}
		}
		t.slots[i] = t.slots[j]
		i = j
	}
}

// sweep removes what has expired from one shard, and calls gone for each.
func (x *index) sweep(shard int, now time.Time, gone func(seglog.Ref)) {
	t, limit := &x.shards[shard], now.Unix()
	for i := 0; i < len(t.slots); {
		if t.slots[i].Len == 0 || int64(t.slots[i].expires) > limit {
			i++
			continue
		}
		gone(t.slots[i].Ref)
		t.clear(i) // another one may have moved here
		x.n--
	}
	if len(t.slots) > 64 && t.n*4 < len(t.slots) {
		t.resize(len(t.slots) / 2)
	}
}
