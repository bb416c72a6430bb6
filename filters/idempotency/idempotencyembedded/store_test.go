package idempotencyembedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/storetest"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_790_000_000, 0).UTC()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func mustOpen(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// soon bounds what must happen promptly; a machine can be busy.
const soon = 20 * time.Second

// eventually waits for what happens in the background.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func request(id string, token uint64) idempotency.ClaimRequest {
	return idempotency.ClaimRequest{
		ID: id, Token: token, Route: "r", Principal: "p", ClientKey: "k",
		Lease: time.Minute, Cap: 10 * time.Minute, TTL: time.Hour,
	}
}

func claim(t testing.TB, s *Store, c idempotency.ClaimRequest) {
	t.Helper()
	if rec, claimed, err := s.Claim(within(t, soon), c); err != nil || !claimed {
		t.Fatalf("claim %s: %v, state %v, %v", c.ID, claimed, rec.State, err)
	}
}

func change(t testing.TB, s *Store, id string, token uint64, op idempotency.Op) {
	t.Helper()
	ch := idempotency.Change{Op: op, Lease: time.Minute, Response: []byte(id)}
	if err := s.Change(within(t, soon), id, token, ch); err != nil {
		t.Fatalf("op %d of %s: %v", op, id, err)
	}
}

// state returns how a record reads, 0 without one.
func state(t testing.TB, s *Store, id string) idempotency.State {
	t.Helper()
	rec, ok, err := s.Get(within(t, soon), id)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	if ok && rec.State == idempotency.Answered && string(rec.Response) != id {
		t.Fatalf("%s has the recorded response %q", id, rec.Response)
	}
	if !ok {
		return 0
	}
	return rec.State
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{
		"":               {},
		"one hash":       {hash: func(string) uint64 { return 7 }},
		"small segments": {SegmentBytes: 4 << 10, SweepEvery: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Harness {
				c := newClock()
				opts.Now = c.now
				s := mustOpen(t, t.TempDir(), opts)
				t.Cleanup(func() {
					if n := s.waiting.Len(); n != 0 {
						t.Errorf("%d entries of waiters are left", n)
					}
					mustClose(t, s)
				})
				return storetest.Harness{Store: s, Advance: c.advance, Now: c.now}
			})
		})
	}
}

// TestNothingIsLeft: an opening and closing leaves no goroutine and no file open.
func TestNothingIsLeft(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := mustOpen(t, t.TempDir(), Options{SweepEvery: time.Millisecond})
	claim(t, s, request("a", 1))
	mustClose(t, s)
	if _, err := Open(os.Args[0], Options{Logger: quiet}); err == nil { // not a folder
		t.Error("opened the test binary")
	}
}

// TestReopen: what a clean or unclean end leaves behind is settled when the folder is opened again.
func TestReopen(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	ctx := within(t, time.Minute)
	s := mustOpen(t, dir, Options{Now: c.now})
	secret, err := s.Secret(ctx, "branches", 32)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"in-flight", "not-dispatched", "delegated", "answered", "unknown", "freed", "renewed"} {
		r := request(id, 5)
		r.NotDispatched = id == "not-dispatched" || id == "delegated"
		claim(t, s, r)
	}
	change(t, s, "delegated", 5, idempotency.Delegate)
	change(t, s, "answered", 5, idempotency.Finish)
	change(t, s, "unknown", 5, idempotency.MarkUnknown)
	change(t, s, "freed", 5, idempotency.Free)
	change(t, s, "renewed", 5, idempotency.Renew)
	mustClose(t, s)

	s = mustOpen(t, dir, Options{Now: c.now})
	for id, want := range map[string]idempotency.State{
		"in-flight": idempotency.Unknown, "renewed": idempotency.Unknown, "not-dispatched": 0, "freed": 0,
		"delegated": idempotency.Delegated, "answered": idempotency.Answered, "unknown": idempotency.Unknown,
	} {
		if got := state(t, s, id); got != want {
			t.Errorf("%s after reopening: state %v; want %v", id, got, want)
		}
	}
	all, err := s.List(ctx, idempotency.Query{}, 100)
	if err != nil || len(all) != 5 {
		t.Errorf("List: %d records, %v; want 5", len(all), err)
	}
	if again, err := s.Secret(ctx, "branches", 32); err != nil || string(again) != string(secret) {
		t.Errorf("secret %x, %v; want %x", again, err, secret)
	}
	// A settled record behaves as an unknown one, a settled free key as free; both stay so over another opening.
	retry := request("in-flight", 6)
	retry.Retry = true
	if rec, claimed, err := s.Claim(ctx, retry); err != nil || !claimed || rec.Attempt != 2 {
		t.Errorf("retry: %v, attempt %d, %v", claimed, rec.Attempt, err)
	}
	claim(t, s, request("not-dispatched", 6))
	change(t, s, "not-dispatched", 6, idempotency.Finish)
	change(t, s, "delegated", 5, idempotency.Finish)
	mustClose(t, s)
	s = mustOpen(t, dir, Options{Now: c.now})
	defer mustClose(t, s)
	for _, id := range []string{"not-dispatched", "delegated", "answered"} {
		if got := state(t, s, id); got != idempotency.Answered {
			t.Errorf("%s: %v", id, got)
		}
	}
}

