package sale_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/salememory"
)

// world is two gateways that sell from one store, and the records of their keys. Requests run, end, are killed with
// their gateway, are tried again; notices are lost, acknowledgements too; records expire.
type world struct {
	t     *testing.T
	r     *rand.Rand
	now   time.Time
	store sale.Store
	keys  map[string]*key
	gates [2]*gate
	total int
	ttl   time.Duration
	live  []*attempt

	sold, held int // units of purchases that succeeded, and whose outcome nobody will ever know
}

// key is the record of a key, as an idempotency store keeps it.
type key struct {
	rec     sale.Record
	token   uint64
	expires time.Time
	owner   *attempt // nil: nobody executes it
}

// attempt is a request that executes.
type attempt struct {
	gate     int
	id       string
	token    uint64
	quantity int
	began    time.Time
	further  bool // it is not the first of its request
}

type gate struct{ heard []notice }

type notice struct {
	unit sale.Unit
	rec  sale.Record
}

var modelItem = sale.Item{Sale: "s", Name: "i"}

// lossy loses acknowledgements and steps.
type lossy struct {
	sale.Store
	r *rand.Rand
}

var errLost = errors.New("lost")

func (l lossy) lose() int {
	if l.r.IntN(20) > 0 {
		return 0
	}
	return 1 + l.r.IntN(2)
}

func (l lossy) Take(ctx context.Context, r sale.TakeRequest) (sale.Taking, error) {
	lost := l.lose()
	if lost == 1 {
		return sale.Taking{}, errLost
	}
	t, err := l.Store.Take(ctx, r)
	if lost == 2 {
		return sale.Taking{}, errLost
	}
	return t, err
}

func (l lossy) Settle(ctx context.Context, i sale.Item, u sale.Unit, e sale.End, lost bool) (sale.Counts, bool, error) {
	how := l.lose()
	if how == 1 {
		return sale.Counts{}, false, errLost
	}
	c, ok, err := l.Store.Settle(ctx, i, u, e, lost)
	if how == 2 {
		return sale.Counts{}, false, errLost
	}
	return c, ok, err
}

// read returns the record as it reads now.
func (w *world) read(id string) sale.Record {
	k := w.keys[id]
	switch {
	case k == nil:
		return sale.Record{}
	case k.owner == nil && !w.now.Before(k.expires):
		if k.rec.Ended == sale.NotKnown {
			w.held += w.unknownUnits(id)
		}
		delete(w.keys, id)
		return sale.Record{}
	}
	return k.rec
}

// begin lets a request come with a key of few, and returns what executes.
func (w *world) begin() {
	id := fmt.Sprint("k", w.r.IntN(40))
	rec := w.read(id)
	k := w.keys[id]
	further := false
	switch {
	case !rec.Exists:
		k = &key{rec: sale.Record{Exists: true, Created: w.now.UnixMicro(), Ended: sale.Runs}}
		w.keys[id] = k
	case rec.Ended == sale.NotKnown && w.r.IntN(2) == 0: // tried once more
		k.rec.Ended, further = sale.Runs, true
	default: // replayed, or held
		return
	}
	k.token = w.r.Uint64() | 1
	quantity := 1 + int(uint64(k.rec.Created)%3) // of the request, which is the same in every attempt
	a := &attempt{gate: w.r.IntN(2), id: id, token: k.token, quantity: quantity, began: w.now, further: further}
	k.owner = a
	r := sale.TakeRequest{
		Item: modelItem, ID: id, Token: a.token, Created: k.rec.Created, Principal: sale.PrincipalDigest(id),
		Quantity: quantity, TTL: w.ttl, Total: w.total,
	}
	t, err := w.store.Take(context.Background(), r)
	if err != nil || t.Verdict != sale.Taken {
		w.end(a, sale.KeyFree, 0) // refused: the key is free, if this is not a further attempt
		return
	}
	w.live = append(w.live, a)
}

// end settles the record of an attempt, and tells its gateway unless the notice is lost.
func (w *world) end(a *attempt, how sale.KeyEnd, status int) {
	k := w.keys[a.id]
	if k == nil || k.token != a.token {
		return
	}
	k.owner, k.expires = nil, w.now.Add(w.ttl)
	if how == sale.KeyFree && a.further { // what became of the attempts before is not known
		how = sale.KeyUnknown
	}
	rec := &k.rec
	switch how {
	case sale.KeyAnswered:
		rec.Ended, rec.Status = sale.Answered, status
	case sale.KeyUnknown:
		rec.Ended = sale.NotKnown
	case sale.KeyFree:
		delete(w.keys, a.id)
		rec = &sale.Record{}
	}
	u := sale.Unit{ID: a.id, Token: a.token, Created: k.rec.Created, Principal: sale.PrincipalDigest(a.id),
		Quantity: a.quantity, State: sale.Reserved, Taken: a.began, TTL: w.ttl}
	if w.r.IntN(3) > 0 {
		g := w.gates[a.gate]
		g.heard = append(g.heard, notice{u, *rec})
	}
	if how == sale.KeyAnswered && status == 200 {
		w.sold += a.quantity
	}
}

