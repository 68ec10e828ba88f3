-- Adds to counters: pairs of name and amount, from ARGV[first] on.
local function count(first)
  for i = first, #ARGV, 2 do
    local how = string.find(ARGV[i + 1], '.', 1, true) and 'HINCRBYFLOAT' or 'HINCRBY'
    redis.call(how, prefix .. 'counters', ARGV[i], ARGV[i + 1])
  end
end
