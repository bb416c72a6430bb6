package memorystore

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
)

const (
	shards = 64
	// sweepPerCall is how many expired records one call removes at most. A call adds one record at most, so more than one is enough for the
	// shard to shrink.
	sweepPerCall = 4
	// spareMax is how many entries of removed records a shard keeps for new ones.
	spareMax = 256
)

// Store is an [idempotency.Store] in memory; make it with [New]. The answers of records that it returns lie in its memory: they must not
// be changed.
type Store struct {
	now     func() time.Time
	seed    maphash.Seed
	shards  [shards]shard
	waiting waiting.List

	secretsMu sync.Mutex
	secrets   map[string][]byte
}

var _ idempotency.Store = (*Store)(nil)

// New makes an empty store. now is its clock; nil is [time.Now].
func New(now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	s := &Store{now: now, seed: maphash.MakeSeed(), secrets: map[string][]byte{}}
	for i := range s.shards {
		s.shards[i].records = map[string]*entry{}
		s.shards[i].expiry.seconds = map[int64]*entry{}
	}
	return s
}

// shard is a part of the records: by ID, and by expiry.
type shard struct {
	mu      sync.Mutex
	records map[string]*entry
	expiry  calendar
	free    *entry // of removed records, to be used again; linked by behind
	spare   int    // how many
}

type entry struct {
	rec    idempotency.Record // without its answer
	answer []byte             // stored form; nil without one. In one piece it costs one allocation, and the collector looks for nothing in it.
	calendarEntry
}

// calendarEntry is an entry's place in the calendar.
type calendarEntry struct {
	second         int64
	before, behind *entry
}

// record returns the record of an entry, nil of none.
func (e *entry) record() *idempotency.Record {
	if e == nil {
		return nil
	}
	return &e.rec
}

// stored returns the stored form of the answer, nil without one.
func (e *entry) stored() []byte {
	if e == nil {
		return nil
	}
	return e.answer
}

// put stores a record in the entry that its ID has, nil for none so far. answer is the stored form of a new answer; a record that stays
// answered keeps the one that it has.
func (h *shard) put(e *entry, rec *idempotency.Record, answer []byte) {
	if e == nil {
		e = h.entry()
		e.rec = *rec
		h.records[rec.ID] = e
		h.expiry.add(e)
		return // no record begins with an answer
	}
	e.rec = *rec
	e.rec.Answer = nil
	if answer != nil || rec.State != idempotency.Answered {
		e.answer = answer
	}
	h.expiry.move(e)
}

func (h *shard) remove(e *entry) {
	delete(h.records, e.rec.ID)
	h.expiry.remove(e)
	*e = entry{}
	if h.spare < spareMax {
		e.behind = h.free
		h.free = e
		h.spare++
	}
}

// entry returns an empty one.
func (h *shard) entry() *entry {
	e := h.free
	if e == nil {
		return new(entry)
	}
	h.free = e.behind
	h.spare--
	e.behind = nil
	return e
}

func (h *shard) sweep(now time.Time) {
	for range sweepPerCall {
		e := h.expiry.expired(now)
		if e == nil {
			return
		}
		h.remove(e)
	}
}

// lock returns the record's shard, locked and swept, and the time of the call.
func (s *Store) lock(id string) (*shard, time.Time) {
	h := &s.shards[maphash.String(s.seed, id)%shards]
	h.mu.Lock()
	now := s.now()
	h.sweep(now)
	return h, now
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return idempotency.Record{}, false, err
	}
	h, now := s.lock(c.ID)
	e := h.records[c.ID]
	next, claimed := idempotency.Claim(e.record(), c, now)
	var answer []byte
	if claimed {
		own(&next)
		h.put(e, &next, nil)
	} else {
		answer = e.stored()
	}
	h.mu.Unlock()
	if claimed {
		s.waiting.Wake(c.ID)
		return next, true, nil
	}
	err := withAnswer(&next, answer)
	return next, false, err
}

// own gives the record copies of its strings, since the caller's lie in buffers that are used again: one for all of them.
func own(r *idempotency.Record) {
	var b strings.Builder
	b.Grow(len(r.ID) + len(r.Route) + len(r.Principal) + len(r.ClientKey))
	own := [...]*string{&r.ID, &r.Route, &r.Principal, &r.ClientKey}
	for _, s := range own {
		b.WriteString(*s)
	}
	rest := b.String()
	for _, s := range own {
		*s, rest = rest[:len(*s)], rest[len(*s):]
	}
}

