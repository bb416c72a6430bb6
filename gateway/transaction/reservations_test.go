package transaction

import (
	"context"
	"encoding/json"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// desk is a filter that keeps places.
type desk struct{ left atomic.Int64 }

func (d *desk) Name() string                                            { return "desk" }
func (d *desk) Needs() filters.Needs                                    { return filters.Needs{} }
func (d *desk) Request(*filters.Exchange, *filters.Slot) *filters.Reply { return nil }
func (d *desk) Response(*filters.Exchange, *filters.Slot)               {}
func (d *desk) Done(*filters.Exchange, *filters.Slot, filters.Outcome)  {}
func (d *desk) Return(*filters.Slot)                                    { d.left.Add(1) }
func (d *desk) Reserve(_ *filters.Exchange, _ *filters.Slot) *filters.Reply {
	if d.left.Add(-1) < 0 {
		d.left.Add(1)
		return filters.Refuse(filters.Overloaded, filters.Problem{Service: "payment", RetryAfter: 2 * time.Second})
	}
	return nil
}

// places returns a desk with so many places, which the bridge asks for every step.
func (d *fixture) places(t *testing.T, n int) *desk {
	t.Helper()
	desk := new(desk)
	desk.left.Store(int64(n))
	chain, err := filters.NewChain(nil, desk)
	if err != nil {
		t.Fatal(err)
	}
	d.reserve = func(x *filters.Exchange, services []string) ([]*filters.Reservation, *filters.Reply) {
		chains := make([]*filters.Chain, len(services))
		for i := range chains {
			chains[i] = chain
		}
		return filters.Reserve(x, chains)
	}
	return desk
}

// want fails unless so many places are left, by and by.
func (d *desk) want(t *testing.T, n int64, when string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); d.left.Load() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d places are left, want %d", when, d.left.Load(), n)
		}
	}
}

// TestNoPlaceNothingBegun: a service that has no place for its step has the request refused. Nothing is
// submitted and the key is free.
func TestNoPlaceNothingBegun(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int {
		d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return 200
	}
	desk := d.places(t, 1) // of two that are needed
	r := d.checkout(t, "k", `{"qty":1}`)
	if r.Status != 503 || r.Reason != filters.Overloaded || r.Header.Get("Retry-After") != "2" || len(d.submits) != 0 {
		t.Fatalf("%d %s, %d submits, want 503 overloaded and none", r.Status, r.Reason, len(d.submits))
	}
	desk.want(t, 1, "after the refusal")
	desk.left.Store(2)
	if r := d.checkout(t, "k", `{"qty":1}`); r.Status != 200 || len(d.submits) != 1 {
		t.Errorf("the same key again: %d %s, want it executed", r.Status, r.Body)
	}
	desk.want(t, 2, "at the end of the transaction")
}

func TestPlacesAreGivenBack(t *testing.T) {
	t.Run("rolled back", func(t *testing.T) {
		d := newFixture(t)
		d.submit = func(gid string) int {
			d.setState(gid, "failed", "reserve:failed:succeed", "pay:prepared:prepared")
			return 200
		}
		desk := d.places(t, 2)
		if r := d.checkout(t, "k", `{"qty":1}`); r.Status != 409 {
			t.Errorf("%d %s", r.Status, r.Body)
		}
		desk.want(t, 2, "at the end")
	})
	t.Run("the coordinator is down", func(t *testing.T) {
		d := &fixture{known: map[string]string{}}
		d.open(t, "http://127.0.0.1:1")
		desk := d.places(t, 2)
		if r := d.checkout(t, "k", `{"qty":1}`); r.Reason != filters.CoordinatorUnavailable {
			t.Errorf("%d %s", r.Status, r.Body)
		}
		desk.want(t, 2, "at the end")
	})
}

