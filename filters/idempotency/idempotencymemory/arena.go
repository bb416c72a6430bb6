package idempotencymemory

import (
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/openkeys"
)

// arena has the records that one processor has claimed, with their texts and responses, and their calendar: so that
// what a claim writes next is in the caches of the processor that makes it. The mutex guards what is behind it; a
// record is read and changed under the lock of its arena, wherever that is done.
type arena struct {
	base     time.Time
	openKeys *openkeys.Counter
	index    *index
	number   uint8

	calls atomic.Uint32 // of its processor

	mu      sync.Mutex
	entries entries
	expiry  calendar
	heap    heap
	_       [64]byte // so that no two processors need one line for two arenas
}

const (
	arenasMax = 1 << arenaBits
	// sweepPerCall is how many expired records one call removes at most. A call adds one record at most, so
	// more than one is enough for the arena to shrink.
	sweepPerCall = 4
	// One call in so many sweeps another arena, whose processor may have nothing to do any more.
	sweepOthers = 32
)

// newArenas returns as many as there are processors, rounded up to a power of two.
func newArenas(base time.Time, processors int, openKeys *openkeys.Counter) []arena {
	arenas := make([]arena, 1<<bits.Len(uint(min(max(processors, 1), arenasMax)-1)))
	index := new(index)
	for i := range arenas {
		a := &arenas[i]
		a.base, a.openKeys, a.index, a.number = base, openKeys, index, uint8(i)
		a.expiry = calendar{entries: &a.entries, seconds: map[int32]ref{}}
	}
	return arenas
}

func (a *arena) place(r ref) place { return place(a.number)<<refBits | place(r) }

// addLocked stores a record in the place that is reserved for it.
func (a *arena) addLocked(hash uint32, r ref, rec *idempotency.Record) {
	e := a.entries.at(r)
	e.hash = hash
	a.writeTexts(e, rec)
	a.write(e, rec)
	a.expiry.add(r, e.earliest())
}

// changeLocked stores a record in the place of another one. claimed: it comes from a claim, with its texts.
func (a *arena) changeLocked(r ref, e *entry, rec *idempotency.Record, claimed bool) {
	if e.counted {
		was := a.base.Add(e.expires)
		if rec.Counted {
			a.openKeys.Move(a.owner(e), was, a.counted(rec.Expires))
		} else {
			a.openKeys.Remove(a.owner(e), was)
		}
	}
	if claimed {
		a.writeTexts(e, rec)
	}
	a.write(e, rec)
	a.expiry.move(r, e.earliest())
}

func (a *arena) removeLocked(r ref, e *entry) {
	if e.counted {
		a.openKeys.Remove(a.owner(e), a.base.Add(e.expires))
	}
	a.expiry.remove(r)
	a.heap.free(e.texts)
	a.heap.free(e.response)
	a.releaseLocked(e.hash, r)
}

// sweepLocked removes some of the expired records. Each call on an arena begins with it.
func (a *arena) sweepLocked(now time.Time, most int) {
	at := now.Sub(a.base)
	for range most {
		r := a.expiry.due(at)
		if r == 0 {
			return
		}
		if e := a.entries.at(r); e.expires <= at {
			a.removeLocked(r, e)
		} else { // it has been settled since it was put there
			a.expiry.remove(r)
			a.expiry.add(r, secondOf(e.expires))
		}
	}
}

// claimLocked is [Store.Claim] in this arena. elsewhere: another one may have the record, and nothing was done.
func (a *arena) claimLocked(hash uint32, c *idempotency.ClaimRequest, now time.Time) (
	next idempotency.Record, claimed bool, err error, elsewhere int,
) {
	r, e, elsewhere := a.reserveLocked(hash, c.ID)
	if elsewhere != none {
		return next, false, nil, elsewhere
	}
	var old idempotency.Record
	found := a.decisive(e, &old)
	if next, claimed = idempotency.Claim(found, *c, now); !claimed {
		a.complete(e, &next, c)
		return next, false, nil, none
	}
	if !a.countLocked(e, found, &next, c.MaxOpen, now) {
		if e == nil {
			a.releaseLocked(hash, r)
		}
		return idempotency.Record{}, false, idempotency.ErrTooManyOpen, none
	}
	if e == nil {
		a.addLocked(hash, r, &next)
	} else {
		if next.Attempt > 1 { // whose texts are those of the entry, and are about to be written again
			next.Route, next.Service = strings.Clone(next.Route), strings.Clone(next.Service)
		}
		a.changeLocked(r, e, &next, true)
	}
	next.Place = uint64(a.place(r))
	return next, true, nil, none
}

