package http1

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// Slots bounds connections, over all servers that share it. When all slots are taken, a newcomer
// gets that of a connection on which nothing is under way. In this order:
//
//   - one that has its last response and is only read from so that the client can read it;
//   - else an idle one, one that has sent nothing yet, or a part of a head. The client that holds
//     most of them gives first, and of its connections the one that has waited longest.
//
// The oldest of all would be simpler, and would let one client that fills all slots with fresh
// connections end those of all others first. Behind a proxy that does not tell its clients apart
// the two are the same.
//
// Which connections may give way is not kept from request to request: that would cost a lock for
// each. They are looked for when slots have run out, many at a time.
type Slots struct {
	taken chan struct{}

	mu         sync.Mutex
	servers    map[*Server]struct{}
	candidates []candidate // the last is the first to give way
	found      time.Time   // when they were looked for
}

// NewSlots makes a bound of n connections.
func NewSlots(n int) *Slots {
	return &Slots{taken: make(chan struct{}, n), servers: map[*Server]struct{}{}}
}

func (s *Slots) add(srv *Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.servers[srv] = struct{}{}
}

func (s *Slots) remove(srv *Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.servers, srv)
	s.candidates = nil
}

// acquire takes a slot; false when stop is closed first.
func (s *Slots) acquire(stop <-chan struct{}) bool {
	select {
	case s.taken <- struct{}{}:
		return true
	default:
	}
	again := time.NewTicker(tickEvery)
	defer again.Stop()
	for {
		s.giveWay()
		select {
		case s.taken <- struct{}{}:
			return true
		case <-stop:
			return false
		case <-again.C:
		}
	}
}

func (s *Slots) release() { <-s.taken }

// giveWay ends one connection on which nothing is under way, where there is one.
func (s *Slots) giveWay() {
	for looked := false; ; {
		c, ok := s.next()
		switch {
		case ok && c.conn.giveWay(c.since):
			return
		case ok:
		case looked:
			return
		default:
			looked = true
			s.look()
		}
	}
}

// candidatesFor is how long those that were found are asked: others may have become idle since.
const candidatesFor = time.Second

func (s *Slots) next() (candidate, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.candidates)
	if n == 0 || time.Since(s.found) > candidatesFor {
		return candidate{}, false
	}
	c := s.candidates[n-1]
	s.candidates[n-1] = candidate{}
	s.candidates = s.candidates[:n-1]
	return c, true
}

// look looks for connections that may give way, and keeps a part of them: what it costs is shared
// by as many newcomers.
func (s *Slots) look() {
	s.mu.Lock()
	servers := slices.Collect(maps.Keys(s.servers))
	s.mu.Unlock()
	var all []candidate
	for _, srv := range servers {
		all = srv.appendWaiting(all)
	}
	order(all)
	keep := min(len(all), max(candidatesMin, len(all)/16))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.candidates = slices.Clone(all[len(all)-keep:])
	s.found = time.Now()
}

const candidatesMin = 64

// candidate is a connection that may give way.
type candidate struct {
	conn    *conn
	client  netip.Addr
	since   int64 // when it began to wait, in nanoseconds of the server's clock
	lingers bool
	rank    int // how many of its client have waited for less time
}

// order sorts them so that the last is the first to give way.
func order(list []candidate) {
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(a.client.Compare(b.client), cmp.Compare(b.since, a.since))
	})
	for i := range list {
		if i > 0 && list[i].client == list[i-1].client {
			list[i].rank = list[i-1].rank + 1
		}
	}
	slices.SortFunc(list, func(a, b candidate) int {
		if a.lingers != b.lingers {
			if b.lingers {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.since, a.since))
	})
}

// appendWaiting appends the connections of the server that may give way.
func (s *Server) appendWaiting(list []candidate) []candidate {
	for _, c := range s.all() {
		if w := c.waiting(); w.since != 0 {
			list = append(list, w)
		}
	}
	return list
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// waiting returns since when the connection waits; since is 0 when something is under way on it.
func (c *conn) waiting() candidate {
	client, engine := c.handedOverTo()
	w := candidate{conn: c, client: clientOf(client)}
	switch c.state.Load() {
	case heading, idle, parking:
		w.since = c.waitsSince.Load()
	case lingering:
		w.since, w.lingers = c.waitsSince.Load(), true
	case active:
		if engine != nil {
			w.since = engine.IdleSince()
		}
	}
	return w
}

// handedOverTo returns the client's address, and what serves the connection since it was handed
// over: nil when it was not.
func (c *conn) handedOverTo() (client netip.Addr, engine message.Waiting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handedOver != nil {
		engine = c.handedOver.Waiting()
	}
	return c.client, engine
}

// clientOf returns the address that names a client: one machine has all addresses of an IPv6
// network.
func clientOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// giveWay ends the connection if it has waited since then.
func (c *conn) giveWay(since int64) bool {
	if _, engine := c.handedOverTo(); engine != nil {
		return engine.GiveWay(since)
	}
	return c.waitsSince.Load() == since && c.closeWaiting(heading, idle, parking, lingering)
}

// closeWaiting has the connection's goroutine close the connection, if it is in one of the states.
func (c *conn) closeWaiting(states ...uint32) bool {
	for _, s := range states {
		if c.state.CompareAndSwap(s, closing) {
			c.base.SetDeadline(message.Past) // wakes it; fails only for a closed connection
			return true
		}
	}
	return false
}
