package saleredis

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

var long = flag.Bool("long", false, "many more random runs")

//go:embed testdata
var earlier embed.FS

// TestDivided runs what a whole cluster is needed for on one.
func TestDivided(t *testing.T) {
	t.Parallel()
	client := dialAll(t, redistest.RunCluster(t, 3).Addrs())
	for name, test := range map[string]func(*testing.T, *redisx.Client, string){
		"is exact":             testDividedIsExact,
		"killed takers":        testNoUnitIsLostByKilledTakers,
		"principal":            testPrincipalOfADividedItem,
		"parts on all servers": testPartsLieOnAllServers,
		"books lost":           testBooksThatWereLost,
		"total changes":        testTotalChangesOnlyBetweenGrants,
		"one step a taking":    testOneStepATaking,
		"unit lost":            testUnitThatAPartLost,
		"gateway before parts": testGatewayBeforeParts,
		"given back unheard":   testGivenBackUnacknowledged,
		"begun whole":          testBegunWhole,
		"sold again":           testSoldAgainElsewhere,
		"late calls":           testCallsThatComeLate,
		"conformance":          testConformanceDivided,
		"late report":          testReportThatComesLate,
	} {
		t.Run(name, func(t *testing.T) { test(t, client, strings.ReplaceAll(name, " ", "-")+":") })
	}
}

var errKilled = errors.New("the taker was killed")

// faulty is a server whose calls fail as killed says.
type faulty struct {
	server
	mu     sync.Mutex
	killed func() (before, after bool) // nil: none fails
}

func (f *faulty) Run(ctx context.Context, script *redisx.Script, call *redisx.Call, keys int) (string, error) {
	before, after := false, false
	f.mu.Lock()
	if f.killed != nil {
		before, after = f.killed()
	}
	f.mu.Unlock()
	if before {
		call.Free()
		return "", errKilled
	}
	reply, err := f.server.Run(ctx, script, call, keys)
	if after && err == nil {
		return "", errKilled
	}
	return reply, err
}

// kill has the taker be killed at its nth call, before that is run or after. 0: it is not killed.
func (f *faulty) kill(n int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.killed = func() (bool, bool) {
		n--
		return n <= 0 && (n < 0 || !after), n == 0 && after
	}
	if n == 0 {
		f.killed = nil
	}
}

// shop sells one divided item from two gateways, whose takings can be cut short at any step.
type shop struct {
	t        *testing.T
	faults   []*faulty
	gateways []*Store
	sound    *Store
}

func newShop(t *testing.T, client *redisx.Client, prefix string) *shop {
	o := Options{Prefix: prefix, Divide: 1}
	s := &shop{t: t, sound: New(client, o)}
	for range 2 {
		f := &faulty{server: client}
		s.faults, s.gateways = append(s.faults, f), append(s.gateways, newStore(f, o))
	}
	return s
}

func (s *shop) sum() sale.Counts {
	s.t.Helper()
	c, err := s.sound.Changes(context.Background(), item, sale.Latest, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Counts
}

func buy(id string, quantity, total int) sale.TakeRequest {
	return sale.TakeRequest{Item: item, ID: id, Token: 1, Created: 1, Quantity: quantity, TTL: time.Hour, Total: total,
		Principal: sale.PrincipalDigest(id)}
}

func unitOf(r sale.TakeRequest) sale.Unit {
	return sale.Unit{ID: r.ID, Token: r.Token, Created: r.Created, Principal: r.Principal, Quantity: r.Quantity,
		TTL: r.TTL}
}

// testDividedIsExact: whatever gateways take and give back one after the other, of whatever total, and wherever a
// taking is cut short: units are taken if as many are left, and else it is sold out. At the end every unit can be sold.
func testDividedIsExact(t *testing.T, client *redisx.Client, prefix string) {
	runs := 3
	if *long {
		runs = 500
	}
	first := rand.Uint64()
	for i := range runs {
		seed := first + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newShop(t, client, fmt.Sprint(prefix, i, ":"))
			s.runRandomly(rand.New(rand.NewPCG(seed, 7)))
			s.sellTheRest(rand.New(rand.NewPCG(seed, 8)))
		})
	}
}

