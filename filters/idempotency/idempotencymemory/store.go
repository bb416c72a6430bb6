package idempotencymemory

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
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/openkeys"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
)

const (
	shards = 16
	// sweepPerCall is how many expired records one call removes at most. A call adds one record at most, so
	// more than one is enough for the shard to shrink.
	sweepPerCall = 4
)

// Store is an [idempotency.Store] in memory; make it with [New]. It is safe for concurrent use. What it returns
// are copies, but for long responses, which must not be changed.
type Store struct {
	now      func() time.Time
	base     time.Time // what times are counted from
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
	s := &Store{now: now, base: now(), seed: maphash.MakeSeed(), secrets: map[string][]byte{}}
	for i := range s.shards {
		h := &s.shards[i]
		h.base, h.openKeys = s.base, &s.openKeys
		h.expiry = calendar{entries: &h.entries, seconds: map[int32]ref{}}
	}
	return s
}

// shard is a part of the records: by ID, and by expiry. The mutex guards what is behind it.
type shard struct {
	base     time.Time
	openKeys *openkeys.Counter

	mu      sync.Mutex
	records table
	entries entries
	heap    heap
	expiry  calendar
	_       [64]byte // so that no two processors need one line for two shards
}

// findLocked returns the entry of an ID, 0 and nil without.
func (h *shard) findLocked(hash uint64, id string) (ref, *entry) {
	t, tag := &h.records, tagOf(hash)
	if t.n == 0 {
		return 0, nil
	}
	for i := t.home(tag); t.slots[i].entry != 0; i = t.after(i) {
		if t.slots[i].tag != tag {
			continue
		}
		r := t.slots[i].entry
		if e := h.entries.at(r); h.named(e, id) {
			return r, e
		}
	}
	return 0, nil
}

// allLocked yields every entry.
func (h *shard) allLocked(yield func(ref) bool) {
	for _, s := range h.records.slots {
		if s.entry != 0 && !yield(s.entry) {
			return
		}
	}
}

// addLocked stores a record under an ID that has none.
func (h *shard) addLocked(hash uint64, rec *idempotency.Record) ref {
	r := h.entries.new()
	e := h.entries.at(r)
	e.tag = tagOf(hash)
	h.records.add(e.tag, r)
	h.writeTexts(e, rec)
	h.write(e, rec)
	h.expiry.add(r, e.earliest())
	return r
}

// changeLocked stores a record in the place of another one. claimed: it comes from a claim, with its texts.
func (h *shard) changeLocked(r ref, e *entry, rec *idempotency.Record, claimed bool) {
	if e.counted {
		was := h.base.Add(e.expires)
		if rec.Counted {
			h.openKeys.Move(h.owner(e), was, rec.Expires)
		} else {
			h.openKeys.Remove(h.owner(e), was)
		}
	}
	if claimed {
		h.writeTexts(e, rec)
	}
	h.write(e, rec)
	h.expiry.move(r, e.earliest())
}

func (h *shard) removeLocked(r ref, e *entry) {
	if e.counted {
		h.openKeys.Remove(h.owner(e), h.base.Add(e.expires))
	}
	h.records.remove(e.tag, r)
	h.expiry.remove(r)
	h.heap.free(e.texts)
	h.heap.free(e.response)
	h.entries.drop(r)
}

// sweepLocked removes a few of the expired records. Each call on a shard begins with it.
func (h *shard) sweepLocked(now time.Time) {
	at := now.Sub(h.base)
	for range sweepPerCall {
		r := h.expiry.due(at)
		if r == 0 {
			return
		}
		if e := h.entries.at(r); e.expires <= at {
			h.removeLocked(r, e)
		} else { // it has been settled since it was put there
			h.expiry.remove(r)
			h.expiry.add(r, secondOf(e.expires))
		}
	}
}

