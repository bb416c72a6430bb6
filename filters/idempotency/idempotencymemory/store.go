package idempotencymemory

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/openkeys"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
	"github.com/sluice-gateway/sluice/filters/processor"
)

// Store is an [idempotency.Store] in memory; make it with [New]. It is safe for concurrent use. What it returns
// are copies, but for long responses, which must not be changed.
type Store struct {
	now      func() time.Time
	base     time.Time // what times are counted from
	seed     maphash.Seed
	arenas   []arena // by processor; their number is a power of two
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
	return newStore(now, runtime.GOMAXPROCS(0))
}

// newStore makes one for a number of processors. More of them share arenas.
func newStore(now func() time.Time, processors int) *Store {
	s := &Store{now: now, base: now(), seed: maphash.MakeSeed(), secrets: map[string][]byte{}}
	s.arenas = newArenas(s.base, processors, &s.openKeys)
	return s
}

// hash returns the upper half of an ID's hash, which is all that is needed of it.
func (s *Store) hash(id string) uint32 { return uint32(maphash.String(s.seed, id) >> 32) }

// home returns the number of the arena of the processor that this goroutine runs on. One call in [sweepOthers] sweeps
// another one, which may get no calls any more.
func (s *Store) home() int {
	others := uint32(len(s.arenas) - 1)
	if others == 0 {
		return 0
	}
	at := uint32(processor.Number()) & others
	if n := s.arenas[at].calls.Add(1); n%sweepOthers == 0 {
		a := &s.arenas[(at+1+n/sweepOthers%others)&others]
		if a.mu.TryLock() { // else it gets calls
			a.sweepLocked(s.now(), sweepOthers)
			a.mu.Unlock()
		}
	}
	return int(at)
}

// lock locks an arena, and returns the time as of then. Some of what has expired by it is removed.
func (s *Store) lock(number int) (*arena, time.Time) {
	a := &s.arenas[number]
	a.mu.Lock()
	now := s.now()
	a.sweepLocked(now, sweepPerCall)
	return a, now
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return idempotency.Record{}, false, err
	}
	hash := s.hash(c.ID)
	for at := s.home(); ; {
		a, now := s.lock(at)
		rec, claimed, err, elsewhere := a.claimLocked(hash, &c, now)
		a.mu.Unlock()
		if elsewhere != none {
			at = elsewhere
			continue
		}
		if claimed {
			s.waiting.Wake(c.ID)
		}
		return rec, claimed, err
	}
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ch.Response = ownLong(ch.Response)
	hash, at := s.hash(id), int(place(ch.Place).arena())
	if ch.Place == 0 || at >= len(s.arenas) {
		at = s.home()
	}
	for {
		a, now := s.lock(at)
		err, elsewhere := a.changeRecordLocked(hash, id, token, &ch, now)
		a.mu.Unlock()
		if elsewhere != none {
			at = elsewhere
			continue
		}
		if err == nil && ch.Op != idempotency.Renew {
			s.waiting.Wake(id)
		}
		return err
	}
}

// Get implements [idempotency.Store].
func (s *Store) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return idempotency.Record{}, false, err
	}
	hash := s.hash(id)
	for at := s.home(); ; {
		a, now := s.lock(at)
		_, e, elsewhere := a.findLocked(hash, id)
		rec, ok := a.viewLocked(e, now)
		a.mu.Unlock()
		if elsewhere == none {
			return rec, ok, nil
		}
		at = elsewhere
	}
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
	hash := s.hash(id)
	for at := s.home(); ; {
		a, now := s.lock(at)
		there, err, elsewhere := a.resolveLocked(hash, id, response, force, now)
		a.mu.Unlock()
		if elsewhere != none {
			at = elsewhere
			continue
		}
		if there && err == nil {
			s.waiting.Wake(id)
			return true, nil
		}
		return false, err
	}
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
	for i := range s.arenas {
		a := &s.arenas[i]
		for chunk, more := 0, true; more; chunk++ { // a lock of a million looks would be felt
			if err := ctx.Err(); err != nil {
				return c, err
			}
			a.mu.Lock()
			now := s.now()
			for r := range a.entries.of(chunk) {
				var rec idempotency.Record
				c.Add(a.decisive(a.entries.at(r), &rec), now)
			}
			more = chunk+1 < len(a.entries.chunks)
			a.mu.Unlock()
		}
	}
	return c, nil
}

// Len returns the number of records, expired ones that were not swept yet among them.
func (s *Store) Len() int {
	n := 0
	for i := range s.arenas[0].index {
		h := &s.arenas[0].index[i]
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
