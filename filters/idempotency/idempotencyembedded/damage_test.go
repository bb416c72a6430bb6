package idempotencyembedded

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

const childFolder = "SLUICE_TEST_EMBEDDED_CHILD"

// ends are the ways in which a claim ends, and endStates how the record reads then; 0 is no record.
var (
	ends = []idempotency.Op{
		idempotency.Finish, idempotency.Free, idempotency.MarkUnknown, idempotency.Delegate,
	}
	endStates = []idempotency.State{idempotency.Answered, 0, idempotency.Unknown, idempotency.Delegated}
)

// TestMain is also the child of TestKill: the test binary runs itself, works on the folder and is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		work(dir)
	}
	os.Exit(m.Run())
}

// work claims and ends keys until the process is killed, and says each acknowledged step on the standard output.
func work(dir string) {
	opts := Options{Logger: quiet, SegmentBytes: 16 << 10, SweepEvery: time.Millisecond} // compacts too
	s, err := Open(dir, opts)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var out sync.Mutex
	say := func(what, id string) {
		out.Lock()
		defer out.Unlock()
		_, _ = os.Stdout.WriteString(what + " " + id + "\n") // one write, unbuffered
	}
	ctx := context.Background()
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if _, claimed, err := s.Claim(ctx, request(id, 1)); err != nil || !claimed {
					say("error", fmt.Sprint(claimed, err))
					return
				}
				say("claimed", id)
				words := []string{"finished", "freed", "marked", "delegated"}
				n := i % 4
				say("starting-"+words[n], id)
				if err := s.Change(ctx, id, 1, idempotency.Change{Op: ends[n], Response: []byte(id)}); err != nil {
					say("error", err.Error())
					return
				}
				say(words[n], id)
			}
		}()
	}
	select {}
}

// TestKill kills a working process at random moments: what it acknowledged is there afterwards, and nothing
// else is in flight.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	last := map[string]string{}
	for range 4 {
		killChild(t, dir, last)
		checkAcknowledged(t, dir, last)
	}
	if len(last) < 40 {
		t.Errorf("only %d keys in all: the test looked at too little", len(last))
	}
}

func killChild(t *testing.T, dir string, last map[string]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
	defer stop.Stop()
	lines, killAt := 0, 50+rand.IntN(2000)
	in := bufio.NewScanner(out)
	for in.Scan() {
		what, id, _ := strings.Cut(in.Text(), " ")
		if what == "error" {
			t.Errorf("child: %s", id)
		}
		last[id] = what
		if lines++; lines == killAt {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait()
	if lines < killAt {
		t.Fatalf("the child ended by itself after %d steps", lines)
	}
}

func checkAcknowledged(t *testing.T, dir string, last map[string]string) {
	t.Helper()
	s := mustOpen(t, dir, Options{})
	defer mustClose(t, s)
	for id, said := range last {
		allowed := map[string][]idempotency.State{ // 0 is no record
			"claimed":            {idempotency.Unknown},
			"finished":           {idempotency.Answered},
			"freed":              {0},
			"marked":             {idempotency.Unknown},
			"delegated":          {idempotency.Delegated},
			"starting-finished":  {idempotency.Unknown, idempotency.Answered},
			"starting-freed":     {idempotency.Unknown, 0},
			"starting-marked":    {idempotency.Unknown},
			"starting-delegated": {idempotency.Unknown, idempotency.Delegated},
		}[said]
		if got := state(t, s, id); !slices.Contains(allowed, got) {
			t.Errorf("%s was %s, and reads as %v (0 is gone); want one of %v", id, said, uint8(got), allowed)
		}
	}
	inFlight, err := s.List(within(t, soon), idempotency.Query{State: idempotency.InFlight}, 10)
	if err != nil || len(inFlight) != 0 {
		t.Errorf("in flight after opening: %+v, %v", inFlight, err)
	}
	if st := s.Stats(); st.DamagedParts != 0 {
		t.Errorf("%d parts are reported as damaged after a crash", st.DamagedParts)
	}
}

// history is a log with what each record was after each of its steps.
type history struct {
	log   []byte
	steps []recorded
}

type recorded struct {
	id    string
	from  int64 // where the step's entry begins, and the end of the one before
	until int64
	state idempotency.State // how the record reads after opening
}

// record writes a history, of one entry a group, into a folder and takes the log as it is while the store is open.
func record(t *testing.T, dir string) history {
	t.Helper()
	s := mustOpen(t, dir, Options{SweepEvery: time.Hour})
	var h history
	at := int64(seglog.SegmentOverhead)
	step := func(id string, st idempotency.State) {
		size := s.Stats().DiskBytes
		h.steps = append(h.steps, recorded{id, at, size, st})
		at = size
	}
	for i := range 8 {
		id := strconv.Itoa(i)
		claim(t, s, request(id, 1))
		step(id, idempotency.Unknown)
		if i >= 2 { // of another one, so that they lie mixed
			id = strconv.Itoa(i - 2)
			change(t, s, id, 1, ends[(i-2)%4])
			step(id, endStates[(i-2)%4])
		}
	}
	var err error
	if h.log, err = os.ReadFile(filepath.Join(dir, "00000001.log")); err != nil || int64(len(h.log)) != at {
		t.Fatalf("the log has %d bytes, %v; want %d", len(h.log), err, at)
	}
	mustClose(t, s)
	return h
}

// reopen opens a folder whose log is these bytes.
func reopen(t *testing.T, dir string, log []byte) *Store {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "00000001.log"), log, 0o600); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, dir, Options{SweepEvery: time.Hour})
}