func (s *shop) runRandomly(random *rand.Rand) {
	s.t.Helper()
	total := 1 + random.IntN(200)
	var open []sale.TakeRequest
	before := s.sum()
	for step := range 300 {
		switch random.IntN(40) {
		case 0:
			total = 1 + random.IntN(200)
		case 1, 2:
			total = max(total/2, 1)
		case 3, 4:
			total *= 2
		}
		g := random.IntN(2)
		gateway := s.gateways[g]
		if len(open) > 0 && random.IntN(3) == 0 {
			i := random.IntN(len(open))
			end := []sale.End{sale.Free, sale.Return, sale.Confirm}[random.IntN(3)]
			if _, _, err := gateway.Settle(context.Background(), item, unitOf(open[i]), end, false); err == nil {
				open = append(open[:i], open[i+1:]...)
			}
			before = s.sum()
			continue
		}
		quantity := 1
		if random.IntN(4) == 0 {
			quantity = 1 + random.IntN(20)
		}
		jitter := total + random.IntN(3) // as gateways read a stock at different times
		r := buy(fmt.Sprint("b", step), quantity, jitter)
		if random.IntN(3) == 0 {
			s.faults[g].kill(1+random.IntN(12), random.IntN(2) == 0)
		}
		out, err := gateway.Take(context.Background(), r)
		s.faults[g].kill(0, false)
		after := s.sum()
		fits := before.Taken+quantity <= r.Total
		switch {
		case err != nil && !errors.Is(err, errKilled):
			s.t.Fatalf("step %d: %v", step, err)
		case err == nil && (out.Verdict == sale.Taken) != fits:
			s.t.Fatalf("step %d: %d of %d after %+v: verdict %d", step, quantity, r.Total, before, out.Verdict)
		case after.Taken != before.Taken && after.Taken != before.Taken+quantity,
			err == nil && out.Verdict == sale.Taken && after.Taken != before.Taken+quantity,
			after.Taken > before.Taken && !fits:
			s.t.Fatalf("step %d: %d of %d: from %+v to %+v, %v", step, quantity, r.Total, before, after, err)
		case after.Taken > before.Taken:
			open = append(open, r)
		}
		before = after
	}
}

// sellTheRest sells all that is left, without faults.
func (s *shop) sellTheRest(random *rand.Rand) {
	s.t.Helper()
	c := s.sum()
	total := c.Taken + 1 + random.IntN(50)
	for i := range total - c.Taken {
		out, err := s.sound.Take(context.Background(), buy(fmt.Sprint("rest", i), 1, total))
		if err != nil || out.Verdict != sale.Taken {
			s.t.Fatalf("of %d left, %d was refused: %+v, %v", total-c.Taken, i, out, err)
		}
	}
	out, err := s.sound.Take(context.Background(), buy("none", 1, total))
	if err != nil || out.Verdict != sale.SoldOut || out.Counts.Taken != total {
		s.t.Fatalf("at the end: %+v, %v; want %d taken", out, err, total)
	}
}

// testNoUnitIsLostByKilledTakers: two gateways sell at once, buyers give some back, and takers are killed at any step.
// What killed takers have taken goes back by the sweep; then exactly the total is sold.
func testNoUnitIsLostByKilledTakers(t *testing.T, client *redisx.Client, prefix string) {
	const total, buyers = 1500, 8
	s := newShop(t, client, prefix)
	for i, f := range s.faults {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		f.killed = func() (bool, bool) { return random.IntN(100) == 0, random.IntN(100) == 0 }
	}
	var sold, killed atomic.Int64
	var all sync.WaitGroup
	for b := range buyers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(b), 1))
			for i := 0; ; i++ {
				r := buy(fmt.Sprintf("%d-%d", b, i), 1, total)
				out, err := s.gateways[b%2].Take(context.Background(), r)
				switch {
				case errors.Is(err, errKilled): // nobody settles it
					killed.Add(1)
				case err != nil:
					t.Error(err)
					return
				case out.Verdict == sale.SoldOut:
					return
				case random.IntN(20) == 0:
					s.settleSurely(r, sale.Free)
				default:
					s.settleSurely(r, sale.Confirm)
					sold.Add(1)
				}
			}
		})
	}
	all.Wait()
	if c := s.sum(); c.Taken > total || c.Confirmed != int(sold.Load()) || killed.Load() == 0 {
		t.Fatalf("%+v of %d, %d sold, %d takers killed", c, total, sold.Load(), killed.Load())
	}
	for {
		list, err := s.sound.Open(context.Background(), item, sale.Selection{State: sale.Reserved}, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, u := range list {
			if _, ok, err := s.sound.Settle(context.Background(), item, u, sale.Free, false); !ok || err != nil {
				t.Fatalf("%+v does not go back: %v, %v", u, ok, err)
			}
		}
	}
	for i := range total - int(sold.Load()) {
		out, err := s.sound.Take(context.Background(), buy(fmt.Sprint("rest", i), 1, total))
		if err != nil || out.Verdict != sale.Taken {
			t.Fatalf("%d were sold of %d: %+v, %v", int(sold.Load())+i, total, out, err)
		}
	}
	out, err := s.sound.Take(context.Background(), buy("none", 1, total))
	if err != nil || out.Verdict != sale.SoldOut {
		t.Errorf("after all were sold: %+v, %v", out, err)
	}
	t.Logf("%d were sold, %d takers were killed", sold.Load(), killed.Load())
}

