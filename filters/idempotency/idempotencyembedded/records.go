package idempotencyembedded

import (
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// spareEntries is how many entries of forgotten records are kept for new ones.
const spareEntries = 1024

// records is all records: those in flight and those with a step that is being written in memory, the
// others in the index. A place in the log is named by one of the two. The store's mutex guards it.
type records struct {
	open  map[string]*entry
	index index
	spare []*entry
}

func newRecords() records {
	return records{open: map[string]*entry{}, spare: make([]*entry, 0, spareEntries)}
}

// entry is a record in memory.
type entry struct {
	hash   uint64
	rec    idempotency.Record // as it stands; its response is not kept
	exists bool               // false: no record yet
	at     seglog.Ref         // nowhere when it is only in memory
	batch  *seglog.Batch      // with the step that is being written, nil without one
	next   idempotency.Record // what the record is when that is durable; State 0: removed
}

// record returns the record of an entry as it stands, nil without one.
func (e *entry) record() *idempotency.Record {
	if e == nil || !e.exists {
		return nil
	}
	return &e.rec
}

// AppendBody implements [seglog.Item].
func (e *entry) AppendBody(dst []byte) []byte {
	if e.next.State == 0 {
		return dst
	}
	return idempotency.AppendRecord(dst, &e.next)
}

// count returns how many records there are, those that have expired and were not swept among them.
func (r *records) count() int { return r.index.n + len(r.open) }

// acquire makes an entry of what was found. The ID becomes the entry's to keep.
func (r *records) acquire(f *lookup, id string) *entry {
	if f.e != nil {
		return f.e
	}
	var e *entry
	if n := len(r.spare); n > 0 {
		e = r.spare[n-1]
		r.spare = r.spare[:n-1]
	} else {
		e = new(entry)
	}
	e.hash = f.hash
	if f.at.Len != 0 {
		r.index.remove(f.hash, f.at)
		e.rec, e.exists, e.at = f.rec, true, f.at
		e.rec.Response = nil
	}
	e.rec.ID = id
	r.open[id] = e
	return e
}

// forget drops an entry from memory.
func (r *records) forget(e *entry) {
	delete(r.open, e.rec.ID)
	*e = entry{}
	if len(r.spare) < cap(r.spare) {
		r.spare = append(r.spare, e)
	}
}

// putBack takes an entry whose step failed to where it was: the index, unless it is in flight.
func (r *records) putBack(e *entry) {
	switch {
	case !e.exists:
		r.forget(e)
	case e.rec.State != idempotency.InFlight:
		r.index.add(e.hash, e.at, seconds(e.rec.Expires))
		r.forget(e)
	}
}

// standsAt reports whether the record of an ID lies at a place, and no newer step of it is being written.
func (r *records) standsAt(id string, hash uint64, at seglog.Ref) bool {
	if e := r.open[id]; e != nil {
		return e.at == at && e.batch == nil
	}
	return r.index.slot(hash, at) != nil
}

// move says that a record was copied, and reports whether it stands at the new place now.
func (r *records) move(id string, hash uint64, from, to seglog.Ref) bool {
	if e := r.open[id]; e != nil && e.at == from {
		e.at = to
		return true
	}
	if slot := r.index.slot(hash, from); slot != nil {
		slot.Ref = to
		return true
	}
	return false
}
