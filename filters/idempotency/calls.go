package idempotency

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/filters"
)

// Calls joins the duplicates of one process, as golang.org/x/sync/singleflight does: the first
// request with a key leads, the others wait for what it finds before any of them asks the store. It
// also owns the steps that are taken in the background when the store did not reply, and what the
// filters of all routes remember together. It outlives a reload. The zero value is not usable, see [NewCalls].
type Calls struct {
	shards *[callShards]callShard
	factor uint64 // odd, see hash

	keys   keyMemory
	owners owners

	background sync.WaitGroup
	mu         sync.Mutex      // of what follows
	steps      int             // in the background
	closed     bool            // no further background step begins
	ctx        context.Context // of the background steps
	cancel     context.CancelFunc
}

// callShards is a power of two.
const callShards = 1 << callShardBits

const callShardBits = 8

// callShard has a part of the calls, so that processors do not wait for each other: those of a hash are a chain, so
// that nothing is allocated for one. It is as long as a line of the caches, and what is used of it lies in one, though
// the first shard begins a word behind the beginning of a line, where the runtime keeps its own of such memory. As long
// as few calls are in flight the only chain is in it, so that a step takes no other line.
type callShard struct {
	mu     sync.Mutex
	n      int
	chains []*call // a power of two
	only   [1]*call
	_      [16]byte
}

const (
	callsAChain  = 2 // at most, on average
	chainsLeast  = 8 // where one is not enough
	chainBitsMax = 64 - callShardBits
)

// hash returns a hash of a key. The end of its name is a digest of what makes it another key; the fingerprint may be
// that of a thousand requests, and the beginning of the name is the owner's. It is multiplied by what no client knows,
// who could choose keys otherwise that are all on one chain (Dietzfelbinger et al., "A Reliable Randomized Algorithm
// for the Closest-Pair Problem", 1997).
func (cs *Calls) hash(key *callKey) uint64 {
	return binary.LittleEndian.Uint64(key.id[IDLength-8:]) * cs.factor
}

// shard returns that of a hash.
func (cs *Calls) shard(hash uint64) *callShard { return &cs.shards[hash>>chainBitsMax] }

// chain returns where the calls of a hash are.
func (s *callShard) chain(hash uint64) **call {
	return &s.chains[hash<<callShardBits>>(64-bits.TrailingZeros(uint(len(s.chains))))]
}

func (s *callShard) addLocked(c *call) {
	if s.n++; s.n > callsAChain*len(s.chains) {
		old := s.chains
		s.chains = make([]*call, max(chainsLeast, 2*len(old)))
		for _, c := range old {
			for c != nil {
				at, next := s.chain(c.hash), c.next
				c.next, *at = *at, c
				c = next
			}
		}
		clear(old) // only stays, and would keep a call, and with it a route, for good
	}
	at := s.chain(c.hash)
	c.next, *at = *at, c
}

func (s *callShard) removeLocked(c *call) {
	at := s.chain(c.hash)
	for *at != c {
		at = &(*at).next
	}
	*at, c.next = c.next, nil
	s.n--
}

// callKey has the fingerprint in it, so that a request is only ever joined to one like itself;
// which of two different requests is right about a key the store decides. It is all bytes, and
// refers to no request's buffers.
type callKey struct {
	id          name
	fingerprint [32]byte
}

// call is an in-flight request of this process that others may join.
type call struct {
	key       callKey
	hash      uint64
	next      *call         // on its chain; the shard's mu guards it
	done      chan struct{} // closed at the end; nil as long as nobody has joined, which is the rule
	asked     chan struct{} // closed when it is executing; nil as done is; the shard's mu guards that it is closed once
	told      bool          // it is closed
	executing atomic.Bool   // the store has told how the key stands, and it takes longer
	joined    atomic.Bool   // somebody has joined
	result    result        // to be read when it is done
}

