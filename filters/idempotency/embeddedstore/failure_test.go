package embeddedstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// failing lets the operations of some kinds on some files fail once it is switched on, for good or until it is switched off.
type failing struct {
	kinds map[errorfs.OpKind]bool
	match func(path string) bool
	on    atomic.Bool
	hits  atomic.Int32
	err   error
}

func (f *failing) MaybeError(op errorfs.Op) error {
	if !f.on.Load() || !f.kinds[op.Kind] || !f.match(op.Path) {
		return nil
	}
	f.hits.Add(1)
	return f.err
}

func (f *failing) String() string { return "failing" }

func kinds(k ...errorfs.OpKind) map[errorfs.OpKind]bool {
	m := map[errorfs.OpKind]bool{}
	for _, kind := range k {
		m[kind] = true
	}
	return m
}

func suffix(s string) func(string) bool {
	return func(p string) bool { return strings.HasSuffix(p, s) }
}
func everyFile(string) bool { return true }

var syncs = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}

// TestDiskFailure: whatever write fails, the calls return errors soon, the process lives, and what was acknowledged before is there
// when the folder is opened again.
func TestDiskFailure(t *testing.T) {
	for _, c := range []struct {
		name  string
		kinds map[errorfs.OpKind]bool
		match func(string) bool
		err   error
	}{
		{"log write, disk full", kinds(errorfs.OpFileWrite), suffix(".log"), syscall.ENOSPC},
		{"log sync", kinds(syncs...), suffix(".log"), syscall.EIO},
		{"new log file", kinds(errorfs.OpCreate, errorfs.OpReuseForWrite), suffix(".log"), syscall.ENOSPC},
		{"table write in the background", kinds(errorfs.OpFileWrite), suffix(".sst"), syscall.ENOSPC},
		{"new table", kinds(errorfs.OpCreate), suffix(".sst"), syscall.ENOSPC},
		{"manifest write", kinds(errorfs.OpFileWrite), func(p string) bool { return strings.Contains(p, "MANIFEST") }, syscall.EIO},
		{"manifest sync", kinds(syncs...), func(p string) bool { return strings.Contains(p, "MANIFEST") }, syscall.EIO},
		{"every write", kinds(append(syncs, errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpRename, errorfs.OpLink)...), everyFile, syscall.ENOSPC},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			f := &failing{kinds: c.kinds, match: c.match, err: c.err}
			s := mustOpen(t, "store", Options{FS: errorfs.Wrap(disk, f)})
			claim(t, s, request("before", 1))
			change(t, s, "before", 1, idempotency.Finish)
			claim(t, s, request("held", 1))
			waiting := make(chan error, 1)
			go func() { waiting <- s.Wait(context.Background(), "held", 1) }()

			f.on.Store(true)
			acknowledged := writeUntilFailure(t, s)
			if f.hits.Load() == 0 {
				t.Fatal("no operation failed: the case tests nothing")
			}
			checkFailed(t, s, c.err)
			select {
			case err := <-waiting:
				if !errors.Is(err, ErrFailed) {
					t.Errorf("Wait: %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("Wait hangs")
			}
			f.on.Store(false) // the disk has room again: the store must not go on as if nothing had been
			checkFailed(t, s, c.err)
			if err := s.Close(); !errors.Is(err, ErrFailed) {
				t.Errorf("Close: %v, want why the store stopped", err)
			}
			// What a machine that loses its power now has on its disk.
			checkAfterCrash(t, disk.CrashClone(vfs.CrashCloneCfg{}), acknowledged)
		})
	}
}

// writeUntilFailure claims and finishes keys from many goroutines until the store fails, and returns those that were acknowledged.
func writeUntilFailure(t *testing.T, s *Store) []string {
	t.Helper()
	var mu sync.Mutex
	acknowledged := []string{"before"}
	ctx := within(t, 60*time.Second)
	body := make([]byte, 32<<10) // fills memtables, so that the background work comes
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				_, _, err := s.Claim(ctx, request(id, 1))
				if err == nil {
					err = s.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Finish, Answer: &idempotency.Answer{Status: 201, Body: append(body, id...)}})
				}
				if err != nil {
					if !errors.Is(err, ErrFailed) {
						t.Errorf("%s: %v, want ErrFailed", id, err)
					}
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return acknowledged
}