// shard returns the shard of an ID, and the hash that it has there.
func (s *Store) shard(id string) (*shard, uint64) {
	hash := maphash.String(s.seed, id)
	return &s.shards[hash%shards], hash
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return idempotency.Record{}, false, err
	}
	h, hash := s.shard(c.ID)
	h.mu.Lock()
	now := s.now()
	h.sweepLocked(now)
	r, e := h.findLocked(hash, c.ID)
	var old idempotency.Record
	found := h.decisive(e, &old)
	next, claimed := idempotency.Claim(found, c, now)
	if !claimed {
		h.complete(e, &next, &c)
		h.mu.Unlock()
		return next, false, nil
	}
	if !h.countLocked(e, found, &next, c.MaxOpen, now) {
		h.mu.Unlock()
		return idempotency.Record{}, false, idempotency.ErrTooManyOpen
	}
	if e == nil {
		r = h.addLocked(hash, &next)
	} else {
		if next.Attempt > 1 { // whose texts are those of the entry, and are about to be written again
			next.Route, next.Service = strings.Clone(next.Route), strings.Clone(next.Service)
		}
		h.changeLocked(r, e, &next, true)
	}
	h.mu.Unlock()
	s.waiting.Wake(c.ID)
	next.Place = uint64(r)
	return next, true, nil
}

// countLocked counts a claimed record that has to be; false: its owner has too many.
func (h *shard) countLocked(e *entry, old, next *idempotency.Record, most int, now time.Time) bool {
	owner := idempotency.Owner(next.ID)
	if !next.Counted {
		return true
	}
	if _, live := idempotency.View(old, now); live { // a further attempt
		if !e.counted {
			h.openKeys.Keep(owner, next.Expires)
		}
		return true
	}
	if e != nil && e.counted { // over, and not swept yet; changeLocked shall not move it
		h.openKeys.Remove(owner, h.base.Add(e.expires))
		e.counted = false
	}
	return h.openKeys.Add(owner, next.Expires, now, most)
}

// placedLocked returns the entry at a place if it is still the claim's there, which its token tells; 0 and nil if not.
func (h *shard) placedLocked(r ref, token uint64, id string) (ref, *entry) {
	if r == 0 {
		return 0, nil
	}
	if e := h.entries.there(r); e != nil && e.token == token && h.named(e, id) {
		return r, e
	}
	return 0, nil
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ch.Response = ownLong(ch.Response)
	h, hash := s.shard(id)
	h.mu.Lock()
	now := s.now()
	h.sweepLocked(now)
	r, e := h.placedLocked(ref(ch.Place), token, id)
	if e == nil {
		r, e = h.findLocked(hash, id)
	}
	var old idempotency.Record
	next, remove, err := idempotency.Apply(h.decisive(e, &old), token, ch, now)
	switch {
	case err != nil:
	case remove:
		h.removeLocked(r, e)
	default:
		h.changeLocked(r, e, &next, false)
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
	h, hash := s.shard(id)
	h.mu.Lock()
	defer h.mu.Unlock()
	now := s.now()
	h.sweepLocked(now)
	_, e := h.findLocked(hash, id)
	rec, ok := h.viewLocked(e, now)
	return rec, ok, nil
}

// viewLocked returns the record of an entry as it reads now; false when it is not there any more.
func (h *shard) viewLocked(e *entry, now time.Time) (idempotency.Record, bool) {
	var old idempotency.Record
	rec, ok := idempotency.View(h.decisive(e, &old), now)
	if ok {
		h.complete(e, &rec, &idempotency.ClaimRequest{})
	}
	return rec, ok
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
	response = ownLong(response)
	h, hash := s.shard(id)
	h.mu.Lock()
	now := s.now()
	h.sweepLocked(now)
	r, e := h.findLocked(hash, id)
	var old idempotency.Record
	rec := h.decisive(e, &old)
	_, there := idempotency.View(rec, now)
	if !there {
		h.mu.Unlock()
		return false, nil
	}
	next, remove, err := idempotency.Resolve(rec, response, force, fence.NewToken(), now)
	switch {
	case err != nil:
	case remove:
		h.removeLocked(r, e)
	default:
		h.changeLocked(r, e, &next, false)
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
		for r := range h.allLocked {
			var rec idempotency.Record
			c.Add(h.decisive(h.entries.at(r), &rec), now)
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
		n += h.records.n
		h.mu.Unlock()
	}
	return n
}

// Ping implements [idempotency.Store].
func (s *Store) Ping(ctx context.Context) error { return ctx.Err() }

// Close implements [idempotency.Store]; there is nothing to release.
func (s *Store) Close() error { return nil }
