package budget

import (
	"net/netip"
	"sync/atomic"
)

// Resource is what is bounded.
type Resource uint8

const (
	// InFlight counts requests and streams under way, those whose clients have left too. Each takes
	// [RequestBytes] of Buffered too.
	InFlight Resource = iota
	// Buffered counts bytes that wait in memory, by the capacity that is allocated for them.
	Buffered
	// Upstreams counts connections to services. Idle ones are the gateway's own.
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

// RequestBytes is what a request takes as long as it is under way, beside its head and bodies: the
// stacks of its goroutines and its state in both engines, as measured.
const RequestBytes = 24 << 10

// Requests and bytes are counted in one word, so that a request takes both at once: the bytes in the
// lower bits, which are enough for 8 TiB, the requests above, up to a million.
const (
	wordMemory = iota
	wordUpstreams
	words

	bytesBits = 43
)

// word is where a resource is counted.
func (r Resource) word() int {
	if r == Upstreams {
		return wordUpstreams
	}
	return wordMemory
}

// units is what n units of a resource add to its word.
func (r Resource) units(n int64) int64 {
	if r == InFlight {
		return n * (1<<bytesBits + RequestBytes)
	}
	return n
}

// in is how much of a resource a word has.
func (r Resource) in(word int64) int64 {
	switch r {
	case InFlight:
		return word >> bytesBits
	case Buffered:
		return word & (1<<bytesBits - 1)
	}
	return word
}

// few is how much a client may hold and still draw on the reserve: some requests at a time.
func (r Resource) few() int64 {
	if r == Buffered {
		return littleBytes
	}
	return 4
}

// littleBytes is enough for a head and a body of common sizes.
const littleBytes = 128 << 10

// The multiples of what is free.
const (
	clientShare  = 4  // times as much
	littleShare  = 16 // for a connection that holds little: its first request, and littleBytes
	accountShare = 4  // the part of it
	reserve      = 32 // the part of a limit that is for clients with few units only
)

// total is what is used of a word. Each has a cache line of its own.
type total struct {
	used atomic.Int64
	_    [64 - 8]byte
}

// Budget is what there is for all clients. It is made with [New]; its methods may be called by
// several goroutines at a time. A nil *Budget bounds nothing.
type Budget struct {
	totals  [words]total
	limits  [resources]atomic.Int64
	refused [resources]atomic.Int64
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
	b.limits[InFlight].Store(l.InFlight)
	b.limits[Buffered].Store(l.Buffered)
	b.limits[Upstreams].Store(l.Upstreams)
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
func (b *Budget) Limit(r Resource) int64 { return b.limits[r].Load() }

// Used returns how much of a resource is held.
func (b *Budget) Used(r Resource) int64 { return r.in(b.totals[r.word()].used.Load()) }

// Refused returns how often a resource was refused.
func (b *Budget) Refused(r Resource) int64 { return b.refused[r].Load() }

// acquire takes n units within the limits and returns what is used then.
func (b *Budget) acquire(r Resource, n int64) (used int64, ok bool) {
	t := &b.totals[r.word()]
	for {
		before := t.used.Load()
		used = before + r.units(n)
		if r.in(used) > b.Limit(r) || r == InFlight && Buffered.in(used) > b.Limit(Buffered) {
			return 0, false
		}
		if t.used.CompareAndSwap(before, used) {
			return used, true
		}
	}
}
