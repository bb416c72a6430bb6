package saleembedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/storetest"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SLUICE_SALE_TEST_BUYER"); dir != "" {
		buy(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	o.Logger = quiet
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Options{Open: func(t *testing.T) (sale.Store, func(time.Duration)) {
		now := time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
		s := open(t, t.TempDir(), Options{Now: func() time.Time { return now }})
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s, func(d time.Duration) { now = now.Add(d) }
	}})
}

var item = sale.Item{Sale: "s", Name: "a\x00b"}

func request(id string, total int) sale.TakeRequest {
	return sale.TakeRequest{
		Item: item, ID: id, Token: 7, Created: 1, Principal: sale.PrincipalDigest("anna"), Quantity: 1, TTL: time.Hour,
		Total: total, PerPrincipal: total,
	}
}

func take(t *testing.T, s *Store, id string, total int) sale.Verdict {
	t.Helper()
	out, err := s.Take(context.Background(), request(id, total))
	if err != nil {
		t.Fatal(err)
	}
	return out.Verdict
}

func end(t *testing.T, s *Store, id string, end sale.End) {
	t.Helper()
	u := sale.Unit{ID: id, Token: 7}
	if _, ok, err := s.Settle(context.Background(), item, u, end, false); !ok || err != nil {
		t.Fatalf("settle %s: %v, %v", id, ok, err)
	}
}

func counts(t *testing.T, s *Store) sale.Counts {
	t.Helper()
	c, err := s.Changes(context.Background(), item, sale.Mark{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return c.Counts
}

// TestRestart: everything stands again, also after compaction has moved it.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{SegmentBytes: 4 << 10})
	for i := range 300 {
		id := fmt.Sprint("id", i)
		if v := take(t, s, id, 1000); v != sale.Taken {
			t.Fatalf("%s: verdict %d", id, v)
		}
		switch i % 5 {
		case 0:
			end(t, s, id, sale.Confirm)
		case 1:
			end(t, s, id, sale.Return)
		case 2:
			end(t, s, id, sale.Free)
		case 3:
			end(t, s, id, sale.Hold)
		}
	}
	want := sale.Counts{Taken: 180, Confirmed: 60, Unknown: 60}
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Options{SegmentBytes: 4 << 10})
		got := counts(t, s)
		want.Version, want.Returned = got.Version, got.Returned
		if got != want {
			t.Fatalf("after a restart %+v, want %+v", got, want)
		}
		if list, _ := s.Open(context.Background(), item, sale.Selection{State: sale.Reserved}, 1000); len(list) != 60 {
			t.Fatalf("%d units are reserved, want 60", len(list))
		}
	}
	if v := take(t, s, "id4", 180); v != sale.Taken {
		t.Errorf("a unit is not known after a restart: verdict %d", v)
	}
	if v := take(t, s, "new", 180); v != sale.SoldOut {
		t.Errorf("sold out is not known after a restart: verdict %d", v)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestClosedSaleIsForgotten: units are kept as long as the sale said.
func TestClosedSaleIsForgotten(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	s := open(t, dir, Options{Now: func() time.Time { return now }})
	r := request("a", 1)
	r.Keep = now.Add(time.Hour)
	if _, err := s.Take(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		taken int
	}{{time.Minute, 1}, {2 * time.Hour, 0}} {
		_ = s.Close()
		s = open(t, dir, Options{Now: func() time.Time { return now.Add(c.after) }})
		if got := counts(t, s); got.Taken != c.taken {
			t.Errorf("after %v %d are taken, want %d", c.after, got.Taken, c.taken)
		}
	}
	_ = s.Close()
}

// TestDiskFails: nothing is sold that the disk does not take, and what nobody knows stays taken.
func TestDiskFails(t *testing.T) {
	disk := seglogtest.New()
	s := open(t, "d", Options{Disk: disk})
	if v := take(t, s, "a", 2); v != sale.Taken {
		t.Fatal(v)
	}
	broken := errors.New("no")
	disk.SetHook(func(op string) error {
		if op == "write" || op == "sync" || op == "create" {
			return broken
		}
		return nil
	})
	ctx := context.Background()
	for _, id := range []string{"b", "c"} { // the first finds out, the second is refused
		if out, err := s.Take(ctx, request(id, 2)); !errors.Is(err, seglog.ErrFailed) {
			t.Errorf("%s: %+v, %v", id, out, err)
		}
	}
	_, _, err := s.Settle(ctx, item, sale.Unit{ID: "a", Token: 7}, sale.Free, false)
	if !errors.Is(err, seglog.ErrFailed) {
		t.Errorf("a unit came back that the disk did not take: %v", err)
	}
	if got := counts(t, s).Taken; got != 2 {
		t.Errorf("%d are taken, want 2", got)
	}
	disk.SetHook(nil)
	deadline := time.Now().Add(20 * time.Second)
	for s.log.Condition().Down != nil && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if v := take(t, s, "c", 2); v != sale.SoldOut {
		t.Errorf("b is taken, and c has verdict %d", v)
	}
	end(t, s, "b", sale.Free) // its record says so
	if v := take(t, s, "c", 2); v != sale.Taken {
		t.Errorf("verdict %d", v)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, "d", Options{Disk: disk})
	if got := counts(t, s).Taken; got != 2 {
		t.Errorf("%d are taken after a restart, want 2", got)
	}
	_ = s.Close()
}

// buy is a process that takes units, and says so, until it is killed.
func buy(dir string) {
	s, err := Open(dir, Options{Logger: quiet})
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("%d-%d", os.Getpid(), i)
		out, err := s.Take(context.Background(), request(id, 1_000_000))
		if err != nil || out.Verdict != sale.Taken {
			fmt.Println("error:", out, err)
			return
		}
		fmt.Println(id)
	}
}

// TestKilled: what a process was told is taken is taken, whenever it is killed.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var told []string
	for range 3 {
		told = append(told, killedBuyer(t, dir, 200)...)
	}
	s := open(t, dir, Options{})
	defer s.Close()
	list, err := s.Open(context.Background(), item, sale.Selection{State: sale.Reserved}, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, u := range list {
		ids[u.ID] = true
	}
	for _, id := range told {
		if !ids[id] {
			t.Errorf("%s was taken and is not any more", id)
		}
	}
	if c := counts(t, s); c.Taken != len(list) || len(list) < len(told) || len(list) > len(told)+3*10_000 {
		t.Errorf("%d units are taken, %d listed, %d told", c.Taken, len(list), len(told))
	}
}

func killedBuyer(t *testing.T, dir string, after int) (told []string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SLUICE_SALE_TEST_BUYER="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
	defer stop.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "error") {
			t.Error(lines.Text())
		}
		if told = append(told, lines.Text()); len(told) == after {
			_ = cmd.Process.Signal(syscall.SIGKILL)
		}
	}
	_ = cmd.Wait()
	return slices.Clip(told[:max(len(told)-1, 0)]) // the last line may be cut short
}