func (s *shop) settleSurely(r sale.TakeRequest, end sale.End) {
	if _, ok, err := s.sound.Settle(context.Background(), item, unitOf(r), end, false); !ok || err != nil {
		s.t.Errorf("%s is not settled: %v, %v", r.ID, ok, err)
	}
}

// testPrincipalOfADividedItem: one principal gets no more than it may, by however many requests and gateways.
func testPrincipalOfADividedItem(t *testing.T, client *redisx.Client, prefix string) {
	const per = 3
	s := newShop(t, client, prefix)
	var got atomic.Int64
	var all sync.WaitGroup
	for b := range 6 {
		all.Go(func() {
			for i := range 10 {
				r := buy(fmt.Sprintf("%d-%d", b, i), 1, 1000)
				r.Principal, r.PerPrincipal = sale.PrincipalDigest("anna"), per
				out, err := s.gateways[b%2].Take(context.Background(), r)
				switch {
				case err != nil:
					t.Error(err)
				case out.Verdict == sale.Taken:
					got.Add(1)
				case out.Verdict != sale.PurchaseLimit:
					t.Errorf("verdict %d", out.Verdict)
				}
			}
		})
	}
	all.Wait()
	if got.Load() != per {
		t.Errorf("it got %d, and may have %d", got.Load(), per)
	}
}

// testPartsLieOnAllServers: each server of a cluster of equal ones has some; and the keys go with the sale.
func testPartsLieOnAllServers(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	s := New(client, Options{Prefix: prefix, Divide: 100})
	small := buy("a", 1, 99)
	small.Item.Name = "small"
	keep := time.Now().Add(time.Hour)
	for i := range 200 {
		r := buy(fmt.Sprint("b", i), 1, 1000)
		r.Keep = keep
		if out, err := s.Take(ctx, r); err != nil || out.Verdict != sale.Taken || out.Counts.Taken != i+1 {
			t.Fatal(out, err)
		}
	}
	if out, err := s.Take(ctx, small); err != nil || out.Verdict != sale.Taken || out.Counts.Mixed {
		t.Errorf("an item with little stock: %+v, %v", out, err)
	}
	d, of := s.divided.find(item)
	if d == nil {
		t.Fatal("it is not divided")
	}
	parts := 0
	var mu sync.Mutex
	err := client.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		keys, err := node.Keys(ctx, prefix+"sale:{*.*}").Result()
		mu.Lock()
		defer mu.Unlock()
		if parts += len(keys); len(keys) == 0 {
			t.Error("a server has no part")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if parts != partsNew {
		t.Errorf("%d parts have units", parts)
	}
	for _, key := range d.parts {
		tag := key[strings.Index(key, "{")+1 : len(key)-1]
		if slot := client.Universal().ClusterKeySlot(ctx, key).Val(); slot != int64(crc16(tag)%slots) {
			t.Errorf("%s is in slot %d, not %d", key, slot, crc16(tag)%slots)
		}
		if ttl := client.Universal().PTTL(ctx, key).Val(); ttl < 50*time.Minute || ttl > time.Hour {
			t.Errorf("a part lives for %v", ttl)
		}
	}
	c := s.newCall(of)
	books := string(c.Buffer[:len(c.Buffer)/2-len(":ids")/2])
	c.Free()
	if ttl := client.Universal().PTTL(ctx, books).Val(); ttl < keepLonger || ttl > keepLonger+time.Hour {
		t.Errorf("the books %q live for %v", books, ttl)
	}
}
