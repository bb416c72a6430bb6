package ratelimitredis

import "github.com/sluice-gateway/sluice/filters/store/redisx"

// bucketScript charges a bucket. The hash has n, the tokens, and at, the moment that they are of,
// in microseconds. Argument: burst, count, period in microseconds, cost. Reply: 1 or 0, whole
// tokens left, microseconds until there is what was asked for, until the bucket is full. All but
// the first are doubles.
//
// A bucket without a hash is full, so nothing is written where nothing is taken from one. A moment
// that was written by a clock which has stepped back since lies in the future: nothing is gained
// until then, and it is brought so near that this is no longer than an empty bucket takes to fill.
var bucketScript = redisx.NewScript(`
local burst, count, period, cost = struct.unpack('>dddd', ARGV[1])
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
local wanted = math.max(math.min(cost, burst), 1)
local allowed = 0
if cost < 0 then
  allowed = 1
  tokens = math.min(tokens - cost, burst)
elseif tokens >= math.max(cost, 1) then
  allowed = 1
  tokens = tokens - cost
end
local behind = at - now
local full = (burst - tokens) * period / count + behind
if cost > 0 or (cost < 0 and v[1]) then
  redis.call('HSET', KEYS[1], 'n', string.format('%.17g', tokens), 'at', string.format('%.0f', at))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(full / 1000) + 1))
end
local wait = 0
if tokens < wanted then wait = (wanted - tokens) * period / count + behind end
return struct.pack('>Bddd', allowed, math.floor(tokens), math.ceil(wait), math.ceil(full))
`)

// windowScript counts in a window. The value is the window's beginning in seconds and the hits in
// it, both doubles. Argument: the number that is allowed, period in seconds, cost, the only window
// to count in (0: any). Reply: 1 or 0, what is left, twice the microseconds until the window ends,
// its beginning. All but the first are doubles.
//
// Hits of a window that begins later were counted by a clock which has stepped back since: they
// count in this one.
var windowScript = redisx.NewScript(`
local allowed, period, cost, only = struct.unpack('>dddd', ARGV[1])
local time = redis.call('TIME')
local start = time[1] - time[1] % period
local v = redis.call('GET', KEYS[1])
local hits = 0
if v then
  local at, n = struct.unpack('>dd', v)
  if at >= start then hits = n end
end
if only == 0 or only == start then hits = math.min(math.max(hits + cost, 0), 4503599627370496) end
local left = (start + period) * 1000000 - time[1] * 1000000 - time[2]
if cost > 0 or (cost < 0 and v) then
  redis.call('SET', KEYS[1], struct.pack('>dd', start, hits), 'PX', string.format('%.0f', math.ceil(left / 1000) + 1))
end
local passes = 0
if cost < 0 or hits <= allowed then passes = 1 end
return struct.pack('>Bdddd', passes, math.max(allowed - hits, 0), left, left, start)
`)
