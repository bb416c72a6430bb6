local H, Z = KEYS[1], KEYS[2]
if not Z then return 'K' end
local state, age, limit = struct.unpack('>BI8I4', ARGV[1])
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
