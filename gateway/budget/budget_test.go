package budget

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
)

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

// greedy acquires single units until it is refused.
func greedy(a *Account, r Resource) (n int64) {
	for a.Acquire(r, 1) {
		n++
	}
	return n
}

func TestShares(t *testing.T) {
	b := New(Limits{InFlight: 10_000, Buffered: 1 << 40, Upstreams: 100})
	one := b.Account(addr(1))
	if n := greedy(one, InFlight); n != 2000 {
		t.Errorf("one connection gets %d of 10000, want a fifth", n)
	}
	n := one.Held(InFlight)
	for range 50 {
		n += greedy(b.Account(addr(1)), InFlight)
	}
	if n < 7900 || n > 8050 {
		t.Errorf("one client gets %d of 10000, want four fifths and the first of each connection", n)
	}
	other := b.Account(addr(2))
	if n := greedy(other, InFlight); n < 300 {
		t.Errorf("beside a greedy client another one's connection gets %d", n)
	}
	if n := greedy(b.Account(addr(1)), InFlight); n != 1 {
		t.Errorf("another connection of the greedy client gets %d more when another one has come, want its first", n)
	}
	b = New(Limits{InFlight: 1, Buffered: 1000, Upstreams: 100, Portion: 300})
	one = b.Account(addr(1))
	if !one.Acquire(Buffered, 250) || !one.Acquire(Buffered, 50) {
		t.Error("a connection is refused its portion")
	}
	if one.Acquire(Buffered, 1) {
		t.Error("a connection gets more than a quarter of what is free and than its portion")
	}
	if got := b.Refused(Buffered); got != 1 {
		t.Errorf("%d refusals are counted, want 1", got)
	}
}

// TestClientsLeaveSomething: whatever n clients do, the next one is served.
func TestClientsLeaveSomething(t *testing.T) {
	for _, n := range []int{1, 2, 5, 20} {
		const limit = 1 << 20
		b := New(Limits{InFlight: limit, Buffered: 1 << 42, Upstreams: 1})
		var accounts []*Account
		for i := range n {
			for range 40 {
				accounts = append(accounts, b.Account(addr(i)))
			}
		}
		for took := true; took; { // in turns, until none gets any more
			took = false
			for _, a := range accounts {
				took = a.Acquire(InFlight, 64) || took
			}
		}
		free := limit - b.Used(InFlight)
		if want := int64(limit / (4*n + 1)); free < want-want/20 {
			t.Errorf("%d greedy clients leave %d free, want about %d", n, free, want)
		}
		if newcomer := b.Account(addr(1000)); !newcomer.Acquire(InFlight, free/8) {
			t.Errorf("beside %d greedy clients a newcomer is refused an eighth of what is free", n)
		}
		ofClient := func(a *Account) int64 { return InFlight.in(a.client.held[wordMemory].Load()) }
		first, least := ofClient(accounts[0]), ofClient(accounts[len(accounts)-1])
		if n > 1 && least < first*3/4 {
			t.Errorf("of %d greedy clients the first gets %d and the last %d", n, first, least)
		}
	}
}

// TestSameAddress: beside a client that takes all it can with a few connections, another connection
// at its address is served, in turns, of requests and of connections to services.
func TestSameAddress(t *testing.T) {
	b := New(Limits{InFlight: 1000, Buffered: 256 << 20, Upstreams: 400})
	for range 40 {
		a := b.Account(addr(1))
		greedy(a, InFlight)
		greedy(a, Upstreams)
		for a.Acquire(Buffered, 1<<20) {
		}
	}
	bystander := b.Account(addr(1))
	for range 100 {
		if !bystander.Acquire(InFlight, 1) || !bystander.Acquire(Upstreams, 1) || !bystander.Acquire(Buffered, 64<<10) {
			t.Fatal("refused")
		}
		bystander.Release(Buffered, 64<<10)
		bystander.Release(InFlight, 1)
		bystander.Release(Upstreams, 1)
	}
}

func TestFirstUnitIsGrantedWhileAnyIsFree(t *testing.T) {
	b := New(Limits{InFlight: 3, Buffered: 1 << 40, Upstreams: 1})
	for i := range 3 {
		if !b.Account(addr(i)).Acquire(InFlight, 1) {
			t.Errorf("client %d of 3 is refused the first of 3 units", i)
		}
	}
	if b.Account(addr(9)).Acquire(InFlight, 1) || b.Own().Acquire(InFlight, 1) {
		t.Error("more is granted than there is")
	}
}

// TestRequestsTakeMemory: a request is refused when there is no room for what it takes itself, and
// gives that back.
func TestRequestsTakeMemory(t *testing.T) {
	b := New(Limits{InFlight: 1000, Buffered: 10*RequestBytes + 5, Upstreams: 1})
	own := b.Own()
	if n := greedy(own, InFlight); n != 10 {
		t.Errorf("%d requests fit into the memory of 10", n)
	}
	if own.Acquire(Buffered, 6) || !own.Acquire(Buffered, 5) {
		t.Error("what is left is not what requests have not taken")
	}
	if got := b.Used(InFlight); got != 10 {
		t.Errorf("%d requests are counted, want 10", got)
	}
	own.Release(InFlight, 10)
	if b.Used(Buffered) != 5 || b.Used(InFlight) != 0 {
		t.Errorf("%d bytes and %d requests are left", b.Used(Buffered), b.Used(InFlight))
	}
	if b.Limit(Buffered) != 10*RequestBytes+5 {
		t.Error("the limit has changed")
	}
}

