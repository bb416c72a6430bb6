package dtmembedded

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

// clock is a time that a test sets.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.nanos.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func saga(gid string, due time.Time) (*storage.TransGlobalStore, []storage.TransBranchStore) {
	created := due.Add(-10 * time.Second)
	g := &storage.TransGlobalStore{
		Gid: gid, TransType: "saga", Status: "submitted", NextCronInterval: 10, NextCronTime: &due,
	}
	g.CreateTime, g.UpdateTime = &created, &created
	var branches []storage.TransBranchStore
	for i := range 3 {
		for _, op := range []string{"compensate", "action"} {
			branches = append(branches, storage.TransBranchStore{
				Gid: gid, BranchID: fmt.Sprintf("%02d", i+1), Op: op, Status: "prepared",
				URL: "http://127.0.0.1:8081/branch/" + op, BinData: []byte(strings.Repeat("payload ", 40)),
			})
		}
	}
	return g, branches
}

// tried returns what an operation panics with.
func tried(op func()) (err error) {
	defer func() { err, _ = recover().(error) }()
	op()
	return nil
}

func (s *Store) end(t *testing.T, gid, status string, at time.Time) {
	t.Helper()
	g := s.FindTransGlobalStore(gid)
	if status == statusSucceeded {
		g.FinishTime = &at
	} else {
		g.RollbackTime = &at
	}
	s.ChangeGlobalStatus(g, status, nil, true)
}

func create(t *testing.T, s *Store, gid string, due time.Time) {
	t.Helper()
	if err := s.MaySaveNewTrans(saga(gid, due)); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("not in time: ", what)
		}
	}
}

func TestCallersShareASync(t *testing.T) {
	const callers = 32
	disk := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: disk, Logger: quiet()})
	defer s.Close()
	release := make(chan struct{})
	disk.SetHook(func(op string) error {
		if op == "sync" {
			<-release
		}
		return nil
	})
	var done sync.WaitGroup
	for i := range callers {
		done.Go(func() { create(t, s, fmt.Sprintf("gid%05d", i), time.Now()) })
		if i == 0 { // its batch is being written before the others come
			eventually(t, "the first sync", func() bool { return len(s.cellsNow()) == 1 && s.log.Stats().Batches == 0 })
		}
	}
	eventually(t, "all have appended", func() bool { return len(s.cellsNow()) == callers })
	close(release)
	done.Wait()
	if st := s.Stats(); st.Entries != callers || st.Batches > 3 {
		t.Errorf("%d entries with %d syncs, want %d with three at most", st.Entries, st.Batches, callers)
	}
}

func (s *Store) cellsNow() map[string]*cell {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.cells)
}

// What was acknowledged before a power cut is there after it, whatever the disk did with what was not synced.
func TestAcknowledgedSurvivesAPowerCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	disk := seglogtest.New()
	opts := Options{disk: disk, Logger: quiet(), SegmentBytes: 32 << 10, SweepEvery: time.Millisecond}
	s := mustOpen(t, "store", opts)
	var mu sync.Mutex
	progress := map[string]int{} // 1: created, 2 to 4: branches done, 5: succeeded
	var writers sync.WaitGroup
	quit := make(chan struct{})
	for w := range 8 {
		writers.Go(func() {
			for n := 0; ; n++ {
				gid := fmt.Sprintf("gid%02d%06d", w, n)
				for step := 1; step <= 5; step++ {
					select {
					case <-quit:
						return
					default:
					}
					advance(s, gid, step)
					mu.Lock()
					progress[gid] = step
					mu.Unlock()
				}
			}
		})
	}
	for range 5 {
		eventually(t, "some progress", func() bool { return s.Stats().Entries > uint64(r.IntN(2000)) })
		mu.Lock()
		acknowledged := maps.Clone(progress)
		mu.Unlock()
		after := opts
		after.disk = disk.AfterPowerCut(r)
		s2 := mustOpen(t, "store", after)
		for gid, step := range acknowledged {
			if got := progressOf(s2, gid); got < step {
				t.Errorf("%s is at %d, %d was acknowledged", gid, got, step)
			}
		}
		if err := s2.Close(); err != nil {
			t.Error(err)
		}
	}
	close(quit)
	writers.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func advance(s *Store, gid string, step int) {
	switch step {
	case 1:
		if err := s.MaySaveNewTrans(saga(gid, time.Now())); err != nil {
			panic(err)
		}
	case 5:
		g, now := s.FindTransGlobalStore(gid), time.Now()
		g.FinishTime = &now
		s.ChangeGlobalStatus(g, statusSucceeded, nil, true)
	default:
		i := 2*(step-2) + 1
		b := s.FindBranches(gid)[i]
		b.Status = statusSucceeded
		s.LockGlobalSaveBranches(gid, "submitted", []storage.TransBranchStore{b}, i)
	}
}

