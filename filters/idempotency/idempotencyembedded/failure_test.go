package idempotencyembedded

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

func onDisk(d *seglogtest.Disk) Options {
	return Options{disk: d, SegmentBytes: 1 << 10, SweepEvery: time.Millisecond, retry: time.Millisecond}
}

// TestEveryOperationFails lets the nth operation of each kind fail, for every n that a script comes to.
// Opening says so; or the step is refused, has not been taken, and the store resumes by itself; and a power
// cut then shows what was acknowledged.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	for _, op := range seglogtest.Operations {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			n, hit := 0, true
			for ; hit && n < 60; n++ {
				hit = failOnce(t, op, n)
			}
			if n < 2 {
				t.Error("no such operation was met")
			}
		})
	}
}

// failNth makes the nth operation of a kind fail, counted from 0. A truncation comes after another failure only:
// there the nth sync fails, and each truncation.
func failNth(d *seglogtest.Disk, op string, n int, cause error) *atomic.Int64 {
	left := new(atomic.Int64)
	left.Store(int64(n))
	d.SetHook(func(o string) error {
		failing := op
		if op == "truncate" {
			if o == op {
				return cause
			}
			failing = "sync"
		}
		if o == failing && left.Add(-1) == -1 {
			return cause
		}
		return nil
	})
	return left
}

// failOnce runs the script with one failure and reports whether it came to that.
func failOnce(t *testing.T, op string, n int) bool {
	t.Helper()
	d := seglogtest.New()
	cause := errors.New("broken")
	left := failNth(d, op, n, cause)
	where := fmt.Sprintf("%s %d", op, n)
	seed, err := Open("store", Options{disk: d, Logger: quiet})
	if err != nil {
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "store") {
			t.Fatalf("%s: opening: %v", where, err)
		}
		return true
	}
	mustClose(t, seed) // so that the next opening has something to read
	opts := onDisk(d)
	opts.Logger = quiet
	s, err := Open("store", opts)
	if err != nil {
		if !errors.Is(err, cause) {
			t.Fatalf("%s: opening: %v", where, err)
		}
		return true
	}
	want := failingScript(t, s, where, cause)
	eventually(t, where+": compaction", func() bool {
		st := s.Stats()
		return st.CopiedBytes > 0 && st.DiskBytes <= 2*st.LiveBytes+5*opts.SegmentBytes
	})
	_ = s.Close()
	d.SetHook(nil)
	after := mustOpen(t, "store", Options{disk: d.AfterPowerCut(rand.New(rand.NewPCG(uint64(n), 0)))})
	for id, w := range want {
		if w == idempotency.InFlight {
			w = idempotency.Unknown
		}
		if got := state(t, after, id); got != w {
			t.Errorf("%s: %s reads as %v after a power cut, want %v", where, id, got, w)
		}
	}
	if st := after.Stats(); st.DamagedParts > 0 {
		t.Errorf("%s: damage is reported: %+v", where, st)
	}
	mustClose(t, after)
	return left.Load() < 0
}

// failingScript takes steps, each again until it is taken, and returns the state of each record then.
func failingScript(t *testing.T, s *Store, where string, cause error) map[string]idempotency.State {
	t.Helper()
	want := map[string]idempotency.State{}
	failures := 0
	step := func(id string, after idempotency.State, f func() error) {
		for {
			err := f()
			if err == nil {
				want[id] = after
				return
			}
			if failures++; !errors.Is(err, cause) || failures > 100 {
				t.Fatalf("%s: %s: %v", where, id, err)
			}
			eventually(t, where+": resumes", func() bool { return s.Ping(t.Context()) == nil })
			if got := state(t, s, id); got != want[id] {
				t.Fatalf("%s: %s was refused, and %s reads as %v instead of %v", where, err, id, got, want[id])
			}
		}
	}
	ctx := within(t, time.Minute)
	for i := range 12 {
		id := strconv.Itoa(i)
		step(id, idempotency.InFlight, func() error {
			_, claimed, err := s.Claim(ctx, request(id, 1))
			if err == nil && !claimed {
				t.Fatalf("%s: %s was not claimed", where, id)
			}
			return err
		})
		if i < 8 {
			step(id, endStates[i%4], func() error {
				return s.Change(ctx, id, 1, idempotency.Change{Op: ends[i%4], Response: []byte(id)})
			})
		}
	}
	for i := range 20 { // what compaction can free
		id := "freed" + strconv.Itoa(i)
		step(id, idempotency.InFlight, func() error { _, _, err := s.Claim(ctx, request(id, 1)); return err })
		step(id, 0, func() error { return s.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Free}) })
	}
	return want
}

