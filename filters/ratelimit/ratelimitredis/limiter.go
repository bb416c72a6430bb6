package ratelimitredis

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// Limiter is a [ratelimit.Limiter] in Redis. Make it with [New]. It is safe for concurrent use.
type Limiter struct {
	client *redisx.Client
	prefix string // of all buckets of this limit
	name   string
	limit  []byte // the argument of the script
}

var (
	_ ratelimit.Limiter  = (*Limiter)(nil)
	_ ratelimit.Refunder = (*Limiter)(nil)
)

// New makes the limiter of one limit. Keys begin with prefix. The client remains the caller's, and
// its timeout bounds each decision.
func New(client *redisx.Client, prefix string, limit ratelimit.Limit) *Limiter {
	l := &Limiter{client: client, prefix: prefix + "limit:" + limit.Name + ":", name: limit.Name}
	for _, v := range []float64{float64(limit.Burst), float64(limit.Count),
		float64(limit.Period) / float64(time.Microsecond)} {
		l.limit = binary.BigEndian.AppendUint64(l.limit, math.Float64bits(v))
	}
	return l
}

// allowScript takes a token. The hash has n, the tokens, and at, the moment that they are of, in
// microseconds. Argument: burst, count, period in microseconds. Reply: 1 or 0, whole tokens left,
// microseconds until there is a token, until the bucket is full. All but the first are doubles.
//
// A bucket without a hash is full. A moment that was written by a clock which has stepped back
// since lies in the future: nothing is gained until then, and it is brought so near that this is no
// longer than an empty bucket takes to fill.
var allowScript = redisx.NewScript(`
local burst, count, period = struct.unpack('>ddd', ARGV[1])
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
return struct.pack('>Bddd', allowed, math.floor(tokens), math.ceil(wait), math.ceil(full))
`)

// Allow implements [ratelimit.Limiter]. The time is Redis's, not the argument.
func (l *Limiter) Allow(ctx context.Context, key string, _ time.Time) (ratelimit.Decision, error) {
	call := redisx.NewCall()
	call.Buffer = l.appendKey(call.Buffer, key)
	call.EndKey()
	call.Buffer = append(call.Buffer, l.limit...)
	reply, err := l.client.Run(ctx, allowScript, call, 1)
	if err != nil {
		return ratelimit.Decision{}, fmt.Errorf("ratelimitredis: limit %s: %w", l.name, err)
	}
	d, err := parseDecision(reply)
	if err != nil {
		return ratelimit.Decision{}, fmt.Errorf("ratelimitredis: limit %s: %w", l.name, err)
	}
	return d, nil
}

// refundScript puts a token back. A bucket without a hash is full, and allowScript cuts off what is
// more than it holds.
var refundScript = redisx.NewScript(`
local n = redis.call('HGET', KEYS[1], 'n')
if n then redis.call('HSET', KEYS[1], 'n', string.format('%.17g', n + 1)) end
return ''
`)

// Refund implements [ratelimit.Refunder].
func (l *Limiter) Refund(ctx context.Context, key string, _ time.Time) error {
	call := redisx.NewCall()
	call.Buffer = l.appendKey(call.Buffer, key)
	call.EndKey()
	if _, err := l.client.Run(ctx, refundScript, call, 1); err != nil {
		return fmt.Errorf("ratelimitredis: limit %s: %w", l.name, err)
	}
	return nil
}

// appendKey appends the key of a bucket: 144 bits of a digest of the value. Its fixed length keeps
// names with a colon apart.
func (l *Limiter) appendKey(b []byte, value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.AppendEncode(append(b, l.prefix...), sum[:18])
}

func parseDecision(reply string) (ratelimit.Decision, error) {
	const size = 1 + 3*8
	if len(reply) != size {
		return ratelimit.Decision{}, fmt.Errorf("reply of %d bytes, want %d", len(reply), size)
	}
	d := ratelimit.Decision{Allowed: reply[0] == 1, Remaining: int(double(reply[1:])), Reset: span(double(reply[17:]))}
	if !d.Allowed {
		d.RetryAfter = span(double(reply[9:]))
	}
	return d, nil
}

func double(s string) float64 {
	var v uint64
	for i := range 8 {
		v = v<<8 | uint64(s[i])
	}
	return math.Float64frombits(v)
}

// span returns so many microseconds, or the longest duration if that is shorter.
func span(micros float64) time.Duration {
	if micros >= math.MaxInt64/float64(time.Microsecond) {
		return math.MaxInt64
	}
	return time.Duration(micros) * time.Microsecond
}
