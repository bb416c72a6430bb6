package sale

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// idsMax is how many IDs of an item are mirrored: some 10 MB. Of an item with more keys, sold out is told by the store.
const idsMax = 100_000

// shelf is what the process knows of an item: its numbers, and the IDs that have taken units of it, whose requests may
// be replayed. While the item is sold out and the IDs are complete, whoever is not among them is told so from memory.
// It is safe for concurrent use.
type shelf struct {
	item    Item
	metrics Metrics
	keys    *keys // of the sale: has the IDs of this item too

	taken atomic.Int64
	told  atomic.Bool  // the IDs are complete for these numbers
	read  atomic.Int64 // when the store was asked last and all of the reply merged, as elapsed gives it

	mu     sync.RWMutex
	seen   bool // the numbers have been read
	counts Counts
	synced Mark // the IDs are complete up to it
	ids    map[string]struct{}
	many   bool   // there are too many IDs to keep
	epoch  uint64 // of the store, see [Changes]
}

// newShelf returns that of an item, whose name it keeps, in a sale with these keys.
func newShelf(item Item, m Metrics, k *keys) *shelf {
	return &shelf{item: item, metrics: m, keys: k, ids: map[string]struct{}{}}
}

// addLocked mirrors an ID, and keeps the string.
func (h *shelf) addLocked(id string) {
	if _, ok := h.ids[id]; !ok {
		h.ids[id] = struct{}{}
		h.keys.add(id)
	}
}

// clearLocked drops all IDs.
func (h *shelf) clearLocked() {
	h.keys.remove(slices.Collect(maps.Keys(h.ids))...)
	h.ids = map[string]struct{}{}
}

// tells reports whether a request with that ID can be told from memory that all total units are taken. An ID that has
// taken units of another item of the sale is not: its record tells that the key was used for another request.
func (h *shelf) tells(id string, total int) bool {
	if !h.told.Load() || h.taken.Load() < int64(total) {
		return false
	}
	return !h.keys.has(id)
}

// knows reports whether an ID is among those that have taken units of an item of the sale, or tried to, as far as they
// are mirrored here.
func (h *shelf) knows(id string) bool { return h.keys.has(id) }

// elapsed returns how long the process has run, in nanoseconds: no step of a clock changes it.
func elapsed() int64 { return int64(time.Since(started)) }

var started = time.Now()

// Where other gateways sell the same item, a unit that came back can be sold by one while another still takes it for
// sold out. Whoever bought it must not be told so there. So what was read is used for no longer than readFor, and a
// purchase of what may be such a unit begins only when everybody has read of it.
const (
	readFor  = 200 * time.Millisecond
	sellWait = readFor + 50*time.Millisecond
)

// isRead reports whether the numbers and IDs were read a short time ago.
func (h *shelf) isRead() bool {
	at := h.read.Load()
	return at != 0 && elapsed()-at < int64(readFor)
}

// mayBeSoldAgain reports whether a unit that was just taken can be one that came back after all were taken.
func mayBeSoldAgain(c Counts, total int) bool { return c.Returned > 0 && c.Taken+c.Returned >= total }

// begin puts an ID among those known, before it takes units: whoever repeats it from now on waits for what it gets.
// It returns false when the ID was known.
func (h *shelf) begin(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.ids[id]; ok || h.many {
		return false
	}
	if len(h.ids) >= idsMax { // those of failed purchases too: they are read again when they are needed
		h.clearLocked()
		h.synced = Mark{}
		h.judgeLocked()
	}
	h.addLocked(strings.Clone(id))
	return true
}

// forget takes out an ID that has taken nothing.
func (h *shelf) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.ids[id]; ok {
		delete(h.ids, id)
		h.keys.remove(id)
	}
}

// observe takes the numbers after a step of this process; id is what has taken units by it, or empty. raised: the step
// raised the version. Where it was the only one that did since the IDs were complete, they still are.
func (h *shelf) observe(c Counts, id string, raised bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id != "" && !h.many {
		if _, ok := h.ids[id]; !ok {
			h.addLocked(strings.Clone(id))
		}
	}
	if raised && !c.Mixed && c.Version == h.synced.Version+1 {
		h.synced = Mark{Version: c.Version}
	}
	if c.Version > h.counts.Version || c.Version == h.counts.Version && !c.Mixed {
		h.counts, h.seen = c, true
	}
	h.judgeLocked()
}

func (h *shelf) judgeLocked() {
	h.taken.Store(int64(h.counts.Taken))
	h.told.Store(!h.many && h.seen && h.synced.Version == h.counts.Version && !h.counts.Mixed)
}

// since returns the mark from which on changes are wanted; false: the item is on sale. total is what is known of the
// stock.
func (h *shelf) since(total int) (Mark, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.synced, h.seen && h.counts.Taken >= total
}

// merge takes the changes since a mark; more: there are others. A store whose version went back has lost steps, so
// that all is read again; so may one of another epoch have, whatever its version is by now.
func (h *shelf) merge(since Mark, c Changes) (more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.synced.Version < since.Version: // they are read from the beginning meanwhile
		return true
	case h.epoch != c.Epoch, h.synced.Version == since.Version && c.Counts.Version < since.Version:
		h.clearLocked()
		h.epoch, h.counts, h.synced, h.many = c.Epoch, c.Counts, Mark{}, false
		h.judgeLocked()
		return true
	}
	for _, id := range c.IDs {
		if !h.many {
			h.addLocked(id)
		}
	}
	if len(h.ids) > idsMax {
		h.clearLocked()
		h.many = true
	}
	if c.Until.Version >= h.synced.Version {
		h.synced = c.Until
	}
	if c.Counts.Version >= h.counts.Version {
		h.counts, h.seen = c.Counts, true
	}
	h.judgeLocked()
	return c.Until.Version < c.Counts.Version
}

// numbers returns the numbers as far as they are known.
func (h *shelf) numbers() Counts {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.counts
}
