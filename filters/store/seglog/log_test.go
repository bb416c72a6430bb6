package seglog_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

func TestReopen(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := filepath.Join(t.TempDir(), "folder")
	for round := range 3 {
		tb := mustOpen(t, dir, seglog.Options{})
		for key := range 4 {
			k := strconv.Itoa(key)
			want := ""
			if round > 0 && key > 0 {
				want = value(fmt.Sprint(round-1, key))
			}
			mustHave(t, tb, k, want)
			mustPut(t, tb, k, value(fmt.Sprint(round, key)))
		}
		mustPut(t, tb, "0", "")
		mustHave(t, tb, "0", "")
		mustClose(t, tb)
		if err := tb.put(t.Context(), "late", "x"); !errors.Is(err, seglog.ErrClosed) {
			t.Errorf("put after Close: %v", err)
		}
		if _, err := tb.get("1"); !errors.Is(err, seglog.ErrClosed) {
			t.Errorf("get after Close: %v", err)
		}
	}
}

func TestFolderIsLocked(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tb := mustOpen(t, dir, seglog.Options{})
	_, err := openTable(dir, seglog.Options{})
	if !errors.Is(err, seglog.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second opening: %v, want ErrInUse with the folder's name", err)
	}
	mustClose(t, tb)
	tb = mustOpen(t, dir, seglog.Options{})
	if other := tb.log.OtherFiles(); len(other) != 1 || other[0] != "other" {
		t.Errorf("other files: %q", other)
	}
	mustClose(t, tb)
}

