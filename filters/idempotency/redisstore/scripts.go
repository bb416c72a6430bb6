package redisstore

import "github.com/redis/go-redis/v9"

// The fields of a record's hash:
//
//	s state (the number of idempotency.State)   k token       n attempt
//	f fingerprint (32 bytes)                    r route       p principal    y client key
//	u 1: nothing sent                           c created     l lease until  m cap until
//	t TTL                                       x expires     a answer      g gid
//
// Times and spans are whole microseconds.

// prelude is what all scripts share: the clock, and the record as far as decisions need it. What has expired is not there, even if
// Redis has not removed it yet. us writes a number without the exponent that Lua's tostring takes to.
const prelude = `
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function us(n) return string.format('%.0f', n) end
local function load()
  local v = redis.call('HMGET', key, 's', 'k', 'f', 'u', 'l', 'm', 't', 'x', 'n', 'c')
  if not v[1] or now >= tonumber(v[8]) then return nil end
  return {state = tonumber(v[1]), token = v[2], fingerprint = v[3], unsent = v[4] == '1', lease = tonumber(v[5]),
    cap = tonumber(v[6]), ttl = tonumber(v[7]), expires = tonumber(v[8]), attempt = tonumber(v[9]), created = tonumber(v[10])}
end
local function lapsed(rec) return rec.state == 1 and now >= rec.lease end
local function expire(at) redis.call('PEXPIREAT', key, us(math.ceil(at / 1000))) end
local function finish(rec, state, life)
  local expires = now + (life or rec.ttl)
  redis.call('HSET', key, 's', state, 'u', '0', 'x', us(expires))
  expire(expires)
end
`

// claimScript is idempotency.Claim. ARGV: token, fingerprint, route, principal, client key, lease, cap, ttl, retry, unsent.
// Reply: {now, 1, attempt, created} or {now, 0, field, value, …}.
var claimScript = redis.NewScript(prelude + `
local rec = load()
local attempt, created = 1, now
if rec then
  local unknown = rec.state == 4 or (lapsed(rec) and not rec.unsent)
  if lapsed(rec) and rec.unsent then
    -- free
  elseif rec.fingerprint == ARGV[2] and unknown and ARGV[9] == '1' then
    attempt, created = rec.attempt + 1, rec.created
  else
    local reply = redis.call('HGETALL', key)
    table.insert(reply, 1, '0')
    table.insert(reply, 1, us(now))
    return reply
  end
end
local cap = now + tonumber(ARGV[7])
local expires = cap + tonumber(ARGV[8])
redis.call('DEL', key)
redis.call('HSET', key, 's', '1', 'k', ARGV[1], 'n', us(attempt), 'f', ARGV[2], 'r', ARGV[3], 'p', ARGV[4], 'y', ARGV[5],
  'u', ARGV[10], 'c', us(created), 'l', us(now + tonumber(ARGV[6])), 'm', us(cap), 't', ARGV[8], 'x', us(expires))
expire(expires)
return {us(now), '1', us(attempt), us(created)}
`)

// changeScript is idempotency.Apply. ARGV: token, op, lease, answer, gid, life of a handed record. Reply: 1, or 0 when the claim is lost.
var changeScript = redis.NewScript(prelude + `
local rec = load()
if not rec or rec.token ~= ARGV[1] then return 0 end
local op = ARGV[2]
local handed = tonumber(ARGV[6])
if rec.state == 3 then
  if op == '2' then return 1 end
  return 0
end
if op == '1' then
  if rec.state == 2 then
    finish(rec, '2', math.max(rec.ttl, handed))
    return 1
  end
  if rec.state ~= 1 or now >= rec.cap then return 0 end
  redis.call('HSET', key, 'l', us(math.min(now + tonumber(ARGV[3]), rec.cap)))
elseif op == '2' then
  redis.call('HSET', key, 'a', ARGV[4])
  finish(rec, '3')
elseif op == '3' then
  if rec.state == 4 then return 1 end
  if rec.attempt <= 1 then
    redis.call('DEL', key)
  else
    redis.call('HSET', key, 'n', us(rec.attempt - 1))
    finish(rec, '4')
  end
elseif op == '4' then
  if rec.state == 2 then return 0 end
  finish(rec, '4')
elseif op == '5' then
  if rec.state == 2 then return 1 end
  if rec.state ~= 1 then return 0 end
  redis.call('HSET', key, 'g', ARGV[5])
  finish(rec, '2', math.max(rec.ttl, handed))
else
  return redis.error_reply('sluice: no such step: ' .. op)
end
return 1
`)

// resolveScript is idempotency.Resolve on what idempotency.View shows. ARGV: token, 1 for answered or 0 for free, answer,
// force. Reply: 1, 0 without a record, or 2 when it takes force.
var resolveScript = redis.NewScript(prelude + `
local rec = load()
if not rec or (lapsed(rec) and rec.unsent) then return 0 end
if ARGV[4] == '0' and (rec.state == 2 or (rec.state == 1 and not lapsed(rec))) then return 2 end
if ARGV[2] == '0' then
  redis.call('DEL', key)
  return 1
end
redis.call('HSET', key, 'k', ARGV[1], 'a', ARGV[3])
finish(rec, '3')
return 1
`)

// getScript reads a record and the clock in one go. Reply: {now, field, value, …}.
var getScript = redis.NewScript(`
local time = redis.call('TIME')
local reply = redis.call('HGETALL', KEYS[1])
table.insert(reply, 1, string.format('%.0f', time[1] * 1000000 + time[2]))
return reply
`)

// waitScript tells how long to wait for a claim, without its answer. ARGV: token. Reply: 1 while it is in flight under that token.
var waitScript = redis.NewScript(prelude + `
local rec = load()
if rec and rec.token == ARGV[1] and (rec.state == 2 or (rec.state == 1 and not lapsed(rec))) then return 1 end
return 0
`)

// secretScript draws a secret once. ARGV: a fresh one. Reply: the one that stands.
var secretScript = redis.NewScript(`
local old = redis.call('GET', KEYS[1])
if old then return old end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
`)
