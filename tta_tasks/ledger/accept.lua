-- Records tasks, and publishes those that wait for no others.
-- args: prefix, retention, grace, delivered, kinds, batch...
--
-- delivered: 1 if their messages are delivered already.  kinds: how many kinds of tasks there are.
-- batch: for each kind: queue, list, deadline (or empty), how many parts its message has (none: the caller publishes),
-- they, how many fields and values, field, value, ... Every other part of a message says what of the task's own is
-- there: `id`, or its label. Then for each task: its kind, id, label, label as in a message, request; how many of those
-- handed in with it come before it, which earlier tasks do, and which of those handed in come after it (ids, each with
-- a space behind it).
-- Returns for each task 0 (known), 1 (new) or 2 (new, and to be published by the caller).
--#include _tasks
--#include _ended
--#include _push
--#include _now

local at, kind_of, answers = batch, {}, {}
local function take() at = at + 1; return ARGV[at - 1] end
-- As many arguments as the next one says.
local function several()
  local first = at + 1
  at = first + ARGV[at]
  return {unpack(ARGV, first, at - 1)}
end

delivered = delivered == '1'
for number = 1, tonumber(kinds) do
  local kind = {queue = take(), list = take(), deadline = tonumber(take()), message = several(), own = {}}
  for i = 2, #kind.message, 2 do kind.own[i] = kind.message[i] == 'id' end
  kind.look = delivered and kind.deadline or math.min(now + grace, kind.deadline or math.huge)
  kind.fields = several()
  kind.ready = {unpack(kind.fields)}
  if not delivered then
    kind.ready[#kind.ready + 1] = 'published_at'
    kind.ready[#kind.ready + 1] = now
  end
  kind_of[number] = kind
end

local function message_of(kind, id, label)
  local parts = kind.message
  for i = 2, #parts, 2 do parts[i] = kind.own[i] and id or label end
  return table.concat(parts)
end

-- Earlier tasks that are waited for, and which of these come after each.
local awaited = {}
-- Makes `id` wait for those of `earlier` that have not ended. Returns how many they are, and why it need not be begun.
local function wait(id, earlier)
  local waits, blocked = 0, nil
  for other in string.gmatch(earlier, '%S+') do
    local before = read(key_of(other), 'status', 'label', 'optional')
    if before.status and not ended(before.status) then
      waits = waits + 1
      awaited[other] = awaited[other] or {redis.call('HGET', key_of(other), '_after') or ''}
      table.insert(awaited[other], id .. ' ')
    elseif before.status ~= 'completed' and before.optional ~= '1' then
      blocked = before.status and "'" .. before.label .. "' " .. before.status or ''
    end
  end
  return waits, blocked
end

-- Tasks and when they are looked after, by queue.
local opened = {}
while at <= #ARGV do
  local kind, id, label, shown, request = kind_of[tonumber(take())], take(), take(), take(), take()
  local together, earlier, after, key = tonumber(take()), take(), take(), key_of(id)
  if redis.call('EXISTS', key) == 1 then
    answers[#answers + 1] = 0
  else
    local waits, blocked = wait(id, earlier)
    local unmet, look = waits + together, kind.look
    answers[#answers + 1] = 1
    local fields = {'request', request, 'status', 'queued', 'label', label, 'submitted_at', now,
                    unpack(unmet > 0 and kind.fields or kind.ready)}
    local function set(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
    if after ~= '' then set('_after', after) end
    if blocked then set('_blocked', blocked) end
    if unmet > 0 then
      look = kind.deadline or now + retention / 2
      set('unmet', unmet)
      set('_list', kind.list)
      if #kind.message > 0 then set('_message', message_of(kind, id, shown)) end
    elseif not delivered and #kind.message > 0 then
      push_later(kind.list, message_of(kind, id, shown))
    elseif not delivered then
      answers[#answers] = 2
    end
    redis.call('HSET', key, unpack(fields))
    redis.call('EXPIRE', key, retention)
    opened[kind.queue] = opened[kind.queue] or {}
    table.insert(opened[kind.queue], look)
    table.insert(opened[kind.queue], id)
  end
end
for other, after in pairs(awaited) do redis.call('HSET', key_of(other), '_after', table.concat(after)) end
for queue, tasks in pairs(opened) do redis.call('ZADD', prefix .. 'open:' .. queue, unpack(tasks)) end
push()
return answers
