package ratelimitredis

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

// Limiter is a [ratelimit.Limiter] in Redis; make it with [New]. It is safe for concurrent use.
type Limiter struct {
	client  redis.UniversalClient
	prefix  string
	timeout time.Duration
	name    string
	args    [3]any
}

var _ ratelimit.Limiter = (*Limiter)(nil)

// New makes the limiter of one limit. Keys begin with prefix; timeout bounds each command. The client stays the caller's.
func New(client redis.UniversalClient, prefix string, timeout time.Duration, limit ratelimit.Limit) *Limiter {
	return &Limiter{
		client: client, prefix: prefix + "limit:" + limit.Name + ":", timeout: timeout, name: limit.Name,
		args: [3]any{limit.Burst, limit.Count, strconv.FormatFloat(float64(limit.Period)/float64(time.Microsecond), 'g', -1, 64)},
	}
}

// allowScript takes a token. The hash has n, the tokens, and at, the moment they are of, in microseconds. ARGV: burst, count, period in
// microseconds. Reply: 1 or 0, whole tokens left, microseconds until there is a token, until the bucket is full.
//
// A bucket without a hash is full. A moment that a clock wrote which has stepped back since lies in the future: nothing is gained until then, and it is
// brought so near that this is no longer than an empty bucket takes to fill.
var allowScript = redis.NewScript(`
local burst, count, period = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local fill = burst * period / count
local v = redis.call('HMGET', KEYS[1], 'n', 'at')
local tokens, at = tonumber(v[1] or burst), tonumber(v[2] or now)
if at > now + fill then at = now + fill end
if now > at then
  tokens = tokens + (now - at) * count / period
  at = now
end
if tokens > burst then tokens = burst end
local allowed = 0
if tokens >= 1 then
  allowed = 1
  tokens = tokens - 1
end
local behind = at - now
local full = (burst - tokens) * period / count + behind
redis.call('HSET', KEYS[1], 'n', string.format('%.17g', tokens), 'at', string.format('%.0f', at))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(full / 1000) + 1))
local wait = 0
if tokens < 1 then wait = (1 - tokens) * period / count + behind end
return {allowed, math.floor(tokens), string.format('%.0f', math.ceil(wait)), string.format('%.0f', math.ceil(full))}
`)

// Allow implements [ratelimit.Limiter]. The time is Redis's, not the argument.
func (l *Limiter) Allow(ctx context.Context, key string, _ time.Time) (ratelimit.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	reply, err := allowScript.Run(ctx, l.client, []string{l.key(key)}, l.args[:]...).Slice()
	if err != nil {
		return ratelimit.Decision{}, fmt.Errorf("redisstore: limit %s: %w", l.name, err)
	}
	d, err := parseDecision(reply)
	if err != nil {
		return ratelimit.Decision{}, fmt.Errorf("redisstore: limit %s: %w", l.name, err)
	}
	return d, nil
}

func (l *Limiter) key(value string) string {
	sum := sha256.Sum256([]byte(value))
	return l.prefix + base64.RawURLEncoding.EncodeToString(sum[:18]) // 144 bits; its fixed length keeps names with a colon apart
}

func parseDecision(reply []any) (ratelimit.Decision, error) {
	if len(reply) != 4 {
		return ratelimit.Decision{}, fmt.Errorf("reply of %d parts", len(reply))
	}
	allowed, ok1 := reply[0].(int64)
	remaining, ok2 := reply[1].(int64)
	wait, ok3 := reply[2].(string)
	full, ok4 := reply[3].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return ratelimit.Decision{}, fmt.Errorf("reply %v", reply)
	}
	d := ratelimit.Decision{Allowed: allowed == 1, Remaining: int(remaining)}
	var err error
	if d.Reset, err = span(full); err != nil {
		return ratelimit.Decision{}, err
	}
	if !d.Allowed {
		d.RetryAfter, err = span(wait)
	}
	return d, err
}

func span(micros string) (time.Duration, error) {
	v, err := strconv.ParseInt(micros, 10, 64)
	return time.Duration(v) * time.Microsecond, err
}
