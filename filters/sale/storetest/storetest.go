// Package storetest is the conformance suite of the stores of sales.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
)

// Options are how a store under test is driven.
type Options struct {
	// Open opens the store; it is closed by the test's cleanup. The same store again, with what it has kept, where a
	// test has it opened twice. advance moves the store's clock; nil: it cannot be moved.
	Open func(t *testing.T) (s sale.Store, advance func(time.Duration))
	// Divided: the store divides items, so that it lists IDs by parts and not in the order in which they took units.
	Divided bool
}

var item = sale.Item{Sale: "double-eleven", Name: "SKU-1"}

func request(id string, token uint64, quantity, total int) sale.TakeRequest {
	return sale.TakeRequest{
		Item: item, ID: id, Token: token, Created: 1000, Principal: sale.PrincipalDigest("who has " + id),
		Quantity: quantity, TTL: time.Hour, Total: total,
	}
}

type suite struct {
	t       *testing.T
	s       sale.Store
	advance func(time.Duration)
	divided bool
}

func (s *suite) take(r sale.TakeRequest, want sale.Verdict, isNew bool, taken int) {
	s.t.Helper()
	got, err := s.s.Take(context.Background(), r)
	if err != nil || got.Verdict != want || got.New != isNew || got.Counts.Taken != taken {
		s.t.Fatalf("take %s of %d: %+v, %v; want verdict %d, new %v, %d taken", r.ID, r.Total, got, err, want, isNew,
			taken)
	}
}

func (s *suite) settle(r sale.TakeRequest, token uint64, end sale.End, changed bool) sale.Counts {
	s.t.Helper()
	return s.settleLost(r, token, end, false, changed)
}

func (s *suite) settleLost(r sale.TakeRequest, token uint64, end sale.End, lost, changed bool) sale.Counts {
	s.t.Helper()
	u := sale.Unit{
		ID: r.ID, Token: token, Created: r.Created, Principal: r.Principal, Quantity: r.Quantity, TTL: r.TTL,
		State: sale.Reserved, Taken: time.Now(),
	}
	c, got, err := s.s.Settle(context.Background(), r.Item, u, end, lost)
	if err != nil || got != changed {
		s.t.Fatalf("settle %s by %d as %d: changed %v, %v; want %v", r.ID, token, end, got, err, changed)
	}
	return c
}

func (s *suite) counts(want sale.Counts) {
	s.t.Helper()
	c, err := s.s.Changes(context.Background(), item, sale.Latest, 1)
	if want.Version = c.Counts.Version; err != nil || c.Counts != want {
		s.t.Fatalf("counts %+v, %v; want %+v", c.Counts, err, want)
	}
}

func (s *suite) open(what sale.Selection, want ...string) {
	s.t.Helper()
	list, err := s.s.Open(context.Background(), item, what, 100)
	var ids []string
	for _, u := range list {
		ids = append(ids, u.ID)
		if u.State != what.State || u.Created == 0 || u.Quantity == 0 || u.TTL == 0 || u.Token == 0 {
			s.t.Errorf("a unit is listed as %+v", u)
		}
	}
	if slices.Sort(ids); err != nil || !slices.Equal(ids, want) {
		s.t.Fatalf("open %+v: %v, %v; want %v", what, ids, err, want)
	}
}

// Run runs the suite.
func Run(t *testing.T, o Options) {
	for name, test := range map[string]func(s *suite){
		"take until sold out":         (*suite).testSoldOut,
		"limit of a principal":        (*suite).testPrincipal,
		"the same request again":      (*suite).testRepeated,
		"ends":                        (*suite).testEnds,
		"a claim that took over":      (*suite).testFence,
		"a key that was free":         (*suite).testTakenOver,
		"a key of an earlier request": (*suite).testPast,
		"lower total":                 (*suite).testLowerTotal,
		"lost units":                  (*suite).testLost,
		"listing":                     (*suite).testListing,
		"listing by parts":            (*suite).testListingByParts,
		"changes":                     (*suite).testChanges,
		"many at once":                (*suite).testConcurrent,
	} {
		t.Run(name, func(t *testing.T) {
			s, advance := o.Open(t)
			test(&suite{t, s, advance, o.Divided})
		})
	}
}

