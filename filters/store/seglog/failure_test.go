package seglog_test

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

	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

// TestEveryOperationFails lets the nth operation of each kind fail, for every n that a script comes to.
// Opening says so; or the entry is refused, was not written, and the log resumes by itself; and a power cut
// then shows what was acknowledged.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	for _, op := range seglogtest.Operations {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			n, hit := 0, true
			for ; hit && n < 40; n++ {
				hit = failOnce(t, op, n)
			}
			if n < 2 {
				t.Error("no such operation was met")
			}
		})
	}
}

var errBroken = errors.New("broken")

// failNth makes the nth operation of a kind fail, counted from 0. A truncation comes after another failure
// only: there the nth sync fails, and each truncation.
func failNth(d *seglogtest.Disk, op string, n int) *atomic.Int64 {
	left := new(atomic.Int64)
	left.Store(int64(n))
	d.SetHook(func(o string) error {
		failing := op
		if op == "truncate" {
			if o == op {
				return errBroken
			}
			failing = "sync"
		}
		if o == failing && left.Add(-1) == -1 {
			return errBroken
		}
		return nil
	})
	return left
}

// failOnce runs the script with one failure and reports whether it came to that.
func failOnce(t *testing.T, op string, n int) bool {
	t.Helper()
	d := seglogtest.New()
	left := failNth(d, op, n)
	where := fmt.Sprintf("%s %d", op, n)
	for range 2 { // so that the second opening has something to read
		tb, err := openTable("log", onDisk(d))
		if err != nil {
			if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "log") {
				t.Fatalf("%s: opening: %v", where, err)
			}
			return true
		}
		_ = tb.log.Close()
	}
	tb, err := openTable("log", onDisk(d))
	if err != nil {
		return true
	}
	want := map[string]string{}
	for i := range 60 {
		key, v := strconv.Itoa(i%7), value(strconv.Itoa(i))
		if i%5 == 4 {
			v = ""
		}
		for failures := 0; ; failures++ {
			err := tb.put(within(t, soon), key, v)
			if err == nil {
				break
			}
			if !errors.Is(err, errBroken) || !errors.Is(err, seglog.ErrFailed) || failures > 100 {
				t.Fatalf("%s: %v", where, err)
			}
			eventually(t, where+": resumes", func() bool { return tb.log.Condition() == seglog.Condition{} })
			mustHave(t, tb, key, want[key])
		}
		want[key] = v
	}
	eventually(t, where+": compaction", func() bool {
		st := tb.log.Stats()
		return st.DiskBytes <= 2*st.LiveBytes+5<<10 && d.Read(firstSegment) == nil
	})
	_ = tb.log.Close()
	d.SetHook(nil)
	after := mustOpen(t, "log", seglog.Options{Disk: d.AfterPowerCut(rand.New(rand.NewPCG(uint64(n), 0)))})
	for key, v := range want {
		mustHave(t, after, key, v)
	}
	if st := after.log.Stats(); st.DamagedParts > 0 {
		t.Errorf("%s: damage is reported: %+v", where, st)
	}
	mustClose(t, after)
	return left.Load() < 0
}

// TestPowerCut takes the disk as it may be after a power cut at a random moment: what was acknowledged
// before is there.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for range 10 {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			d := seglogtest.New()
			tb := mustOpen(t, "log", onDisk(d))
			var mu sync.Mutex
			acknowledged := map[string]int{}
			var stop atomic.Bool
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					for i := 1; !stop.Load(); i++ {
						key := fmt.Sprintf("%d-%d", w, i%3)
						mustPut(t, tb, key, strconv.Itoa(i))
						mu.Lock()
						acknowledged[key] = i
						mu.Unlock()
					}
				})
			}
			eventually(t, "load", func() bool { return tb.log.Stats().Entries > seed%500 })
			mu.Lock()
			least := make(map[string]int, len(acknowledged))
			for key, i := range acknowledged {
				least[key] = i
			}
			mu.Unlock()
			cut := d.AfterPowerCut(rand.New(rand.NewPCG(seed, 0)))
			stop.Store(true)
			wg.Wait()
			mustClose(t, tb)
			after := mustOpen(t, "log", seglog.Options{Disk: cut})
			defer mustClose(t, after)
			for key, i := range least {
				got, err := after.get(key)
				if n, _ := strconv.Atoi(got); err != nil || n < i { // may have gone on meanwhile
					t.Errorf("%s was acknowledged as %d and is %q, %v", key, i, got, err)
				}
			}
			if st := after.log.Stats(); st.DamagedParts > 0 {
				t.Errorf("damage is reported: %+v", st)
			}
		})
	}
}

