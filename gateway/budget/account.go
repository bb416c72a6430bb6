package budget

import (
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
)

// holding is how much of each resource is held.
type holding [words]atomic.Int64

func (h *holding) empty() bool {
	for i := range h {
		if h[i].Load() != 0 {
			return false
		}
	}
	return true
}

// client is what all accounts of one address hold together.
type client struct {
	held     holding
	accounts int            // that are not over; under the lock of clients
	_        [64 - 3*8]byte // a line of its own: processors serve different clients
}

// clients has those that have an account which is not over.
type clients struct {
	mu sync.Mutex
	of map[netip.Addr]*client
}

// Account is what one connection of a client holds. Its methods may be called by several goroutines
// at a time, also after Close: what is held then is released by and by. A nil *Account bounds
// nothing.
type Account struct {
	budget *Budget
	client *client // nil for the gateway's own
	addr   netip.Addr
	held   holding
	closed atomic.Bool
	over   atomic.Bool // closed, and holds nothing: its client does not count it any more
}

// network6 is how much of an IPv6 address names the client: one machine has all addresses of its
// network.
const network6 = 64

// ClientOf returns the address that stands for a client: of IPv6 that of its network.
func ClientOf(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.Prefix(network6); err == nil { // without the zone
			return p.Addr()
		}
	}
	return a
}

// Account returns a new account of the client at that address, for one connection. It is closed
// when the connection has ended.
func (b *Budget) Account(addr netip.Addr) *Account {
	if b == nil {
		return nil
	}
	a := &Account{budget: b, addr: ClientOf(addr)}
	b.clients.mu.Lock()
	defer b.clients.mu.Unlock()
	c := b.clients.of[a.addr]
	if c == nil {
		c = &client{}
		b.clients.of[a.addr] = c
	}
	c.accounts++
	a.client = c
	return a
}

// Close ends the account as soon as it holds nothing.
func (a *Account) Close() {
	if a == nil || a.client == nil {
		return
	}
	a.closed.Store(true)
	a.endIfEmpty()
}

// endIfEmpty is called after Close, and after each Release behind it: whichever comes last finds
// both that it is closed and that it is empty.
func (a *Account) endIfEmpty() {
	if !a.held.empty() || !a.over.CompareAndSwap(false, true) {
		return
	}
	s := &a.budget.clients
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.client.accounts--; a.client.accounts == 0 {
		delete(s.of, a.addr)
	}
}

// Acquire takes n units of a resource. False: they would be more than there are, or more than this
// connection's or its client's share. Nothing has been taken then.
func (a *Account) Acquire(r Resource, n int64) bool {
	if a == nil || a.acquire(r, n) {
		return true
	}
	a.budget.refused[r].Add(1)
	return false
}

func (a *Account) acquire(r Resource, n int64) bool {
	b, w, units := a.budget, r.word(), r.units(n)
	if a.client == nil {
		if _, ok := b.acquire(r, n); !ok {
			return false
		}
		a.held[w].Add(units)
		return true
	}
	// First without a trace: who is beyond its share must not take, for a moment, what others ask for.
	if !a.within(r, n, b.totals[w].used.Load()+units, a.client.held[w].Load()+units, a.held[w].Load()+units) {
		return false
	}
	used, ok := b.acquire(r, n)
	if !ok {
		return false
	}
	if !a.within(r, n, used, a.client.held[w].Add(units), a.held[w].Add(units)) { // others of this client were faster
		a.Release(r, n)
		return false
	}
	return true
}

// within reports whether n more units are within the shares, where the words of the total, the client
// and the account are those with them.
func (a *Account) within(r Resource, n, used, client, account int64) bool {
	share, little := int64(clientShare), n
	if r == Buffered {
		little = littleBytes
	}
	if r.in(account) <= little { // another connection at the same address must not have that refused
		share = littleShare
	}
	return a.withinOf(r, n, share, used, client, account) &&
		(r != InFlight || a.withinOf(Buffered, n*RequestBytes, share, used, client, account))
}

func (a *Account) withinOf(r Resource, n, share, used, client, account int64) bool {
	limit := a.budget.Limit(r)
	free := limit - r.in(used)
	if held := r.in(client); held > n && (held > share*free || held > r.few() && free < limit/reserve) {
		return false
	}
	held := r.in(account)
	if held <= n || held <= free/accountShare {
		return true
	}
	return r == Buffered && held <= a.budget.portion.Load()
}

// Release gives n units back that were acquired.
func (a *Account) Release(r Resource, n int64) {
	if a == nil {
		return
	}
	w, units := r.word(), r.units(n)
	a.budget.totals[w].used.Add(-units)
	if a.client != nil {
		a.client.held[w].Add(-units)
	}
	a.held[w].Add(-units)
	if a.closed.Load() {
		a.endIfEmpty()
	}
}

// Room returns about how much more of a resource the account could acquire now.
func (a *Account) Room(r Resource) int64 {
	if a == nil {
		return math.MaxInt64
	}
	free := a.budget.Limit(r) - a.budget.Used(r)
	if a.client == nil {
		return max(free, 0)
	}
	held := a.Held(r)
	of := r.in(a.client.held[r.word()].Load())
	if of > r.few() {
		free -= a.budget.Limit(r) / reserve
	}
	room := (free - accountShare*held) / (accountShare + 1)
	if r == Buffered {
		room = max(room, a.budget.portion.Load()-held)
	}
	return max(min(room, (clientShare*free-of)/(clientShare+1)), 0)
}

// Held returns how much of a resource the account holds.
func (a *Account) Held(r Resource) int64 {
	if a == nil {
		return 0
	}
	return r.in(a.held[r.word()].Load())
}
