package memorystore

import (
	"container/heap"
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
)

const (
	shards = 64
	// sweepPerCall is how many expired records one call removes at most. A call adds one record at most, so more than one is enough for the
	// shard to shrink.
	sweepPerCall = 4
)

// Store is an [idempotency.Store] in memory; make it with [New]. Records that it returns share their answer: it must not be changed.
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
	}
	return s
}

// shard is a part of the records: by ID, and by expiry.
type shard struct {
	mu      sync.Mutex
	records map[string]*entry
	expiry  byExpiry
}

type entry struct {
	rec idempotency.Record
	at  int // in the heap
}

type byExpiry []*entry

func (h byExpiry) Len() int           { return len(h) }
func (h byExpiry) Less(i, j int) bool { return h[i].rec.Expires.Before(h[j].rec.Expires) }
func (h byExpiry) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *byExpiry) Push(v any)        { e := v.(*entry); e.at = len(*h); *h = append(*h, e) }
func (h *byExpiry) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

func (h *shard) get(id string) *idempotency.Record {
	if e := h.records[id]; e != nil {
		return &e.rec
	}
	return nil
}

func (h *shard) put(rec idempotency.Record) {
	if e := h.records[rec.ID]; e != nil {
		e.rec = rec
		heap.Fix(&h.expiry, e.at)
		return
	}
	e := &entry{rec: rec}
	h.records[rec.ID] = e
	heap.Push(&h.expiry, e)
}

func (h *shard) remove(id string) {
	if e := h.records[id]; e != nil {
		delete(h.records, id)
		heap.Remove(&h.expiry, e.at)
	}
}

func (h *shard) sweep(now time.Time) {
	for range sweepPerCall {
		if len(h.expiry) == 0 || now.Before(h.expiry[0].rec.Expires) {
			return
		}
		h.remove(h.expiry[0].rec.ID)
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
	next, claimed := idempotency.Claim(h.get(c.ID), c, now)
	if claimed {
		// The strings may lie in a request's buffer, which is used again.
		next.ID, next.Route = strings.Clone(next.ID), strings.Clone(next.Route)
		next.Principal, next.ClientKey = strings.Clone(next.Principal), strings.Clone(next.ClientKey)
		h.put(next)
	}
	h.mu.Unlock()
	if claimed {
		s.waiting.Wake(c.ID)
	}
	return next, claimed, nil
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ch.Answer = own(ch.Answer)
	h, now := s.lock(id)
	next, remove, err := idempotency.Apply(h.get(id), token, ch, now)
	switch {
	case err != nil:
	case remove:
		h.remove(id)
	default:
		h.put(next)
	}
	h.mu.Unlock()
	if err == nil && ch.Op != idempotency.Renew {
		s.waiting.Wake(id)
	}
	return err
}

// own copies an answer, since the caller's may lie in buffers that are used again.
func own(a *idempotency.Answer) *idempotency.Answer {
	if a == nil {
		return nil
	}
	c := *a
	c.Body = append([]byte(nil), a.Body...)
	c.Header = nil
	for _, f := range a.Header {
		c.Header = append(c.Header, filters.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)})
	}
	return &c
}

// Get implements [idempotency.Store].
func (s *Store) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return idempotency.Record{}, false, err
	}
	h, now := s.lock(id)
	defer h.mu.Unlock()
	rec, ok := idempotency.View(h.get(id), now)
	return rec, ok, nil
}

// Wait implements [idempotency.Store]; the step that ends the claim wakes it.
func (s *Store) Wait(ctx context.Context, id string, token uint64) error {
	return s.waiting.Wait(ctx, s, id, token, s.now, nil)
}

// List implements [idempotency.Store].
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	var found []idempotency.Record
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
			}
		}
		h.mu.Unlock()
	}
	return found, nil
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, answer *idempotency.Answer, force bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	answer = own(answer)
	h, now := s.lock(id)
	rec := h.get(id)
	_, there := idempotency.View(rec, now)
	if !there {
		h.mu.Unlock()
		return false, nil
	}
	next, remove, err := idempotency.Resolve(rec, answer, force, fence.NewToken(), now)
	switch {
	case err != nil:
	case remove:
		h.remove(id)
	default:
		h.put(next)
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
