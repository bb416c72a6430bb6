package http1

import (
	"cmp"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Slots bounds connections, over all servers that share it. When all slots are taken, a newcomer
// gets that of a connection on which nothing is under way:
//
//   - of one that has its last response and is only read from so that the client can read it;
//   - else of one that has sent nothing yet, or a part of a head, or of an idle one, whichever are
//     more. So a flood of connections that send nothing does not end the idle ones of others, and
//     idle ones do not keep newcomers out.
//
// Of each kind the client that holds most of them gives first, and of its connections the one that
// has waited longest. The oldest of all would be simpler, and would let one client that fills the
// slots with fresh connections end those of all others first. Behind a proxy that does not tell its
// clients apart the two are the same.
//
// Which connections may give way is not kept from request to request: that would cost a lock for
// each. They are looked for when slots have run out, many at a time.
type Slots struct {
	Cuts  *message.Cuts // counts connections that give way; nil counts nothing
	taken chan struct{}

	mu      sync.Mutex
	servers map[*Server]struct{}
	found   waiting
}

// waiting are the connections that may give way, by what they wait for. Of each list the last is
// the first to give way.
type waiting struct {
	at                       time.Time // when they were looked for
	lingering, heading, idle []candidate
	// How many there are of the kinds by now. The lists have a part of them: of those without a head
	// only such as have had headGrace.
	headings, idles int
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
	s.found = waiting{}
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
			s.Cuts.GaveWay()
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

const (
	candidatesFor = time.Second // how long those that were found are asked: others have begun to wait since
	candidatesMin = 64          // that are kept of a kind
	headGrace     = tickEvery   // to send something in, also where slots run out
)

// next returns the connection that is to give way.
func (s *Slots) next() (candidate, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.found
	if time.Since(w.at) > candidatesFor {
		return candidate{}, false
	}
	switch {
	case len(w.lingering) > 0:
		return pop(&w.lingering), true
	case len(w.heading) > 0 && (w.headings >= w.idles || len(w.idle) == 0):
		return pop(&w.heading), true // and the newcomer is one in its place
	case len(w.idle) > 0 && w.idles > w.headings:
		w.idles, w.headings = w.idles-1, w.headings+1
		return pop(&w.idle), true
	}
	return candidate{}, false
}

func pop(list *[]candidate) candidate {
	n := len(*list) - 1
	c := (*list)[n]
	(*list)[n] = candidate{}
	*list = (*list)[:n]
	return c
}

// look looks for connections that may give way, and keeps a part of them: what it costs is shared
// by as many newcomers.
func (s *Slots) look() {
	s.mu.Lock()
	servers := slices.Collect(maps.Keys(s.servers))
	s.mu.Unlock()
	w := waiting{at: time.Now()}
	for _, srv := range servers {
		srv.addWaiting(&w)
	}
	w.idles = len(w.idle)
	for _, list := range []*[]candidate{&w.lingering, &w.heading, &w.idle} {
		order(*list)
		keep := min(len(*list), max(candidatesMin, len(*list)/16))
		*list = slices.Clone((*list)[len(*list)-keep:])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = w
}

// candidate is a connection that may give way.
type candidate struct {
	conn   *conn
	client netip.Addr
	since  int64 // when it began to wait, in nanoseconds of the server's clock
	rank   int   // how many of its client have waited for less time
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
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.since, a.since))
	})
}

// addWaiting adds the connections of the server that may give way.
func (s *Server) addWaiting(w *waiting) {
	for _, c := range s.all() {
		client, engine := c.handedOverTo()
		found := candidate{conn: c, client: budget.ClientOf(client), since: c.waitsSince.Load()}
		switch c.state.Load() {
		case heading:
			w.headings++
			if found.since <= s.clock.Load()-int64(headGrace) {
				w.heading = append(w.heading, found)
			}
		case idle, parking:
			w.idle = append(w.idle, found)
		case lingering:
			w.lingering = append(w.lingering, found)
		case closing: // it has given way, as a rule, and a newcomer is to be in its place
			w.headings++
		case active:
			if engine == nil {
				continue
			}
			if found.since = engine.IdleSince(); found.since != 0 {
				w.idle = append(w.idle, found)
			}
		}
	}
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

// giveWay ends the connection if it has waited since then, and no request lies in its socket: where
// processor time is short, some time passes before that is read.
func (c *conn) giveWay(since int64) bool {
	_, engine := c.handedOverTo()
	if c.state.Load() != lingering && arrived(c.base) {
		return false
	}
	if engine != nil {
		return engine.GiveWay(since)
	}
	return c.waitsSince.Load() == since && c.closeWaiting(heading, idle, parking, lingering)
}

// closeWaiting has the connection's goroutine close the connection, if it is in one of the states.
func (c *conn) closeWaiting(states ...uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range states {
		if c.state.CompareAndSwap(s, closing) {
			c.base.SetDeadline(message.Past) // wakes it; fails only for a closed connection
			return true
		}
	}
	return false
}

// takeBack moves a connection that closeWaiting has closed to another state; false when it is none.
func (c *conn) takeBack(to uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted || !c.state.CompareAndSwap(closing, to) {
		return false
	}
	c.base.SetWriteDeadline(time.Time{}) // fails only for a closed connection
	c.writeUntil = 0
	c.setReadDeadline(time.Now().Add(c.srv.IdleTimeout))
	return true
}

// requestCame is called when the wait for a request has failed. True: a request has come just when
// the connection was to give way, and it is waited for again.
func (c *conn) requestCame(failure error) bool {
	return errors.Is(failure, os.ErrDeadlineExceeded) && c.state.Load() == closing && arrived(c.base) &&
		c.takeBack(idle)
}

// arrived reports whether there is something to read that nobody has read yet.
func arrived(nc net.Conn) bool {
	sc, isSocket := nc.(syscall.Conn)
	if !isSocket {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	err = raw.Control(func(fd uintptr) { n = unread(int(fd)) })
	return n > 0 && err == nil
}