// TestPlaceIsForItsStep: the do of a step comes with the place that was kept for it, once; an undo says
// that no step is done any more.
func TestPlaceIsForItsStep(t *testing.T) {
	d := newFixture(t)
	payload, err := json.Marshal(envelope{
		Route: "checkout", Do: &envelopeCall{Service: "payment", Method: "POST", Path: "/"},
		Undo: &envelopeCall{Service: "payment", Method: "POST", Path: "/"},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := gid('d')
	d.delegate(t, g)
	desk := d.places(t, 2)
	list, refused := d.Reserve(new(filters.Exchange), []string{"stock", "payment"})
	if refused != nil {
		t.Fatal(refused.Status)
	}
	d.reservations.put(time.Now(), g, map[string]*filters.Reservation{"reserve": list[0], "pay": list[1]})
	var came []bool // with a place
	d.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
		_, ok := x.Reservation.Take("desk")
		came = append(came, ok)
		if len(came) == 1 { // shed all the same
			x.SetReply(filters.Refuse(filters.Overloaded, filters.Problem{}))
			return 503, "", filters.NotDispatched
		}
		return 200, "", filters.Completed
	}
	d.setState(g, "submitted")
	do := d.url(t, g, opDo, payload)
	for i, want := range []int{425, 200, 200} {
		if got := d.branch(t, do, "action", payload); got != want {
			t.Errorf("call %d: %d, want %d", i+1, got, want)
		}
	}
	if len(came) != 2 || !came[0] || came[1] {
		t.Errorf("the calls came with a place: %v, want the first only", came)
	}
	for i, x := range d.called {
		if x.Call != filters.DoCall || x.Inject.Get("Sluice-Attempt") != "1" {
			t.Errorf("call %d is of kind %d, attempt %s", i, x.Call, x.Inject.Get("Sluice-Attempt"))
		}
	}
	if desk.left.Load() != 0 { // the fake service has it, and that of the other step is kept
		t.Errorf("%d places left", desk.left.Load())
	}
	d.setState(g, "aborting")
	if got := d.branch(t, d.url(t, g, opUndo, payload), "compensate", payload); got != 200 {
		t.Errorf("undo: %d", got)
	}
	if x := d.called[len(d.called)-1]; x.Call != filters.UndoCall || x.Reservation != nil {
		t.Errorf("the undo is of kind %d, with %v", x.Call, x.Reservation)
	}
	desk.want(t, 1, "after the undo")
}

// TestReservationsAreBounded: in time and in number.
func TestReservationsAreBounded(t *testing.T) {
	desk := new(desk)
	desk.left.Store(3)
	chain, err := filters.NewChain(nil, desk)
	if err != nil {
		t.Fatal(err)
	}
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	now := time.Now()
	var v reservations
	for i := range 3 {
		list, refused := filters.Reserve(x, []*filters.Chain{chain})
		if refused != nil {
			t.Fatal("no place")
		}
		v.put(now.Add(time.Duration(i)*time.Second), strconv.Itoa(i), map[string]*filters.Reservation{"s": list[0]})
	}
	v.expire(now.Add(reservedFor - 1))
	if desk.left.Load() != 0 {
		t.Error("given back too early")
	}
	v.expire(now.Add(reservedFor))
	if desk.left.Load() != 1 || v.take("0", "s") != nil {
		t.Errorf("%d places, want the first one back", desk.left.Load())
	}
	v.drop("2")
	v.drop("2")
	if desk.left.Load() != 2 || v.take("1", "s") == nil || v.take("1", "s") != nil {
		t.Errorf("%d places, want the last one back and the one between there once", desk.left.Load())
	}
	if v.oldest != nil || v.latest != nil || len(v.of) != 0 {
		t.Errorf("%d transactions are still listed", len(v.of))
	}
	for i := range reservedMost + 10 {
		v.put(now, strconv.Itoa(i), map[string]*filters.Reservation{"s": new(filters.Reservation)})
	}
	if len(v.of) != reservedMost {
		t.Errorf("%d transactions, at most %d are kept", len(v.of), reservedMost)
	}
}
