package saleredis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// late is a server some of whose calls come late, or are done only when nobody waits for them any more.
type late struct {
	server
	mu     sync.Mutex
	random *rand.Rand
	passed *sync.Cond
	calls  int
	waits  bool // one does, for whom a taker waits: more could wait for each other
	ended  bool
	behind sync.WaitGroup
}

func newLate(s server, seed uint64) *late {
	l := &late{server: s, random: rand.New(rand.NewPCG(seed, 3))}
	l.passed = sync.NewCond(&l.mu)
	return l
}

// pass waits until n other calls have been made, or the phase ends.
func (l *late) pass(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for until := l.calls + n; l.calls < until && !l.ended; {
		l.passed.Wait()
	}
}

func (l *late) end(ended bool) {
	l.mu.Lock()
	l.ended = ended
	l.passed.Broadcast()
	l.mu.Unlock()
}

func (l *late) Run(ctx context.Context, script *redisx.Script, call *redisx.Call, keys int) (string, error) {
	l.mu.Lock()
	what, n := l.random.IntN(24), 1+l.random.IntN(40)
	l.calls++
	l.passed.Broadcast()
	wait := what < 3 && !l.waits
	l.waits = l.waits || wait
	l.mu.Unlock()
	if wait {
		l.pass(n)
		l.mu.Lock()
		l.waits = false
		l.mu.Unlock()
	}
	if what == 3 && (script == grant || script == recall || script == adopt) { // done after its taker was killed
		l.behind.Go(func() { l.pass(n); _, _ = l.server.Run(context.Background(), script, call, keys) })
		return "", errKilled
	}
	reply, err := l.server.Run(ctx, script, call, keys)
	if what == 4 && err == nil && script != settle && script != take {
		return "", errKilled
	}
	return reply, err
}

// testCallsThatComeLate: whatever calls come late or without a reply, no more units are taken than the total, and when
// it is lowered none until as few are taken; at the end every unit can be sold.
func testCallsThatComeLate(t *testing.T, client *redisx.Client, prefix string) {
	runs := 3
	if *long {
		runs = 300
	}
	first := rand.Uint64()
	for i := range runs {
		seed := first + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newShop(t, client, fmt.Sprint(prefix, i, ":"))
			l := newLate(client, seed)
			for g := range s.gateways {
				s.gateways[g] = newStore(l, s.sound.options)
			}
			random := rand.New(rand.NewPCG(seed, 4))
			open := &openUnits{}
			for phase := range 6 {
				total, before := 1+random.IntN(120), s.sum().Taken
				l.end(false)
				var all sync.WaitGroup
				for b := range 6 {
					r := rand.New(rand.NewPCG(seed, uint64(100*phase+b)))
					all.Go(func() {
						s.buyLate(s.gateways[b%2], r, fmt.Sprintf("%d-%d-", phase, b), total, before, open)
						l.end(true)
					})
				}
				all.Wait()
				if c := s.sum(); c.Taken > max(total, before) {
					t.Fatalf("phase %d: %d are taken of %d, %d before", phase, c.Taken, total, before)
				}
			}
			l.end(true)
			l.behind.Wait()
			s.sellTheRest(random)
		})
	}
}

type openUnits struct {
	mu   sync.Mutex
	list []sale.TakeRequest
}

func (o *openUnits) put(r sale.TakeRequest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, r)
}

func (o *openUnits) any(random *rand.Rand) (r sale.TakeRequest, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) == 0 {
		return r, false
	}
	i := random.IntN(len(o.list))
	r = o.list[i]
	o.list[i] = o.list[len(o.list)-1]
	o.list = o.list[:len(o.list)-1]
	return r, true
}

func (s *shop) buyLate(g *Store, random *rand.Rand, name string, total, before int, open *openUnits) {
	ctx := context.Background()
	for i := range 40 {
		if random.IntN(2) == 0 {
			if r, ok := open.any(random); ok {
				s.settleSurely(r, sale.Free)
			}
			continue
		}
		quantity := 1
		if random.IntN(3) == 0 {
			quantity += random.IntN(max(total/2, 1))
		}
		r := buy(fmt.Sprint(name, i), quantity, total)
		out, err := g.Take(ctx, r)
		switch {
		case errors.Is(err, errKilled), errors.Is(err, errMoving):
		case err != nil:
			s.t.Error(err)
		case out.Verdict == sale.Taken:
			open.put(r)
		}
		if c := s.sum(); c.Taken > max(total, before) && !c.Mixed {
			s.t.Errorf("%d are taken of %d, %d before", c.Taken, total, before)
			return
		}
	}
}

// between does something once before a call of a script.
type between struct {
	server
	script *redisx.Script
	do     func()
}

func (b *between) Run(ctx context.Context, script *redisx.Script, call *redisx.Call, keys int) (string, error) {
	if script == b.script && b.do != nil {
		do := b.do
		b.do = nil
		do()
	}
	return b.server.Run(ctx, script, call, keys)
}

