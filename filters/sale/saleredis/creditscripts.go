package saleredis

import "github.com/sluice-gateway/sluice/filters/store/redisx"

// replicasScript is what scripts share that a replica has to acknowledge: how many are online, up to 255.
const replicasScript = `
local function replicas()
  local _, online = redis.call('INFO', 'replication'):gsub('state=online', '')
  return string.char(math.min(online, 255))
end
local function keepUntil(keep, keys)
  for _, key in ipairs(keys) do
    if keep > 0 then redis.call('PEXPIREAT', key, string.format('%.0f', keep)) else redis.call('PERSIST', key) end
  end
end
`

// creditScript is what the scripts on a part share, after load. The credit of a part is one field: what it was granted
// ever, what it gave back ever, the total under which it was granted and 1, or 0 where nothing is taken by what it has,
// the units that had come back when it was granted last, whether all units had been given out before that, and below
// how many that are left more are fetched.
const creditScript = `
local g, b, under1, r0, second0, low = 0, 0, 0, 0, 0, 0
local CREDIT = '>I8I8I8I8BI4'
local function loadCredit()
  if credit then g, b, under1, r0, second0, low = struct.unpack(CREDIT, credit) end
end
local function saveCredit() redis.call('HSET', H, 'q', struct.pack(CREDIT, g, b, under1, r0, second0, low)) end
local function adopt(granted, under, second, chunk)
  if granted <= g then return end -- known, and perhaps given back since
  g, under1, r0, second0, low = granted, under + 1, r, second, math.floor(chunk / 4)
  saveCredit()
end
local function covers(more, total) return under1 > 0 and total >= under1 - 1 and n + more <= g - b end
local function creditOf() return struct.pack('>I8I8B', g, b, under1 > 0 and 0 or 1) end
local function flagsOf(more) -- 1: the units may be sold again; 2: few are left
  local flags, left = 0, g - b - n
  if second0 == 1 or r > r0 and more + r - r0 >= left then flags = 1 end
  if second0 == 0 and left >= low and left - more < low then flags = flags + 2 end
  return string.char(flags)
end
`

// adoptScript has a part know of a grant. arg: what it is granted, under which total, whether all units had been given
// out before, how many units came with it.
const adoptScript = prelude + creditScript + `
id = ''
load('')
loadCredit()
adopt(struct.unpack('>I8I8BI4', arg))
return '\0'
`

// recallScript has a part give back what it has left, and take nothing until it is granted something again. arg: what
// it was granted ever, as the books have it, and until when the item is kept. Reply: 1, 0, how many replicas are
// connected, numbers, credit. It writes in any case: what it did before may be what no replica has.
const recallScript = prelude + replicasScript + creditScript + `
local granted, keep = struct.unpack('>I8I8', arg)
id = ''
load('')
loadCredit()
local online = replicas()
if granted > g then g, r0 = granted, r end
b, under1 = b + math.max(g - b - n, 0), 0
saveCredit()
keepUntil(keep, {H, Z})
return '\1\0' .. online .. numbers() .. creditOf()
`

// grantScript keeps the books of an item that is divided: the total in force and 1, or 0 before there was one; whether
// all units have been given out under it; and for each part what it was granted and gave back ever, and whether it
// takes nothing since. The field n is a word, so that a gateway of an earlier version fails
// on the item before it changes anything.
//
// arg: how many parts the item is divided into if it is new, or 0; the part that wants units; how many; the total;
// until when the item is kept; the reports of parts: part, granted, given back, taken, whether it takes nothing.
//
// Reply: U where the item is not divided. Else 1 where the part is granted units and 2 where the parts have to give
// some back first, 0, how many replicas are connected if 1, how it is divided, what the part is granted ever, the total
// in force, whether all had been given out before, how many units came with it, for each part what it was granted ever.
const grantScript = keysPrelude + replicasScript + `
local parts, part, want, total, keep, reports = struct.unpack('>BBI4I4I8B', arg)
local state = redis.call('HGET', H, 's')
local under1, all = 0, 0
local g, b, d = {}, {}, {}
if state then
  local at
  parts, under1, all, at = struct.unpack('>xBI8B', state)
  for i = 1, parts do g[i], b[i], d[i], at = struct.unpack('>I8I8B', state, at) end
else
  if parts == 0 or redis.call('EXISTS', H) == 1 then return 'U' end
  for i = 1, parts do g[i], b[i], d[i] = 0, 0, 0 end
end
local at = 20
local seen = g[part + 1]
for _ = 1, reports do
  local i, granted, back, taken, idle
  i, granted, back, taken, idle, at = struct.unpack('>BI8I8I8B', arg, at)
  i = i + 1
  if i == part + 1 then seen = granted end
  g[i], b[i] = math.max(g[i], granted), math.max(b[i], back)
  if g[i] == granted then
    d[i] = idle
    -- Units that were lost and stored again. A report from before it gave some back says nothing of them.
    if b[i] == back then g[i] = math.max(g[i], taken + back) end
  end
end
local out, idle = 0, 1
for i = 1, parts do
  out = out + g[i] - b[i]
  if d[i] == 0 then idle = 0 end
end
if under1 ~= total + 1 and idle == 1 then under1, all = total + 1, 0 end
if out >= under1 - 1 then all = 1 end
local before, what, chunk, online = all, 2, 0, '\0'
if under1 > 0 and total >= under1 - 1 then
  local left = under1 - 1 - out
  if g[part + 1] > seen and left >= 0 then
    what = 1 -- it does not know of all that it has
    d[part + 1] = 0
  elseif left >= want then
    what = 1
    chunk = math.max(want, math.min(math.floor(left / (2 * parts)), 1000000))
    g[part + 1], d[part + 1] = g[part + 1] + chunk, 0
    if out + chunk >= under1 - 1 then all = 1 end
  end
end
if what == 1 then online = replicas() end
local books = {struct.pack('>BBI8B', 1, parts, under1, all)}
local list = {}
for i = 1, parts do
  books[#books + 1] = struct.pack('>I8I8B', g[i], b[i], d[i])
  list[#list + 1] = struct.pack('>I8', g[i])
end
redis.call('HSET', H, 'n', 'divided', 's', table.concat(books))
keepUntil(keep, {H})
return string.char(what) .. '\0' .. online .. string.char(1, parts) .. struct.pack('>I8I8BI4', g[part + 1],
  math.max(under1 - 1, 0), before, chunk) .. table.concat(list)
`

var (
	adopt  = redisx.NewScript(adoptScript).UntilRun()
	recall = redisx.NewScript(recallScript).UntilRun().Replicated(replicable)
	grant  = redisx.NewScript(grantScript).UntilRun().Replicated(replicable)
)
