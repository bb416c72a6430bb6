package budget

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// roomy are limits of which requests are parked while half of them is free.
var roomy = Limits{InFlight: 2000, Buffered: 4000 * RequestBytes, Upstreams: 10}

// TestParkedAreFree: places that are parked are used by nobody: not in what readers see, not for another client, not
// for more at once than is left beside them.
func TestParkedAreFree(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	b := New(roomy)
	one, again := b.Account(addr(1)), b.Account(addr(1)) // of one client, so that its places are parked too
	park := func() {
		t.Helper()
		for range 5 {
			for _, a := range []*Account{one, again} {
				if !a.Acquire(InFlight, 1) {
					t.Fatal("the first request of a connection is refused")
				}
				a.Release(InFlight, 1)
			}
		}
		if b.totals[wordMemory].used.Load() == 0 || one.client.held[wordMemory].Load() == 0 {
			t.Fatal("nothing is parked: the test shows nothing")
		}
		if b.Used(InFlight) != 0 || b.Used(Buffered) != 0 || one.client.used(InFlight) != 0 {
			t.Errorf("%d requests and %d bytes are used, want none", b.Used(InFlight), b.Used(Buffered))
		}
	}
	park()
	if room := one.Room(InFlight); room != roomy.InFlight/5 {
		t.Errorf("there is room for %d, want %d", room, roomy.InFlight/5)
	}
	own := b.Own()
	if !own.Acquire(InFlight, roomy.InFlight) {
		t.Error("all requests at once are refused while places are parked")
	}
	own.Release(InFlight, roomy.InFlight)
	park()
	if !own.Acquire(Buffered, roomy.Buffered) {
		t.Error("all memory at once is refused while places are parked")
	}
	own.Release(Buffered, roomy.Buffered)
	park()
	if n := greedy(own, InFlight); n != roomy.InFlight {
		t.Errorf("%d of %d requests are granted one by one", n, roomy.InFlight)
	}
	own.Release(InFlight, roomy.InFlight)
	park()
	b.SetLimits(Limits{InFlight: 3, Buffered: 1 << 40, Upstreams: 1})
	if n := greedy(own, InFlight); n != 3 {
		t.Errorf("%d of 3 requests are granted after the limit was lowered", n)
	}
}

// TestModelWhileParked compares random histories on a roomy budget with the model: parking changes no decision.
func TestModelWhileParked(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	parked := 0
	for range 30 {
		l := roomy
		l.InFlight += rnd.Int64N(500)
		l.Buffered += rnd.Int64N(1 << 26)
		l.Portion = rnd.Int64N(l.Buffered / 4)
		b := New(l)
		m := &model{limit: [...]int64{l.InFlight, l.Buffered, l.Upstreams}, client: map[string]int64{},
			account: map[string]int64{}}
		m.portion[Buffered] = l.Portion
		type grant struct {
			a               *Account
			client, account string
			r               Resource
			n               int64
		}
		var accounts, grants []grant
		for i := range 12 {
			a := b.Account(addr(i / 4))
			accounts = append(accounts, grant{a: a, client: a.addr.String(), account: fmt.Sprint(i)})
		}
		for step := range 3000 {
			if rnd.IntN(100) < 30+40*(step/500%2) && len(grants) > 0 { // it fills, and empties
				i := rnd.IntN(len(grants))
				g := grants[i]
				g.a.Release(g.r, g.n)
				m.add(g.r, g.client, g.account, -g.n)
				grants[i] = grants[len(grants)-1]
				grants = grants[:len(grants)-1]
				continue
			}
			g := accounts[rnd.IntN(len(accounts))]
			switch g.r, g.n = InFlight, 1; rnd.IntN(10) {
			case 0:
				g.n = 1 + rnd.Int64N(l.InFlight/4)
			case 1:
				g.r, g.n = Buffered, 1+rnd.Int64N(l.Buffered/4)
			case 2:
				g.r = Upstreams
			}
			got, want := g.a.Acquire(g.r, g.n), m.acquire(g.r, g.client, g.account, g.n)
			if got != want {
				t.Fatalf("%d of %v: %v, want %v", g.n, g.r, got, want)
			}
			if got {
				grants = append(grants, g)
			}
			for _, r := range Resources {
				if b.Used(r) != m.used[r] {
					t.Fatalf("%d of %d %v are used, want %d", b.Used(r), b.Limit(r), r, m.used[r])
				}
				if n := r.in(g.a.client.used(r)); n != m.client[fmt.Sprint(g.client, r)] {
					t.Fatalf("the client holds %d %v, want %d", n, r, m.client[fmt.Sprint(g.client, r)])
				}
			}
			if b.Used(InFlight) != InFlight.in(b.totals[wordMemory].used.Load()) {
				parked++
			}
		}
	}
	if parked == 0 {
		t.Error("nothing was ever parked: the test shows nothing")
	}
}

// TestConcurrentWhileParked: with places that are parked, taken over and given back on several processors there are
// never more granted than the limit, and nothing is lost.
func TestConcurrentWhileParked(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	b := New(roomy)
	var granted atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			a := b.Account(addr(i / 4))
			defer a.Close()
			for range 5000 {
				n := int64(1)
				if rnd.IntN(20) == 0 {
					n = 1 + rnd.Int64N(roomy.InFlight/4)
				}
				if !a.Acquire(InFlight, n) {
					continue
				}
				if now := granted.Add(n); now > roomy.InFlight {
					t.Errorf("%d of %d are granted", now, roomy.InFlight)
				}
				if rnd.IntN(4) == 0 {
					runtime.Gosched()
				}
				granted.Add(-n)
				a.Release(InFlight, n)
			}
		})
	}
	all.Wait()
	if b.Used(InFlight) != 0 || b.Used(Buffered) != 0 || len(b.clients.of) != 0 {
		t.Errorf("%d requests, %d bytes and %d clients are left", b.Used(InFlight), b.Used(Buffered), len(b.clients.of))
	}
	b.Own().giveBack()
	if n := b.totals[wordMemory].used.Load(); n != 0 {
		t.Errorf("%d units are left on the total when what was parked is given back", n)
	}
}