// idIn returns an ID whose principal's units are in a part of an item of 8 parts.
func idIn(part int, name string) string {
	d := dividedItem{parts: make([]string, partsNew)}
	for i := 0; ; i++ {
		if id := fmt.Sprint(name, i); d.partOf(sale.PrincipalDigest(id)) == part {
			return id
		}
	}
}

// testReportThatComesLate: what a part said before its units came back and went to another part is not taken for units
// that it has beyond what it was granted.
func testReportThatComesLate(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	const total = 100
	s := newShop(t, client, prefix)
	first := buy(idIn(0, "first"), 80, total)
	if out, err := s.sound.Take(ctx, first); err != nil || out.Verdict != sale.Taken {
		t.Fatal(out, err)
	}
	slow := newStore(&between{client, grant, func() {
		s.settleSurely(first, sale.Free)
		if out, err := s.sound.Take(ctx, buy(idIn(1, "other"), 60, total)); err != nil || out.Verdict != sale.Taken {
			t.Error(out, err)
		}
	}}, Options{Prefix: prefix, Divide: 1})
	slow.divided.add(slow, digestOf(item), partsNew).kept.Store(1)
	if _, err := slow.Take(ctx, buy(idIn(0, "late"), 30, total)); err != nil {
		t.Error(err)
	}
	for i := range 100 {
		if _, err := s.sound.Take(ctx, buy(idIn(0, fmt.Sprint("more", i, "-")), 1, total)); err != nil {
			t.Fatal(err)
		}
	}
	if c := s.sum(); c.Taken != total {
		t.Errorf("%d are taken of %d", c.Taken, total)
	}
}

// testGivenBackUnacknowledged: units that a part gave back are granted to others only when a replica of the part has
// it: else the part has them again after a failover.
func testGivenBackUnacknowledged(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	const total = 100
	s := newShop(t, client, prefix)
	take := func(part, quantity int) {
		r := buy(idIn(part, fmt.Sprint(quantity, "-")), quantity, total)
		if _, err := s.sound.Take(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	first := buy(idIn(0, "first"), 80, total)
	if out, err := s.sound.Take(ctx, first); err != nil || out.Verdict != sale.Taken {
		t.Fatal(out, err)
	}
	s.settleSurely(first, sale.Free)
	d, _ := s.sound.divided.find(item)
	had := client.Universal().HGet(ctx, d.parts[0], "q").Val()
	c := d.newCall(0)
	c.Buffer = append(c.Buffer, make([]byte, 16)...)
	if _, err := s.sound.run(ctx, "recall", item, recall, c); err != nil { // and nobody hears that a replica has it
		t.Fatal(err)
	}
	gateway := s.gateways[0]
	gateway.divided.add(gateway, digestOf(item), partsNew).read = true
	s.faults[0].kill(3, true) // when it has told the books of the part
	if _, err := gateway.Take(ctx, buy(idIn(0, "killed"), 30, total)); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if err := client.Universal().HSet(ctx, d.parts[0], "q", had).Err(); err != nil { // the replica takes over
		t.Fatal(err)
	}
	take(1, 60)
	take(0, 70)
	take(0, 40)
	if c := s.sum(); c.Taken != total {
		t.Errorf("%d are taken of %d", c.Taken, total)
	}
}

// testBegunWhole: an item that a gateway begins whole, while another is about to divide it, stays whole for both.
func testBegunWhole(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	const total = 5
	whole := New(client, Options{Prefix: prefix})
	divides := newStore(&between{client, grant, func() {
		if out, err := whole.Take(ctx, buy("whole", 2, total)); err != nil || out.Verdict != sale.Taken {
			t.Error(out, err)
		}
	}}, Options{Prefix: prefix, Divide: 1})
	out, err := divides.Take(ctx, buy("divides", 2, total))
	if err != nil || out.Verdict != sale.Taken || out.Counts.Taken != 4 || out.Counts.Mixed {
		t.Errorf("%+v, %v", out, err)
	}
	for _, s := range []*Store{whole, divides} {
		if out, err := s.Take(ctx, buy("more", 2, total)); err != nil || out.Verdict != sale.SoldOut {
			t.Errorf("%+v, %v", out, err)
		}
	}
}

// testSoldAgainElsewhere: units that came back after all were taken are known for such also in another part.
func testSoldAgainElsewhere(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	s := newShop(t, client, prefix)
	const total = 16
	all := buy(idIn(0, "all"), total, total)
	if out, err := s.sound.Take(ctx, all); err != nil || out.Verdict != sale.Taken || out.Again {
		t.Fatal(out, err)
	}
	s.settleSurely(all, sale.Free)
	for part := range 2 {
		out, err := s.sound.Take(ctx, buy(idIn(part, "again"), 1, total))
		if err != nil || out.Verdict != sale.Taken || !out.Again {
			t.Errorf("part %d: %+v, %v", part, out, err)
		}
	}
}
