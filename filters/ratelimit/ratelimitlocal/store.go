package ratelimitlocal

import (
	"context"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

const (
	shardsMax       = 16
	keysPerShardMin = 64 // below, one shard more would make the bound of each too coarse
	// keysPerShardKept is how many buckets a shard keeps though they are full again, so that a
	// key that comes back allocates nothing.
	keysPerShardKept = 256
)

// Store is the buckets of one limit. It is safe for concurrent use and never returns an error.
type Store struct {
	limit  ratelimit.Limit
	seed   maphash.Seed
	shards []shard
}

var (
	_ ratelimit.Limiter  = (*Store)(nil)
	_ ratelimit.Refunder = (*Store)(nil)
)

// shard is a part of the keys, in order of their last use.
type shard struct {
	mu    sync.Mutex
	now   time.Time // the latest time seen
	keys  map[string]*bucket
	max   int
	used  bucket // the ring of buckets: used.next is the last used, used.prev the longest unused
	rate  rate.Limit
	burst int
	era   uint32 // counts the changes of rate and burst
}

type bucket struct {
	tokens     *rate.Limiter
	key        string
	prev, next *bucket
	era        uint32 // of the shard, whose rate and burst it has
}

// New makes a store without keys. limit is as its type says; maxKeys is at least 1.
func New(limit ratelimit.Limit, maxKeys int) *Store {
	maxKeys = max(maxKeys, 1)
	n := min(max(maxKeys/keysPerShardMin, 1), shardsMax)
	s := &Store{limit: limit, seed: maphash.MakeSeed(), shards: make([]shard, n)}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.keys = make(map[string]*bucket)
		sh.max = maxKeys / n
		sh.used.prev, sh.used.next = &sh.used, &sh.used
	}
	s.SetShare(1)
	return s
}

// SetShare makes the store allow only a fraction of the limit, above 0 and at most 1: rate and
// burst are that much smaller, the burst never below 1. It is for a gateway that stands in for a
// shared store with its part, 1/N of N gateways. Values outside of the range are taken as 1.
func (s *Store) SetShare(fraction float64) {
	if !(fraction > 0 && fraction <= 1) {
		fraction = 1
	}
	perSecond := float64(s.limit.Count) / s.limit.Period.Seconds() * fraction
	burst := max(int(float64(s.limit.Burst)*fraction+1e-9), 1)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.rate, sh.burst = rate.Limit(perSecond), burst
		sh.era++
		sh.mu.Unlock()
	}
}

// Allow implements [ratelimit.Limiter]. It does not wait, so ctx is not looked at.
func (s *Store) Allow(_ context.Context, key string, now time.Time) (ratelimit.Decision, error) {
	sh := s.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now = sh.clockLocked(now)
	b := sh.bucket(key)
	sh.settle(b)
	allowed := b.tokens.AllowN(now, 1)
	return sh.decision(allowed, b.tokens.TokensAt(now)), nil
}

// Refund implements [ratelimit.Refunder]. A key without a bucket is full.
func (s *Store) Refund(_ context.Context, key string, now time.Time) error {
	sh := s.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now = sh.clockLocked(now)
	if b := sh.keys[key]; b != nil {
		sh.settle(b)
		b.tokens.AllowN(now, -1) // beyond the burst it is cut off when the bucket is next asked
	}
	return nil
}

func (s *Store) shardOf(key string) *shard {
	if len(s.shards) == 1 {
		return &s.shards[0]
	}
	return &s.shards[maphash.String(s.seed, key)%uint64(len(s.shards))]
}

// clockLocked returns the time, never before one that was seen.
func (sh *shard) clockLocked(now time.Time) time.Time {
	if now.After(sh.now) {
		sh.now = now
	}
	return sh.now
}

// settle gives a bucket the present rate and burst.
func (sh *shard) settle(b *bucket) {
	if b.era != sh.era {
		b.tokens.SetLimitAt(sh.now, sh.rate)
		b.tokens.SetBurstAt(sh.now, sh.burst)
		b.era = sh.era
	}
}

// decision makes the decision from what is in the bucket after the request.
func (sh *shard) decision(allowed bool, tokens float64) ratelimit.Decision {
	d := ratelimit.Decision{
		Allowed:   allowed,
		Remaining: max(int(tokens+1e-9), 0),
		Reset:     sh.refill(float64(sh.burst) - tokens),
	}
	if !allowed {
		d.RetryAfter = sh.refill(1 - tokens)
	}
	return d
}

// refill returns how long it takes to gain so many tokens, rounded up.
func (sh *shard) refill(tokens float64) time.Duration {
	ns := math.Ceil(tokens / float64(sh.rate) * float64(time.Second))
	if ns <= 0 {
		return 0
	}
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}

// bucket returns the key's bucket, a new one if need be, and makes it the last used.
func (sh *shard) bucket(key string) *bucket {
	b := sh.keys[key]
	if b == nil {
		sh.makeRoom()
		// The key may be a part of a buffer that lives longer or shorter than this: take a copy.
		b = &bucket{tokens: rate.NewLimiter(sh.rate, sh.burst), key: strings.Clone(key), era: sh.era}
		sh.keys[b.key] = b
	} else {
		b.prev.next, b.next.prev = b.next, b.prev
	}
	b.prev, b.next = &sh.used, sh.used.next
	b.prev.next, b.next.prev = b, b
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
		sh.settle(oldest) // else a bucket that is full by an earlier, smaller burst would come back with a greater one
		full := oldest.tokens.TokensAt(sh.now) >= float64(sh.burst)
		if len(sh.keys) < sh.max && (!full || len(sh.keys) < keysPerShardKept) {
			return
		}
		oldest.prev.next, oldest.next.prev = oldest.next, oldest.prev
		delete(sh.keys, oldest.key)
	}
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
