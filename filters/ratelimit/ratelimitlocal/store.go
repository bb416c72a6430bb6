package ratelimitlocal

import (
	"context"
	"hash/maphash"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

const (
	shardsMax       = 16
	keysPerShardMin = 64 // below, one shard more would make the bound of each too coarse
	// keysPerShardKept is how many buckets a shard keeps though they are full again, so that a
	// key that comes back allocates nothing.
	keysPerShardKept = 256
	// farAway is a time so far from the base, 146 years, that two of them can be compared.
	farAway = 1 << 62
)

// Store is the buckets, or the windows, of one limit. It is safe for concurrent use and never returns
// an error.
type Store struct {
	windows bool      // what the limit says of it, which stays
	base    time.Time // times of buckets are counted from here
	seed    maphash.Seed
	shards  []shard

	mu    sync.Mutex // of what follows; the shards have what decides
	limit ratelimit.Limit
	share float64
}

var _ ratelimit.Limiter = (*Store)(nil)

// shard is a part of the keys, in order of their last use. What a charge writes comes first, within one line of the
// caches.
type shard struct {
	mu      sync.Mutex
	at      int64 // the latest time seen, in nanoseconds since the base
	keys    map[string]*bucket
	present *terms // of the limit
	used    bucket // the ring of buckets: used.next is the last used, used.prev the longest unused
	max     int
	windows bool
	now     time.Time // the latest time seen, where there are windows
	share   float64   // of a rate that a charge brings
	limit   ratelimit.Rate
	_       [64]byte // so that no two shards share a line
}

// New makes a store without keys. limit is as its type says; maxKeys is at least 1.
func New(limit ratelimit.Limit, maxKeys int) *Store {
	maxKeys = max(maxKeys, 1)
	n := min(max(maxKeys/keysPerShardMin, 1), shardsMax)
	s := &Store{windows: limit.FixedWindow, limit: limit, share: 1, base: time.Now(), seed: maphash.MakeSeed(),
		shards: make([]shard, n)}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.keys = make(map[string]*bucket)
		sh.max, sh.windows, sh.at = maxKeys/n, limit.FixedWindow, math.MinInt64
		sh.used.prev, sh.used.next = &sh.used, &sh.used
	}
	s.configureLocked()
	return s
}

// Configure changes the numbers of the limit. The keys keep what they have, cut to the new burst; hits of a window
// are kept where the period stays.
func (s *Store) Configure(limit ratelimit.Limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit != s.limit {
		s.limit = limit
		s.configureLocked()
	}
}

// SetShare makes the store allow only a fraction of the limit, above 0 and at most 1: rate and
// burst are that much smaller, the burst never below 1. It is for a gateway that stands in for a
// shared store with its part, 1/N of N gateways. Values outside of the range are taken as 1.
func (s *Store) SetShare(fraction float64) {
	if !(fraction > 0 && fraction <= 1) {
		fraction = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if fraction != s.share {
		s.share = fraction
		s.configureLocked()
	}
}

func (s *Store) configureLocked() {
	present := newTerms(ratelimit.Rate{Count: s.limit.Count, Period: s.limit.Period}, s.limit.Burst, s.share)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.present = present
		sh.share, sh.limit = s.share, ratelimit.Rate{Count: s.limit.Count, Period: s.limit.Period}
		sh.mu.Unlock()
	}
}

// Allow is [Store.Charge] for one request.
func (s *Store) Allow(ctx context.Context, key string, now time.Time) (ratelimit.Decision, error) {
	return s.Charge(ctx, ratelimit.Charge{Key: key, Now: now, Cost: 1})
}

