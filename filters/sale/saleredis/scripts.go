package saleredis

import (
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// keysPrelude begins every script on an item or a part of one. An item that is divided has its units in its parts; the
// scripts say so of its own keys, and how it is divided.
const keysPrelude = `
local H, Z, arg = KEYS[1], KEYS[2], ARGV[1]
if not Z then return 'K' end -- redisx.NeedsAllKeys
`

// prelude is what the scripts that change something share. A unit is a table as [sale.Unit] has it; times are
// microseconds, which a double holds exactly.
const prelude = keysPrelude + `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local UNIT = '>BI4I4c8I8I8I8c24'
local function int(n) return string.format('%.0f', n) end
local id, unit, n, c, h, r, v, principals, credit, exists
local function load(principal)
  local f = redis.call('HMGET', H, 'n', 'c', 'h', 'r', 'v', 'i' .. id, 'p' .. principal, 's', 'q')
  if f[8] then return 'S' .. f[8]:sub(1, 2) end
  credit, exists = f[9], f[1] or f[9]
  n, c, h = tonumber(f[1] or 0), tonumber(f[2] or 0), tonumber(f[3] or 0)
  r, v = tonumber(f[4] or 0), tonumber(f[5] or 0)
  principals = tonumber(f[7] or 0)
  if not f[6] then return end
  unit = {}
  unit.state, unit.quantity, unit.past, unit.token, unit.created, unit.taken, unit.ttl, unit.principal =
    struct.unpack(UNIT, f[6])
end
local function score(u)
  if u.state == 1 then return int(math.floor(u.taken / 1000)) end
  if u.state == 3 then return int(-math.floor(u.taken / 1000)) end
  if u.state == 4 and u.past == 0 then return int(10000000000000 + math.floor((u.taken + u.ttl) / 1000)) end
end
local function put(u, new)
  redis.call('HSET', H, 'i' .. id, struct.pack(UNIT, u.state, u.quantity, u.past, u.token, u.created, u.taken, u.ttl,
    u.principal))
  local s = score(u)
  if s then redis.call('ZADD', Z, s, 'o' .. id) else redis.call('ZREM', Z, 'o' .. id) end
  if new then redis.call('ZADD', Z, int(v), 'v' .. id) end
end
local function remove()
  redis.call('HDEL', H, 'i' .. id)
  redis.call('ZREM', Z, 'o' .. id, 'v' .. id)
end
local function count(principal, taken, new) -- before put
  n = n + taken
  if new or taken ~= 0 then v = v + 1 end
  redis.call('HSET', H, 'n', int(n), 'c', int(c), 'h', int(h), 'r', int(r), 'v', int(v))
  if taken ~= 0 then
    if principals + taken > 0 then
      redis.call('HSET', H, 'p' .. principal, int(principals + taken))
    else
      redis.call('HDEL', H, 'p' .. principal)
    end
  end
end
local function numbers() return struct.pack('>I8I8I8I8I8', n, c, h, r, v) end
`

// takeScript is sale.Decide. arg: mode (0 an item, 1 an item that is divided if it is new, 2 a part), token, created,
// ttl, quantity, total, units of a principal, until when the item is kept in milliseconds or 0, principal, what the
// part is granted, ID. Reply: verdict, whether it is new, how many replicas are connected (up to 255) where units are
// taken, numbers, for a part its flags. It asks for the replicas before it writes: without the right to it nothing is
// taken. An item that is new and is to be divided replies C, one that is divided S, and a part that has not enough N
// with its numbers, how many units it needs, and its credit.
const takeScript = prelude + replicasScript + creditScript + `
local mode, token, created, ttl, quantity, total, per, keep, principal, granted, under, second, chunk =
  struct.unpack('>Bc8I8I8I4I4I4I8c24I8I8BI4', arg)
id = arg:sub(91)
local divided = load(principal)
if divided then return divided end
if mode == 1 and not exists then return 'C' end
if mode == 2 then
  loadCredit()
  adopt(granted, under, second, chunk)
end
local past, over, flags = 0, 0, ''
if mode == 2 then flags = '\0' end
if unit then
  past = unit.past
  if unit.state == 4 then -- given back
  elseif unit.created == created then
    local online = replicas()
    if unit.state == 3 then
      unit.state = 1
      h = h - unit.quantity
    end
    unit.token, unit.ttl = token, math.min(unit.ttl, ttl)
    count(principal, 0, false)
    put(unit, false)
    return '\1\0' .. online .. numbers() .. flags
  elseif unit.state == 1 and now < unit.taken + unit.ttl then
    over = unit.quantity
  else
    past = past + unit.quantity
  end
end
local more = quantity - over
if mode == 2 then -- a buyer at its limit fetches nothing from other parts
  if per > 0 and principals + more > per then return '\3\0\0' .. numbers() .. flags end
  if more > 0 and not covers(more, total) then return 'N' .. numbers() .. struct.pack('>I4', more) .. creditOf() end
elseif n + more > total then
  return '\2\0\0' .. numbers()
end
if per > 0 and principals + more > per then return '\3\0\0' .. numbers() end
local online = replicas()
if unit and unit.state ~= 4 and over == 0 then -- it stays taken for good
  if unit.state == 3 then h = h - unit.quantity end
  if unit.state ~= 2 then c = c + unit.quantity end
end
if mode == 2 then flags = flagsOf(more) end
count(principal, more, true)
put({state = 1, quantity = quantity, past = past, token = token, created = created, taken = now, ttl = ttl,
  principal = principal}, true)
keepUntil(keep, {H, Z})
return '\1\1' .. online .. numbers() .. flags
`

// settleScript is sale.Settle. arg: end, token, lost, quantity, created, ttl, principal, ID. Reply: whether something
// was changed, numbers.
const settleScript = prelude + `
local what, token, lost, quantity, created, ttl, principal = struct.unpack('>Bc8BI4I8I8c24', arg)
id = arg:sub(55)
local divided = load(principal)
if divided then return divided end
local taken, new = 0, false
if not unit and lost == 1 and (what == 1 or what == 4) then
  unit = {state = 1, quantity = quantity, past = 0, token = token, created = created, taken = now, ttl = ttl,
    principal = principal}
  taken, new = quantity, true
end
if not unit or unit.token ~= token or unit.state == 2 or (what == 4 and unit.state ~= 1) then
  return '\0' .. numbers()
end
if unit.state == 4 then
  if what ~= 3 or unit.past > 0 then return '\0' .. numbers() end
  remove()
  return '\1' .. numbers()
end
if unit.state == 3 then h = h - unit.quantity end
if what == 1 then
  unit.state = 2
  c = c + unit.quantity
elseif what == 4 then
  unit.state = 3
  h = h + unit.quantity
else
  unit.state = 4
  taken = taken - unit.quantity
  r = r + unit.quantity
end
count(principal, taken, new)
if what == 3 and unit.past == 0 then remove() else put(unit, new) end
return '\1' .. numbers()
`

// openScript lists units. arg: state, age in microseconds, limit. Where there are more it takes a part of them by the
// clock, so that those which stay as they are do not keep others from being looked at. Reply: the time, for each the
// length of its ID, the ID, the unit.
const openScript = keysPrelude + `
local divided = redis.call('HGET', H, 's')
if divided then return 'S' .. divided:sub(1, 2) end
local state, age, limit = struct.unpack('>BI8I4', arg)
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
age = math.floor(age / 1000)
local function int(n) return string.format('%.0f', n) end
local ranges
if state == 1 then
  ranges = {{'1000000000000', int(now - age)}, {int(now + 1), '9000000000000'}}
elseif state == 3 then
  ranges = {{'-9000000000000', '-1000000000000'}}
else
  ranges = {{'10000000000000', int(10000000000000 + now - age)}}
end
local out = {}
for _, range in ipairs(ranges) do
  if limit > 0 then
    local parts = math.ceil(redis.call('ZCOUNT', Z, range[1], range[2]) / limit)
    local from = parts > 1 and time[2] % parts * limit or 0
    local ids = redis.call('ZRANGEBYSCORE', Z, range[1], range[2], 'LIMIT', from, limit)
    limit = limit - #ids
    for _, member in ipairs(ids) do
      local id = member:sub(2)
      local unit = redis.call('HGET', H, 'i' .. id)
      if unit then out[#out + 1] = struct.pack('>I2', #id) .. id .. unit end
    end
  end
end
return struct.pack('>I8', micros) .. table.concat(out)
`

// changesScript lists IDs by version. arg: version, limit. Reply: numbers, the version up to which they are complete,
// for each the length of its ID and the ID.
const changesScript = keysPrelude + `
local since, limit = struct.unpack('>I8I4', arg)
local f = redis.call('HMGET', H, 'n', 'c', 'h', 'r', 'v', 's')
if f[6] then return 'S' .. f[6]:sub(1, 2) end
for i = 1, 5 do f[i] = tonumber(f[i] or 0) end
local ids = redis.call('ZRANGEBYSCORE', Z, '(' .. string.format('%.0f', since), '900000000000', 'WITHSCORES',
  'LIMIT', 0, limit)
local out, last = {}, f[5]
for i = 1, #ids, 2 do
  local id = ids[i]:sub(2)
  out[#out + 1] = struct.pack('>I2', #id) .. id
  if #ids == 2 * limit then last = tonumber(ids[i + 1]) end
end
return struct.pack('>I8I8I8I8I8I8', f[1], f[2], f[3], f[4], f[5], last) .. table.concat(out)
`

var (
	take    = redisx.NewScript(takeScript).UntilRun().Replicated(replicable)
	settle  = redisx.NewScript(settleScript).UntilRun()
	open    = redisx.NewScript(openScript).UntilRun()
	changes = redisx.NewScript(changesScript).UntilRun()
)

// replicable tells by the reply of [takeScript] whether units were taken that a replica can have.
func replicable(reply string) bool {
	return len(reply) > 2 && reply[0] == byte(sale.Taken) && reply[2] > 0
}