func TestOwnIsBoundedByTheLimitOnly(t *testing.T) {
	b := New(Limits{InFlight: 10, Buffered: 1 << 40, Upstreams: 1})
	if n := greedy(b.Own(), InFlight); n != 10 {
		t.Errorf("the gateway's own account gets %d of 10", n)
	}
	b.Own().Release(InFlight, 10)
	if b.Used(InFlight) != 0 {
		t.Error("what the own account released is not free")
	}
}

// TestClientIsItsNetwork: one machine has all addresses of its IPv6 network, and an IPv4 address
// may be written in two ways.
func TestClientIsItsNetwork(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
	} {
		b := New(Limits{InFlight: 1, Buffered: 1 << 40, Upstreams: 1})
		x, y := b.Account(netip.MustParseAddr(tt.a)), b.Account(netip.MustParseAddr(tt.b))
		if got := x.client == y.client; got != tt.same {
			t.Errorf("%s and %s are one client: %v, want %v", tt.a, tt.b, got, tt.same)
		}
	}
	if New(Limits{}).Account(netip.Addr{}) == nil {
		t.Error("a client without an address has no account")
	}
}

// TestWhatIsHeldOutlivesItsConnection: a client that leaves and comes again is the same client as
// long as something of it goes on.
func TestWhatIsHeldOutlivesItsConnection(t *testing.T) {
	b := New(Limits{InFlight: 100, Buffered: 1 << 40, Upstreams: 1})
	left := 0
	var detached []*Account
	for { // each connection leaves one request behind
		a := b.Account(addr(1))
		if !a.Acquire(InFlight, 1) {
			a.Close()
			break
		}
		a.Close()
		a.Close() // of no effect
		detached = append(detached, a)
		left++
	}
	if left != 94 { // sixteen seventeenths: each is its connection's first
		t.Errorf("one client gets %d of 100 by leaving, want 94", left)
	}
	for _, a := range detached {
		a.Release(InFlight, 1)
	}
	if b.Used(InFlight) != 0 || len(b.clients.of) != 0 {
		t.Errorf("%d units and %d clients are left", b.Used(InFlight), len(b.clients.of))
	}
}

func TestLimitsChange(t *testing.T) {
	b := New(Limits{InFlight: 10, Buffered: 1 << 40, Upstreams: 1})
	own := b.Own()
	own.Acquire(InFlight, 10)
	b.SetLimits(Limits{InFlight: 5, Buffered: 1 << 40, Upstreams: 1})
	own.Release(InFlight, 5)
	if own.Acquire(InFlight, 1) {
		t.Error("a unit is granted beyond the lower limit")
	}
	own.Release(InFlight, 1)
	if !own.Acquire(InFlight, 1) {
		t.Error("a unit below the lower limit is refused")
	}
	b.SetLimits(Limits{InFlight: 6, Buffered: 1 << 40, Upstreams: 1})
	if !own.Acquire(InFlight, 1) {
		t.Error("a unit below the higher limit is refused")
	}
}

func TestNilBoundsNothing(t *testing.T) {
	var b *Budget
	a := b.Account(addr(1))
	if !a.Acquire(Buffered, 1<<40) || !b.Own().Acquire(InFlight, 1<<40) {
		t.Error("what is not bounded is refused")
	}
	a.Release(Buffered, 1<<40)
	a.Close()
}

// model is the rule as doc.go states it, without concurrency.
type model struct {
	limit, portion  [resources]int64
	used            [resources]int64
	client, account map[string]int64 // by name and resource
}

func (m *model) acquire(r Resource, client, account string, n int64) bool {
	share := int64(4)
	if held := m.account[fmt.Sprint(account, r)]; held == 0 && r != Buffered || r == Buffered && held+n <= 128<<10 {
		share = 16
	}
	if !m.fits(r, share, client, account, n) ||
		r == InFlight && !m.fits(Buffered, share, client, account, n*RequestBytes) {
		return false
	}
	m.add(r, client, account, n)
	return true
}

func (m *model) fits(r Resource, share int64, client, account string, n int64) bool {
	free := m.limit[r] - m.used[r] - n
	c, a := fmt.Sprint(client, r), fmt.Sprint(account, r)
	few := int64(4)
	if r == Buffered {
		few = 128 << 10
	}
	switch {
	case free < 0:
		return false
	case m.client[c] > 0 && m.client[c]+n > few && free < m.limit[r]/32:
		return false
	case m.client[c] > 0 && m.client[c]+n > share*free:
		return false
	case m.account[a] > 0 && m.account[a]+n > free/4 && m.account[a]+n > m.portion[r]:
		return false
	}
	return true
}