// finish ends an attempt in one of all ways.
func (w *world) finish() {
	if len(w.live) == 0 {
		return
	}
	i := w.r.IntN(len(w.live))
	a := w.live[i]
	w.live = append(w.live[:i:i], w.live[i+1:]...)
	switch n := w.r.IntN(10); {
	case n < 4:
		w.end(a, sale.KeyAnswered, 200)
	case n < 6:
		w.end(a, sale.KeyAnswered, 402)
	case n < 8:
		w.end(a, sale.KeyFree, 0)
	default:
		w.end(a, sale.KeyUnknown, 0)
	}
}

// kill ends a gateway: what it heard is lost, and its requests are of unknown outcome.
func (w *world) kill(g int) {
	w.gates[g].heard = nil
	var rest []*attempt
	for _, a := range w.live {
		if a.gate != g {
			rest = append(rest, a)
			continue
		}
		if k := w.keys[a.id]; k != nil && k.token == a.token {
			k.rec.Ended, k.owner, k.expires = sale.NotKnown, nil, w.now.Add(w.ttl)
		}
	}
	w.live = rest
}

// hear settles what a gateway heard, in any order.
func (w *world) hear(g int) {
	h := w.gates[g].heard
	w.gates[g].heard = nil
	w.r.Shuffle(len(h), func(i, j int) { h[i], h[j] = h[j], h[i] })
	for _, n := range h {
		if end, ok := sale.EndOf(&n.unit, n.rec, w.now); ok {
			if _, _, err := w.store.Settle(context.Background(), modelItem, n.unit, end,
				w.now.Before(n.unit.Taken.Add(w.ttl))); err != nil {
				w.gates[g].heard = append(w.gates[g].heard, n)
			}
		}
	}
}

// sweep looks at the units that are open.
func (w *world) sweep() {
	for _, what := range []sale.Selection{{State: sale.Reserved, Older: 3 * time.Second}, {State: sale.Unknown},
		{State: sale.Returned}} {
		list, err := w.store.Open(context.Background(), modelItem, what, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, u := range list {
			if end, ok := sale.EndOf(&u, w.read(u.ID), w.now); ok {
				_, _, _ = w.store.Settle(context.Background(), modelItem, u, end, false)
			}
		}
	}
}

func (w *world) counts() sale.Counts {
	c, err := w.store.Changes(context.Background(), modelItem, sale.Mark{}, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Counts
}

// passed returns the units of purchases that run, succeeded, or may have succeeded.
func (w *world) passed() int {
	n := w.sold + w.held
	for id := range w.keys {
		if k := w.keys[id]; k.rec.Ended == sale.NotKnown {
			n += w.unknownUnits(id)
		}
	}
	for _, a := range w.live {
		n += a.quantity
	}
	return n
}

func (w *world) unknownUnits(id string) int { return 1 + int(uint64(w.keys[id].rec.Created)%3) }

// TestModel: whatever happens, no more than the total is sold, runs or may have been sold; and when all is settled,
// what was not sold and is not in doubt is on sale.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0), keys: map[string]*key{},
			gates: [2]*gate{{}, {}}, total: 15, ttl: time.Hour}
		if seed%2 == 1 {
			w.ttl = 5 * time.Second // records expire before anybody has looked
		}
		w.store = lossy{salememory.New(func() time.Time { return w.now }), w.r}
		w.run(seed)
		if t.Failed() {
			return
		}
	}
}

func (w *world) run(seed uint64) {
	for step := range 400 {
		switch n := w.r.IntN(20); {
		case n < 8:
			w.begin()
		case n < 13:
			w.finish()
		case n < 15:
			w.hear(w.r.IntN(2))
		case n < 17:
			w.sweep()
		case n == 17 && w.r.IntN(5) == 0:
			w.kill(w.r.IntN(2))
		case n == 18:
			w.now = w.now.Add(time.Duration(w.r.IntN(3000)) * time.Millisecond)
		}
		if passed, c := w.passed(), w.counts(); passed > w.total || passed > c.Taken || c.Taken > w.total {
			w.t.Fatalf("seed %d, step %d: %d units passed, %d of %d are taken", seed, step, passed, c.Taken, w.total)
		}
	}
	for len(w.live) > 0 {
		w.finish()
	}
	for range 60 { // losses among them
		w.now = w.now.Add(time.Second)
		w.hear(0)
		w.hear(1)
		w.sweep()
	}
	passed, c := w.passed(), w.counts()
	if c.Reserved() != 0 || passed > c.Taken {
		w.t.Fatalf("seed %d, at the end: %d passed, %d of them sold; %+v", seed, passed, w.sold, c)
	}
	if w.ttl == time.Hour && (passed != c.Taken || c.Confirmed != w.sold) {
		w.t.Fatalf("seed %d, at the end: %d passed, %d of them sold; %+v", seed, passed, w.sold, c)
	}
}
