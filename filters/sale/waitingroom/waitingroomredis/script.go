package waitingroomredis

import "github.com/sluice-gateway/sluice/filters/store/redisx"

// exchangeScript is [waitingroom.Line.Exchange], which says what it does and why; a test holds the two together. The
// line is a hash: o opened, e early, i issued, s serving, c credit, t trend, l lead, b backlog, g granted, a at, h
// held, m the sketch. Argument: eleven doubles, the members of a report, and registers of three bytes.
var exchangeScript = redisx.NewScript(source)

const source = `
local opens, rate, newcomers, want, returned, turned, waited, kopen, kearly, kissued, kserving, from =
  struct.unpack('>ddddddddddd', ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local names = {'o', 'e', 'i', 's', 'c', 't', 'l', 'b', 'g', 'a', 'h'}
local v, stored = {}, redis.call('HMGET', KEYS[1], unpack(names))
for n, name in ipairs(names) do v[name] = tonumber(stored[n] or 0) end
local open = now >= opens or kopen == 1
local function bound(seconds, least) return math.max(rate * seconds, least) end
local function save(pairs)
  redis.call('HSET', KEYS[1], unpack(pairs))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', 86400000 + math.max(0, math.ceil((opens - now) / 1000))))
end
local function reply(opened, direct, tokens, first, numbers, speed)
  return struct.pack('>BBdddddddd', opened, direct, tokens, first, numbers, v.e, v.i, v.s, speed, v.g)
end

if not open and v.o == 1 then
  redis.call('DEL', KEYS[1])
  for _, name in ipairs(names) do v[name] = 0 end
end
if v.o == 0 then
  if from <= #ARGV[1] then
    local m = redis.call('HGET', KEYS[1], 'm') or string.rep('\0', 2048)
    local ranks = {}
    for n = 1, 2048, 256 do
      for k, rank in ipairs({string.byte(m, n, n + 255)}) do ranks[n + k - 1] = rank end
    end
    while from + 2 <= #ARGV[1] do
      local index, rank
      index, rank, from = struct.unpack('>HB', ARGV[1], from)
      if index < 2048 and rank > ranks[index + 1] then ranks[index + 1] = rank end
    end
    local sum, zeros, parts = 0, 0, {}
    for n, rank in ipairs(ranks) do
      sum = sum + math.ldexp(1, -rank)
      if rank == 0 then zeros = zeros + 1 end
      parts[n] = string.char(rank)
    end
    local e = 0.7213 / (1 + 1.079 / 2048) * 2048 * 2048 / sum
    if e <= 2.5 * 2048 and zeros > 0 then e = 2048 * math.log(2048 / zeros) end
    v.e = math.floor(e + 0.5)
    save({'m', table.concat(parts), 'e', string.format('%.17g', v.e)})
  end
  if not open then return reply(0, 0, 0, 0, 0, 0) end
  if kopen == 1 then v.e = kearly end
  v.o, v.i, v.a, v.l = 1, v.e, now, bound(1, 1)
  if v.e == 0 then v.c = bound(0.1, 1) end
end

if kopen == 1 then
  v.i = math.max(v.i, kissued, kserving)
  v.s = math.max(v.s, kserving)
end

local dt = math.min(math.max(now - v.a, 0), 30000000) / 1e6
local direct = true
v.a = now
v.g = v.g - returned
if rate > 0 then
  if turned > 0 or waited > 0 then v.h = now + 2000000 end
  direct = not (v.i > v.s or now < v.h and v.h <= now + 2000000)
  local most = direct and bound(0.1, 1) or bound(0.5, 2)
  local credit = v.c + returned + rate * dt
  v.c = math.min(credit, most)
  if not direct then
    if v.t == 0 then v.t = 1 end
    v.b = v.b * math.exp(-dt) + turned + waited
    local lack = math.max(0.6 - v.b / rate, -1)
    v.t = math.min(math.max(v.t + 0.05 * lack * dt + 0.25 * (credit - v.c) / rate, 0.5), 8)
    local pace = math.min(math.max(v.t + 0.4 * lack, 0), 8)
    local serve = v.s + v.l + pace * rate * dt
    v.s = math.min(serve, v.i)
    v.l = math.min(serve - v.s, bound(1, 1))
  end
end
if direct then
  v.s, v.t, v.b = v.i, 1, 0
  if rate > 0 then v.l = bound(1, 1) end
end

local tokens = want
if rate > 0 then
  tokens = math.min(want, math.floor(v.c))
  v.c = v.c - tokens
end
v.g = v.g + tokens
local numbers = newcomers
if direct then numbers = math.max(newcomers - tokens, 0) end
local first, speed = v.i + 1, v.t * rate
v.i = v.i + numbers
local all = {}
for _, name in ipairs(names) do
  all[#all + 1] = name
  all[#all + 1] = string.format('%.17g', v[name])
end
save(all)
return reply(1, direct and 1 or 0, tokens, first, numbers, speed)
`
