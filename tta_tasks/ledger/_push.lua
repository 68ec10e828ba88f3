-- Messages by the list they go into; they are pushed together, at the end of the script.
local pushed = {}
local function push_later(list, message)
  pushed[list] = pushed[list] or {}
  table.insert(pushed[list], message)
end

local function push()
  for list, messages in pairs(pushed) do
    for i = 1, #messages, 1000 do redis.call('LPUSH', list, unpack(messages, i, math.min(i + 999, #messages))) end
  end
end
