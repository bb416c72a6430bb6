package redisx

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	beatEvery = 2 * time.Second
	// memberFor is how long a member counts as alive after its last heartbeat: three may be late or
	// lost.
	memberFor = 7 * time.Second
	// beatTimeout bounds one heartbeat.
	beatTimeout = time.Second
)

// Membership knows how many processes share a key, for instance the gateways of one store. Make it
// with [NewMembership]. It is safe for concurrent use.
//
// Each member writes itself into a sorted set, scored by Redis's clock, and counts the entries that
// are young enough.
type Membership struct {
	client redis.UniversalClient
	key    string
	id     string
	every  time.Duration
	keep   time.Duration
	live   atomic.Pointer[[]string] // nil before the first heartbeat
}

// NewMembership makes one member of those that share the key; id is its own. It takes part while
// [Membership.Run] runs.
func NewMembership(c *Client, key, id string) *Membership {
	return &Membership{client: c.universal, key: key, id: id, every: beatEvery, keep: memberFor}
}

// beatScript writes the heartbeat of a member, drops the old ones and counts. The set expires with
// its last heartbeat. A heartbeat from the future, of a clock that has stepped back since, is set
// to now. ARGV: id, how long a member lives in microseconds.
var beatScript = redis.NewScript(`
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local keep = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - keep))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), id)
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(keep / 1000)))
return redis.call('ZRANGE', KEYS[1], 0, -1)
`)

// Live returns the number of members that were alive at the last heartbeat that Redis answered,
// this one among them; 1 before the first.
func (m *Membership) Live() int { return len(m.Members()) }

// Members returns the ids of those members, in the order of their heartbeats.
func (m *Membership) Members() []string {
	if live := m.live.Load(); live != nil && len(*live) > 0 {
		return *live
	}
	return []string{m.id}
}

// Run writes heartbeats until ctx ends, then takes this member out and returns nil. While Redis
// does not answer it goes on trying.
func (m *Membership) Run(ctx context.Context) error {
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	for {
		m.beat(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return m.leave()
		}
	}
}

// beat makes one heartbeat. A failure leaves the last number in force: that is what the number is
// for.
func (m *Membership) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	ids, err := beatScript.Run(ctx, m.client, []string{m.key}, m.id, m.keep.Microseconds()).StringSlice()
	if err == nil {
		m.live.Store(&ids)
	}
}

// leave takes the member out, so that the others know at once. When Redis is gone its entry expires
// by itself.
func (m *Membership) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), beatTimeout)
	defer cancel()
	if err := m.client.ZRem(ctx, m.key, m.id).Err(); err != nil {
		return fmt.Errorf("redisx: member %s is not taken out and expires in %v: %w", m.id, m.keep, err)
	}
	return nil
}