// TestOpenKeysAfterReopening: what is counted is counted again.
func TestOpenKeysAfterReopening(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	s := mustOpen(t, dir, Options{Now: c.now})
	counted := func(n int) idempotency.ClaimRequest {
		r := request("owner-----"+strconv.Itoa(n), 1)
		r.MaxOpen = 4
		return r
	}
	for n := range 4 {
		claim(t, s, counted(n))
	}
	change(t, s, counted(0).ID, 1, idempotency.Finish)
	change(t, s, counted(1).ID, 1, idempotency.Free)
	mustClose(t, s)
	s = mustOpen(t, dir, Options{Now: c.now})
	defer mustClose(t, s)
	claim(t, s, counted(1))
	if _, _, err := s.Claim(within(t, soon), counted(9)); !errors.Is(err, idempotency.ErrTooManyOpen) {
		t.Errorf("the fifth key: %v", err)
	}
}

func TestFolderIsLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	if _, err := Open(dir, Options{Logger: quiet}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second opening: %v, want ErrInUse with the folder's name", err)
	}
	mustClose(t, s)
	mustClose(t, mustOpen(t, dir, Options{}))
	file := filepath.Join(dir, "LOCK")
	if _, err := Open(file, Options{Logger: quiet}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as the folder: %v", err)
	}
}

func TestFolderOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "MANIFEST-000001"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Logger: quiet}); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("opened: %v", err)
	}
}

func TestMaxRecords(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := mustOpen(t, t.TempDir(), Options{MaxRecords: 10, Now: c.now, SweepEvery: time.Millisecond})
	defer mustClose(t, s)
	for i := range 10 {
		claim(t, s, request(strconv.Itoa(i), 1))
		if i%2 == 0 {
			change(t, s, strconv.Itoa(i), 1, idempotency.Finish)
		}
	}
	_, claimed, err := s.Claim(within(t, soon), request("more", 1))
	if claimed || !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "10") {
		t.Errorf("the eleventh record: %v, %v", claimed, err)
	}
	if _, claimed, err := s.Claim(within(t, soon), request("4", 1)); claimed || err != nil { // one that is there
		t.Errorf("a record that is there: %v, %v", claimed, err)
	}
	c.advance(2 * time.Hour)
	eventually(t, "room", func() bool { return s.Stats().Records == 0 })
	claim(t, s, request("more", 1))
}

// TestCloseUnderLoad: Close lets the calls that are under way finish, and refuses those that come later.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), Options{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				_, claimed, err := s.Claim(t.Context(), request(fmt.Sprintf("r%d-%d", i, n), 1))
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil || !claimed {
					t.Errorf("claim: %v, %v", claimed, err)
					return
				}
			}
		})
	}
	eventually(t, "some load", func() bool { return s.Stats().Entries > 500 })
	mustClose(t, s)
	wg.Wait()
	if _, _, err := s.Get(t.Context(), "r0-0"); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if _, err := s.List(t.Context(), idempotency.Query{}, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("List after Close: %v", err)
	}
}

