local H, Z, arg = KEYS[1], KEYS[2], ARGV[1]
if not Z then return 'K' end -- redisx.NeedsAllKeys
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local UNIT = '>BI4I4c8I8I8I8c24'
local function int(n) return string.format('%.0f', n) end
local id, unit, n, c, h, r, v, principals
local function load(principal)
  local f = redis.call('HMGET', H, 'n', 'c', 'h', 'r', 'v', 'i' .. id, 'p' .. principal)
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

local function replicas()
  local _, online = redis.call('INFO', 'replication'):gsub('state=online', '')
  return string.char(math.min(online, 255))
end
local token, created, ttl, quantity, total, per, keep, principal = struct.unpack('>c8I8I8I4I4I4I8c24', arg)
id = arg:sub(69)
load(principal)
local past, over = 0, 0
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
    return '\1\0' .. online .. numbers()
  elseif unit.state == 1 and now < unit.taken + unit.ttl then
    over = unit.quantity
  else
    past = past + unit.quantity
  end
end
if n - over + quantity > total then return '\2\0\0' .. numbers() end
if per > 0 and principals - over + quantity > per then return '\3\0\0' .. numbers() end
local online = replicas()
if unit and unit.state ~= 4 and over == 0 then -- it stays taken for good
  if unit.state == 3 then h = h - unit.quantity end
  if unit.state ~= 2 then c = c + unit.quantity end
end
count(principal, quantity - over, true)
put({state = 1, quantity = quantity, past = past, token = token, created = created, taken = now, ttl = ttl,
  principal = principal}, true)
for _, key in ipairs({H, Z}) do
  if keep > 0 then redis.call('PEXPIREAT', key, int(keep)) else redis.call('PERSIST', key) end
end
return '\1\1' .. online .. numbers()
