package dtmembedded

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

func TestWhatHasEndedIsForgotten(t *testing.T) {
	c, disk := newClock(), seglogtest.New()
	opts := Options{
		disk: disk, Logger: quiet(), Now: c.now, KeepFor: time.Hour, SegmentBytes: 16 << 10,
		SweepEvery: time.Millisecond,
	}
	s := mustOpen(t, "store", opts)
	for i := range 200 {
		gid := fmt.Sprintf("gid%05d", i)
		g, branches := saga(gid, c.now())
		if i == 7 {
			g.BranchHeaders = map[string]string{KeepForHeader: "3h"}
		}
		if err := s.MaySaveNewTrans(g, branches); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			s.end(t, gid, statusSucceeded, c.now())
		}
	}
	if st := s.Stats(); st.Open != 1 || st.Ended != 199 {
		t.Fatalf("open %d, ended %d; want 1 and 199", st.Open, st.Ended)
	}
	c.advance(59 * time.Minute)
	if g := s.FindTransGlobalStore("gid00100"); g == nil {
		t.Error("forgotten before its time")
	}
	c.advance(2 * time.Minute)
	eventually(t, "all but one are forgotten", func() bool { return s.Stats().Ended == 1 })
	if s.FindTransGlobalStore("gid00007") == nil || s.FindTransGlobalStore("gid00000") == nil {
		t.Error("what says 3h, or has not ended, is forgotten")
	}
	eventually(t, "the room is free", func() bool { return s.Stats().DiskBytes < 4*opts.SegmentBytes })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, "store", opts)
	defer s.Close()
	if st := s.Stats(); st.Open != 1 || st.Ended != 1 {
		t.Errorf("after the next start: open %d, ended %d; want 1 and 1", st.Open, st.Ended)
	}
	c.advance(2 * time.Hour)
	eventually(t, "the last is forgotten", func() bool { return s.Stats().Ended == 0 })
}

// Beyond KeepMax the oldest go before their time, but none within the floor: then new ones are refused.
func TestKeepMax(t *testing.T) {
	c := newClock()
	s := mustOpen(t, "store", Options{
		disk: seglogtest.New(), Logger: quiet(), Now: c.now, KeepMax: 80, SweepEvery: time.Millisecond,
	})
	defer s.Close()
	ended := 0
	add := func() error {
		gid := fmt.Sprintf("gid%05d", ended)
		if err := tried(func() { _ = s.MaySaveNewTrans(saga(gid, c.now())) }); err != nil {
			return err
		}
		s.end(t, gid, statusSucceeded, c.now())
		ended++
		return nil
	}
	var err error
	for err == nil && ended < 1000 {
		err = add()
	}
	if !errors.Is(err, ErrFull) || ended != 90 { // an eighth more than KeepMax
		t.Fatalf("after %d: %v", ended, err)
	}
	c.advance(61 * time.Minute)
	eventually(t, "the oldest are forgotten", func() bool { return s.Stats().Ended == 80 })
	if s.FindTransGlobalStore("gid00009") != nil || s.FindTransGlobalStore("gid00010") == nil {
		t.Error("it is not the oldest that were forgotten")
	}
	if err := add(); err != nil {
		t.Error(err)
	}
}

func TestOpenTransactionsAreBounded(t *testing.T) {
	s := mustOpen(t, "store", Options{disk: seglogtest.New(), Logger: quiet(), open: 3})
	defer s.Close()
	for i := range 3 {
		create(t, s, fmt.Sprintf("gid%05d", i), time.Now())
	}
	err := tried(func() { _ = s.MaySaveNewTrans(saga("gid00003", time.Now())) })
	if !errors.Is(err, ErrFull) {
		t.Errorf("the fourth: %v", err)
	}
	s.end(t, "gid00000", "failed", time.Now())
	create(t, s, "gid00003", time.Now())
}

// The log is at most twice as long as what is kept, and two segments; and a saga takes a fraction of what it takes in
// DTM's bolt store, which is 16.8 KB.
func TestTheLogIsBounded(t *testing.T) {
	const segment = 64 << 10
	s := mustOpen(t, "store", Options{
		disk: seglogtest.New(), Logger: quiet(), SegmentBytes: segment, SweepEvery: time.Millisecond,
	})
	defer s.Close()
	const sagas = 600
	for i := range sagas {
		gid := fmt.Sprintf("gid%05d", i)
		for step := 1; step <= 5; step++ {
			advance(s, gid, step)
		}
	}
	eventually(t, "the log is compact", func() bool {
		st := s.Stats()
		return st.DiskBytes <= 2*st.LiveBytes+3*segment
	})
	if per := s.Stats().LiveBytes / sagas; per > 4<<10 {
		t.Errorf("a saga of three steps takes %d bytes, want 4 KiB at most", per)
	}
}

// The index of what has ended is within what doc.go says.
func TestEndedTakeLittleMemory(t *testing.T) {
	const n = 400_000
	before := heapBytes()
	x := newEnded()
	for i := range uint64(n) {
		x.add("", i*0x9E3779B97F4A7C15, seglog.Ref{Segment: 1, Offset: uint32(i), Len: 1}, 1, 2, true)
	}
	per := (heapBytes() - before) / n
	if per > 80 {
		t.Errorf("%d bytes for one that has ended, want about 60", per)
	}
	t.Logf("%d bytes for one that has ended", per)
	runtime.KeepAlive(&x)
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What is taken out of the middle of the list does not make it grow, and a scan leaves none out.
func TestEndedListIsPacked(t *testing.T) {
	x := newEnded()
	ref := func(i int) seglog.Ref { return seglog.Ref{Segment: 1, Offset: uint32(i), Len: 1} }
	for i := range 10_000 {
		x.add("", uint64(i), ref(i), 1, 2, true)
	}
	for i := 1; i < 10_000; i++ { // the first stays, so the list cannot be cut at its front
		if i%10 != 0 {
			x.remove("", uint64(i), ref(i))
		}
	}
	x.pack()
	if len(x.list) != 1000 || x.count() != 1000 {
		t.Fatalf("%d items for %d", len(x.list), x.count())
	}
	for n := x.first; n < x.end(); n++ {
		if at, ok := x.at(n); !ok || at != ref(int(n-x.first)*10) {
			t.Fatalf("item %d is at %v", n, at)
		}
	}
}