func checkFailed(t *testing.T, s *Store, cause error) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	_, _, claimErr := s.Claim(ctx, request("after", 1))
	_, _, getErr := s.Get(ctx, "before")
	_, listErr := s.List(ctx, idempotency.Query{}, 1)
	_, resolveErr := s.Resolve(ctx, "before", nil, true)
	_, secretErr := s.Secret(ctx, "x", 8)
	for name, err := range map[string]error{
		"Claim": claimErr, "Get": getErr, "List": listErr, "Resolve": resolveErr, "Secret": secretErr,
		"Change": s.Change(ctx, "before", 1, idempotency.Change{Op: idempotency.Free}), "Ping": s.Ping(ctx), "Wait": s.Wait(ctx, "before", 1),
	} {
		if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "store") {
			t.Errorf("%s: %v, want ErrFailed with the folder's name", name, err)
		}
		if !errors.Is(err, cause) {
			t.Errorf("%s: %v does not tell the cause %v", name, err, cause)
		}
	}
}

func checkAfterCrash(t *testing.T, disk vfs.FS, acknowledged []string) {
	t.Helper()
	s := mustOpen(t, "store", Options{FS: disk})
	defer mustClose(t, s)
	for _, id := range acknowledged {
		rec, ok, err := s.Get(within(t, 20*time.Second), id)
		if err != nil || !ok || rec.State != idempotency.Answered || !strings.HasSuffix(string(rec.Answer), id) {
			t.Fatalf("%s was acknowledged and reads as %v, state %v, %v", id, ok, rec.State, err)
		}
	}
	if rec, ok, err := s.Get(within(t, 20*time.Second), "held"); err != nil || !ok || rec.State != idempotency.Unknown {
		t.Errorf("the claim reads as %v, state %v, %v; want unknown", ok, rec.State, err)
	}
}

// firstLook is a store that tells when it was read for the first time.
type firstLook struct {
	*Store
	once sync.Once
	done chan struct{}
}

func (f *firstLook) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	defer f.once.Do(func() { close(f.done) })
	return f.Store.Get(ctx, id)
}

// TestSlowDisk: a call gives up with its context while the disk hangs; the step may still be taken, and nobody can act on the record until then.
func TestSlowDisk(t *testing.T) {
	release := make(chan struct{})
	var on atomic.Bool
	hang := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() && strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			<-release
		}
		return nil
	})
	s := mustOpen(t, "store", Options{FS: errorfs.Wrap(vfs.NewMem(), hang)})
	claim(t, s, request("a", 1))
	waiting := make(chan error, 1)
	look := &firstLook{Store: s, done: make(chan struct{})}
	go func() { waiting <- s.waiting.Wait(context.Background(), look, "a", 1, s.now, s.guard.failed) }()
	<-look.done // from here on only the step wakes it
	on.Store(true)
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	finish := idempotency.Change{Op: idempotency.Finish, Answer: &idempotency.Answer{Status: 201}}
	buffer := []byte("a") // of the caller's request
	if err := s.Change(short, filters.Alias(buffer), 1, finish); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Change on a hanging disk: %v", err)
	}
	buffer[0] = '#' // which has ended
	again, cancel2 := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel2()
	if rec, _, err := s.Get(again, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Get shows %v, %v though the step is not on disk", rec.State, err)
	}
	close(release)
	select { // the caller has left, and still the waiters are woken by his step
	case err := <-waiting:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Wait was not woken")
	}
	if rec, ok, err := s.Get(within(t, 20*time.Second), "a"); err != nil || !ok || rec.State != idempotency.Answered {
		t.Errorf("after the disk came back: %v, state %v, %v", ok, rec.State, err)
	}
	mustClose(t, s)
}
