package idempotency_test

import (
	"errors"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

var (
	errSimStore = errors.New("simulated store: no reply in time")
	errSimDown  = errors.New("simulated store: connection refused")
)

// simStore is a store on the pure core: one step after the other, each at the time of the store's
// own clock. World.mu guards it.
type simStore struct {
	w       *simWorld
	records map[string]*idempotency.Record
	books   map[string]*simBook
	undo    []simUndo // the steps that a crash may take with it
	changed map[string]chan struct{}

	began     time.Time
	offset    time.Duration // of its clock
	drift     float64
	downUntil time.Time
	hindered  time.Time // when it crashed or its clock jumped for the last time
	crashes   int
	lives     int
	order     int
	lost      map[string]int // by ID: how many steps of it crashes have taken
	lastLoss  map[string]time.Time
}

// simUndo is what stood there before a step.
type simUndo struct {
	at   time.Time
	id   string
	rec  *idempotency.Record
	book simBook
}

func newSimStore(w *simWorld) *simStore {
	d := w.dice("store's clock")
	return &simStore{
		w: w, records: map[string]*idempotency.Record{}, books: map[string]*simBook{},
		changed: map[string]chan struct{}{},
		offset:  d.between(-time.Hour, time.Hour), drift: (d.Float64() - 0.5) * 0.02, lost: map[string]int{},
		lastLoss: map[string]time.Time{},
	}
}

// clock is the store's: it is wrong by hours, runs fast or slow by up to a percent, and jumps.
// Everything that a record says of time is by it.
func (s *simStore) clock() time.Time {
	real := time.Since(s.began)
	return s.began.Add(s.offset + real + time.Duration(s.drift*float64(real)))
}

func (s *simStore) jump(by time.Duration) {
	s.w.mu.Lock()
	s.offset += by
	s.hindered = time.Now()
	s.w.mu.Unlock()
	s.w.saw("clock jumps")
	s.w.trace("store's clock jumps by %v", by)
}

// crash ends the store for a while: what is on its way gets no acknowledgement, and, where it does
// not promise more, the last steps are gone.
func (s *simStore) crash(d simDice) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.crashes++
	s.hindered = time.Now()
	s.downUntil = time.Now().Add(d.between(5*time.Millisecond, 2*time.Second))
	s.w.seen["store crashes"]++
	s.w.traceLocked("store crashes until %v", s.downUntil.Sub(s.began))
	if s.w.plan.loses == 0 || !d.chance(0.7) {
		return
	}
	since := time.Now().Add(-d.between(0, s.w.plan.loses))
	touched := map[string]bool{}
	for len(s.undo) > 0 && s.undo[len(s.undo)-1].at.After(since) {
		u := s.undo[len(s.undo)-1]
		s.undo = s.undo[:len(s.undo)-1]
		if u.rec == nil {
			delete(s.records, u.id)
		} else {
			s.records[u.id] = u.rec
		}
		*s.books[u.id] = u.book
		s.lost[u.id]++
		touched[u.id] = true
	}
	for id := range touched {
		s.lastLoss[id] = time.Now()
		s.w.subjects[id].note(s.books[id])
		s.w.seen["fail-overs with loss"]++
		s.w.traceLocked("store lost steps of %s", s.w.subjects[id])
		s.wake(id)
	}
}

// resolve is an operator who settles a record: answered where the service did it, else free.
// Without force it is refused while a claim holds the record. With force the operator may be wrong,
// and no step of the record is judged from then on.
func (s *simStore) resolve(d simDice) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	subjects := w.sortedSubjects()
	if len(subjects) == 0 {
		return
	}
	id, force := subjects[d.IntN(len(subjects))].id, d.chance(0.3)
	s.look(id)
	rec, b, now := s.records[id], s.books[id], s.clock()
	if rec == nil {
		return
	}
	var stored []byte
	exec := w.service.firstOf(id, b.life)
	if exec != nil {
		stored = w.codec.Append(nil, id, exec.response(w))
	}
	next, remove, err := idempotency.Resolve(rec, stored, force, d.Uint64()|1, now)
	w.traceLocked("operator settles %s, force %v, free %v: %v", w.subjects[id], force, exec == nil, err)
	if busy := b.state(now) == simRunning && !force; busy != (err != nil) {
		w.failLocked("%s is %s, and an operator's word on it, force %v, gives %v", w.subjects[id], b.state(now), force,
			err)
	}
	if err != nil {
		return
	}
	w.seen["settled by an operator"]++
	s.remember(id)
	s.lost[id]++
	s.lastLoss[id] = time.Now()
	if remove {
		delete(s.records, id)
		*b = simBook{}
	} else {
		s.records[id] = &next
		b.holder, b.running, b.expires = &simGrant{name: "operator"}, false, now.Add(rec.TTL)
		b.answered, b.exec, b.since, exec.told = true, exec.n, time.Now(), true
	}
	s.changedRecord(id)
	s.look(id)
}

// settle is what opening a store does whose dead process was the only one: what is in flight is
// unknown at once.
func (s *simStore) settle() {
	now := s.clock()
	for id, rec := range s.records {
		s.look(id)
		if s.records[id] == nil || rec.State != idempotency.InFlight {
			continue
		}
		next := *rec
		next.State, next.Expires = idempotency.Unknown, now.Add(rec.TTL)
		s.records[id] = &next
		s.books[id].markUnknown(now, rec.TTL)
		s.w.seen["restarts that settle"]++
	}
}

// look drops an expired record, as every store does some time, and holds the core's reading of it
// against the books.
func (s *simStore) look(id string) {
	now := s.clock()
	b := s.books[id]
	if b == nil {
		b = new(simBook)
		s.books[id] = b
	}
	seen, there := idempotency.View(s.records[id], now)
	b.compare(s.w, s.w.subjects[id], seen, there, now)
	if b.live && !now.Before(b.expires) {
		*b = simBook{}
		s.w.seen["expired records"]++
	}
	if !there {
		delete(s.records, id)
	}
}

// remember keeps what a step is about to replace.
func (s *simStore) remember(id string) {
	if s.w.plan.loses > 0 {
		s.undo = append(s.undo, simUndo{time.Now(), id, s.records[id], *s.books[id]})
	}
}

func (s *simStore) wake(id string) {
	if c := s.changed[id]; c != nil {
		delete(s.changed, id)
		close(c)
	}
}