// TestNotDispatchedOverExpired: a claim with nothing sent, of a key whose record has expired and was not
// swept, is free after a crash.
func TestNotDispatchedOverExpired(t *testing.T) {
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

// TestFarExpiry: an absurd TTL does not overflow: the record is there after a restart.
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
		t.Errorf("the record reads as %v after a restart", got)
	}
}

// BenchmarkClaimFinish is what the store costs a keyed request, 256 of them at a time.
func BenchmarkClaimFinish(b *testing.B) {
	s := mustOpen(b, b.TempDir(), Options{})
	defer mustClose(b, s)
	b.SetParallelism(128) // times GOMAXPROCS
	b.ReportAllocs()
	var next atomic.Int64
	ctx := context.Background()
	a := make([]byte, 200)
	before := s.Stats()
	cpu := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := fmt.Sprintf("%032d", next.Add(1))
			if _, _, err := s.Claim(ctx, request(id, 1)); err != nil {
				b.Error(err)
			}
			if err := s.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Finish, Response: a}); err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	after := s.Stats()
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(after.Entries-before.Entries)/float64(after.Batches-before.Batches), "steps/group")
}

// TestCensusAfterARestart: what waits for a decision is known when the store is opened again, what a dead process
// left in flight among it, and goes on being known when compaction moves it.
func TestCensusAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newClock()
	s := mustOpen(t, dir, Options{Now: c.now})
	for i, op := range []idempotency.Op{idempotency.MarkUnknown, idempotency.MarkUnknown, idempotency.Free, 0} {
		for _, route := range []string{"r", "r/branch"} { // those of steps wait for no decision
			of := request(route+strconv.Itoa(i), 1)
			of.Route = route
			claim(t, s, of)
			if op == 0 {
				continue
			}
			if err := s.Change(t.Context(), of.ID, 1, idempotency.Change{Op: op}); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, s)
	s = mustOpen(t, dir, Options{Now: c.now, SegmentBytes: 1 << 10, SweepEvery: time.Millisecond})
	defer mustClose(t, s)
	want := func(unknown int) {
		t.Helper()
		if got, err := s.Census(t.Context()); err != nil || got.Unknown != unknown || got.Open < unknown {
			t.Errorf("%+v, %v, want %d unknown", got, err, unknown)
		}
	}
	want(3)
	for i := range 200 { // what compaction frees, and the unknown ones are copied away from
		id := "filler-" + strconv.Itoa(i)
		if _, _, err := s.Claim(t.Context(), request(id, 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.Change(t.Context(), id, 1, idempotency.Change{Op: idempotency.Free}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "compaction", func() bool { return s.Stats().CopiedBytes > 0 })
	want(3)
	if ok, err := s.Resolve(t.Context(), "r0", []byte("r"), false); err != nil || !ok {
		t.Fatal(ok, err)
	}
	want(2)
	c.advance(1000 * time.Hour)
	want(0)
}

// TestCensusOfManyUnknownKeys: it lets other steps in between, and what it knew of is forgotten when it has expired,
// whether anybody counts or not.
func TestCensusOfManyUnknownKeys(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := mustOpen(t, t.TempDir(), Options{Now: c.now, SweepEvery: time.Millisecond})
	defer mustClose(t, s)
	const callers, each = 64, 2*censusStep/64 + 1
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := range each {
				id := fmt.Sprint(caller, "-", i)
				_, _, err := s.Claim(t.Context(), request(id, 1))
				if err == nil {
					err = s.Change(t.Context(), id, 1, idempotency.Change{Op: idempotency.MarkUnknown})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, err := s.Census(t.Context()); err != nil || got.Unknown != callers*each || got.Open != got.Unknown {
		t.Errorf("%+v, %v, want %d unknown", got, err, callers*each)
	}
	c.advance(1000 * time.Hour)
	eventually(t, "what has expired is forgotten", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.unknown) == 0
	})
}
