package ratelimitlocal

import (
	"context"
	"hash/maphash"
	"math"
	"strconv"
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

// Store is the buckets, or the windows, of one limit. It is safe for concurrent use and never returns
// an error.
type Store struct {
	windows bool // what the limit says of it, which stays
	seed    maphash.Seed
	shards  []shard

	mu    sync.Mutex // of what follows; the shards have what decides
	limit ratelimit.Limit
	share float64
}

var _ ratelimit.Limiter = (*Store)(nil)

// shard is a part of the keys, in order of their last use.
type shard struct {
	mu    sync.Mutex
	now   time.Time // the latest time seen
	keys  map[string]*bucket
	max   int
	used  bucket // the ring of buckets: used.next is the last used, used.prev the longest unused
	rate  rate.Limit
	burst int
	era   uint32  // counts the changes of rate and burst
	share float64 // of a rate that a charge brings
	limit ratelimit.Rate
	_     [64]byte // so that no two shards share a line
}

// bucket is what a key has: tokens, or the hits of a window.
type bucket struct {
	tokens     *rate.Limiter // nil: a window
	hits       int64
	end        int64 // of the window, in Unix seconds
	key        string
	prev, next *bucket
	era        uint32 // of the shard, whose rate and burst it has
	own        bool   // it has the rate of its charges, and not the shard's
}

// New makes a store without keys. limit is as its type says; maxKeys is at least 1.
func New(limit ratelimit.Limit, maxKeys int) *Store {
	maxKeys = max(maxKeys, 1)
	n := min(max(maxKeys/keysPerShardMin, 1), shardsMax)
	s := &Store{windows: limit.FixedWindow, limit: limit, share: 1, seed: maphash.MakeSeed(), shards: make([]shard, n)}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.keys = make(map[string]*bucket)
		sh.max = maxKeys / n
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
	perSecond := float64(s.limit.Count) / s.limit.Period.Seconds() * s.share
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.rate, sh.burst = rate.Limit(perSecond), part(s.limit.Burst, s.share)
		sh.share, sh.limit = s.share, ratelimit.Rate{Count: s.limit.Count, Period: s.limit.Period}
		sh.era++
		sh.mu.Unlock()
	}
}

// part is the share of a number, at least 1 of what is not 0.
func part(n int, share float64) int {
	if n == 0 {
		return 0
	}
	return max(int(float64(n)*share+1e-9), 1)
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
	sh := s.shardOf(c.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := sh.clockLocked(c.Now)
	if c.Cost < 0 && sh.keys[c.Key] == nil { // it is full
		return ratelimit.Decision{Allowed: true}, nil
	}
	b := sh.bucket(c.Key, s.windows)
	if s.windows {
		return sh.countLocked(b, c, now), nil
	}
	sh.settle(b)
	if c.Rate.Period > 0 {
		sh.settleOwn(b, c.Rate)
	}
	return sh.takeLocked(b, c.Cost, now), nil
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

// takeLocked takes so many tokens from a bucket, or gives them back.
func (sh *shard) takeLocked(b *bucket, cost int64, now time.Time) ratelimit.Decision {
	n := int(cost)
	if cost < 0 {
		b.tokens.AllowN(now, n) // beyond the burst it is cut off when the bucket is next asked
		return sh.decision(b, true, 1, now)
	}
	if cost == 0 {
		tokens := b.tokens.TokensAt(now)
		return sh.decision(b, tokens >= 1, 1, now)
	}
	return sh.decision(b, b.tokens.AllowN(now, n), n, now)
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
	if b.era != sh.era && !b.own && b.tokens != nil {
		b.tokens.SetLimitAt(sh.now, sh.rate)
		b.tokens.SetBurstAt(sh.now, sh.burst)
		b.era = sh.era
	}
}

// settleOwn gives a bucket the rate of its charges.
func (sh *shard) settleOwn(b *bucket, r ratelimit.Rate) {
	if b.own && b.era == sh.era {
		return
	}
	perSecond := rate.Limit(float64(r.Count) / r.Period.Seconds() * sh.share)
	if !b.own { // it is new
		b.tokens = rate.NewLimiter(perSecond, part(r.Count, sh.share))
	} else {
		b.tokens.SetLimitAt(sh.now, perSecond)
		b.tokens.SetBurstAt(sh.now, part(r.Count, sh.share))
	}
	b.own, b.era = true, sh.era
}

// decision makes the decision from what is in the bucket after the charge; wanted is how many tokens it asked for.
func (sh *shard) decision(b *bucket, allowed bool, wanted int, now time.Time) ratelimit.Decision {
	perSecond, burst := sh.rate, sh.burst
	if b.own {
		perSecond, burst = b.tokens.Limit(), b.tokens.Burst()
	}
	tokens := b.tokens.TokensAt(now)
	d := ratelimit.Decision{
		Allowed:   allowed,
		Remaining: max(int(tokens+1e-9), 0),
		Reset:     refill(float64(burst)-tokens, perSecond),
	}
	if !allowed {
		d.RetryAfter = refill(float64(min(wanted, burst))-tokens, perSecond)
	}
	return d
}

// refill returns how long it takes to gain so many tokens, rounded up.
func refill(tokens float64, perSecond rate.Limit) time.Duration {
	ns := math.Ceil(tokens / float64(perSecond) * float64(time.Second))
	if ns <= 0 {
		return 0
	}
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}

// bucket returns the key's bucket, a new one if need be, and makes it the last used.
func (sh *shard) bucket(key string, window bool) *bucket {
	b := sh.keys[key]
	if b == nil {
		sh.makeRoom()
		// The key may be a part of a buffer that lives longer or shorter than this: take a copy.
		b = &bucket{key: strings.Clone(key), era: sh.era}
		if !window {
			b.tokens = rate.NewLimiter(sh.rate, sh.burst)
		}
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
	switch {
	case b.tokens == nil:
		return b.end <= sh.now.Unix() || b.hits == 0
	case b.own:
		return b.tokens.TokensAt(sh.now) >= float64(b.tokens.Burst())
	}
	return b.tokens.TokensAt(sh.now) >= float64(sh.burst)
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
