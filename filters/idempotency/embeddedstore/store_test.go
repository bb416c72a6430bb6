package embeddedstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/storetest"
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

func request(id string, token uint64) idempotency.ClaimRequest {
	return idempotency.ClaimRequest{ID: id, Token: token, Route: "r", Principal: "p", ClientKey: "k", Lease: time.Minute, Cap: 10 * time.Minute, TTL: time.Hour}
}

func claim(t testing.TB, s *Store, c idempotency.ClaimRequest) {
	t.Helper()
	if rec, claimed, err := s.Claim(within(t, 20*time.Second), c); err != nil || !claimed {
		t.Fatalf("claim %s: %v, state %v, %v", c.ID, claimed, rec.State, err)
	}
}

func change(t testing.TB, s *Store, id string, token uint64, op idempotency.Op) {
	t.Helper()
	ch := idempotency.Change{Op: op, Lease: time.Minute, Answer: []byte(id)}
	if err := s.Change(within(t, 20*time.Second), id, token, ch); err != nil {
		t.Fatalf("op %d of %s: %v", op, id, err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		c := newClock()
		s := mustOpen(t, t.TempDir(), Options{Now: c.now})
		t.Cleanup(func() {
			if n := s.waiting.Len(); n != 0 {
				t.Errorf("%d entries of waiters are left", n)
			}
			mustClose(t, s)
		})
		return storetest.Harness{Store: s, Advance: c.advance, Now: c.now}
	})
}

// TestReopen: what a clean or unclean end leaves behind is settled when the folder is opened again.
func TestReopen(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	ctx := within(t, time.Minute)
	s := mustOpen(t, dir, Options{Now: c.now})
	secret, err := s.Secret(ctx, "branches", 32)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"in-flight", "unsent", "handed", "answered", "unknown", "freed", "renewed"} {
		r := request(id, 5)
		r.Unsent = id == "unsent" || id == "handed"
		claim(t, s, r)
	}
	change(t, s, "handed", 5, idempotency.Hand)
	change(t, s, "answered", 5, idempotency.Finish)
	change(t, s, "unknown", 5, idempotency.Doubt)
	change(t, s, "freed", 5, idempotency.Free)
	change(t, s, "renewed", 5, idempotency.Renew)
	mustClose(t, s)

	s = mustOpen(t, dir, Options{Now: c.now})
	for id, want := range map[string]idempotency.State{
		"in-flight": idempotency.Unknown, "renewed": idempotency.Unknown, "unsent": 0, "freed": 0,
		"handed": idempotency.Handed, "answered": idempotency.Answered, "unknown": idempotency.Unknown,
	} {
		rec, ok, err := s.Get(ctx, id)
		if err != nil || ok != (want != 0) || rec.State != want {
			t.Errorf("%s after reopening: %v, state %v, %v; want %v", id, ok, rec.State, err, want)
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
	claim(t, s, request("unsent", 6))
	change(t, s, "unsent", 6, idempotency.Finish)
	change(t, s, "handed", 5, idempotency.Finish)
	mustClose(t, s)
	s = mustOpen(t, dir, Options{Now: c.now})
	defer mustClose(t, s)
	for _, id := range []string{"unsent", "handed", "answered"} {
		if rec, ok, err := s.Get(ctx, id); err != nil || !ok || rec.State != idempotency.Answered || string(rec.Answer) != id {
			t.Errorf("%s: %+v, %v, %v", id, rec, ok, err)
		}
	}
}

func TestFolderIsLocked(t *testing.T) {
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

// keys returns how many keys of each kind lie in the folder.
func keys(t testing.TB, s *Store) map[byte]int {
	t.Helper()
	it, err := s.db.NewIter(&pebble.IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := map[byte]int{}
	for valid := it.First(); valid; valid = it.Next() {
		n[it.Key()[0]]++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSweep: expired records leave the disk with their index entries, live ones stay, whatever was left behind by a crash.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	s := mustOpen(t, dir, Options{Now: c.now, SweepEvery: time.Hour})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 100 {
				r := request(fmt.Sprintf("%d-%d", w, i), 1)
				r.Unsent = i%2 == 0
				claim(t, s, r)
				switch i % 5 {
				case 0:
					change(t, s, r.ID, 1, idempotency.Finish)
				case 1:
					change(t, s, r.ID, 1, idempotency.Free)
				case 2:
					change(t, s, r.ID, 1, idempotency.Hand)
				}
			}
		})
	}
	wg.Wait()
	if n := keys(t, s); n[prefixRecord] != 1280 || n[prefixExpiry] != 1280 {
		t.Fatalf("%d records and %d index entries, want 1280 of each", n[prefixRecord], n[prefixExpiry])
	}
	mustClose(t, s)

	c.advance(2 * time.Hour)
	s = mustOpen(t, dir, Options{Now: c.now, SweepEvery: time.Millisecond})
	defer mustClose(t, s)
	claim(t, s, request("0-3", 2)) // in flight in the last epoch, now expired: a new record
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		n := keys(t, s)
		if n[prefixRecord] == 1 && n[prefixExpiry] == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records and %d index entries are left, want the live one", n[prefixRecord], n[prefixExpiry])
		}
	}
	c.advance(2 * time.Hour) // and those that expire while the store is open, after a sweep that found nothing
	for deadline := time.Now().Add(20 * time.Second); keys(t, s)[prefixRecord]+keys(t, s)[prefixExpiry] > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the last record was not swept")
		}
	}
}