func (s *suite) testSoldOut() {
	s.take(request("a", 1, 2, 5), sale.Taken, true, 2)
	s.take(request("b", 2, 2, 5), sale.Taken, true, 4)
	s.take(request("c", 3, 2, 5), sale.SoldOut, false, 4)
	s.take(request("c", 4, 1, 5), sale.Taken, true, 5)
	s.take(request("d", 5, 1, 5), sale.SoldOut, false, 5)
	other := request("d", 6, 1, 5)
	other.Item.Name = "SKU-2"
	s.take(other, sale.Taken, true, 1)
	s.take(request("e", 7, 1, 0), sale.SoldOut, false, 5)
	s.counts(sale.Counts{Taken: 5})
}

func (s *suite) testPrincipal() {
	limited := func(id string, quantity int, principal string) sale.TakeRequest {
		r := request(id, 1, quantity, 100)
		r.PerPrincipal, r.Principal = 3, sale.PrincipalDigest(principal)
		return r
	}
	s.take(limited("a", 2, "anna"), sale.Taken, true, 2)
	s.take(limited("b", 2, "anna"), sale.PurchaseLimit, false, 2)
	s.take(limited("c", 3, "berta"), sale.Taken, true, 5)
	s.take(limited("b", 1, "anna"), sale.Taken, true, 6)
	s.settle(limited("a", 2, "anna"), 1, sale.Free, true)
	s.take(limited("d", 3, "anna"), sale.PurchaseLimit, false, 4)
	s.take(limited("d", 2, "anna"), sale.Taken, true, 6)
	s.settle(limited("b", 1, "anna"), 1, sale.Confirm, true)
	s.take(limited("e", 1, "anna"), sale.PurchaseLimit, false, 6)
}

func (s *suite) testRepeated() {
	r := request("a", 1, 2, 2)
	s.take(r, sale.Taken, true, 2)
	s.take(r, sale.Taken, false, 2) // the acknowledgement was lost
	r.Token = 2                     // tried once more after an unknown outcome
	s.take(r, sale.Taken, false, 2)
	s.settle(r, 1, sale.Free, false)
	s.settle(r, 2, sale.Hold, true)
	s.counts(sale.Counts{Taken: 2, Unknown: 2})
	r.Token = 3
	s.take(r, sale.Taken, false, 2)
	s.counts(sale.Counts{Taken: 2})
	s.settle(r, 3, sale.Confirm, true)
	s.settle(r, 3, sale.Confirm, false)
	s.counts(sale.Counts{Taken: 2, Confirmed: 2})
}

func (s *suite) testEnds() {
	for i, id := range []string{"confirmed", "returned", "freed", "held", "held and returned", "held and confirmed"} {
		s.take(request(id, 1, 1, 10), sale.Taken, true, i+1)
	}
	s.settle(request("confirmed", 1, 1, 10), 1, sale.Confirm, true)
	s.settle(request("returned", 1, 1, 10), 1, sale.Return, true)
	s.settle(request("freed", 1, 1, 10), 1, sale.Free, true)
	for _, id := range []string{"held", "held and returned", "held and confirmed"} {
		s.settle(request(id, 1, 1, 10), 1, sale.Hold, true)
		s.settle(request(id, 1, 1, 10), 1, sale.Hold, false)
	}
	s.counts(sale.Counts{Taken: 4, Confirmed: 1, Unknown: 3, Returned: 2})
	s.settle(request("held and returned", 1, 1, 10), 1, sale.Free, true)
	s.settle(request("held and confirmed", 1, 1, 10), 1, sale.Confirm, true)
	s.counts(sale.Counts{Taken: 3, Confirmed: 2, Unknown: 1, Returned: 3})
	for _, end := range []sale.End{sale.Return, sale.Hold, sale.Confirm} { // nothing more comes of these
		s.settle(request("returned", 1, 1, 10), 1, end, false)
		s.settle(request("freed", 1, 1, 10), 1, end, false)
	}
	for _, end := range []sale.End{sale.Return, sale.Hold, sale.Free} {
		s.settle(request("confirmed", 1, 1, 10), 1, end, false)
	}
	s.settle(request("returned", 1, 1, 10), 1, sale.Free, true) // its record has expired
	s.settle(request("returned", 1, 1, 10), 1, sale.Free, false)
	s.counts(sale.Counts{Taken: 3, Confirmed: 2, Unknown: 1, Returned: 3})
}

func (s *suite) testFence() {
	s.take(request("a", 1, 1, 1), sale.Taken, true, 1)
	s.take(request("a", 2, 1, 1), sale.Taken, false, 1)
	for _, end := range []sale.End{sale.Confirm, sale.Return, sale.Free, sale.Hold} {
		s.settle(request("a", 1, 1, 1), 1, end, false)
	}
	s.counts(sale.Counts{Taken: 1})
	s.settle(request("a", 2, 1, 1), 2, sale.Return, true)
	s.counts(sale.Counts{Returned: 1})
}

