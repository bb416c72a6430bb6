package idempotencymemory

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// claimIn claims in an arena as its processor does, without the search in others.
func (a *arena) claimIn(hash uint32, id string, now time.Time) (claimed bool, elsewhere int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, claimed, _, elsewhere = a.claimLocked(hash, &idempotency.ClaimRequest{
		ID: id, Token: 1, Lease: time.Second, Cap: time.Second, TTL: time.Second,
	}, now)
	return claimed, elsewhere
}

// TestOneArenaAHash: a record is claimed once, whichever processor claims it, and one of the same hash lies where the
// first one does, so that whoever holds its lock can tell the two apart.
func TestOneArenaAHash(t *testing.T) {
	t.Parallel()
	s := newStore(time.Now, 3)
	if len(s.arenas) != 4 {
		t.Fatalf("%d arenas for 3 processors", len(s.arenas))
	}
	const hash = 7<<shardBits | 5
	now := time.Now()
	for _, step := range []struct {
		arena     int
		id        string
		claimed   bool
		elsewhere int
	}{
		{2, "a", true, none},
		{2, "a", false, none},
		{0, "a", false, 2},
		{0, "b", false, 2},
		{2, "b", true, none},
		{3, "b", false, 2},
	} {
		claimed, elsewhere := s.arenas[step.arena].claimIn(hash, step.id, now)
		if claimed != step.claimed || elsewhere != step.elsewhere {
			t.Errorf("%+v: claimed %v, elsewhere %d", step, claimed, elsewhere)
		}
	}
	if n := s.Len(); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
	a := &s.arenas[2]
	for _, id := range []string{"a", "b"} {
		r, e, _ := a.findLocked(hash, id)
		a.removeLocked(r, e)
	}
	if claimed, elsewhere := s.arenas[0].claimIn(hash, "a", now); !claimed || elsewhere != none {
		t.Errorf("when nothing of the hash is left: claimed %v, elsewhere %d", claimed, elsewhere)
	}
}

// TestOneClaimAnID: of processors that claim, free and claim the same IDs all the time, one has each at a time.
func TestOneClaimAnID(t *testing.T) {
	t.Parallel()
	const workers, ids, rounds = 8, 5, 3000
	s := newStore(time.Now, workers)
	ctx := t.Context()
	var owners [ids]atomic.Int32
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range rounds {
				n := (w + i) % ids
				id := fmt.Sprintf("%032d", n)
				rec, claimed, err := s.Claim(ctx, idempotency.ClaimRequest{
					ID: id, Token: uint64(w + 1), Lease: time.Hour, Cap: time.Hour, TTL: time.Hour,
				})
				switch {
				case err != nil:
					t.Error(err)
					return
				case !claimed:
					if rec.ID != id {
						t.Errorf("found %q, want %q", rec.ID, id)
					}
					continue
				case owners[n].Add(1) != 1:
					t.Errorf("%s has two owners", id)
				}
				owners[n].Add(-1)
				place := rec.Place
				if i%2 == 0 {
					place = 0 // it is found without
				}
				free := idempotency.Change{Op: idempotency.Free, Place: place}
				if err := s.Change(ctx, id, uint64(w+1), free); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := s.Len(); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// TestIdleArenaIsSwept: the expired records of a processor that has nothing to do are removed by the calls of others.
func TestIdleArenaIsSwept(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Unix(1_790_000_000, 0)}
	s := newStore(c.now, 4)
	const records = 2000
	for i := range s.arenas {
		for j := range records {
			id := fmt.Sprint(i, j)
			if claimed, _ := s.arenas[i].claimIn(s.hash(id), id, c.now()); !claimed {
				t.Fatalf("%s is not claimed", id)
			}
		}
	}
	c.advance(time.Minute)
	for i := range 2 * len(s.arenas) * records {
		if _, _, err := s.Get(t.Context(), fmt.Sprint("nobody's", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Len(); n != 0 {
		t.Errorf("%d expired records of %d are left", n, len(s.arenas)*records)
	}
}

// TestOpenKeysAfterAStepOfTheClock: a key that was claimed after the wall clock was stepped counts no more when it is
// free, and one that is answered counts as long as its record lives.
func TestOpenKeysAfterAStepOfTheClock(t *testing.T) {
	t.Parallel()
	for _, step := range []int{3600, -3600} {
		passed, stepped := time.Duration(0), 0
		s := newStore(func() time.Time {
			now := time.Now().Add(passed)
			wall := (*uint64)(unsafe.Pointer(&now)) // with a reading of the monotonic clock: seconds above 30 bits
			*wall += uint64(int64(stepped)) << 30
			return now
		}, 2)
		stepped = step
		claim := func(id string) (idempotency.Record, error) {
			rec, _, err := s.Claim(t.Context(), idempotency.ClaimRequest{
				ID: id, Token: 1, Lease: time.Minute, Cap: time.Minute, TTL: time.Hour, MaxOpen: 2,
			})
			return rec, err
		}
		end := func(rec *idempotency.Record, op idempotency.Op) {
			ch := idempotency.Change{Op: op, Response: []byte("r"), Created: rec.Created, Place: rec.Place}
			if err := s.Change(t.Context(), rec.ID, 1, ch); err != nil {
				t.Errorf("step of %d s: %v", step, err)
			}
		}
		for i := range 5 {
			rec, err := claim(fmt.Sprintf("%032d", i))
			if err != nil {
				t.Fatalf("step of %d s, key %d: %v", step, i, err)
			}
			end(&rec, idempotency.Free)
		}
		for _, id := range []string{fmt.Sprintf("%032d", 10), fmt.Sprintf("%032d", 11)} {
			rec, err := claim(id)
			if err != nil {
				t.Fatalf("step of %d s: %v", step, err)
			}
			end(&rec, idempotency.Finish)
		}
		passed = 59 * time.Minute
		if _, err := claim(fmt.Sprintf("%032d", 12)); !errors.Is(err, idempotency.ErrTooManyOpen) {
			t.Errorf("step of %d s: a key beyond those that are open: %v", step, err)
		}
		passed = 61 * time.Minute
		if _, err := claim(fmt.Sprintf("%032d", 12)); err != nil {
			t.Errorf("step of %d s: when the others have expired: %v", step, err)
		}
	}
}