// Charge implements [ratelimit.Limiter]. It does not wait, so ctx is not looked at.
func (s *Store) Charge(_ context.Context, c ratelimit.Charge) (ratelimit.Decision, error) {
	if c.Rate.Period > 0 {
		c.Key = s.ownKey(c)
	}
	at := min(max(int64(c.Now.Sub(s.base)), -farAway), farAway)
	sh := s.shardOf(c.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.clockLocked(at, c.Now)
	b := sh.keys[c.Key]
	switch {
	case b != nil:
		sh.usedLocked(b)
	case c.Cost < 0: // it is full
		return ratelimit.Decision{Allowed: true}, nil
	default:
		b = sh.addLocked(c.Key)
	}
	if s.windows {
		return sh.countLocked(b, &c), nil
	}
	if c.Rate.Period > 0 {
		sh.settleOwn(b, c.Rate)
	} else {
		sh.settle(b)
	}
	return b.take(c.Cost, sh.at), nil
}

// ownKey is the key of what is counted by the rate of a charge. It has the mark of a digest and not its form, so it
// is no other key.
func (s *Store) ownKey(c ratelimit.Charge) string {
	b := append(make([]byte, 0, 64), "\x00own "...)
	if !s.windows { // windows of one period are the same whatever number is allowed in them
		b = append(strconv.AppendInt(b, int64(c.Rate.Count), 10), '/')
	} else if c.Rate.Period == s.shards[0].period() {
		return c.Key
	}
	b = append(strconv.AppendInt(b, int64(c.Rate.Period), 10), ' ')
	return string(append(b, c.Key...))
}

func (sh *shard) period() time.Duration {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.limit.Period
}

func (s *Store) shardOf(key string) *shard {
	if len(s.shards) == 1 {
		return &s.shards[0]
	}
	return &s.shards[maphash.String(s.seed, key)%uint64(len(s.shards))]
}

// clockLocked notes the time, never before one that was seen.
func (sh *shard) clockLocked(at int64, now time.Time) {
	if at <= sh.at {
		return
	}
	sh.at = at
	if sh.windows {
		sh.now = now
	}
}

// settle gives a bucket the present terms of the limit.
func (sh *shard) settle(b *bucket) {
	if b.terms != sh.present && !b.terms.own {
		b.change(sh.present, sh.at)
	}
}

// settleOwn gives a bucket the rate of its charges.
func (sh *shard) settleOwn(b *bucket, r ratelimit.Rate) {
	if b.terms.own && b.terms.share == sh.share {
		return
	}
	own := newTerms(r, r.Count, sh.share)
	own.own = true
	if b.terms.own {
		b.change(own, sh.at)
	} else { // it is new
		b.terms, b.amount = own, float64(own.burst)
	}
}

// usedLocked makes a bucket the last used.
func (sh *shard) usedLocked(b *bucket) {
	if sh.used.next == b {
		return
	}
	b.prev.next, b.next.prev = b.next, b.prev
	sh.pushLocked(b)
}

func (sh *shard) pushLocked(b *bucket) {
	b.prev, b.next = &sh.used, sh.used.next
	b.prev.next, b.next.prev = b, b
}

// addLocked adds the full bucket of a key.
func (sh *shard) addLocked(key string) *bucket {
	sh.makeRoom()
	// The key may be a part of a buffer that lives longer or shorter than this: take a copy.
	b := &bucket{key: strings.Clone(key), terms: sh.present}
	if !sh.windows {
		b.amount, b.at = float64(b.terms.burst), sh.at
	}
	sh.keys[b.key] = b
	sh.pushLocked(b)
	return b
}

// makeRoom drops up to two buckets that are full, the longest unused first, and that one in any
// case when there is no room for another.
func (sh *shard) makeRoom() {
	for range 2 {
		oldest := sh.used.prev
		if oldest == &sh.used {
			return
		}
		full := sh.full(oldest)
		if len(sh.keys) < sh.max && (!full || len(sh.keys) < keysPerShardKept) {
			return
		}
		oldest.prev.next, oldest.next.prev = oldest.next, oldest.prev
		delete(sh.keys, oldest.key)
	}
}

// full reports whether a bucket is as good as none.
func (sh *shard) full(b *bucket) bool {
	if sh.windows {
		return b.at <= sh.now.Unix() || b.amount == 0
	}
	sh.settle(b) // else one that is full by an earlier, smaller burst would come back with a greater one
	return b.tokens(sh.at) >= float64(b.terms.burst)
}

// Len returns the number of buckets.
func (s *Store) Len() int {
	n := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.keys)
		sh.mu.Unlock()
	}
	return n
}
