package idempotencyembedded

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

// TestQuotaOfRetries: further attempts of an unknown outcome are one open key.
func TestQuotaOfRetries(t *testing.T) {
	s := mustOpen(t, "store", Options{disk: seglogtest.New(), retry: time.Millisecond})
	defer mustClose(t, s)
	first := request("a", 1)
	first.MaxOpen = 1
	claim(t, s, first)
	for token := range uint64(3) {
		change(t, s, "a", token+1, idempotency.MarkUnknown)
		retry := first // its expiry is another one
		retry.Token, retry.Retry = token+2, true
		claim(t, s, retry)
	}
}

// TestQuotaAfterFailedRemoval: a removal that fails leaves the quota as it was.
func TestQuotaAfterFailedRemoval(t *testing.T) {
	d := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: d, retry: time.Millisecond})
	defer mustClose(t, s)
	owner := strings.Repeat("o", idempotency.OwnerLength)
	a := request(owner+"a", 1)
	a.MaxOpen = 1
	claim(t, s, a)
	broken := errors.New("broken")
	d.SetHook(func(op string) error {
		if op == "sync" {
			return broken
		}
		return nil
	})
	if err := s.Change(t.Context(), a.ID, 1, idempotency.Change{Op: idempotency.Free}); err == nil {
		t.Fatal("the removal did not fail")
	}
	d.SetHook(nil)
	eventually(t, "resumes", func() bool { return s.Ping(t.Context()) == nil })
	if got := state(t, s, a.ID); got != idempotency.InFlight {
		t.Fatalf("the record reads as %v", got)
	}
	b := request(owner+"b", 2)
	b.MaxOpen = 1
	if idempotency.Owner(a.ID) != idempotency.Owner(b.ID) {
		t.Fatal("the owners differ")
	}
	if _, claimed, err := s.Claim(t.Context(), b); claimed || !errors.Is(err, idempotency.ErrTooManyOpen) {
		t.Errorf("claimed %v, %v: the quota of 1 is passed", claimed, err)
	}
}
