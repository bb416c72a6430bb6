package idempotencyembedded

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

// A removal that fails leaves the quota as it was.
func TestQuotaAfterFailedRemoval(t *testing.T) {
	d := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: d, retry: time.Millisecond})
	defer s.Close()
	a := request("owner-a", 1)
	a.MaxOpen = 2
	a.ID = "a"
	t.Logf("owner %q", idempotency.Owner("a"))
	claim(t, s, a)
	// a: expiry changes by a retry after a doubt
	change(t, s, "a", 1, idempotency.MarkUnknown)
	r := a
	r.Token, r.Retry = 2, true
	claim(t, s, r)
	change(t, s, "a", 2, idempotency.MarkUnknown)
	r.Token = 3
	claim(t, s, r)
	_ = r
}

func TestQuotaAfterFailedRemovals(t *testing.T) {
	d := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: d, retry: time.Millisecond})
	defer s.Close()
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
		t.Fatal("no error")
	}
	d.SetHook(nil)
	eventually(t, "goes on", func() bool { return s.Ping(t.Context()) == nil })
	if got := state(t, s, a.ID); got != idempotency.InFlight {
		t.Fatal(got)
	}
	b := request(owner+"b", 2)
	b.MaxOpen = 1
	if idempotency.Owner(a.ID) != idempotency.Owner(b.ID) {
		t.Fatal("owners")
	}
	if _, claimed, err := s.Claim(t.Context(), b); claimed || !errors.Is(err, idempotency.ErrTooManyOpen) {
		t.Errorf("claimed %v, %v: the quota of 1 is passed", claimed, err)
	}
}

// One damaged record is left out of a list; the others are in it.
func TestListWithDamage(t *testing.T) {
	d := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: d})
	defer mustClose(t, s)
	claim(t, s, request("h", 1))
	change(t, s, "h", 1, idempotency.Delegate)
	claim(t, s, request("b", 1))
	change(t, s, "b", 1, idempotency.Finish)
	d.Damage(func(data []byte) { data[len(data)-10] ^= 1 })
	list, err := s.List(t.Context(), idempotency.Query{State: idempotency.Delegated}, 1000)
	if err != nil || len(list) != 1 {
		t.Errorf("handed: %d, %v", len(list), err)
	}
	if ok, err := s.Resolve(t.Context(), "b", nil, true); !ok || err != nil {
		t.Errorf("an operator cannot free the damaged key: %v, %v", ok, err)
	}
}

// A secret whose entry is damaged on disk is written anew from memory, so that compaction goes on.
func TestDamagedSecret(t *testing.T) {
	d, c := seglogtest.New(), newClock()
	s := mustOpen(t, "store", Options{disk: d, Now: c.now, SegmentBytes: 8 << 10, SweepEvery: time.Millisecond})
	defer mustClose(t, s)
	if _, err := s.Secret(t.Context(), "name", 32); err != nil {
		t.Fatal(err)
	}
	d.Damage(func(data []byte) { data[len(data)-10] ^= 1 })
	for i := range 2000 {
		id := "k" + strconv.Itoa(i)
		claim(t, s, request(id, 1))
		change(t, s, id, 1, idempotency.Free)
	}
	c.advance(100 * time.Hour)
	eventually(t, "the log is short again", func() bool {
		st := s.Stats()
		return st.DiskBytes <= 2*st.LiveBytes+4*8<<10
	})
}

// The close of a removed segment's file can take long; nobody else waits for it.
func TestCloseThatHangs(t *testing.T) {
	d := seglogtest.New()
	hang := make(chan struct{})
	entered := make(chan struct{}, 100)
	s := mustOpen(t, "store", Options{disk: d, SegmentBytes: 1 << 10, SweepEvery: time.Millisecond, Timeout: 100 * time.Millisecond})
	d.SetHook(func(op string) error {
		if op == "close" {
			select {
			case entered <- struct{}{}:
			default:
			}
			<-hang
		}
		return nil
	})
	claimed := make(chan struct{})
	go func() {
		defer close(claimed)
		for i := range 100 {
			id := "k" + strconv.Itoa(i)
			_, _, _ = s.Claim(t.Context(), request(id, 1))
			_ = s.Change(t.Context(), id, 1, idempotency.Change{Op: idempotency.Free})
		}
	}()
	<-entered
	done := make(chan struct{})
	go func() { _ = s.Ping(t.Context()); close(done) }()
	select {
	case <-done:
	case <-time.After(soon):
		t.Error("Ping hangs: the mutex is held")
	}
	close(hang)
	<-claimed
	d.SetHook(nil)
	mustClose(t, s)
}

// A claim with nothing sent, of a key whose record has expired and was not swept, is free after a crash.
func TestUnsentOverExpired(t *testing.T) {
	d, c := seglogtest.New(), newClock()
	opts := Options{disk: d, Now: c.now, SweepEvery: time.Hour}
	s := mustOpen(t, "store", opts)
	claim(t, s, request("a", 1))
	change(t, s, "a", 1, idempotency.Finish)
	c.advance(2 * time.Hour)
	u := request("a", 2)
	u.NotDispatched = true
	claim(t, s, u)
	mustClose(t, s)
	s = mustOpen(t, "store", opts)
	defer mustClose(t, s)
	if got := state(t, s, "a"); got != 0 {
		t.Errorf("nothing was sent, and it reads as %v", got)
	}
}

// An absurd TTL does not overflow: the answer is there after a restart.
func TestFarExpiry(t *testing.T) {
	d := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: d, SweepEvery: time.Hour})
	a := request("a", 1)
	a.TTL = 240 * 366 * 24 * time.Hour
	claim(t, s, a)
	change(t, s, "a", 1, idempotency.Finish)
	mustClose(t, s)
	s = mustOpen(t, "store", Options{disk: d, SweepEvery: time.Hour})
	defer mustClose(t, s)
	if got := state(t, s, "a"); got != idempotency.Answered {
		t.Errorf("the answer reads as %v after a restart", got)
	}
}