// TestPowerCut takes the disk as it may be after a power cut at a random moment: what was acknowledged
// before is there.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for range 20 {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			d := seglogtest.New()
			s := mustOpen(t, "store", onDisk(d))
			var mu sync.Mutex
			acknowledged := map[string]idempotency.State{}
			said := func(id string, st idempotency.State) {
				mu.Lock()
				defer mu.Unlock()
				acknowledged[id] = st
			}
			var stop atomic.Bool
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					for i := 0; !stop.Load(); i++ {
						id := fmt.Sprintf("%d-%d", w, i)
						claim(t, s, request(id, 1))
						said(id, idempotency.Unknown)
						if i%2 == 0 {
							change(t, s, id, 1, idempotency.Finish)
							said(id, idempotency.Answered)
						} else if i%4 == 1 {
							change(t, s, id, 1, idempotency.MarkUnknown)
						}
					}
				})
			}
			r := rand.New(rand.NewPCG(seed, 0))
			eventually(t, "load", func() bool { return s.Stats().Entries > uint64(seed%500) })
			mu.Lock()
			want := make(map[string]idempotency.State, len(acknowledged))
			for id, st := range acknowledged {
				want[id] = st
			}
			mu.Unlock()
			cut := d.AfterPowerCut(r)
			stop.Store(true)
			wg.Wait()
			mustClose(t, s)
			after := mustOpen(t, "store", Options{disk: cut})
			defer mustClose(t, after)
			for id, w := range want {
				got := state(t, after, id)
				if got != w && (w != idempotency.Unknown || got != idempotency.Answered) { // may have gone on meanwhile
					t.Errorf("%s was acknowledged as %v and reads as %v", id, w, got)
				}
			}
			if st := after.Stats(); st.DamagedParts > 0 {
				t.Errorf("damage is reported: %+v", st)
			}
		})
	}
}

// TestFullDisk: refusals that say so while it is full, nothing lost, and all well when there is room, without
// a restart.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	d.SetRoom(40 << 10)
	s := mustOpen(t, "store", onDisk(d))
	claim(t, s, request("claimed", 1))
	ctx := within(t, time.Minute)
	var done []string
	var err error
	for i := 0; err == nil; i++ {
		id := strconv.Itoa(i)
		if _, _, err = s.Claim(ctx, request(id, 1)); err == nil {
			err = s.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Finish, Response: []byte(id)})
		}
		if err == nil {
			done = append(done, id)
		}
	}
	if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.ENOSPC) ||
		!strings.Contains(err.Error(), "free some room") || !strings.Contains(err.Error(), "folder store") {
		t.Errorf("on a full disk: %v", err)
	}
	segments := s.Stats().Segments
	var tries atomic.Int64
	d.SetHook(func(op string) error {
		if op == "create" {
			tries.Add(1)
		}
		return nil
	})
	d.SetFree(10 * seglog.SegmentOverhead) // for a header, and for little more
	eventually(t, "some tries", func() bool { return tries.Load() >= 6 })
	if err := s.Ping(ctx); !errors.Is(err, ErrFailed) || !errors.Is(err, idempotency.ErrNoWrites) {
		t.Errorf("Ping while there is little room: %v", err)
	}
	if _, claimed, err := s.Claim(ctx, request("too much", 1)); claimed || !errors.Is(err, ErrFailed) {
		t.Errorf("claimed without room: %v, %v", claimed, err)
	}
	// What is there can be read: a duplicate of an answered request is replayed while nothing can be claimed.
	rec, claimed, err := s.Claim(ctx, request(done[0], 2))
	if err != nil || claimed || rec.State != idempotency.Answered || string(rec.Response) != done[0] {
		t.Errorf("an answered key while there is no room: %v, %v, %v", rec.State, claimed, err)
	}
	list, err := s.List(ctx, idempotency.Query{State: idempotency.Answered}, 10)
	if err != nil || len(list) != min(10, len(done)) {
		t.Errorf("a list while there is no room: %d, %v", len(list), err)
	}
	finish := idempotency.Change{Op: idempotency.Finish, Response: []byte("claimed")}
	if err := s.Change(ctx, "claimed", 1, finish); !errors.Is(err, ErrFailed) {
		t.Errorf("a response was recorded without room: %v", err)
	}
	if n := s.Stats().Segments; n > segments {
		t.Errorf("%d segments, %d before: the tries pile up", n, segments)
	}
	d.SetRoom(0)
	d.SetHook(nil)
	eventually(t, "resumes", func() bool { return s.Ping(ctx) == nil })
	change(t, s, "claimed", 1, idempotency.Finish)
	claim(t, s, request("more", 1))
	for range 2 {
		for _, id := range append(done, "claimed") {
			if got := state(t, s, id); got != idempotency.Answered {
				t.Fatalf("%s reads as %v", id, got)
			}
		}
		mustClose(t, s)
		s = mustOpen(t, "store", onDisk(d))
	}
	mustClose(t, s)
}

