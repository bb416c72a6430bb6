local H, Z = KEYS[1], KEYS[2]
if not Z then return 'K' end
local since, limit = struct.unpack('>I8I4', ARGV[1])
local f = redis.call('HMGET', H, 'n', 'c', 'h', 'r', 'v')
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