func (s *suite) testTakenOver() {
	s.take(request("a", 1, 2, 2), sale.Taken, true, 2)
	again := request("a", 2, 1, 2)
	again.Created = 2000
	s.take(again, sale.Taken, true, 1) // the first claim was made free, and the notice has not come
	s.settle(again, 1, sale.Free, false)
	s.settle(again, 2, sale.Return, true)
	s.counts(sale.Counts{Returned: 1})
	third := request("a", 3, 2, 2)
	third.Created = 3000
	s.take(third, sale.Taken, true, 2)
	s.settle(third, 3, sale.Free, true)
	s.counts(sale.Counts{Returned: 3})
}

func (s *suite) testPast() {
	first := request("a", 1, 1, 3)
	s.take(first, sale.Taken, true, 1)
	s.settle(first, 1, sale.Confirm, true)
	again := request("a", 2, 1, 3)
	again.Created, again.PerPrincipal = 2000, 2
	s.take(again, sale.Taken, true, 2)
	s.settle(again, 1, sale.Free, false)
	s.settle(again, 2, sale.Free, true)
	s.counts(sale.Counts{Taken: 1, Confirmed: 1, Returned: 1})
	third := request("a", 3, 2, 3)
	third.Created, third.PerPrincipal = 3000, 2
	s.take(third, sale.PurchaseLimit, false, 1)
	third.PerPrincipal = 3
	s.take(third, sale.Taken, true, 3)
	s.settle(third, 3, sale.Hold, true)
	s.counts(sale.Counts{Taken: 3, Confirmed: 1, Unknown: 2, Returned: 1})
	fourth := request("a", 4, 1, 4)
	fourth.Created = 4000
	s.take(fourth, sale.Taken, true, 4) // what the third had nobody knows any more
	s.counts(sale.Counts{Taken: 4, Confirmed: 3, Returned: 1})
}

func (s *suite) testLowerTotal() {
	s.take(request("a", 1, 3, 5), sale.Taken, true, 3)
	s.take(request("b", 1, 1, 2), sale.SoldOut, false, 3)
	s.take(request("a", 2, 3, 2), sale.Taken, false, 3) // what is taken stays
	s.settle(request("a", 2, 3, 2), 2, sale.Free, true)
	s.take(request("b", 1, 1, 2), sale.Taken, true, 1)
}

func (s *suite) testLost() {
	s.settleLost(request("gone", 1, 2, 10), 1, sale.Return, true, false)
	s.settleLost(request("gone", 1, 2, 10), 1, sale.Confirm, false, false)
	s.settleLost(request("gone", 1, 2, 10), 1, sale.Confirm, true, true)
	s.settleLost(request("gone", 1, 2, 10), 1, sale.Confirm, true, false)
	s.settleLost(request("asleep", 1, 1, 10), 1, sale.Hold, true, true)
	s.counts(sale.Counts{Taken: 3, Confirmed: 2, Unknown: 1})
	s.settle(request("asleep", 1, 1, 10), 1, sale.Free, true)
	s.counts(sale.Counts{Taken: 2, Confirmed: 2, Returned: 1})
}

func (s *suite) testListing() {
	for i, id := range []string{"a", "b", "c", "d"} {
		r := request(id, 1, 1, 10)
		r.TTL = time.Second
		s.take(r, sale.Taken, true, i+1)
	}
	r := request("c", 1, 1, 10)
	s.settle(r, 1, sale.Hold, true)
	s.settle(request("d", 1, 1, 10), 1, sale.Return, true)
	s.open(sale.Selection{State: sale.Reserved}, "a", "b")
	s.open(sale.Selection{State: sale.Reserved, Older: time.Hour})
	s.open(sale.Selection{State: sale.Unknown}, "c")
	s.open(sale.Selection{State: sale.Returned})
	s.settle(request("a", 1, 1, 10), 1, sale.Confirm, true)
	s.open(sale.Selection{State: sale.Reserved}, "b")
	if s.advance != nil {
		s.advance(-time.Hour) // a clock that is set back makes no unit wait
		s.open(sale.Selection{State: sale.Reserved, Older: time.Minute}, "b")
		s.advance(time.Hour + 2*time.Second)
		s.open(sale.Selection{State: sale.Returned}, "d")
	}
	if list, err := s.s.Open(context.Background(), sale.Item{Sale: "none"}, sale.Selection{State: sale.Reserved},
		10); err != nil || len(list) > 0 {
		s.t.Errorf("of an item that nobody bought: %v, %v", list, err)
	}
}

