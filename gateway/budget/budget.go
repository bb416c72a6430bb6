package budget

import (
	"net/netip"
	"sync/atomic"
)

// Resource is what is bounded.
type Resource uint8

const (
	// InFlight counts requests and streams under way, those whose clients have left too.
	InFlight Resource = iota
	// Buffered counts bytes that wait in memory, by the capacity that is allocated for them.
	Buffered
	// Upstreams counts connections to services as long as they are open: for the client that uses
	// one, idle ones for the gateway itself, which closes them when there are few left.
	Upstreams

	resources
)

// String is the resource as metrics and logs call it.
func (r Resource) String() string {
	return [...]string{InFlight: "in-flight", Buffered: "buffered", Upstreams: "upstream-connections"}[r]
}

// Resources are all of them.
var Resources = [...]Resource{InFlight, Buffered, Upstreams}

// Limits are how much there is of each resource. All are above 0.
type Limits struct {
	InFlight  int64
	Buffered  int64
	Upstreams int64
	// Portion is how many bytes of Buffered one connection may hold as long as its client's share
	// and the limit allow it: the length of a body. 0 is none.
	Portion int64
}

// The multiples of what is free.
const (
	clientShare  = 4 // times as much
	accountShare = 4 // the part of it
)

// total is the state of one resource. Each has a cache line of its own.
type total struct {
	limit, used, refused atomic.Int64
	_                    [64 - 3*8]byte
}

// Budget is what there is for all clients. It is made with [New]; its methods may be called by
// several goroutines at a time. A nil *Budget bounds nothing.
type Budget struct {
	totals  [resources]total
	portion atomic.Int64
	own     Account
	clients clients
}

// New returns a budget.
func New(l Limits) *Budget {
	b := &Budget{}
	b.own.budget = b
	b.clients.of = map[netip.Addr]*client{}
	b.SetLimits(l)
	return b
}

// SetLimits changes the limits. What is held beyond a lower one stays until it is released.
func (b *Budget) SetLimits(l Limits) {
	b.totals[InFlight].limit.Store(l.InFlight)
	b.totals[Buffered].limit.Store(l.Buffered)
	b.totals[Upstreams].limit.Store(l.Upstreams)
	b.portion.Store(l.Portion)
}

// Own is the account of the gateway's own calls: health checks, branch calls, probes. Only the
// limit bounds it. It is not to be closed.
func (b *Budget) Own() *Account {
	if b == nil {
		return nil
	}
	return &b.own
}

// Limit returns how much there is of a resource.
func (b *Budget) Limit(r Resource) int64 { return b.totals[r].limit.Load() }

// Used returns how much of a resource is held.
func (b *Budget) Used(r Resource) int64 { return b.totals[r].used.Load() }

// Refused returns how often a resource was refused.
func (b *Budget) Refused(r Resource) int64 { return b.totals[r].refused.Load() }

// acquire takes n within the limit and returns what is left then.
func (t *total) acquire(n int64) (free int64, ok bool) {
	for {
		used, limit := t.used.Load(), t.limit.Load()
		if n > limit-used {
			return 0, false
		}
		if t.used.CompareAndSwap(used, used+n) {
			return limit - used - n, true
		}
	}
}