// TestBeginsOnAFullDisk: a store that is opened while the disk is full refuses, and resumes when there is room.
func TestBeginsOnAFullDisk(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"an empty folder": true, "a folder with records": false} {
		d := seglogtest.New()
		if !first {
			s := mustOpen(t, "store", onDisk(d))
			claim(t, s, request("before", 1))
			change(t, s, "before", 1, idempotency.Finish)
			mustClose(t, s)
		}
		d.SetRoom(1)
		s := mustOpen(t, "store", onDisk(d))
		ctx := within(t, time.Minute)
		_, claimed, err := s.Claim(ctx, request("new", 1))
		if claimed || !errors.Is(err, ErrFailed) || !errors.Is(err, idempotency.ErrNotTaken) {
			t.Errorf("%s: claimed %v, %v", name, claimed, err)
		}
		if err := s.Ping(ctx); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: Ping %v", name, err)
		}
		d.SetRoom(0)
		eventually(t, "resumes", func() bool { return s.Ping(ctx) == nil })
		claim(t, s, request("new", 1))
		if got := state(t, s, "before"); !first && got != idempotency.Answered {
			t.Errorf("%s: the record from before reads as %v", name, got)
		}
		mustClose(t, s)
	}
}

// firstLook is a store that says when it was read for the first time.
type firstLook struct {
	*Store
	once sync.Once
	done chan struct{}
}

func (f *firstLook) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	defer f.once.Do(func() { close(f.done) })
	return f.Store.Get(ctx, id)
}

// TestHangingDisk: a call gives up with its context, or at the store's limit, while the disk hangs. The step is
// taken when the disk comes back, and no other step of the record until then.
func TestHangingDisk(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	d := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: d, Timeout: 200 * time.Millisecond})
	claim(t, s, request("a", 1))
	claim(t, s, request("b", 1))
	waiting := make(chan error, 1)
	look := &firstLook{Store: s, done: make(chan struct{})}
	go func() { waiting <- s.waiting.Wait(context.Background(), look, "a", 1, s.now, nil) }()
	<-look.done // from here on only the step wakes it
	d.SetHook(func(op string) error {
		if op == "sync" {
			<-release
		}
		return nil
	})
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	finish := idempotency.Change{Op: idempotency.Finish, Response: []byte("a")}
	buffer := []byte("a") // of the caller's request
	if err := s.Change(short, filters.Alias(buffer), 1, finish); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Change on a hanging disk: %v", err)
	}
	buffer[0] = '#' // which has ended
	ctx := context.Background()
	if _, _, err := s.Get(ctx, "a"); err == nil || !strings.Contains(err.Error(), "has not answered for 200ms") {
		t.Errorf("Get while the step is on its way: %v", err)
	}
	for name, err := range map[string]error{"Change": s.Change(ctx, "b", 1, finish), "Ping": s.Ping(ctx)} {
		if err == nil || !strings.Contains(err.Error(), "has not answered") {
			t.Errorf("%s while the disk hangs: %v", name, err)
		}
	}
	close(release)
	select { // the caller has left, and still its step wakes the waiters
	case err := <-waiting:
		if err != nil && !strings.Contains(err.Error(), "has not answered") {
			t.Error(err)
		}
	case <-time.After(soon):
		t.Fatal("Wait was not woken")
	}
	eventually(t, "the disk is back", func() bool { return s.Ping(ctx) == nil })
	if got := state(t, s, "a"); got != idempotency.Answered {
		t.Errorf("after the disk came back: %v", got)
	}
	change(t, s, "b", 1, idempotency.Finish)
	mustClose(t, s)
}

// TestDamageWhileOpen: the key whose record is damaged is an error; the others are served.
func TestDamageWhileOpen(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: d})
	defer mustClose(t, s)
	for _, id := range []string{"a", "b"} {
		claim(t, s, request(id, 1))
		change(t, s, id, 1, idempotency.Finish)
	}
	d.Damage(func(data []byte) { data[len(data)-10] ^= 1 })
	_, _, err := s.Get(t.Context(), "b")
	if !errors.Is(err, idempotency.ErrCorrupt) || !strings.Contains(err.Error(), "00000001.log") {
		t.Errorf("the damaged record: %v", err)
	}
	if _, claimed, err := s.Claim(t.Context(), request("b", 2)); claimed || !errors.Is(err, idempotency.ErrCorrupt) {
		t.Errorf("the damaged key was claimed: %v, %v", claimed, err)
	}
	if got := state(t, s, "a"); got != idempotency.Answered || s.Stats().BadReads != 2 {
		t.Errorf("the other record reads as %v; %d bad reads", got, s.Stats().BadReads)
	}
}

// TestCloseThatHangs: the close of a removed segment's file can take long; no call waits for it.
func TestCloseThatHangs(t *testing.T) {
	d := seglogtest.New()
	hang := make(chan struct{})
	entered := make(chan struct{}, 100)
	opts := onDisk(d)
	opts.Timeout = 100 * time.Millisecond
	s := mustOpen(t, "store", opts)
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
		t.Error("Ping hangs")
	}
	close(hang)
	<-claimed
	d.SetHook(nil)
	mustClose(t, s)
}
