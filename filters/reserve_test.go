package filters

import (
	"slices"
	"testing"
)

// booth is a filter that keeps places and notes what it was asked.
type booth struct {
	name   string
	places int
	panics bool
	asked  *[]string
}

func (b *booth) Name() string                    { return b.name }
func (b *booth) Needs() Needs                    { return Needs{} }
func (b *booth) Request(*Exchange, *Slot) *Reply { return nil }
func (b *booth) Response(*Exchange, *Slot)       {}
func (b *booth) Done(*Exchange, *Slot, Outcome)  {}
func (b *booth) Return(s *Slot)                  { b.places += int(s.N) }
func (b *booth) Reserve(_ *Exchange, s *Slot) *Reply {
	*b.asked = append(*b.asked, b.name)
	if b.panics {
		panic(b.name)
	}
	if b.places == 0 {
		return Refuse(Overloaded, Problem{Service: b.name})
	}
	b.places--
	s.N = 1
	return nil
}

// plain is a filter that keeps nothing.
type plain struct{ Filter }

func chains(t *testing.T, lists ...[]Filter) (out []*Chain) {
	t.Helper()
	for _, list := range lists {
		c, err := NewChain(func(*Exchange, string, any, []byte) {}, list...)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func TestReserve(t *testing.T) {
	var asked []string
	limit := &booth{name: "limit", places: 5, asked: &asked}
	queue := &booth{name: "queue", places: 5, asked: &asked}
	other := &booth{name: "other", places: 1, asked: &asked}
	list := chains(t, []Filter{limit, plain{limit}, queue}, []Filter{other}, nil)
	list[2] = nil
	x := new(Exchange)
	got, refused := Reserve(x, list)
	if refused != nil || len(got) != 3 {
		t.Fatalf("%d reservations, refused: %v", len(got), refused)
	}
	if !slices.Equal(asked, []string{"queue", "other", "limit"}) {
		t.Errorf("asked %v, want those nearest to the services first", asked)
	}
	if _, ok := got[0].Take("queue"); !ok || limit.places != 4 || queue.places != 4 || other.places != 0 {
		t.Errorf("queue is there: %v; %d, %d, %d places left", ok, limit.places, queue.places, other.places)
	}
	if _, ok := got[0].Take("queue"); ok {
		t.Error("taken twice")
	}
	if _, ok := got[0].Take("breaker"); ok {
		t.Error("taken by a filter that kept nothing")
	}

	// All or nothing: what was kept before the one that refuses is back.
	if _, refused = Reserve(x, list); refused == nil || limit.places != 4 || queue.places != 4 {
		t.Errorf("refused: %v; %d and %d places left", refused != nil, limit.places, queue.places)
	}
	for range 2 {
		got[0].Return()
		got[1].Return()
	}
	if limit.places != 5 || queue.places != 4 || other.places != 1 {
		t.Errorf("%d, %d, %d places, want those back that no call has taken", limit.places, queue.places, other.places)
	}
	var none *Reservation
	none.Return()
	if _, ok := none.Take("queue"); ok {
		t.Error("a place in no reservation")
	}
}

func TestReservePanics(t *testing.T) {
	var asked []string
	first := &booth{name: "first", places: 1, asked: &asked}
	bad := &booth{name: "bad", places: 1, panics: true, asked: &asked}
	func() {
		defer func() { _ = recover() }()
		Reserve(new(Exchange), chains(t, []Filter{first}, []Filter{bad}))
		t.Error("no panic")
	}()
	if first.places != 1 {
		t.Error("a panic in one filter has the place of another lost")
	}
}