func (m *model) add(r Resource, client, account string, n int64) {
	m.used[r] += n
	m.client[fmt.Sprint(client, r)] += n
	m.account[fmt.Sprint(account, r)] += n
	if r == InFlight {
		m.add(Buffered, client, account, n*RequestBytes)
	}
}

// TestModel compares random histories with the model.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		l := Limits{InFlight: 1 + rnd.Int64N(200), Buffered: 1 + rnd.Int64N(8<<20), Upstreams: 1 + rnd.Int64N(50)}
		l.Portion = rnd.Int64N(l.Buffered)
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
		var accounts []grant
		for i := range 12 {
			a := b.Account(addr(i / 3))
			accounts = append(accounts, grant{a: a, client: a.addr.String(), account: fmt.Sprint(i)})
		}
		var grants []grant
		for range 2000 {
			if i := rnd.IntN(100); i < 45 && len(grants) > 0 {
				i := rnd.IntN(len(grants))
				g := grants[i]
				g.a.Release(g.r, g.n)
				m.add(g.r, g.client, g.account, -g.n)
				grants[i] = grants[len(grants)-1]
				grants = grants[:len(grants)-1]
				continue
			}
			g := accounts[rnd.IntN(len(accounts))]
			if g.r, g.n = Resource(rnd.IntN(int(resources))), 1; g.r == Buffered {
				g.n = 1 + rnd.Int64N(l.Buffered/8+1)
			}
			got, want := g.a.Acquire(g.r, g.n), m.acquire(g.r, g.client, g.account, g.n)
			if got != want {
				t.Fatalf("%d of %v: %v, want %v", g.n, g.r, got, want)
			}
			if got {
				grants = append(grants, g)
			}
			if b.Used(g.r) != m.used[g.r] || b.Used(g.r) > b.Limit(g.r) {
				t.Fatalf("%d of %d %v are used, want %d", b.Used(g.r), b.Limit(g.r), g.r, m.used[g.r])
			}
		}
		for _, g := range grants {
			g.a.Release(g.r, g.n)
		}
		for _, g := range accounts {
			g.a.Close()
		}
		if len(b.clients.of) != 0 {
			t.Fatalf("%d clients are left", len(b.clients.of))
		}
	}
}

// TestConcurrent: what is granted to all is never more than the limit, and nothing is lost.
func TestConcurrent(t *testing.T) {
	const limit = 1000
	b := New(Limits{InFlight: limit, Buffered: limit, Upstreams: limit, Portion: 10})
	var granted atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for range 300 {
				a := b.Account(addr(i / 2))
				var held []int64
				for range 60 {
					if n := 1 + rnd.Int64N(60); a.Acquire(Buffered, n) {
						if now := granted.Add(n); now > limit {
							t.Errorf("%d of %d are granted", now, limit)
						}
						held = append(held, n)
					}
					if len(held) > 0 && rnd.IntN(3) == 0 {
						granted.Add(-held[0])
						a.Release(Buffered, held[0])
						held = held[1:]
					}
				}
				done := make(chan struct{})
				go func() { // what goes on without the client
					defer close(done)
					for _, n := range held {
						granted.Add(-n)
						a.Release(Buffered, n)
					}
				}()
				a.Close()
				<-done
			}
		})
	}
	wg.Wait()
	if b.Used(Buffered) != 0 || len(b.clients.of) != 0 {
		t.Errorf("%d units and %d clients are left", b.Used(Buffered), len(b.clients.of))
	}
}

func TestAllocatesNothing(t *testing.T) {
	b := New(Limits{InFlight: 10, Buffered: 1 << 20, Upstreams: 10})
	a := b.Account(addr(1))
	if n := testing.AllocsPerRun(100, func() {
		if a.Acquire(InFlight, 1) {
			a.Release(InFlight, 1)
		}
		a.Acquire(Buffered, 100)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAcquire(b *testing.B) {
	budget := New(Limits{InFlight: 1 << 19, Buffered: 1 << 42, Upstreams: 1})
	b.RunParallel(func(pb *testing.PB) {
		a := budget.Account(addr(1))
		for pb.Next() {
			a.Acquire(InFlight, 1)
			a.Release(InFlight, 1)
		}
	})
}

// TestReserve: a hundred clients that take what they can by many connections leave enough for the
// next one to be served.
func TestReserve(t *testing.T) {
	b := New(Limits{InFlight: 10_000, Buffered: 32 << 20, Upstreams: 1})
	for greedy := true; greedy; {
		greedy = false
		for i := range 100 {
			greedy = b.Account(addr(i)).Acquire(Buffered, 64<<10) || greedy
		}
	}
	next := b.Account(addr(200))
	for range 4 {
		if !next.Acquire(InFlight, 1) {
			t.Fatalf("the next client gets no request served, with %d bytes left", b.Limit(Buffered)-b.Used(Buffered))
		}
	}
}
