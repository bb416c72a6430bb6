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

local what, token, lost, quantity, created, ttl, principal = struct.unpack('>Bc8BI4I8I8c24', arg)
id = arg:sub(55)
load(principal)
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