// TestCutAtEveryByte: what was written before the cut is there, and nothing else; a cut is no damage.
func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := record(t, dir)
	for cut := range len(h.log) + 1 {
		s := reopen(t, dir, h.log[:cut])
		want := map[string]idempotency.State{}
		for _, st := range h.steps {
			if st.until <= int64(cut) {
				want[st.id] = st.state
			}
		}
		for i := range 8 {
			if id := strconv.Itoa(i); state(t, s, id) != want[id] {
				t.Errorf("cut at %d: %s reads as %v, want %v", cut, id, state(t, s, id), want[id])
			}
		}
		st := s.Stats()
		if cut >= seglog.SegmentOverhead && (st.DamagedParts != 0 || st.TornBytes != int64(cut)-lastEnd(h, cut)) {
			t.Errorf("cut at %d: %+v", cut, st)
		}
		mustClose(t, s)
	}
}

// lastEnd is where the last whole entry before the cut ends.
func lastEnd(h history, cut int) int64 {
	end := int64(seglog.SegmentOverhead)
	for _, st := range h.steps {
		if st.until <= int64(cut) {
			end = st.until
		}
	}
	return end
}

// TestFlipEveryByte: every damage is noticed, and costs the step that it hit and no other.
func TestFlipEveryByte(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := record(t, dir)
	for i := range h.log {
		log := slices.Clone(h.log)
		log[i] ^= 1 << rand.IntN(8)
		s := reopen(t, dir, log)
		checkRest(t, s, h, int64(i), int64(i)+1)
		if st := s.Stats(); st.DamagedBytes+st.TornBytes == 0 {
			t.Errorf("byte %d flipped, and nothing is reported", i)
		}
		mustClose(t, s)
	}
}

// checkRest: all steps are there but those of which something lay between the two offsets.
func checkRest(t *testing.T, s *Store, h history, from, until int64) {
	t.Helper()
	want := map[string]idempotency.State{}
	hit := map[string]recorded{} // the step that the damage cost, where it was the last of its record
	for _, st := range h.steps {
		switch {
		case until <= st.from || from >= st.until:
			want[st.id] = st.state
			delete(hit, st.id)
		case until <= h.steps[len(h.steps)-1].from:
			// Else it is the end of the log, which was not written whole for all that is known.
			hit[st.id] = st
		}
	}
	for k := range 8 {
		id := strconv.Itoa(k)
		st, damaged := hit[id]
		got := reading(t, s, id)
		// An executed key is free at the worst where the header of its only entry is damaged, or the ID behind it.
		readable := damaged && from >= st.from+seglog.EntryOverhead+int64(len(id))
		switch {
		case got == want[id] && !(readable && want[id] == 0 && st.state != 0):
		case got == refused && damaged && (want[id] != idempotency.Unknown || !readable):
		default:
			t.Errorf("damage from %d to %d: %s reads as %d, want %d; its damaged step is %+v",
				from, until, id, got, want[id], st)
		}
	}
}

