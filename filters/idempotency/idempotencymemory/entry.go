package idempotencymemory

import (
	"bytes"
	"iter"
	"math/bits"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// ref is an entry's place in its arena, from 1; 0 is none.
type ref uint32

// entry is a record. It has no pointers, so that the collector passes it over. Times are counted from the
// store's beginning, by the monotonic clock where there is one.
type entry struct {
	id          [idempotency.IDLength]byte // where it is so long
	token       uint64
	hash        uint32 // the upper half, see index
	second      int32  // in the calendar, as what follows
	before      ref
	behind      ref
	created     time.Duration
	leaseUntil  time.Duration
	capUntil    time.Duration
	expires     time.Duration
	ttl         time.Duration
	attempt     int
	fingerprint [32]byte
	// texts has the ID where it is of another length, then route, service, principal, client's key and GID, of
	// these lengths.
	texts         blob
	lengths       [6]uint32
	response      blob
	state         idempotency.State
	notDispatched bool
	counted       bool
}

const (
	textID = iota
	textRoute
	textService
	textPrincipal
	textKey
	textGID
)

const entriesPer = 64

// entries are those of an arena.
type entries struct {
	numbers
	memory []*[entriesPer]entry // by chunk; nil without
}

func (s *entries) at(r ref) *entry { return &s.memory[(r-1)/entriesPer][(r-1)%entriesPer] }

// there is at for a place where an entry was once; nil when there is none.
func (s *entries) there(r ref) *entry {
	if i := int((r - 1) / entriesPer); i >= len(s.memory) || s.memory[i] == nil {
		return nil
	}
	return s.at(r)
}

func (s *entries) new() ref {
	s.per = entriesPer
	slot, fresh := s.take()
	if i := int(slot / entriesPer); fresh {
		if i == len(s.memory) {
			s.memory = append(s.memory, nil)
		}
		s.memory[i] = new([entriesPer]entry)
	}
	return ref(slot + 1)
}

func (s *entries) drop(r ref) {
	*s.at(r) = entry{}
	if s.put(uint32(r - 1)) {
		s.memory[(r-1)/entriesPer] = nil
	}
}

// of yields the entries of a chunk.
func (s *entries) of(chunk int) iter.Seq[ref] {
	return func(yield func(ref) bool) {
		if chunk >= len(s.chunks) {
			return
		}
		for used := s.chunks[chunk].used; used != 0; used &= used - 1 {
			if !yield(ref(chunk*entriesPer + bits.TrailingZeros64(used) + 1)) {
				return
			}
		}
	}
}

// named reports whether the entry is that of an ID.
func (a *arena) named(e *entry, id string) bool { return filters.Alias(a.name(e)) == id }

// name returns the ID, good while the arena is locked.
func (a *arena) name(e *entry) []byte {
	if e.lengths[textID] == 0 {
		return e.id[:]
	}
	return a.heap.bytes(e.texts)[:e.lengths[textID]]
}

// owner returns by whom open keys are counted, good while the arena is locked.
func (a *arena) owner(e *entry) string { return idempotency.Owner(filters.Alias(a.name(e))) }

// decisive returns what decisions are made of: the record without its response and most of its texts. Route and
// service are good while the arena is locked and the entry's texts stay. nil of none.
func (a *arena) decisive(e *entry, rec *idempotency.Record) *idempotency.Record {
	if e == nil {
		return nil
	}
	*rec = idempotency.Record{
		State: e.state, Token: e.token, Attempt: e.attempt, Fingerprint: e.fingerprint,
		NotDispatched: e.notDispatched, Counted: e.counted, Created: a.base.Add(e.created),
		LeaseUntil: a.base.Add(e.leaseUntil), CapUntil: a.base.Add(e.capUntil), TTL: e.ttl,
		Expires: a.base.Add(e.expires),
	}
	texts := filters.Alias(a.heap.bytes(e.texts))[e.lengths[textID]:]
	rec.Route, texts = texts[:e.lengths[textRoute]], texts[e.lengths[textRoute]:]
	rec.Service = texts[:e.lengths[textService]]
	return rec
}

// complete gives a record that was read from the entry what decisive leaves out, as copies. Texts that are those
// of the claim which found it are not copied.
func (a *arena) complete(e *entry, rec *idempotency.Record, c *idempotency.ClaimRequest) {
	rec.Response = a.heap.bytes(e.response)
	if n := e.response.n; n > 0 && n <= sizeMost { // of more: nobody writes to it, and the collector keeps it
		rec.Response = append(c.Room[:0], rec.Response...)
	}
	stored := a.heap.bytes(e.texts)
	all, from := "", 0 // a copy of them, once one is needed
	known := [...]string{c.ID, c.Route, c.Service, c.Principal, c.ClientKey, ""}
	for i := range known {
		to := from + int(e.lengths[i])
		switch {
		case i == textID && to == 0 && c.ID != "": // it was found by that
		case i == textID && to == 0:
			known[i] = string(e.id[:])
		case string(stored[from:to]) != known[i]:
			if all == "" {
				all = string(stored)
			}
			known[i] = all[from:to]
		}
		from = to
	}
	rec.ID, rec.Route, rec.Service = known[textID], known[textRoute], known[textService]
	rec.Principal, rec.ClientKey, rec.GID = known[textPrincipal], known[textKey], known[textGID]
}

// write puts what was decided into the entry. The response is kept unless the record has another one, or is
// not answered any more; so is the GID where the record brings none.
func (a *arena) write(e *entry, rec *idempotency.Record) {
	e.state, e.token, e.attempt, e.fingerprint = rec.State, rec.Token, rec.Attempt, rec.Fingerprint
	e.notDispatched, e.counted, e.ttl = rec.NotDispatched, rec.Counted, rec.TTL
	e.created, e.leaseUntil = rec.Created.Sub(a.base), rec.LeaseUntil.Sub(a.base)
	e.capUntil, e.expires = rec.CapUntil.Sub(a.base), rec.Expires.Sub(a.base)
	if len(rec.Response) > 0 || rec.State != idempotency.Answered {
		a.heap.free(e.response)
		if len(rec.Response) > sizeMost { // a copy already, see ownLong
			e.response = a.heap.adopt(rec.Response)
		} else {
			e.response = a.heap.store(rec.Response)
		}
	}
	if rec.GID != "" {
		old, n := a.heap.bytes(e.texts), uint32(0)
		for _, length := range e.lengths[:textGID] {
			n += length
		}
		texts := a.heap.store(old[:n], []byte(rec.GID))
		a.heap.free(e.texts)
		e.texts, e.lengths[textGID] = texts, uint32(len(rec.GID))
	}
}

// earliest returns the second before which the record does not expire: it lives for its TTL from its end, whenever
// that comes.
func (e *entry) earliest() int32 {
	if e.state == idempotency.InFlight {
		return secondOf(e.expires - (e.capUntil - e.created))
	}
	return secondOf(e.expires)
}

// ownLong returns a copy of a response that is to be adopted, made before the arena is locked; any other one
// as it is.
func ownLong(response []byte) []byte {
	if len(response) > sizeMost {
		return bytes.Clone(response)
	}
	return response
}

// writeTexts puts the texts of a claimed record into the entry.
func (a *arena) writeTexts(e *entry, rec *idempotency.Record) {
	a.heap.free(e.texts)
	id := rec.ID
	if len(id) == len(e.id) {
		copy(e.id[:], id)
		id = ""
	}
	n := 0
	for i, s := range [...]string{id, rec.Route, rec.Service, rec.Principal, rec.ClientKey, rec.GID} {
		e.lengths[i] = uint32(len(s))
		n += len(s)
	}
	if e.texts = (blob{}); n > 0 {
		e.texts = a.heap.take(n)
		to := a.heap.bytes(e.texts)[:0]
		for _, s := range [...]string{id, rec.Route, rec.Service, rec.Principal, rec.ClientKey, rec.GID} {
			to = append(to, s...)
		}
	}
}
