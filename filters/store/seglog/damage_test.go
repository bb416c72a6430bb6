package seglog_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

// history is a log with what each key's value was after each step.
type history struct {
	log   []byte
	steps []step
}

type step struct {
	key   string
	from  int64 // where the step's entry begins
	until int64 // where it ends
	value string
}

const historyKeys = 4

// record writes a history, of one entry a batch, and takes the log as it is while it is open.
func record(t *testing.T) history {
	t.Helper()
	d := seglogtest.New()
	tb := mustOpen(t, "log", seglog.Options{Disk: d, CompactEvery: time.Hour})
	var h history
	at := int64(seglog.SegmentOverhead)
	for i := range 12 {
		key, v := strconv.Itoa(i%historyKeys), fmt.Sprintf("value %d", i)
		if i == 6 {
			v = ""
		}
		mustPut(t, tb, key, v)
		size := tb.log.Stats().DiskBytes
		h.steps = append(h.steps, step{key, at, size, v})
		at = size
	}
	if h.log = d.Read(firstSegment); int64(len(h.log)) != at {
		t.Fatalf("the log has %d bytes, want %d", len(h.log), at)
	}
	mustClose(t, tb)
	return h
}

// reopen opens a log of these bytes.
func reopen(t *testing.T, log []byte) *table {
	t.Helper()
	d := seglogtest.New()
	d.Write(firstSegment, slices.Clone(log))
	return mustOpen(t, "log", seglog.Options{Disk: d, CompactEvery: time.Hour})
}

// TestCutAtEveryByte: what was written before the cut is there, and nothing else; a cut is no damage.
func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	h := record(t)
	for cut := range len(h.log) + 1 {
		tb := reopen(t, h.log[:cut])
		want := map[string]string{}
		end := int64(seglog.SegmentOverhead)
		for _, st := range h.steps {
			if st.until <= int64(cut) {
				want[st.key], end = st.value, st.until
			}
		}
		for k := range historyKeys {
			mustHave(t, tb, strconv.Itoa(k), want[strconv.Itoa(k)])
		}
		st := tb.log.Stats()
		if cut >= seglog.SegmentOverhead && (st.DamagedParts != 0 || st.TornBytes != int64(cut)-end) {
			t.Errorf("cut at %d: %+v", cut, st)
		}
		mustPut(t, tb, "further", "x") // behind the cut nothing is lost
		mustHave(t, tb, "further", "x")
		mustClose(t, tb)
	}
}

// TestFlipEveryByte: every damage is noticed, and costs the entry that it hit and no other.
func TestFlipEveryByte(t *testing.T) {
	t.Parallel()
	h := record(t)
	for i := range h.log {
		log := slices.Clone(h.log)
		log[i] ^= 1 << rand.IntN(8)
		tb := reopen(t, log)
		checkRest(t, tb, h, int64(i), int64(i)+1)
		if st := tb.log.Stats(); st.DamagedBytes+st.TornBytes == 0 {
			t.Errorf("byte %d flipped, and nothing is reported", i)
		}
		mustClose(t, tb)
	}
}

// TestDamagedRun overwrites parts of the log: the reader finds the next sound entry behind each.
func TestDamagedRun(t *testing.T) {
	t.Parallel()
	h := record(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		from := seglog.SegmentOverhead + r.IntN(len(h.log)-seglog.SegmentOverhead)
		until := min(from+1+r.IntN(300), len(h.log))
		log := slices.Clone(h.log)
		for i := from; i < until; i++ {
			log[i] ^= byte(1 + r.IntN(255))
		}
		tb := reopen(t, log)
		checkRest(t, tb, h, int64(from), int64(until))
		if st := tb.log.Stats(); st.DamagedBytes+st.TornBytes < int64(until-from) {
			t.Errorf("%d bytes from %d overwritten, %d reported", until-from, from, st.DamagedBytes+st.TornBytes)
		}
		mustClose(t, tb)
	}
}