// TestGroupCommit: what comes while a batch is being written shares the next one.
func TestGroupCommit(t *testing.T) {
	d := seglogtest.New()
	tb := mustOpen(t, "log", seglog.Options{Disk: d})
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.SetHook(func(op string) error {
		if op == "sync" {
			once.Do(func() {
				close(entered)
				<-release
			})
		}
		return nil
	})
	var wg sync.WaitGroup
	put := func(i int) {
		wg.Go(func() {
			if err := tb.put(within(t, soon), strconv.Itoa(i), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	put(0)
	<-entered
	for i := range 100 {
		put(i + 1)
	}
	eventually(t, "all are pending", func() bool {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		return len(tb.rows) == 101
	})
	close(release)
	wg.Wait()
	if st := tb.log.Stats(); st.Batches != 2 || st.Entries != 101 {
		t.Errorf("%d entries in %d batches, want 101 in 2", st.Entries, st.Batches)
	}
	mustClose(t, tb)
}

// TestBatchIsBounded: a full batch makes its owner wait.
func TestBatchIsBounded(t *testing.T) {
	d := seglogtest.New()
	tb := mustOpen(t, "log", seglog.Options{Disk: d})
	release := make(chan struct{})
	d.SetHook(func(op string) error {
		if op == "sync" {
			<-release
		}
		return nil
	})
	long := strings.Repeat("x", 1<<18)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if err := tb.put(within(t, soon), strconv.Itoa(i), long); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "a full batch", func() bool { return tb.log.Condition().Full != nil })
	tb.mu.Lock()
	if n := len(tb.rows); n > 9 { // one that is being written, and one that is full
		t.Errorf("%d entries of %d bytes were taken", n, len(long))
	}
	tb.mu.Unlock()
	close(release)
	wg.Wait()
	mustClose(t, tb)
}

func TestLimits(t *testing.T) {
	tb := mustOpen(t, "log", seglog.Options{Disk: seglogtest.New()})
	defer mustClose(t, tb)
	r := &row{value: "x"}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	for name, h := range map[string]seglog.Header{
		"a long key": {Kind: 1, Key: strings.Repeat("k", seglog.KeyMax+1)},
		"no kind":    {Key: "k"},
		"its kind":   {Kind: seglog.KindClosed, Key: "k"},
		"its flag":   {Kind: 1, Flags: seglog.FlagFirst, Key: "k"},
	} {
		if _, err := tb.log.AppendLocked(h, r); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestNothingIsAllocated: an entry is encoded where it is written from.
func TestNothingIsAllocated(t *testing.T) {
	d := seglogtest.New()
	tb := mustOpen(t, "log", seglog.Options{Disk: d})
	for range 3 { // the memory of two batches
		mustPut(t, tb, "grown", strings.Repeat("x", 1<<19))
		for range 200 {
			mustPut(t, tb, "grown", "x")
		}
	}
	release := make(chan struct{})
	d.SetHook(func(op string) error {
		if op == "sync" {
			<-release
		}
		return nil
	})
	r := &row{key: "k", value: value("v")}
	h := seglog.Header{Kind: kindValue, Key: "k", Expires: time.Now()}
	appendOne := func() {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		if c := tb.log.ConditionLocked(); c != (seglog.Condition{}) {
			t.Error("the batch is full")
		}
		if _, err := tb.log.AppendLocked(h, r); err != nil {
			t.Error(err)
		}
	}
	if n := testing.AllocsPerRun(1000, appendOne); n != 0 { // the list of entries grows a few times
		t.Errorf("%v allocations an entry", n)
	}
	close(release)
	mustClose(t, tb)
}

// TestFormatOnDisk reads a segment by the description of its format.
func TestFormatOnDisk(t *testing.T) {
	d := seglogtest.New()
	tb := mustOpen(t, "log", seglog.Options{Disk: d})
	mustPut(t, tb, "key", "body")
	mustClose(t, tb)
	log := d.Read(firstSegment)
	table := crc32.MakeTable(crc32.Castagnoli)
	u16, u32, u64 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	head := log[:64]
	if string(head[:8]) != "sluicelg" || u32(head[8:]) != 1 || u32(head[12:]) != 1 || u64(head[16:]) != 1 ||
		u32(head[28:]) != 0 || u64(head[32:]) != 0 || u32(head[40:]) != crc32.Checksum(head[:40], table) ||
		!bytes.Equal(log[64:128], head) {
		t.Errorf("header %x", log[:128])
	}
	salt := u32(head[24:])
	e := log[128 : 128+28+3+4]
	sum := crc32.Update(crc32.Update(salt, table, e[:20]), table, e[28:31])
	if string(e[:4]) != "\xf5Sl\xe1" || u32(e[4:]) != 35 || e[8] != kindValue || e[9] != 1 || u16(e[10:]) != 3 ||
		u64(e[12:]) != 1_900_000_000_000_000_000 || u32(e[20:]) != sum ||
		u32(e[24:]) != crc32.Update(sum, table, e[31:]) || string(e[28:]) != "keybody" {
		t.Errorf("entry %x", e)
	}
	if end := log[128+35:]; len(end) != 28 || end[8] != seglog.KindClosed || end[9] != 1 {
		t.Errorf("end %x", end)
	}
}

// firstVersion is a log as the first version of the format wrote it: an entry of kind 4, one of kind 3,
// and its end.
const firstVersion = "" +
	"736c756963656c67010000000100000001000000000000001255b05800000000000000000000000064510f1d00000000" +
	"00000000000000000000000000000000736c756963656c67010000000100000001000000000000001255b05800000000" +
	"000000000000000064510f1d0000000000000000000000000000000000000000f5536ce1340000000401080000000000" +
	"000000004ad97fd404cb80e46272616e63686573dd0b1bd3ff39710964b50a1a48b03dcef5536ce12100000003010500" +
	"00107507565fd7186d1f3cb36d1f3cb36672656564f5536ce11c000000050100000000000000000000bab5d277bab5d2" +
	"77"

// TestFolderOfTheFirstVersion: a log that was written before is read.
func TestFolderOfTheFirstVersion(t *testing.T) {
	log, err := hex.DecodeString(firstVersion)
	if err != nil {
		t.Fatal(err)
	}
	d := seglogtest.New()
	d.Write(firstSegment, log)
	l, err := seglog.Open("log", new(sync.Mutex), seglog.Options{Disk: d, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	damaged, err := l.Replay(func(e seglog.Entry, at seglog.Ref) error {
		again, err := l.Read(at)
		if err != nil || !bytes.Equal(again.Body, e.Body) || !bytes.Equal(again.Key, e.Key) {
			t.Errorf("%+v is read as %+v, %v", e, again, err)
		}
		got = append(got, fmt.Sprintf("%d %#x %s %d %x", e.Kind, e.Flags, e.Key, e.Expires.Unix(), e.Body))
		return nil
	})
	if err != nil || len(damaged) != 0 {
		t.Fatal(damaged, err)
	}
	want := []string{"4 0x1 branches 0 dd0b1bd3ff39710964b50a1a48b03dce", "3 0x1 freed 1790004200 "}
	if !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
	if st := l.Stats(); st.DamagedBytes != 0 || st.TornBytes != 0 || st.Segments != 1 {
		t.Errorf("figures %+v", st)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestCompaction: under load the log stays short, and no key is lost or comes back, also over openings.
func TestCompaction(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	opts := seglog.Options{Disk: d, SegmentBytes: 8 << 10, CompactEvery: time.Millisecond}
	tb := mustOpen(t, "log", opts)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const workers, keys = 8, 20
	models := [workers]map[string]string{}
	for w := range models {
		models[w] = map[string]string{}
	}
	for round := range 4 {
		var wg sync.WaitGroup
		for w, model := range models {
			r := rand.New(rand.NewPCG(seed, uint64(round*workers+w)))
			wg.Go(func() {
				for range 400 {
					key := fmt.Sprintf("%d-%d", w, r.IntN(keys))
					v := ""
					if r.IntN(3) > 0 {
						v = strings.Repeat(key, 1+r.IntN(20))
					}
					mustHave(t, tb, key, model[key])
					if err := tb.put(within(t, soon), key, v); err != nil {
						t.Error(err)
					}
					model[key] = v
				}
			})
		}
		wg.Wait()
		eventually(t, "a short log", func() bool {
			st := tb.log.Stats()
			return st.DiskBytes <= 2*st.LiveBytes+4*opts.SegmentBytes
		})
		if tb.log.Stats().CopiedBytes == 0 {
			t.Error("nothing was ever copied")
		}
		mustClose(t, tb)
		tb = mustOpen(t, "log", opts)
		for _, model := range models {
			for key, want := range model {
				mustHave(t, tb, key, want)
			}
		}
	}
	for _, model := range models {
		for key := range model {
			mustPut(t, tb, key, "")
		}
	}
	eventually(t, "an empty log", func() bool {
		st := tb.log.Stats()
		return st.LiveBytes == 0 && st.Segments == 1
	})
	mustClose(t, tb)
}

// TestManyOpenings: each opening begins a segment, and compaction brings them together.
func TestManyOpenings(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	for i := range 40 {
		tb := mustOpen(t, "log", seglog.Options{Disk: d, CompactEvery: time.Hour})
		mustPut(t, tb, strconv.Itoa(i), "x")
		mustClose(t, tb)
	}
	tb := mustOpen(t, "log", seglog.Options{Disk: d, CompactEvery: time.Millisecond})
	eventually(t, "few segments", func() bool { return tb.log.Stats().Segments <= 16 })
	for i := range 40 {
		mustHave(t, tb, strconv.Itoa(i), "x")
	}
	mustClose(t, tb)
}
