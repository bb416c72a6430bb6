package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// owned returns an ID of that owner, which is any text of [idempotency.OwnerLength] characters.
func owned(owner string, n int) string { return fmt.Sprintf("%s%022d", owner, n) }

func newOwner() string { return newID()[:idempotency.OwnerLength] }

func counted(owner string, n, max int) idempotency.ClaimRequest {
	c := request(owned(owner, n))
	c.MaxOpen = max
	return c
}

func mustBeTooMany(t *testing.T, s idempotency.Store, c idempotency.ClaimRequest) {
	t.Helper()
	if rec, claimed, err := s.Claim(background(t), c); claimed || !errors.Is(err, idempotency.ErrTooManyOpen) {
		t.Fatalf("Claim %s: claimed %v, state %v, %v; want ErrTooManyOpen", c.ID, claimed, rec.State, err)
	}
	mustBeGone(t, s, c.ID)
}

// testOpenKeys: an owner has as many live records as the claim says, whatever their state; others are not
// affected.
func testOpenKeys(t *testing.T, h Harness) {
	s, owner := h.Store, newOwner()
	const most = 3
	var cs []idempotency.ClaimRequest
	for n := range most {
		c := counted(owner, n, most)
		mustClaim(t, s, c)
		cs = append(cs, c)
	}
	mustBeTooMany(t, s, counted(owner, 10, most))
	mustChange(t, s, cs[0].ID, cs[0].Token, idempotency.Change{Op: idempotency.Finish, Response: response(201)})
	mustChange(t, s, cs[1].ID, cs[1].Token, idempotency.Change{Op: idempotency.MarkUnknown})
	mustBeTooMany(t, s, counted(owner, 10, most)) // answered and unknown ones are open too
	mustNotClaim(t, s, counted(owner, 0, most), idempotency.Answered)
	again := counted(owner, 1, most)
	again.Retry = true
	if rec := mustClaim(t, s, again); rec.Attempt != 2 || !rec.Counted { // not a further key
		t.Errorf("a further attempt is %+v", rec)
	}
	mustClaim(t, s, counted(newOwner(), 0, most))
	uncounted := request(owned(owner, 11))
	mustClaim(t, s, uncounted)
	mustChange(t, s, uncounted.ID, uncounted.Token, idempotency.Change{Op: idempotency.Free})
	mustBeTooMany(t, s, counted(owner, 10, most)) // what was not counted leaves nothing
	mustChange(t, s, cs[2].ID, cs[2].Token, idempotency.Change{Op: idempotency.Free})
	mustClaim(t, s, counted(owner, 12, most))
	mustBeTooMany(t, s, counted(owner, 10, most))
	if ok, err := s.Resolve(background(t), cs[0].ID, nil, true); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if ok, err := s.Resolve(background(t), again.ID, response(299), true); err != nil || !ok { // stays open
		t.Fatal(ok, err)
	}
	mustClaim(t, s, counted(owner, 13, most))
	mustBeTooMany(t, s, counted(owner, 10, most))
	mustClaim(t, s, counted(owner, 10, most+1))
	if h.Advance == nil && h.Shift == nil {
		return // the records live too long to wait for
	}
	h.pass(cs[0].TTL + cs[0].Cap + time.Second)
	for n := range most {
		mustClaim(t, s, counted(owner, 20+n, most))
	}
	mustBeTooMany(t, s, counted(owner, 10, most))
}

// testOpenKeysAtOnce: the number is kept also when all come at the same moment, and is used up to the last.
func testOpenKeysAtOnce(t *testing.T, h Harness) {
	stores := []idempotency.Store{h.Store}
	if h.Second != nil {
		stores = append(stores, h.Second(t))
	}
	ctx, owner := background(t), newOwner()
	const most, tries = 10, 64
	var granted atomic.Int64
	var wg sync.WaitGroup
	for n := range tries {
		wg.Go(func() {
			_, claimed, err := stores[n%len(stores)].Claim(ctx, counted(owner, n, most))
			switch {
			case claimed:
				granted.Add(1)
			case !errors.Is(err, idempotency.ErrTooManyOpen):
				t.Errorf("claim: %v", err)
			}
		})
	}
	wg.Wait()
	if n := granted.Load(); n != most {
		t.Errorf("%d keys are open, at most %d", n, most)
	}
}

// testOpenKeysOfALapsedClaim: a key that is claimed anew, since nothing was sent under a claim that lapsed, is
// counted once, and the others of its owner as before.
func testOpenKeysOfALapsedClaim(t *testing.T, h Harness) {
	s, owner := h.Store, newOwner()
	const most = 3
	lapses, other := counted(owner, 0, most), counted(owner, 1, most)
	lapses.NotDispatched, lapses.Lease = true, h.short()
	mustClaim(t, s, lapses)
	mustClaim(t, s, other) // expires at the same moment
	h.lapse()
	mustClaim(t, s, counted(owner, 0, most))
	mustChange(t, s, other.ID, other.Token, idempotency.Change{Op: idempotency.Free})
	mustClaim(t, s, counted(owner, 2, most))
	mustClaim(t, s, counted(owner, 3, most))
	mustBeTooMany(t, s, counted(owner, 4, most))
}

// testOpenKeysWithoutALimit: a key that is open stays counted when its request is tried again after the limit was
// taken away, and not when it is claimed anew.
func testOpenKeysWithoutALimit(t *testing.T, h Harness) {
	s, owner := h.Store, newOwner()
	c := counted(owner, 0, 1)
	mustClaim(t, s, c)
	mustChange(t, s, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	again := request(c.ID)
	again.Retry = true
	if rec := mustClaim(t, s, again); rec.Attempt != 2 || !rec.Counted {
		t.Errorf("a further attempt is %+v", rec)
	}
	mustBeTooMany(t, s, counted(owner, 1, 1))
	mustChange(t, s, c.ID, again.Token, idempotency.Change{Op: idempotency.Finish, Response: response(201)})
	mustBeTooMany(t, s, counted(owner, 1, 1))
	if ok, err := s.Resolve(background(t), c.ID, nil, true); err != nil || !ok {
		t.Fatal(ok, err)
	}
	lapses := counted(owner, 2, 1)
	lapses.NotDispatched, lapses.Lease = true, h.short()
	mustClaim(t, s, lapses)
	h.lapse()
	mustClaim(t, s, request(lapses.ID))
	mustClaim(t, s, counted(owner, 1, 1))
}

// testRetryOf: an unknown outcome is tried again by a claim that asked about it, and by none that asked about an
// earlier one.
func testRetryOf(t *testing.T, h Harness) {
	c := request(newID())
	mustClaim(t, h.Store, c)
	second := request(c.ID)
	second.RetryOf = c.Token
	mustNotClaim(t, h.Store, second, idempotency.InFlight)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	third := request(c.ID)
	third.RetryOf = c.Token + 1
	mustNotClaim(t, h.Store, third, idempotency.Unknown)
	if rec := mustClaim(t, h.Store, second); rec.Attempt != 2 {
		t.Errorf("attempt %d, want 2", rec.Attempt)
	}
	mustChange(t, h.Store, c.ID, second.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	late := request(c.ID)
	late.RetryOf = c.Token
	mustNotClaim(t, h.Store, late, idempotency.Unknown)
}
