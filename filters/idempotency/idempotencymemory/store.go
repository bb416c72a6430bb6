package idempotencymemory

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/openkeys"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
)

const (
	shards = 64
	// sweepPerCall is how many expired records one call removes at most. A call adds one record at most, so
	// more than one is enough for the shard to shrink.
	sweepPerCall = 4
	// spareMax is how many entries of removed records a shard keeps for new ones.
	spareMax = 256
)

// Store is an [idempotency.Store] in memory; make it with [New]. It is safe for concurrent use. The recorded
// responses of records that it returns lie in its memory: they must not be changed.
type Store struct {
	now      func() time.Time
	seed     maphash.Seed
	shards   [shards]shard
	waiting  waiting.List
	openKeys openkeys.Counter

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
		s.shards[i].openKeys = &s.openKeys
		s.shards[i].records = map[string]*entry{}
		s.shards[i].expiry.seconds = map[int64]*entry{}
	}
	return s
}

// shard is a part of the records: by ID, and by expiry. The mutex guards what is behind it.
type shard struct {
	openKeys *openkeys.Counter

	mu      sync.Mutex
	records map[string]*entry
	expiry  calendar
	spare   *entry // of removed records, to be used again; linked by behind
	spares  int    // how many
}

type entry struct {
	rec idempotency.Record
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

// putLocked stores a record in the entry that its ID has, nil for none so far.
func (h *shard) putLocked(e *entry, rec *idempotency.Record) {
	if e == nil {
		e = h.newEntryLocked()
		e.rec = *rec
		h.records[rec.ID] = e
		h.expiry.add(e)
		return
	}
	switch {
	case rec.Counted && e.rec.Counted:
		h.openKeys.Move(idempotency.Owner(rec.ID), e.rec.Expires, rec.Expires)
	case e.rec.Counted:
		h.openKeys.Remove(idempotency.Owner(rec.ID), e.rec.Expires)
	}
	e.rec = *rec
	h.expiry.move(e)
}

func (h *shard) removeLocked(e *entry) {
	if e.rec.Counted {
		h.openKeys.Remove(idempotency.Owner(e.rec.ID), e.rec.Expires)
	}
	delete(h.records, e.rec.ID)
	h.expiry.remove(e)
	*e = entry{}
	if h.spares < spareMax {
		e.behind = h.spare
		h.spare = e
		h.spares++
	}
}

func (h *shard) newEntryLocked() *entry {
	e := h.spare
	if e == nil {
		return new(entry)
	}
	h.spare = e.behind
	h.spares--
	e.behind = nil
	return e
}

// sweepLocked removes a few of the expired records. Each call on a shard begins with it.
func (h *shard) sweepLocked(now time.Time) {
	for range sweepPerCall {
		e := h.expiry.expired(now)
		if e == nil {
			return
		}
		h.removeLocked(e)
	}
}

func (s *Store) shard(id string) *shard { return &s.shards[maphash.String(s.seed, id)%shards] }

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return idempotency.Record{}, false, err
	}
	h := s.shard(c.ID)
	h.mu.Lock()
	now := s.now()
	h.sweepLocked(now)
	e := h.records[c.ID]
	next, claimed := idempotency.Claim(e.record(), c, now)
	if !claimed {
		h.mu.Unlock()
		return next, false, nil
	}
	if !h.countLocked(e.record(), &next, c.MaxOpen, now) {
		h.mu.Unlock()
		return idempotency.Record{}, false, idempotency.ErrTooManyOpen
	}
	next.OwnTexts()
	h.putLocked(e, &next)
	h.mu.Unlock()
	s.waiting.Wake(c.ID)
	return next, true, nil
}

// countLocked counts a claimed record that has to be; false: its owner has too many.
func (h *shard) countLocked(old, next *idempotency.Record, most int, now time.Time) bool {
	owner := idempotency.Owner(next.ID)
	if !next.Counted {
		return true
	}
	if _, live := idempotency.View(old, now); live { // a further attempt
		if !old.Counted {
			h.openKeys.Keep(owner, next.Expires)
		}
		return true
	}
	if old != nil && old.Counted { // over, and not swept yet; putLocked shall not move it
		h.openKeys.Remove(owner, old.Expires)
		old.Counted = false
	}
	return h.openKeys.Add(owner, next.Expires, now, most)
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch ch.Op {
	case idempotency.Finish:
		ch.Response = bytes.Clone(ch.Response)
	case idempotency.Delegate:
		ch.GID = strings.Clone(ch.GID)
	}
	h := s.shard(id)
	h.mu.Lock()
	now := s.now()
	h.sweepLocked(now)
	e := h.records[id]
	next, remove, err := idempotency.Apply(e.record(), token, ch, now)
	switch {
	case err != nil:
	case remove:
		h.removeLocked(e)
	default:
		h.putLocked(e, &next)
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
	h := s.shard(id)
	h.mu.Lock()
	now := s.now()
	h.sweepLocked(now)
	e := h.records[id]
	rec, ok := idempotency.View(e.record(), now)
	h.mu.Unlock()
	return rec, ok, nil
}

// Wait implements [idempotency.Store]; the step that ends the claim wakes it.
func (s *Store) Wait(ctx context.Context, id string, token uint64) error {
	return s.waiting.Wait(ctx, s, id, token, s.now, nil)
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, response []byte, force bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	response = bytes.Clone(response)
	h := s.shard(id)
	h.mu.Lock()
	now := s.now()
	h.sweepLocked(now)
	e := h.records[id]
	_, there := idempotency.View(e.record(), now)
	if !there {
		h.mu.Unlock()
		return false, nil
	}
	next, remove, err := idempotency.Resolve(&e.rec, response, force, fence.NewToken(), now)
	switch {
	case err != nil:
	case remove:
		h.removeLocked(e)
	default:
		h.putLocked(e, &next)
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
		return nil, fmt.Errorf("idempotencymemory: secret %q has %d bytes, asked for %d", name, len(secret), n)
	}
	return append([]byte(nil), secret...), nil
}

// Census implements [idempotency.Counter]. It looks at every record.
func (s *Store) Census(ctx context.Context) (c idempotency.Census, err error) {
	for i := range s.shards {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		h := &s.shards[i]
		h.mu.Lock()
		now := s.now()
		for _, e := range h.records {
			c.Add(&e.rec, now)
		}
		h.mu.Unlock()
	}
	return c, nil
}

// Len returns the number of records, expired ones that were not swept yet among them.
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
