-- Adds `seconds` to the histogram `name`. A bucket does not contain the ones below it: who reads them sums them up.
local function observe(name, seconds)
  local counters_key, bucket = prefix .. 'counters', 'inf'
  for edge in string.gmatch(edges, '%S+') do
    if seconds <= tonumber(edge) then
      bucket = edge
      break
    end
  end
  redis.call('HINCRBY', counters_key, name .. ':' .. bucket, 1)
  redis.call('HINCRBYFLOAT', counters_key, name .. ':sum', seconds)
end