// checkRest: all keys have the value of their newest step of which nothing lay between the two offsets. A
// key whose newest step was hit is refused when the header and the key of that entry are sound.
func checkRest(t *testing.T, tb *table, h history, from, until int64) {
	t.Helper()
	want := map[string]string{}
	last := h.steps[len(h.steps)-1].from
	for _, st := range h.steps {
		hit := func(a, b int64) bool { return from < st.from+b && until > st.from+a }
		switch {
		case !hit(0, st.until-st.from):
			want[st.key] = st.value
		case until > last: // in the last batch, which was not written whole for all that is known
		case !hit(0, seglog.EntryOverhead-4) && !hit(seglog.EntryOverhead, seglog.EntryOverhead+int64(len(st.key))):
			want[st.key] = refused
		}
	}
	for k := range historyKeys {
		key := strconv.Itoa(k)
		got, err := tb.get(key)
		if err != nil || got != want[key] {
			t.Errorf("damage from %d to %d: %s is %q, %v; want %q", from, until, key, got, err, want[key])
		}
	}
}

// TestLostSegments: a segment that is missing, cut short or has no header is reported, and the others are read.
func TestLostSegments(t *testing.T) {
	t.Parallel()
	const second = "log/00000002.log"
	for name, lose := range map[string]func(*seglogtest.Disk){
		"missing":   func(d *seglogtest.Disk) { _ = d.Remove(second) },
		"cut short": func(d *seglogtest.Disk) { d.Write(second, d.Read(second)[:seglog.SegmentOverhead+10]) },
		"no header": func(d *seglogtest.Disk) {
			b := d.Read(second)
			clear(b[:seglog.SegmentOverhead])
			d.Write(second, b)
		},
	} {
		d := seglogtest.New()
		opts := seglog.Options{Disk: d, CompactEvery: time.Hour}
		for i := range 3 { // each opening begins a segment
			tb := mustOpen(t, "log", opts)
			mustPut(t, tb, strconv.Itoa(i), value("v"))
			mustClose(t, tb)
		}
		lose(d)
		tb := mustOpen(t, "log", opts)
		mustHave(t, tb, "0", value("v"))
		mustHave(t, tb, "1", "")
		mustHave(t, tb, "2", value("v"))
		if st := tb.log.Stats(); st.DamagedParts == 0 || st.DamagedBytes < 60 {
			t.Errorf("%s: reported: %+v", name, st)
		}
		mustClose(t, tb)
	}
}

// TestDamageStays: a segment in which an entry that counts cannot be read is kept, and the others are
// compacted.
func TestDamageStays(t *testing.T) {
	t.Parallel()
	d := seglogtest.New()
	tb := mustOpen(t, "log", onDisk(d))
	mustPut(t, tb, "damaged", value("v"))
	d.Damage(func(data []byte) { data[len(data)-10] ^= 1 })
	mustHave(t, tb, "damaged", refused)
	for i := range 400 {
		mustPut(t, tb, "other", value(strconv.Itoa(i)))
	}
	mustHave(t, tb, "damaged", refused)
	mustHave(t, tb, "other", value("399"))
	mustPut(t, tb, "damaged", "") // settles it
	eventually(t, "the log is short again", func() bool { return tb.log.Stats().Segments < 5 })
	mustHave(t, tb, "damaged", "")
	mustClose(t, tb)
}

// FuzzReplay opens a folder with any bytes as its log.
func FuzzReplay(f *testing.F) {
	d := seglogtest.New()
	tb, err := openTable("log", seglog.Options{Disk: d, CompactEvery: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	mustPut(f, tb, "a", "x")
	mustPut(f, tb, "a", "")
	mustClose(f, tb)
	log := d.Read(firstSegment)
	for _, end := range []int{0, 64, seglog.SegmentOverhead, seglog.SegmentOverhead + 30, len(log)} {
		f.Add(log[:end])
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		d := seglogtest.New()
		d.Write(firstSegment, log)
		tb, err := openTable("log", seglog.Options{Disk: d, Logger: quiet})
		if err != nil {
			return
		}
		if _, err := tb.get("a"); err != nil {
			t.Error(err)
		}
		mustClose(t, tb)
	})
}