// TestFullDisk: refusals that say so while it is full, nothing lost, what is there can be read, and the log
// resumes when there is room, without piling up segments.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	d.SetRoom(20 << 10)
	tb := mustOpen(t, "log", onDisk(d))
	ctx := within(t, time.Minute)
	var done []string
	var err error
	for i := 0; err == nil; i++ {
		key := strconv.Itoa(i)
		if err = tb.put(ctx, key, value(key)); err == nil {
			done = append(done, key)
		}
	}
	if !errors.Is(err, seglog.ErrFailed) || !errors.Is(err, syscall.ENOSPC) ||
		!strings.Contains(err.Error(), "free some room") {
		t.Errorf("on a full disk: %v", err)
	}
	segments := tb.log.Stats().Segments
	var tries atomic.Int64
	d.SetHook(func(op string) error {
		if op == "create" {
			tries.Add(1)
		}
		return nil
	})
	d.SetFree(10 * seglog.SegmentOverhead) // for a header, and for little more
	eventually(t, "some tries", func() bool { return tries.Load() >= 6 })
	if c := tb.log.Condition(); !errors.Is(c.Down, seglog.ErrFailed) {
		t.Errorf("with little room: %+v", c)
	}
	mustHave(t, tb, done[0], value(done[0]))
	if n := tb.log.Stats().Segments; n > segments {
		t.Errorf("%d segments, %d before: the tries pile up", n, segments)
	}
	d.SetRoom(0)
	eventually(t, "resumes", func() bool { return tb.log.Condition() == seglog.Condition{} })
	mustPut(t, tb, "more", "x")
	for range 2 {
		for _, key := range done {
			mustHave(t, tb, key, value(key))
		}
		mustHave(t, tb, "more", "x")
		mustClose(t, tb)
		tb = mustOpen(t, "log", onDisk(d))
	}
	mustClose(t, tb)
}

// TestBeginsOnAFullDisk: a log that is opened while the disk is full refuses, and resumes when there is room.
func TestBeginsOnAFullDisk(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	tb := mustOpen(t, "log", onDisk(d))
	mustPut(t, tb, "before", "x")
	mustClose(t, tb)
	d.SetRoom(1)
	tb = mustOpen(t, "log", onDisk(d))
	if err := tb.put(t.Context(), "new", "x"); !errors.Is(err, seglog.ErrFailed) {
		t.Errorf("put on a full disk: %v", err)
	}
	mustHave(t, tb, "before", "x")
	d.SetRoom(0)
	eventually(t, "resumes", func() bool { return tb.log.Condition() == seglog.Condition{} })
	mustPut(t, tb, "new", "x")
	mustClose(t, tb)
}

// TestHangingDisk: a caller gives up with its context, or at the log's limit, while the disk hangs; the
// log says that it is stalled. The entry is written when the disk comes back.
func TestHangingDisk(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	tb := mustOpen(t, "log", seglog.Options{Disk: d, Timeout: 50 * time.Millisecond})
	release := make(chan struct{})
	d.SetHook(func(op string) error {
		if op == "sync" {
			<-release
		}
		return nil
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tb.put(ended, "a", "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("put with a context that has ended: %v", err)
	}
	err := tb.put(within(t, soon), "b", "x")
	if err == nil || !strings.Contains(err.Error(), "has not answered for 50ms") {
		t.Errorf("put on a hanging disk: %v", err)
	}
	if c := tb.log.Condition(); c.Stalled == nil {
		t.Errorf("while the disk hangs: %+v", c)
	}
	if err := tb.put(within(t, soon), "c", "x"); err == nil || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("a later put on a hanging disk: %v", err)
	}
	close(release)
	eventually(t, "the disk is back", func() bool { return tb.log.Condition() == seglog.Condition{} })
	mustHave(t, tb, "a", "x")
	mustPut(t, tb, "c", "y")
	if st := tb.log.Stats(); st.Timeouts == 0 {
		t.Errorf("figures %+v", st)
	}
	mustClose(t, tb)
}

// TestCloseThatHangs: the close of a removed segment's file can take long; no caller waits for it.
func TestCloseThatHangs(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	tb := mustOpen(t, "log", onDisk(d))
	hang, entered := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.SetHook(func(op string) error {
		if op == "close" {
			once.Do(func() { close(entered) })
			<-hang
		}
		return nil
	})
	for i := 0; ; i++ {
		mustPut(t, tb, "key", value(strconv.Itoa(i)))
		mustHave(t, tb, "key", value(strconv.Itoa(i)))
		select {
		case <-entered:
		default:
			continue
		}
		break
	}
	mustPut(t, tb, "key", "last")
	mustHave(t, tb, "key", "last")
	close(hang)
	mustClose(t, tb)
}