// testListingByParts: units that stay open do not hide others for good.
func (s *suite) testListingByParts() {
	const units, limit = 9, 2
	for i := range units {
		s.take(request(fmt.Sprint("id", i), 1, 1, units), sale.Taken, true, i+1)
		s.settle(request(fmt.Sprint("id", i), 1, 1, units), 1, sale.Hold, true)
	}
	seen := map[string]bool{}
	for deadline := time.Now().Add(20 * time.Second); len(seen) < units && time.Now().Before(deadline); {
		list, err := s.s.Open(context.Background(), item, sale.Selection{State: sale.Unknown}, limit)
		if err != nil || len(list) > limit {
			s.t.Fatalf("%d units, %v", len(list), err)
		}
		for _, u := range list {
			seen[u.ID] = true
		}
	}
	if len(seen) < units {
		s.t.Errorf("of %d units %d were listed", units, len(seen))
	}
}

func (s *suite) testChanges() {
	if c := s.changes(sale.Mark{}, 10); c.Until.Version != 0 || len(c.IDs) > 0 {
		s.t.Fatalf("at first: %+v", c)
	}
	for i := range 5 {
		s.take(request(fmt.Sprint("id", i), 1, 1, 10), sale.Taken, true, i+1)
	}
	first := s.changes(sale.Mark{}, 3)
	if len(first.IDs) != 3 || first.Until.Version >= first.Counts.Version {
		s.t.Fatalf("the first three: %+v", first)
	}
	rest := s.changes(first.Until, 3)
	if len(rest.IDs) < 2 || rest.Until.Version != rest.Counts.Version {
		s.t.Fatalf("the rest: %+v", rest)
	}
	all := slices.Concat(first.IDs, rest.IDs)
	if !s.divided && !slices.IsSorted(all) {
		s.t.Errorf("they are listed as %v", all)
	}
	slices.Sort(all)
	if all = slices.Compact(all); !slices.Equal(all, []string{"id0", "id1", "id2", "id3", "id4"}) {
		s.t.Fatalf("all: %v", all)
	}
	s.settle(request("id1", 1, 1, 10), 1, sale.Free, true)
	s.settle(request("id2", 1, 1, 10), 1, sale.Return, true)
	next := s.changes(rest.Until, 3)
	if next.Counts.Version <= rest.Counts.Version || len(next.IDs) > 0 || next.Until.Version != next.Counts.Version {
		s.t.Fatalf("units came back: %+v", next)
	}
	again := request("id2", 2, 1, 10)
	again.Created = 2000
	s.take(again, sale.Taken, true, 4)
	if last := s.changes(next.Until, 3); !slices.Equal(last.IDs, []string{"id2"}) {
		s.t.Fatalf("taken again: %+v", last)
	}
	whole := s.changes(sale.Mark{}, 10)
	slices.Sort(whole.IDs)
	if !slices.Equal(whole.IDs, []string{"id0", "id2", "id3", "id4"}) {
		s.t.Fatalf("all: %+v", whole)
	}
}

// changes lists IDs. Nothing else uses the store, so the numbers are of one moment.
func (s *suite) changes(since sale.Mark, limit int) sale.Changes {
	s.t.Helper()
	c, err := s.s.Changes(context.Background(), item, since, limit)
	if err != nil || len(c.IDs) > limit || c.Counts.Mixed {
		s.t.Fatalf("changes since %+v: %+v, %v", since, c, err)
	}
	return c
}

func (s *suite) testConcurrent() {
	const total, workers, each = 40, 8, 20
	type outcome struct {
		taken int
		err   error
	}
	outcomes := make(chan outcome, workers)
	for w := range workers {
		go func() {
			var o outcome
			for i := range each {
				r := request(fmt.Sprintf("w%d-%d", w, i), 1, 1, total)
				t, err := s.s.Take(context.Background(), r)
				if o.err = err; err != nil {
					break
				}
				if t.Verdict == sale.Taken {
					o.taken++
				}
			}
			outcomes <- o
		}()
	}
	sum := 0
	for range workers {
		o := <-outcomes
		if o.err != nil {
			s.t.Error(o.err)
		}
		sum += o.taken
	}
	if sum != total {
		s.t.Errorf("%d of %d units were taken", sum, total)
	}
	s.counts(sale.Counts{Taken: total})
}