// withAnswer gives a record its answer, read from the stored form.
func withAnswer(r *idempotency.Record, stored []byte) error {
	if stored == nil {
		return nil
	}
	a, err := idempotency.AnswerIn(stored)
	if err != nil { // memory that fails; nothing else writes there
		return fmt.Errorf("memorystore: record %s: %w", r.ID, err)
	}
	r.Answer = &a
	return nil
}

// stored returns the stored form of an answer, nil of none.
func stored(a *idempotency.Answer) []byte {
	if a == nil {
		return nil
	}
	return idempotency.AppendAnswer(make([]byte, 0, idempotency.AnswerSize(a)), a)
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var answer []byte
	switch ch.Op {
	case idempotency.Finish:
		answer = stored(ch.Answer)
	case idempotency.Hand:
		ch.GID = strings.Clone(ch.GID)
	}
	h, now := s.lock(id)
	e := h.records[id]
	next, remove, err := idempotency.Apply(e.record(), token, ch, now)
	switch {
	case err != nil:
	case remove:
		h.remove(e)
	case e.rec.State == idempotency.Answered: // the same step again: the first answer stands
	default:
		h.put(e, &next, answer)
	}
	h.mu.Unlock()
	if err == nil && ch.Op != idempotency.Renew {
		s.waiting.Wake(id)
	}
	return err
}

// Get implements [idempotency.Store].
func (s *Store) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return idempotency.Record{}, false, err
	}
	h, now := s.lock(id)
	e := h.records[id]
	rec, ok := idempotency.View(e.record(), now)
	answer := e.stored()
	h.mu.Unlock()
	if !ok {
		return rec, false, nil
	}
	err := withAnswer(&rec, answer)
	return rec, err == nil, err
}

// Wait implements [idempotency.Store]; the step that ends the claim wakes it.
func (s *Store) Wait(ctx context.Context, id string, token uint64) error {
	return s.waiting.Wait(ctx, s, id, token, s.now, nil)
}

// List implements [idempotency.Store].
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	var found []idempotency.Record
	var answers [][]byte // of those
	for i := range s.shards {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h := &s.shards[i]
		h.mu.Lock()
		now := s.now()
		for _, e := range h.records {
			if len(found) >= limit {
				break
			}
			if rec, ok := idempotency.View(&e.rec, now); ok && q.Matches(&rec) {
				found = append(found, rec)
				answers = append(answers, e.answer)
			}
		}
		h.mu.Unlock()
	}
	for i := range found {
		if err := withAnswer(&found[i], answers[i]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, answer *idempotency.Answer, force bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	kept := stored(answer)
	h, now := s.lock(id)
	e := h.records[id]
	_, there := idempotency.View(e.record(), now)
	if !there {
		h.mu.Unlock()
		return false, nil
	}
	next, remove, err := idempotency.Resolve(&e.rec, answer, force, fence.NewToken(), now)
	switch {
	case err != nil:
	case remove:
		h.remove(e)
	default:
		h.put(e, &next, kept)
	}
	h.mu.Unlock()
	if err != nil {
		return false, err
	}
	s.waiting.Wake(id)
	return true, nil
}

// Secret implements [idempotency.Store]; the secret lasts as long as the store.
func (s *Store) Secret(ctx context.Context, name string, n int) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.secretsMu.Lock()
	defer s.secretsMu.Unlock()
	secret, ok := s.secrets[name]
	if !ok {
		secret = make([]byte, n)
		_, _ = rand.Read(secret)
		s.secrets[name] = secret
	}
	if len(secret) != n {
		return nil, fmt.Errorf("memorystore: secret %q has %d bytes, asked for %d", name, len(secret), n)
	}
	return append([]byte(nil), secret...), nil
}

// Len returns the number of records held, expired ones that were not swept yet among them.
func (s *Store) Len() int {
	n := 0
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		n += len(h.records)
		h.mu.Unlock()
	}
	return n
}

// Ping implements [idempotency.Store].
func (s *Store) Ping(ctx context.Context) error { return ctx.Err() }

// Close implements [idempotency.Store]; there is nothing to release.
func (s *Store) Close() error { return nil }
