package stockfrom_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale/stockfrom"
)

// shop is a service with units, and what the gateway knows of its purchases. A purchase takes a unit at the service
// first and is confirmed later.
type shop struct {
	mu        sync.Mutex
	units     map[string]int
	confirmed map[string]int
	calls     int
	takes     time.Duration
	err       error
}

func newShop() *shop { return &shop{units: map[string]int{}, confirmed: map[string]int{}} }

func (s *shop) Units(_ context.Context, item string) (int, error) {
	time.Sleep(s.takes / 2)
	defer time.Sleep(s.takes / 2)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	n, ok := s.units[item]
	switch {
	case s.err != nil:
		return 0, s.err
	case !ok:
		return 0, stockfrom.ErrNoItem
	}
	return n, nil
}

func (s *shop) Confirmed(_ context.Context, item string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.confirmed[item], nil
}

func (s *shop) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func reader(s *shop, items int) *stockfrom.Reader {
	return stockfrom.New(stockfrom.Settings{Sale: "sale", Every: time.Second, Items: items},
		stockfrom.Options{Source: s, Ledger: s})
}

func total(t *testing.T, r *stockfrom.Reader, item string, want int, wantErr error) {
	t.Helper()
	got, err := r.Total(context.Background(), time.Now(), item)
	if got != want || !errors.Is(err, wantErr) {
		t.Errorf("%s: %d, %v; want %d, %v", item, got, err, want, wantErr)
	}
}

// TestReads: the first request waits for the service, those after it do not, and one call is made in each second.
func TestReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop()
		s.units["a"], s.takes = 5, 100*time.Millisecond
		r := reader(s, 10)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { total(t, r, "a", 5, nil) })
		}
		wg.Wait()
		s.set(func() { s.units["a"] = 7 })
		began := time.Now()
		for range 30 { // 3 s
			if _, err := r.Total(context.Background(), time.Now(), "a"); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 3100*time.Millisecond {
			t.Errorf("requests waited: %v", took)
		}
		total(t, r, "a", 7, nil)
		synctest.Wait()
		if s.calls < 4 || s.calls > 5 {
			t.Errorf("%d calls of the service", s.calls)
		}
	})
}

// TestServiceGone: the last reading stays, and its age shows; what was never read cannot be sold; an item that the
// service does not have is not part of the sale, and one that it has no more is sold out.
func TestServiceGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop()
		s.units["a"] = 5
		r := reader(s, 10)
		total(t, r, "a", 5, nil)
		total(t, r, "none", 0, stockfrom.ErrNoItem)
		total(t, r, "", 0, stockfrom.ErrNoItem)
		s.set(func() { s.err = errors.New("gone") })
		time.Sleep(10 * time.Second)
		total(t, r, "a", 5, nil)
		total(t, r, "b", 0, stockfrom.ErrUnread)
		synctest.Wait()
		readings, n := r.Readings(time.Now(), 10)
		if a := readings["a"]; n != 1 || a.Units != 5 || a.Age != 10 || !a.Failing {
			t.Errorf("%+v", readings)
		}
		s.set(func() { s.err = nil; delete(s.units, "a"); s.confirmed["a"] = 3 })
		time.Sleep(2 * time.Second)
		total(t, r, "a", 5, nil) // and has it read
		synctest.Wait()
		total(t, r, "a", 3, nil)
	})
}

// TestAnyNumber: a service that says a number for "any" does not make a total that no store can hold.
func TestAnyNumber(t *testing.T) {
	s := newShop()
	s.units["a"], s.units["b"], s.confirmed["a"] = math.MaxInt, -1, 5
	r := reader(s, 10)
	for item, want := range map[string]int{"a": 1_000_000_005, "b": 0} {
		if got, err := r.Total(context.Background(), time.Now(), item); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", item, got, err, want)
		}
	}
}

// TestBound: made-up items displace one another and leave the item that is sold.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop()
		s.units["a"] = 5
		r := reader(s, 8)
		total(t, r, "a", 5, nil)
		for i := range 1000 {
			total(t, r, fmt.Sprint("made-up-", i), 0, stockfrom.ErrNoItem)
		}
		s.set(func() { s.err = errors.New("gone") })
		total(t, r, "a", 5, nil) // still known
		synctest.Wait()
	})
}

// TestNeverOversells: random purchases whose confirmations race with readings never take more than the service has,
// and all of it is sold at the end.
func TestNeverOversells(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			s := newShop()
			const had = 100
			s.units["a"], s.takes = had, 300*time.Millisecond
			r := reader(s, 10)
			taken := 0 // by the gateway; s.mu is its lock
			var wg sync.WaitGroup
			for range 1000 {
				most, err := r.Total(context.Background(), time.Now(), "a")
				if err != nil {
					t.Fatal(err)
				}
				got := false
				s.set(func() {
					if got = taken < most; got {
						taken++
					}
				})
				reach, end, fails := random.Int64N(900), random.Int64N(900), random.IntN(4) == 0
				if got {
					wg.Go(func() {
						time.Sleep(time.Duration(reach) * time.Millisecond)
						s.set(func() {
							if s.units["a"]--; s.units["a"] < 0 {
								t.Errorf("seed %d: oversold", seed)
							}
							if fails {
								s.units["a"]++
							}
						})
						time.Sleep(time.Duration(end) * time.Millisecond)
						s.set(func() {
							if fails {
								taken--
							} else {
								s.confirmed["a"]++
							}
						})
					})
				}
				time.Sleep(time.Duration(random.Int64N(60)) * time.Millisecond)
			}
			wg.Wait()
			if left := s.units["a"]; left != 0 {
				t.Errorf("seed %d: %d units are left", seed, left)
			}
			time.Sleep(time.Second) // the last reading ends
		})
	}
}