// refused is how a damaged record reads.
const refused idempotency.State = 99

func reading(t *testing.T, s *Store, id string) idempotency.State {
	t.Helper()
	if _, _, err := s.Get(within(t, soon), id); errors.Is(err, idempotency.ErrCorrupt) {
		return refused
	}
	return state(t, s, id)
}

// TestDamagedRun overwrites parts of the log: the reader finds the next sound entry behind each.
func TestDamagedRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := record(t, dir)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		from := seglog.SegmentOverhead + r.IntN(len(h.log)-seglog.SegmentOverhead)
		until := min(from+1+r.IntN(1000), len(h.log))
		log := slices.Clone(h.log)
		for i := from; i < until; i++ {
			log[i] ^= byte(1 + r.IntN(255))
		}
		s := reopen(t, dir, log)
		checkRest(t, s, h, int64(from), int64(until))
		st := s.Stats()
		if st.DamagedBytes+st.TornBytes < int64(until-from) {
			t.Errorf("%d bytes from %d overwritten, %d reported", until-from, from, st.DamagedBytes+st.TornBytes)
		}
		mustClose(t, s)
	}
}

// TestLostSegments: a segment that is missing, cut short or has no header is reported, and the others are read.
func TestLostSegments(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(string) error{
		"missing":   os.Remove,
		"cut short": func(name string) error { return os.Truncate(name, seglog.SegmentOverhead+10) },
		"no header": func(name string) error {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			clear(b[:seglog.SegmentOverhead])
			return os.WriteFile(name, b, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for i := range 3 { // each opening begins a segment
				s := mustOpen(t, dir, Options{})
				claim(t, s, request(strconv.Itoa(i), 1))
				change(t, s, strconv.Itoa(i), 1, idempotency.Finish)
				mustClose(t, s)
			}
			if err := lose(filepath.Join(dir, "00000002.log")); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, dir, Options{})
			defer mustClose(t, s)
			for id, want := range []idempotency.State{idempotency.Answered, 0, idempotency.Answered} {
				if got := state(t, s, strconv.Itoa(id)); got != want {
					t.Errorf("record %d reads as %v, want %v", id, got, want)
				}
			}
			if st := s.Stats(); st.DamagedParts == 0 || st.DamagedBytes < 200 {
				t.Errorf("reported: %+v", st)
			}
		})
	}
}

// TestListWithDamage: one damaged record is left out of a list; the others are in it.
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
		t.Errorf("delegated: %d, %v", len(list), err)
	}
	if ok, err := s.Resolve(t.Context(), "b", nil, true); !ok || err != nil {
		t.Errorf("an operator cannot free the damaged key: %v, %v", ok, err)
	}
}

// TestDamagedSecret: a secret whose entry is damaged on disk is written again from memory, so that compaction goes on.
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

// FuzzLog opens a folder with any bytes as the entries of its log.
func FuzzLog(f *testing.F) {
	log := fixture(f)
	for at := seglog.SegmentOverhead; at < len(log); { // the fixture has an entry of each kind
		at += int(binary.LittleEndian.Uint32(log[at+4:]))
		f.Add(slices.Clone(log[seglog.SegmentOverhead:at]))
	}
	head := log[:seglog.SegmentOverhead]
	f.Fuzz(func(t *testing.T, entries []byte) {
		d := seglogtest.New()
		d.Write("store/00000001.log", append(slices.Clone(head), entries...))
		s, err := Open("store", Options{disk: d, Logger: quiet, Now: newClock().now})
		if err != nil {
			return
		}
		_, _ = s.List(context.Background(), idempotency.Query{}, 100)
		_, _, _ = s.Get(context.Background(), "answered")
		mustClose(t, s)
	})
}