// result is what the leader found out, for those who joined.
type result struct {
	again    bool           // nothing final: the others ask the store themselves, if they still have time
	response *Response      // of a transaction that still runs it is not recorded
	lent     bool           // the response lies in buffers of the leader's exchange
	reply    *filters.Reply // the refusal that all of them get
}

// NewCalls returns an empty table.
func NewCalls() *Calls {
	cs := &Calls{
		factor: rand.Uint64() | 1, owners: owners{seed: maphash.MakeSeed()}, shards: new([callShards]callShard),
	}
	for i := range cs.shards {
		s := &cs.shards[i]
		s.chains = s.only[:]
	}
	cs.ctx, cs.cancel = context.WithCancel(context.Background())
	return cs
}

// Close ends the background steps and waits for them. It is called when no exchange runs any more
// and before the store is closed.
func (cs *Calls) Close() {
	cs.mu.Lock()
	cs.closed = true
	cs.mu.Unlock()
	cs.cancel()
	cs.background.Wait()
}

// backgroundMax is how many background steps run at once: some 50 MB. A store that is gone for long
// under load must not take the memory.
const backgroundMax = 10_000

// inBackground begins a background step. False: the table is closed, or too many run. Then its
// record's lease decides.
func (cs *Calls) inBackground(step func()) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed || cs.steps >= backgroundMax {
		return false
	}
	cs.steps++
	cs.background.Go(func() {
		defer func() {
			cs.mu.Lock()
			cs.steps--
			cs.mu.Unlock()
		}()
		step()
	})
	return true
}

// join joins the in-flight call for the key, or returns the handle of a new one that leads. A
// leader calls finish exactly once.
func (cs *Calls) join(key *callKey) (joined *call, lead *Handle) {
	hash := cs.hash(key)
	s := cs.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := *s.chain(hash); c != nil; c = c.next {
		if c.hash != hash || c.key != *key {
			continue
		}
		if c.done == nil {
			c.done, c.asked = make(chan struct{}), make(chan struct{})
			c.joined.Store(true)
			c.tellLocked()
		}
		return c, nil
	}
	lead = newHandle()
	lead.leads = true
	lead.call.key, lead.call.hash = *key, hash
	s.addLocked(&lead.call)
	return nil, lead
}

// finish ends an in-flight call and gives the result to those who joined it. joined: there are some, who read it from
// the call.
func (cs *Calls) finish(c *call, r *result) (joined bool) {
	s := cs.shard(c.hash)
	s.mu.Lock()
	s.removeLocked(c)
	s.mu.Unlock()
	if c.done == nil { // and nobody can join any more
		return false
	}
	c.result = *r
	if r.lent {
		c.result.response, c.result.lent = r.response.clone(), false
	}
	close(c.done)
	return true
}

// executing notes that the request is under way, here or elsewhere: from now on those who have
// joined wait as long as their route says and no longer. Mostly nobody has, and then it takes no lock: who joins from
// now on sees it.
func (cs *Calls) executing(c *call) {
	c.executing.Store(true)
	if !c.joined.Load() {
		return
	}
	s := cs.shard(c.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.tellLocked()
}

// tellLocked tells those who have joined that it is executing, once.
func (c *call) tellLocked() {
	if c.executing.Load() && !c.told {
		c.told = true
		close(c.asked)
	}
}

// wait returns true when the call is done, false when the budget is spent. It is not spent while
// the leader still asks the store: it is not known then whether anything runs, and the store has
// its own time limit.
func (c *call) wait(w *waitBudget) bool {
	select {
	case <-c.done:
		return true
	case <-w.context().Done():
	}
	select {
	case <-c.done:
		return true
	case <-c.asked:
	case <-w.x.Context().Done():
	}
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// InFlight returns how many requests are under way in this process.
func (cs *Calls) InFlight() int {
	n := 0
	for i := range cs.shards {
		s := &cs.shards[i]
		s.mu.Lock()
		n += s.n
		s.mu.Unlock()
	}
	return n
}