// TestDamagedFolder: whichever file is damaged, opening or the first use says so; nothing is answered from a damaged record.
func TestDamagedFolder(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	for i := range 50 {
		claim(t, s, request(fmt.Sprint(i), 1))
		change(t, s, fmt.Sprint(i), 1, idempotency.Finish)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables: %v, %v", tables, err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/4] ^= 0x40
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err = Open(dir, Options{Logger: quiet})
	if err == nil {
		failed := 0
		for i := range 50 {
			rec, ok, err := s.Get(within(t, 20*time.Second), fmt.Sprint(i))
			if err != nil {
				failed++
			} else if !ok || string(rec.Answer) != fmt.Sprint(i) {
				t.Errorf("record %d: %+v, %v", i, rec, ok)
			}
		}
		if failed == 0 {
			t.Fatal("no call found the damage")
		}
		if err = s.Ping(within(t, time.Second)); !errors.Is(err, ErrFailed) {
			t.Errorf("Ping after damage was found: %v", err)
		}
		_ = s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "restore the folder") {
		t.Errorf("damage is told as %v; want the folder and what to do", err)
	}
}

func TestMissingTable(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	claim(t, s, request("a", 1))
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	tables, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	for _, name := range tables {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Open(dir, Options{Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("opened without its tables: %v", err)
	}
}

func BenchmarkClaimFinish(b *testing.B) {
	s := mustOpen(b, b.TempDir(), Options{})
	defer mustClose(b, s)
	b.SetParallelism(32)
	var n sync.Mutex
	next := 0
	ctx := context.Background()
	a := &idempotency.Answer{Status: 201, Body: make([]byte, 200), Replayable: true}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n.Lock()
			next++
			id := fmt.Sprint(next)
			n.Unlock()
			if _, _, err := s.Claim(ctx, request(id, 1)); err != nil {
				b.Error(err)
			}
			if err := s.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Finish, Answer: a}); err != nil {
				b.Error(err)
			}
		}
	})
}

// Close lets the calls that are under way finish, and refuses those that come later.
func TestCloseUnderLoad(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("r%d-%d", i, n)
				_, claimed, err := s.Claim(t.Context(), idempotency.ClaimRequest{ID: id, Token: 1, Lease: time.Minute, Cap: time.Minute, TTL: time.Hour})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil || !claimed {
					t.Errorf("claim of %s: %v, %v", id, claimed, err)
					return
				}
			}
		})
	}
	for s.db.Metrics().WAL.BytesIn < 64<<10 {
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, _, err := s.Get(t.Context(), "r0-0"); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if _, err := s.List(t.Context(), idempotency.Query{}, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("List after Close: %v", err)
	}
}
