package idempotency

import (
	"context"
	"hash/maphash"
	"sync"

	"github.com/sluice-gateway/sluice/filters"
)

// Calls joins the duplicates of one process, as golang.org/x/sync/singleflight does: the first
// request with a key leads, the others wait for what it finds before any of them asks the store. It
// also owns the steps that are taken in the background when the store did not reply, and what the
// filters of all routes remember together. It outlives a reload. The zero value is not usable, see [NewCalls].
type Calls struct {
	shards [callShards]callShard

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
const callShards = 16

// callShard has a part of the calls, so that processors do not wait for each other.
type callShard struct {
	mu       sync.Mutex
	inFlight map[callKey]*call
	_        [64]byte // so that no two share a line
}

// shard returns that of a key. The end of its name is a digest of what makes it another key; the fingerprint may be
// that of a thousand requests, and the beginning of the name is the owner's.
func (cs *Calls) shard(key *callKey) *callShard {
	return &cs.shards[(key.id[IDLength-2]+key.id[IDLength-1])%callShards]
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
	done      chan struct{} // closed at the end; nil as long as nobody has joined, which is the rule
	asked     chan struct{} // closed when it is executing; nil as done is
	executing bool          // the store has told how the key stands, and it takes longer; the shard's mu guards it
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
	cs := &Calls{owners: owners{seed: maphash.MakeSeed()}}
	for i := range cs.shards {
		cs.shards[i].inFlight = map[callKey]*call{}
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
func (cs *Calls) join(key callKey) (joined *call, lead *Handle) {
	s := cs.shard(&key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.inFlight[key]; c != nil {
		if c.done == nil {
			c.done, c.asked = make(chan struct{}), make(chan struct{})
			if c.executing {
				close(c.asked)
			}
		}
		return c, nil
	}
	lead = &Handle{leads: true, call: call{key: key}}
	lead.id = filters.Alias(lead.call.key.id[:])
	s.inFlight[key] = &lead.call
	return nil, lead
}

// finish ends an in-flight call and gives the result to those who joined it.
func (cs *Calls) finish(c *call, r result) {
	s := cs.shard(&c.key)
	s.mu.Lock()
	delete(s.inFlight, c.key)
	s.mu.Unlock()
	if c.done == nil { // and nobody can join any more
		return
	}
	if r.lent {
		r.response, r.lent = r.response.clone(), false
	}
	c.result = r
	close(c.done)
}

// executing notes that the request is under way, here or elsewhere: from now on those who have
// joined wait as long as their route says and no longer.
func (cs *Calls) executing(c *call) {
	s := cs.shard(&c.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.executing {
		return
	}
	c.executing = true
	if c.asked != nil {
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
		n += len(s.inFlight)
		s.mu.Unlock()
	}
	return n
}