// countLocked counts a claimed record that has to be; false: its owner has too many.
func (a *arena) countLocked(e *entry, old, next *idempotency.Record, most int, now time.Time) bool {
	owner := idempotency.Owner(next.ID)
	if !next.Counted {
		return true
	}
	if _, live := idempotency.View(old, now); live { // a further attempt
		if !e.counted {
			a.openKeys.Keep(owner, a.counted(next.Expires))
		}
		return true
	}
	if e != nil && e.counted { // over, and not swept yet; changeLocked shall not move it
		a.openKeys.Remove(owner, a.base.Add(e.expires))
		e.counted = false
	}
	return a.openKeys.Add(owner, a.counted(next.Expires), a.counted(now), most)
}

// counted returns a time as open keys are counted under it: as the entry will tell it. The wall clock may have been
// stepped since the store's beginning, and the count goes by that of a time.
func (a *arena) counted(t time.Time) time.Time { return a.base.Add(t.Sub(a.base)) }

// placedLocked returns the entry at a place if it is still the claim's there, which its token tells; 0 and nil if not.
func (a *arena) placedLocked(p place, token uint64, id string) (ref, *entry) {
	r := p.ref()
	if r == 0 || p.arena() != a.number {
		return 0, nil
	}
	if e := a.entries.there(r); e != nil && e.token == token && a.named(e, id) {
		return r, e
	}
	return 0, nil
}

// changeRecordLocked is [Store.Change] in this arena. elsewhere: another one may have the record, and nothing was done.
func (a *arena) changeRecordLocked(
	hash uint32, id string, token uint64, ch *idempotency.Change, now time.Time,
) (err error, elsewhere int) {
	r, e := a.placedLocked(place(ch.Place), token, id)
	if e == nil {
		if r, e, elsewhere = a.findLocked(hash, id); elsewhere != none {
			return nil, elsewhere
		}
	}
	var old idempotency.Record
	next, remove, err := idempotency.Apply(a.decisive(e, &old), token, *ch, now)
	a.settleLocked(r, e, &next, remove, err)
	return err, none
}

// resolveLocked is [Store.Resolve] in this arena. elsewhere: another one may have the record, and nothing was done.
func (a *arena) resolveLocked(
	hash uint32, id string, response []byte, force bool, now time.Time,
) (there bool, err error, elsewhere int) {
	r, e, elsewhere := a.findLocked(hash, id)
	if e == nil {
		return false, nil, elsewhere
	}
	var old idempotency.Record
	rec := a.decisive(e, &old)
	if _, there = idempotency.View(rec, now); !there {
		return false, nil, none
	}
	next, remove, err := idempotency.Resolve(rec, response, force, fence.NewToken(), now)
	a.settleLocked(r, e, &next, remove, err)
	return true, err, none
}

// settleLocked stores what was decided.
func (a *arena) settleLocked(r ref, e *entry, next *idempotency.Record, remove bool, err error) {
	switch {
	case err != nil:
	case remove:
		a.removeLocked(r, e)
	default:
		a.changeLocked(r, e, next, false)
	}
}

// viewLocked returns the record of an entry as it reads now; false when it is not there any more.
func (a *arena) viewLocked(e *entry, now time.Time) (idempotency.Record, bool) {
	var old idempotency.Record
	rec, ok := idempotency.View(a.decisive(e, &old), now)
	if ok {
		a.complete(e, &rec, &idempotency.ClaimRequest{})
	}
	return rec, ok
}
