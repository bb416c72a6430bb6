package idempotencyredis

import (
	"fmt"
	"strings"

	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// scripts are those of one store: the channel on which ends are published is part of them.
type scripts struct {
	claim, change, resolve, get, wait, secret *redisx.Script
}

func newScripts(channel string) *scripts {
	p := strings.ReplaceAll(prelude, "CHANNEL", quote(channel))
	script := func(source string) *redisx.Script { return redisx.NewScript(source).UntilRun() }
	return &scripts{
		claim: script(p + claimScript), change: script(p + changeScript), resolve: script(p + resolveScript),
		wait: script(p + waitScript), get: script(getScript), secret: script(secretScript),
	}
}

// quote writes a Lua string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		fmt.Fprintf(&b, `\%03d`, s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// prelude is what the scripts share: the clock, and the record as far as decisions need it. What
// has expired does not exist, even if Redis has not removed it yet. KEYS: the record, and the open
// keys of its owner. Times are microseconds, which a double holds exactly until the year 2255;
// tokens are strings of 8 bytes and only compared.
//
// The record is written by one SET before anything else is, so that Redis out of memory refuses a
// step as a whole.
const prelude = `
local HEAD = '>BBBc8c32I4I8I8I8I8I8I4I4'
local key, open = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local arg = ARGV[1]
local function load()
  local v = redis.call('GET', key)
  if not v then return nil end
  if #v < 95 or v:byte(1) ~= 1 then error('SLUICECORRUPT') end
  local r = {v = v}
  local layout, flags
  layout, r.state, flags, r.token, r.fingerprint, r.attempt, r.created, r.lease, r.cap, r.ttl, r.expires,
    r.texts, r.gid = struct.unpack(HEAD, v)
  if now >= r.expires then return nil end
  r.undispatched, r.counted, r.awaited = flags % 2 >= 1, flags % 4 >= 2, flags % 8 >= 4
  return r
end
local function lapsed(r) return r.state == 1 and now >= r.lease end
local function live(r) return r.state == 2 or (r.state == 1 and now < r.lease) end
local function store(r, tail)
  local flags = (r.undispatched and 1 or 0) + (r.counted and 2 or 0) + (r.awaited and 4 or 0)
  redis.call('SET', key, struct.pack(HEAD, 1, r.state, flags, r.token, r.fingerprint, r.attempt, r.created,
    r.lease, r.cap, r.ttl, r.expires, r.texts, r.gid) .. tail,
    'PX', string.format('%.0f', math.ceil((r.expires - now) / 1000) + 1))
end
local function member() return key:match('}([^}]*)$') end
local function trim() -- the open keys end with their last one
  local last = redis.call('ZREVRANGE', open, 0, 0, 'WITHSCORES')
  if last[2] then redis.call('PEXPIRE', open, string.format('%.0f', math.ceil((last[2] - now) / 1000) + 1)) end
end
local function count(r)
  if not r.counted then return end
  redis.call('ZADD', open, string.format('%.0f', r.expires), member())
  trim()
end
local function publish() redis.pcall('PUBLISH', CHANNEL, key) end
local function finish(r, state, tail, life)
  local awaited = r.awaited
  r.state, r.undispatched, r.expires, r.awaited = state, false, now + (life or r.ttl), awaited and state == 2
  store(r, tail)
  count(r)
  if awaited and state ~= 2 then publish() end
end
local function remove(r)
  redis.call('DEL', key)
  if r.counted then
    redis.call('ZREM', open, member())
    trim()
  end
  if r.awaited then publish() end
end
`

// claimScript is idempotency.Claim. arg: token, fingerprint, lease, cap, ttl, flags (1 not
// dispatched, 2 retry), token of the claim that may be retried, greatest number of open keys,
// texts. With 0 open keys none are counted, and no second key is needed. Reply: C, now, attempt, created and, of a
// further attempt, the texts of the first one; or R, now, the record that is there; or Q: too many open keys; or K: it
// takes the second key ([redisx.NeedsAllKeys]).
const claimScript = `
local token, fingerprint, lease, cap, ttl, flags, retryOf, most = struct.unpack('>c8c32I8I8I8Bc8I4', arg)
local texts = arg:sub(78)
if most > 0 and not open then return 'K' end
local r = load()
local attempt, created, further, counted = 1, now, false, most > 0
if r then
  if lapsed(r) and r.undispatched then -- free
    if r.counted and not open then return 'K' end
  elseif r.fingerprint == fingerprint and (r.state == 4 or lapsed(r)) and
    (flags >= 2 or (retryOf == r.token and retryOf ~= '\0\0\0\0\0\0\0\0')) then
    attempt, created, further, counted = r.attempt + 1, r.created, true, counted or r.counted
    texts = r.v:sub(96, 95 + r.texts) -- it goes where the first attempt went
    if counted and not open then return 'K' end
  else
    return 'R' .. struct.pack('>I8', now) .. r.v
  end
end
if most > 0 and not further then
  local at = string.format('%.0f', now)
  local n = redis.call('ZCOUNT', open, '(' .. at, '+inf')
  if n >= most then
    local own = redis.call('ZSCORE', open, member())
    if own and tonumber(own) > now then n = n - 1 end
    if n >= most then return 'Q' end
  end
end
local next = {state = 1, token = token, fingerprint = fingerprint, attempt = attempt, created = created,
  lease = now + lease, cap = now + cap, ttl = ttl, expires = now + cap + ttl, texts = #texts, gid = 0,
  undispatched = flags % 2 >= 1 and attempt == 1, counted = counted}
store(next, texts)
if counted then
  redis.call('ZREMRANGEBYSCORE', open, '-inf', string.format('%.0f', now))
  count(next)
elseif r and r.counted then -- under a limit that there was
  redis.call('ZREM', open, member())
  trim()
end
if r and r.awaited then publish() end
return 'C' .. struct.pack('>I8I4I8', now, attempt, created) .. (further and texts or '')
`

// changeScript is idempotency.Apply. arg: op, token, lease, life of a delegated record, attempt,
// created, recorded response or gid. Reply: 1, 0 when the claim is lost, or K: the record is counted,
// and the second key is needed.
const changeScript = `
local op, token, lease, delegated, attempt, created = struct.unpack('>Bc8I8I8I4I8', arg)
local r = load()
if not r or (lapsed(r) and r.undispatched) then return '0' end
local late = op == 2 and r.created == created and (r.state == 4 or lapsed(r))
if r.token ~= token and not late then return '0' end
if r.state == 3 then return op == 2 and '1' or '0' end
if r.counted and not open then return 'K' end
local kept = 95 + r.texts + r.gid
if op == 1 then
  if r.state == 2 then
    finish(r, 2, r.v:sub(96), math.max(r.ttl, delegated))
    return '1'
  end
  if r.state ~= 1 or now >= r.cap then return '0' end
  r.lease = math.min(now + lease, r.cap)
  r.attempt = math.max(r.attempt, attempt)
  store(r, r.v:sub(96))
elseif op == 2 then
  r.token = token
  finish(r, 3, r.v:sub(96, kept) .. arg:sub(38))
elseif op == 3 then
  if r.state == 4 then return '1' end
  if r.attempt <= 1 then
    remove(r)
  else
    r.attempt = r.attempt - 1
    finish(r, 4, r.v:sub(96))
  end
elseif op == 4 then
  if r.state == 2 then return '0' end
  finish(r, 4, r.v:sub(96))
elseif op == 5 then
  if r.state == 2 then return '1' end
  if r.state ~= 1 then return '0' end
  local gid = arg:sub(38)
  kept = 95 + r.texts
  r.gid = #gid
  finish(r, 2, r.v:sub(96, kept) .. gid, math.max(r.ttl, delegated))
else
  error('sluice: no such step: ' .. op)
end
return '1'
`

// resolveScript is idempotency.Resolve on what idempotency.View shows. arg: token, force, answered,
// recorded response. Reply: 1, 0 without a record, 2 when it takes force, or K as above.
const resolveScript = `
local token, force, answered = struct.unpack('>c8BB', arg)
if force == 1 and answered == 0 and redis.call('EXISTS', key) == 1 then -- also one that cannot be read
  local whole, r = pcall(load)
  if not whole then
    redis.call('DEL', key)
    if open then
      redis.call('ZREM', open, member())
      trim()
    end
    publish()
    return '1'
  end
end
local r = load()
if not r or (lapsed(r) and r.undispatched) then return '0' end
if force == 0 and live(r) then return '2' end
if r.counted and not open then return 'K' end
if answered == 0 then
  remove(r)
  return '1'
end
r.token = token
finish(r, 3, r.v:sub(96, 95 + r.texts + r.gid) .. arg:sub(11))
return '1'
`

// waitScript marks a record as awaited while it is in flight under that token. arg: token. Reply:
// empty when it is not; else after how many microseconds it is to be looked at again at the latest:
// its lease's end, or its own.
const waitScript = `
local r = load()
if not r or r.token ~= arg or not live(r) then return '' end
if not r.awaited then
  r.awaited = true
  pcall(store, r, r.v:sub(96)) -- without room for the mark the waiter looks again by itself
end
return struct.pack('>I8', (r.state == 1 and r.lease or r.expires) - now)
`

// getScript reads a record and the clock in one go. Reply: now, and the record if there is one.
const getScript = `
local time = redis.call('TIME')
return struct.pack('>I8', time[1] * 1000000 + time[2]) .. (redis.call('GET', KEYS[1]) or '')
`

// secretScript draws a secret once. arg: a fresh one. Reply: the one in force.
const secretScript = `
local old = redis.call('GET', KEYS[1])
if old then return old end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
`
