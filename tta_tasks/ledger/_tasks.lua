local function key_of(id) return prefix .. 'task:' .. id end

-- The fields of a hash that exist.
local function read(key, ...)
  local found, values = {}, redis.call('HMGET', key, ...)
  for i, field in ipairs({...}) do
    if values[i] then found[field] = values[i] end
  end
  return found
end
