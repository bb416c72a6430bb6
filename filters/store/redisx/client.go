package redisx

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Client runs scripts on one Redis, or on a Redis Cluster. Calls that are made at the same moment
// share their round trips, over all stores that share the client. Make it with [Open] and end it
// with [Client.Close]. It is safe for concurrent use.
type Client struct {
	universal redis.UniversalClient
	cluster   *redis.ClusterClient // nil without one
	timeout   time.Duration
	epoch     atomic.Uint64

	sockets *sockets

	whole    *masterBatchers // without a cluster
	batchers sync.Map        // of a cluster: *redis.Client, the client of a master, to *masterBatchers
}

// Open makes a client. It connects when it is first used.
func Open(o Options) *Client {
	s := newSockets(&o)
	u := o.universal()
	u.Dialer = s.open
	c := &Client{universal: redis.NewUniversalClient(u), timeout: o.Timeout, sockets: s}
	if cluster, ok := c.universal.(*redis.ClusterClient); ok {
		c.cluster = cluster
	} else {
		c.whole = newMasterBatchers(c.universal.(lender), s)
	}
	return c
}

// Close closes the connections.
func (c *Client) Close() error { return c.universal.Close() }

// Epoch returns a number that goes up when a [Watch] of the client finds that a master was replaced or restarted, so
// that acknowledged writes may be lost.
func (c *Client) Epoch() uint64 { return c.epoch.Load() }

// Timeout bounds each call.
func (c *Client) Timeout() time.Duration { return c.timeout }

// Universal returns the library's client, for commands that are not worth a batch. It repeats none.
func (c *Client) Universal() redis.UniversalClient { return c.universal }

// EachMaster calls do for every server that holds keys, at the same time in a cluster, and returns
// the first error.
func (c *Client) EachMaster(ctx context.Context, do func(ctx context.Context, master redis.Cmdable) error) error {
	if c.cluster == nil {
		return do(ctx, c.universal)
	}
	each := func(ctx context.Context, master *redis.Client) error { return do(ctx, master) }
	return c.cluster.ForEachMaster(ctx, each)
}

// Run runs a script on the first keys keys of the call, 1 or 2 that lie in one slot, and frees the
// call. It returns at the earlier of ctx's deadline and the client's timeout. An error means that
// the script may or may not have run, unless [NeverSent] or Redis's own error says more. It is sent
// again only where Redis says that it has not run it.
//
// While a slot of the cluster moves, neither of its two nodes takes a script on two keys unless it
// has both. Such a script is tried with its first key alone then, and replies [NeedsAllKeys] if
// that is not enough.
func (c *Client) Run(ctx context.Context, sc *Script, call *Call, keys int) (string, error) {
	defer call.Free()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	call.began = time.Now()
	call.deadline = call.began.Add(c.timeout)
	call.hurried = false
	if at, ok := ctx.Deadline(); ok && at.Before(call.deadline) {
		call.hurried = call.deadline.Sub(at) > c.timeout/2
		call.deadline = at
	}
	call.complete(sc, keys)
	b, err := c.batcher(call)
	if err != nil {
		return "", err
	}
	if err = b.do(ctx, call); err == nil {
		return call.reply, nil
	}
	if !notRun(err) {
		c.reloadSlots()
		return "", err
	}
	if sc.awaited != nil {
		return c.repeatReplicated(ctx, call, err)
	}
	return c.repeat(sc, call, keys, err)
}

// batcher returns that of the node which has the call's keys.
func (c *Client) batcher(call *Call) (*batcher, error) {
	if c.cluster == nil {
		return c.whole.of(call), nil
	}
	master, err := c.cluster.MasterForKey(until(call.deadline), alias(call.key(0)))
	if err != nil {
		return nil, err
	}
	b, ok := c.batchers.Load(master)
	if !ok {
		b, _ = c.batchers.LoadOrStore(master, newMasterBatchers(master, c.sockets))
	}
	return b.(*masterBatchers).of(call), nil
}

// masterBatchers are those of one master.
type masterBatchers struct{ plain, replicated batcher }

func newMasterBatchers(l lender, s *sockets) *masterBatchers {
	n := &server{l, s, l.Options().Addr}
	return &masterBatchers{plain: batcher{node: n}, replicated: batcher{node: n, replicated: true}}
}

func (m *masterBatchers) of(call *Call) *batcher {
	if call.script.awaited == nil {
		return &m.plain
	}
	return &m.replicated
}

// Masters returns the servers that hold keys, by address; without a cluster the one under no
// address. Batchers of servers that are masters no more are forgotten.
func (c *Client) Masters(ctx context.Context) (map[string]redis.Cmdable, error) {
	if c.cluster == nil {
		return map[string]redis.Cmdable{"": c.universal}, nil
	}
	// The library asks one node or another for them. One that hangs must not take the whole time:
	// then those known are good.
	at, ok := ctx.Deadline()
	if !ok {
		at = time.Now().Add(c.timeout)
	}
	var mu sync.Mutex
	nodes, clients := map[string]redis.Cmdable{}, map[any]bool{}
	ask := until(time.Now().Add(time.Until(at) / 3))
	err := c.cluster.ForEachMaster(ask, func(_ context.Context, n *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes[n.Options().Addr], clients[n] = n, true
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.batchers.Range(func(n, b any) bool {
		if !clients[n] {
			c.batchers.Delete(n) // calls that have it still use it to their end
			b.(*masterBatchers).plain.retire()
			b.(*masterBatchers).replicated.retire()
		}
		return true
	})
	return nodes, nil
}

// reloadSlots has the library ask a cluster again which node has which slots.
func (c *Client) reloadSlots() {
	if c.cluster != nil {
		c.cluster.ReloadState(context.Background())
	}
}