func progressOf(s *Store, gid string) int {
	g := s.FindTransGlobalStore(gid)
	if g == nil {
		return 0
	}
	n := 1
	for _, b := range s.FindBranches(gid) {
		if b.Status == statusSucceeded {
			n++
		}
	}
	if g.Status == statusSucceeded {
		n++
	}
	return n
}

// A change that the disk does not take is refused, and nothing of it is seen; then the store goes on by itself.
func TestAFullDiskRefusesChanges(t *testing.T) {
	disk := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: disk, Logger: quiet(), retry: time.Millisecond})
	defer s.Close()
	create(t, s, "gid00001", time.Now().Add(-time.Minute))
	disk.SetFree(100)
	for name, op := range map[string]func(){
		"MaySaveNewTrans": func() { _ = s.MaySaveNewTrans(saga("gid00002", time.Now())) },
		"LockGlobalSaveBranches": func() {
			s.LockGlobalSaveBranches("gid00001", "submitted", s.FindBranches("gid00001")[:1], 0)
		},
		"ChangeGlobalStatus": func() { s.end(t, "gid00001", statusSucceeded, time.Now()) },
		"TouchCronTime": func() {
			due := time.Now().Add(time.Hour)
			s.TouchCronTime(s.FindTransGlobalStore("gid00001"), 10, &due)
		},
		"LockOneGlobalTrans": func() { s.LockOneGlobalTrans(0) },
	} {
		if err := tried(op); !errors.Is(err, seglog.ErrFailed) {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
	if err := s.CreateKV("topics", "k", "v"); !errors.Is(err, seglog.ErrFailed) {
		t.Errorf("CreateKV on a full disk: %v", err)
	}
	if s.FindTransGlobalStore("gid00002") != nil || len(s.FindKV("topics", "")) > 0 {
		t.Error("what was refused is there")
	}
	if g := s.FindTransGlobalStore("gid00001"); g.Status != "submitted" || g.NextCronTime.After(time.Now()) {
		t.Errorf("what stood before has changed: %s, due %v", g.Status, g.NextCronTime)
	}
	if s.Ping() == nil {
		t.Error("Ping says that all is well")
	}
	disk.SetRoom(0)
	eventually(t, "it takes changes again", func() bool { return s.Ping() == nil })
	create(t, s, "gid00002", time.Now().Add(time.Hour))
	if g := s.LockOneGlobalTrans(0); g == nil || g.Gid != "gid00001" {
		t.Errorf("due is %v, want gid00001", g)
	}
}

func TestAHangingDiskHoldsNobodyForEver(t *testing.T) {
	disk := seglogtest.New()
	s := mustOpen(t, "store", Options{disk: disk, Logger: quiet(), Timeout: 50 * time.Millisecond})
	defer s.Close()
	create(t, s, "gid00001", time.Now())
	release := make(chan struct{})
	disk.SetHook(func(op string) error {
		if op == "sync" {
			<-release
		}
		return nil
	})
	first := tried(func() { s.end(t, "gid00001", statusSucceeded, time.Now()) })
	again := tried(func() { s.end(t, "gid00001", statusSucceeded, time.Now()) })
	other := tried(func() { _ = s.MaySaveNewTrans(saga("gid00002", time.Now())) })
	if first == nil || again == nil || other == nil || errors.Is(first, seglog.ErrFailed) {
		t.Errorf("changes while the disk hangs: %v; %v; %v", first, again, other)
	}
	if g := s.FindTransGlobalStore("gid00001"); g.Status != "submitted" {
		t.Errorf("what is not durable is seen: %s", g.Status)
	}
	close(release)
	eventually(t, "the change is there",
		func() bool { return s.FindTransGlobalStore("gid00001").Status == statusSucceeded })
	eventually(t, "it takes changes again", func() bool { return s.Ping() == nil })
	create(t, s, "gid00003", time.Now())
}

// A transaction whose newest entry is damaged is not taken for what it was before.
func TestADamagedTransactionIsHeld(t *testing.T) {
	disk := seglogtest.New()
	opts := Options{disk: disk, Logger: quiet()}
	s := mustOpen(t, "store", opts)
	create(t, s, "gid00001", time.Now().Add(-time.Minute))
	create(t, s, "gid00002", time.Now().Add(-time.Minute))
	s.end(t, "gid00001", "failed", time.Now())
	create(t, s, "gid00003", time.Now().Add(time.Hour))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Damage(func(data []byte) { // in the body of the entry that says that the first has failed
		if i := bytes.Index(data, []byte(`"status":"failed"`)); i >= 0 {
			data[i] ^= 1
		}
	})
	s = mustOpen(t, "store", opts)
	defer s.Close()
	if g := s.FindTransGlobalStore("gid00001"); g == nil || g.Status != statusDamaged {
		t.Fatalf("the damaged one is %v", g)
	}
	if err := s.MaySaveNewTrans(saga("gid00001", time.Now())); !errors.Is(err, storage.ErrUniqueConflict) {
		t.Errorf("its gid is free: %v", err)
	}
	if g := s.LockOneGlobalTrans(0); g == nil || g.Gid != "gid00002" {
		t.Errorf("processed is %v, want the second", g)
	}
	if g := s.LockOneGlobalTrans(0); g != nil {
		t.Errorf("processed is %v too", g.Gid)
	}
	s.end(t, "gid00001", "failed", time.Now()) // as forceStop does
	if g := s.FindTransGlobalStore("gid00001"); g.Status != "failed" || s.Stats().Ended != 1 {
		t.Errorf("after forceStop it is %s, %d have ended", g.Status, s.Stats().Ended)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{Logger: quiet()})
	defer s.Close()
	if _, err := Open(dir, Options{Logger: quiet()}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second one: %v", err)
	}
}

// A gid that another one begins with has its own branches.
func TestGidsThatBeginAlike(t *testing.T) {
	s := mustOpen(t, "store", Options{disk: seglogtest.New(), Logger: quiet()})
	defer s.Close()
	for _, gid := range []string{"A", "A0", "A00", "A000"} {
		create(t, s, gid, time.Now())
	}
	for _, gid := range []string{"A", "A0", "A00", "A000"} {
		branches := s.FindBranches(gid)
		for _, b := range branches {
			if b.Gid != gid {
				t.Errorf("%s has a branch of %s", gid, b.Gid)
			}
		}
		if len(branches) != 6 {
			t.Errorf("%s has %d branches, want 6", gid, len(branches))
		}
	}
}

// Branches of one transaction that end at the same time all are stored.
func TestConcurrentBranches(t *testing.T) {
	s := mustOpen(t, "store", Options{disk: seglogtest.New(), Logger: quiet()})
	defer s.Close()
	create(t, s, "gid00001", time.Now())
	var all sync.WaitGroup
	for i, b := range s.FindBranches("gid00001") {
		all.Go(func() {
			b.Status = statusSucceeded
			s.LockGlobalSaveBranches("gid00001", "submitted", []storage.TransBranchStore{b}, i)
		})
	}
	all.Wait()
	for _, b := range s.FindBranches("gid00001") {
		if b.Status != statusSucceeded {
			t.Errorf("branch %s %s is %s", b.BranchID, b.Op, b.Status)
		}
	}
}

// Of several who ask for a due transaction, each gets another one.
func TestEachDueTransactionIsGivenAwayOnce(t *testing.T) {
	s := mustOpen(t, "store", Options{disk: seglogtest.New(), Logger: quiet()})
	defer s.Close()
	for i := range 50 {
		create(t, s, fmt.Sprintf("gid%05d", i), time.Now().Add(-time.Duration(i)*time.Second))
	}
	var mu sync.Mutex
	given := map[string]int{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for g := s.LockOneGlobalTrans(0); g != nil; g = s.LockOneGlobalTrans(0) {
				mu.Lock()
				given[g.Gid]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for gid, n := range given {
		if n != 1 {
			t.Errorf("%s was given away %d times", gid, n)
		}
	}
	if len(given) != 50 {
		t.Errorf("%d were given away, want 50", len(given))
	}
}
