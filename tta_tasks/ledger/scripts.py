"""The ledger's transitions, as Lua: each is one atomic step in Redis.

Terminal statuses are final, and the first one wins. Times are seconds since the epoch. Every script begins with the
arguments ``prefix, retention, now, max events`` and makes its keys from them; so they need one Redis, not a cluster.

What a task waits for is counted down in the same step that ends the last task before it; where the broker is this Redis
(``_message`` is set), its message is put into its queue in that step, too, and nothing can come between.

A run has only so many messages in a queue at a time (``window``: as many as keep its workers busy). What else is
ready waits in ``<prefix>backlog:<run>:<queue>``, and follows as tasks of that run end. So a run of a thousand modules
does not stand before one of three.
"""

from __future__ import annotations

from typing import Final

from tta_tasks.ledger.counters import EDGES

#: Messages that a run may have in a queue at a time, however few workers there are.
MIN_WINDOW: Final = 32

HEAD: Final = """
local prefix, keep, now, max_events = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function key_of(id) return prefix .. 'task:' .. id end

local function ended(status) return status ~= 'queued' and status ~= 'parked' and status ~= 'running' end

-- Messages by the list they go into.
local pushed = {}
local function push()
  for list, messages in pairs(pushed) do
    for i = 1, #messages, 1000 do redis.call('LPUSH', list, unpack(messages, i, math.min(i + 999, #messages))) end
  end
end

-- The task can begin: its message is to go into its queue, where that is here; else its id is told to the caller.
-- ``grace``: when the reconciler looks whether it got through, in seconds from now.
local function publish(id, key, queue, list, message, deadline, grace, ready)
  local look = now + grace
  if deadline and tonumber(deadline) < look then look = deadline end
  redis.call('HSET', key, 'published_at', now)
  redis.call('ZADD', prefix .. 'open:' .. queue, look, id)
  if not message then
    ready[#ready + 1] = id
  elseif pushed[list] then
    table.insert(pushed[list], message)
  else
    pushed[list] = {message}
  end
end
"""

# ARGV from 5: grace, 1 if their messages are delivered already, how many kinds of tasks there are; for each kind:
# queue, list, deadline (or empty), how many parts its message has (none: the caller publishes), they, how many fields
# and values, field, value, ... Every other part of a message says what of the task's own is there: `id`, or its label.
# Then for each task: its kind, id, label, label as in a message, request; how many of those handed in with it come
# before it, which earlier tasks do, and which of those handed in come after it (ids, each with a space behind it).
# Answers for each task 0 (known), 1 (new) or 2 (new, and to be published by the caller).
ACCEPT: Final = (
    HEAD
    + """
local grace, delivered, at, kinds, answers = ARGV[5], ARGV[6] == '1', 8, {}, {}
local function take() at = at + 1; return ARGV[at - 1] end
-- As many arguments as the next one says.
local function several()
  local first = at + 1
  at = first + ARGV[at]
  return {unpack(ARGV, first, at - 1)}
end

for number = 1, tonumber(ARGV[7]) do
  local kind = {queue = take(), list = take(), deadline = tonumber(take()), message = several(), own = {}}
  for i = 2, #kind.message, 2 do kind.own[i] = kind.message[i] == 'id' end
  kind.look = delivered and kind.deadline or math.min(now + grace, kind.deadline or math.huge)
  kind.fields = several()
  kind.ready = {unpack(kind.fields)}
  if not delivered then
    kind.ready[#kind.ready + 1] = 'published_at'
    kind.ready[#kind.ready + 1] = now
  end
  kinds[number] = kind
end

local function message_of(kind, id, label)
  local parts = kind.message
  for i = 2, #parts, 2 do parts[i] = kind.own[i] and id or label end
  return table.concat(parts)
end

-- Makes `id` wait for those of `earlier` that have not ended; how many there are, and why it need not be begun at all.
local function wait(id, earlier)
  local waits, blocked = 0, nil
  for other in string.gmatch(earlier, '%S+') do
    local before = redis.call('HMGET', key_of(other), 'status', 'label', 'stage', '_after')
    if before[1] and not ended(before[1]) then
      waits = waits + 1
      redis.call('HSET', key_of(other), '_after', (before[4] or '') .. id .. ' ')
    elseif before[1] ~= 'completed' and before[3] ~= 'generation' and before[3] ~= 'refactoring' then
      blocked = before[1] and "'" .. before[2] .. "' " .. before[1] or ''
    end
  end
  return waits, blocked
end

-- Tasks and when they are looked after, by queue.
local opened = {}
while at <= #ARGV do
  local kind, id, label, shown, request = kinds[tonumber(take())], take(), take(), take(), take()
  local together, earlier, after, key = tonumber(take()), take(), take(), key_of(id)
  if redis.call('EXISTS', key) == 1 then
    answers[#answers + 1] = 0
  else
    local waits, blocked = wait(id, earlier)
    local unmet, look = waits + together, kind.look
    answers[#answers + 1] = 1
    redis.call('HSET', key, 'request', request, 'status', 'queued', 'label', label,
               unpack(unmet > 0 and kind.fields or kind.ready))
    redis.call('EXPIRE', key, keep)
    if after ~= '' then redis.call('HSET', key, '_after', after) end
    if blocked then redis.call('HSET', key, '_blocked', blocked) end
    if unmet > 0 then
      look = kind.deadline or now + keep / 2
      redis.call('HSET', key, 'unmet', unmet, '_list', kind.list)
      if #kind.message > 0 then redis.call('HSET', key, '_message', message_of(kind, id, shown)) end
    elseif #kind.message == 0 then
      if not delivered then answers[#answers] = 2 end
    elseif not delivered then
      pushed[kind.list] = pushed[kind.list] or {}
      table.insert(pushed[kind.list], message_of(kind, id, shown))
    end
    opened[kind.queue] = opened[kind.queue] or {}
    table.insert(opened[kind.queue], look)
    table.insert(opened[kind.queue], id)
  end
end
for queue, tasks in pairs(opened) do redis.call('ZADD', prefix .. 'open:' .. queue, unpack(tasks)) end
push()
return answers
"""
)

# ARGV from 5: task id, name, worker, its slots, end of the lease, name of this start (it may be sent twice when its
# connection breaks before the answer), 1 if the broker delivers its message again, 1 if a promotion was seen to.
# Answers what became of it and the task's fields: moved; unknown, foreign (it has another name), ended, early (it waits
# for others), unwanted (its run was cancelled), blocked (what it needs did not end well), busy (somebody is doing it),
# ready (a deployment whose promotion is to be seen to).
BEGIN: Final = (
    HEAD
    + """
local id, name, worker, slots, due, mark = unpack(ARGV, 5, 10)
local key = key_of(id)
local task = redis.call('HMGET', key, 'status', 'name', 'unmet', 'run_id', '_blocked', 'lease_until', '_start', 'queue',
                        'deadline', 'stage', 'started_at', 'attempts')
local status, run, deadline, queue = task[1], task[4], task[9], task[8]
if not status then return {'unknown'} end

local function refusal()
  if task[2] ~= name then return 'foreign' end
  if ended(status) then return 'ended' end
  if tonumber(task[3] or 0) > 0 then return 'early' end
  if run and redis.call('HGET', prefix .. 'run:' .. run, 'cancelled') == '1' then return 'unwanted' end
  if task[5] then return 'blocked' end
  -- A copy of the message, while somebody is at work: one of them is enough.
  local held = status == 'running' and tonumber(task[6] or 0) > tonumber(now)
  if held then return task[7] == mark and 'moved' or 'busy' end
  if name == 'tta_tasks.deploy' and ARGV[12] ~= '1' and not task[11] then return 'ready' end
end

local refused = refusal()
if refused then return {refused, redis.call('HGETALL', key)} end
if status == 'running' then redis.call('HINCRBY', key, 'losses', 1) end
if status == 'parked' then redis.call('ZREM', prefix .. 'parked:' .. queue, id) end
redis.call('HSET', key, 'status', 'running', 'worker', worker, 'slots', slots, 'progress', '', 'lease_until', due,
           '_start', mark, 'started_at', task[11] or now, 'attempts', (task[12] or 0) + 1)
-- However alive its worker is: a deadline must not go unnoticed.
local look = deadline and math.min(tonumber(deadline), tonumber(due)) or due
redis.call('ZADD', prefix .. 'open:' .. queue, look, id)
redis.call('ZADD', prefix .. 'running:' .. queue, due, id)
redis.call('HINCRBY', prefix .. 'counters', 'started:' .. task[10], 1)
if ARGV[11] == '1' then redis.call('HINCRBY', prefix .. 'counters', 'redelivered:' .. task[10], 1) end
local stream = run or id
redis.call('XADD', prefix .. 'events:' .. stream, 'MAXLEN', '~', max_events, '*', 'run_id', stream, 'task_id', id,
           'at', now, 'what', 'running', 'message', '', 'worker', worker)
redis.call('EXPIRE', prefix .. 'events:' .. stream, keep)
return {'moved', redis.call('HGETALL', key)}
"""
)

# Adds ``seconds`` to the histogram ``name``; its buckets are summed up by who reads them.
OBSERVE: Final = f"""
local function observe(name, seconds)
  local counters = prefix .. 'counters'
  local bucket = 'inf'
  for _, edge in ipairs({{{", ".join(map(str, EDGES))}}}) do
    if seconds <= edge then
      bucket = edge
      break
    end
  end
  redis.call('HINCRBY', counters, name .. ':' .. bucket, 1)
  redis.call('HINCRBYFLOAT', counters, name .. ':sum', seconds)
end
"""

# ARGV from 5: task id, new status, worker, payload, due, mark, grace, counter, amount, ...
# new status: progress (payload = message); queued (payload = why, due = when to look after it, mark = 1 when it was
#   lost while it ran; with a worker only if that one is doing it, without only if nobody holds it); else terminal
#   (payload = result).
# Answers moved, ended, busy or unknown, then the ids of tasks that can begin now and are to be published by the caller.
MOVE: Final = (
    HEAD
    + OBSERVE
    + f"local MIN_WINDOW = {MIN_WINDOW}\n"
    + """
local id, new, worker, payload, due, mark, grace = unpack(ARGV, 5, 11)
local key = key_of(id)
local task = redis.call('HMGET', key, 'status', 'lease_until', 'deadline', 'queue', 'stage', 'run_id', 'started_at',
                        'worker', 'label', '_blocked', '_after', 'published_at')
local status, deadline, queue, stage, run = task[1], task[3], task[4], task[5], task[6]
if not status then return {'unknown'} end
if ended(status) then return {'ended'} end
local held = status == 'running' and tonumber(task[2] or 0) > tonumber(now)
local message, answer = '', {'moved'}

local function backlog(place) return prefix .. 'backlog:' .. run .. ':' .. place end
local function waiting(place) return redis.call('LLEN', backlog(place)) end

local widths = {}
local function window(place)
  if not widths[place] then widths[place] = tonumber(redis.call('GET', prefix .. 'window:' .. place) or MIN_WINDOW) end
  return widths[place]
end

local function forward(other, its_key)
  local found = redis.call('HMGET', its_key, 'queue', 'deadline', '_list', '_message')
  redis.call('HDEL', its_key, '_list', '_message')
  publish(other, its_key, found[1], found[3], found[4], found[2], grace, answer)
end

-- What comes after this task waits for one less. ``blocked``: why it need not be begun at all.
local function release(blocked)
  local sent, room = {}, {}
  for other in string.gmatch(task[11] or '', '%S+') do
    local after = key_of(other)
    local found = redis.call('HMGET', after, 'status', 'queue')
    if found[1] == 'queued' then
      if blocked then redis.call('HSETNX', after, '_blocked', blocked) end
      if redis.call('HINCRBY', after, 'unmet', -1) == 0 then
        local place = found[2]
        -- Behind what waits already, nothing is published out of turn.
        room[place] = room[place] or (not run and 1e9) or (waiting(place) > 0 and 0) or window(place)
        sent[place] = (sent[place] or 0) + 1
        if sent[place] <= room[place] then
          forward(other, after)
        else
          redis.call('RPUSH', backlog(place), other)
        end
      end
    end
  end
  for place, number in pairs(sent) do
    if number > room[place] then
      redis.call('EXPIRE', backlog(place), keep)
      if room[place] > 0 then redis.call('HSET', prefix .. 'run:' .. run, '_sent:' .. place, room[place]) end
    end
  end
end

-- A task of the run has ended: others follow from its backlog. ``sent`` of them were published.
local function follow(sent)
  if task[12] then sent = sent - 1 end
  while sent < window(queue) do
    local other = redis.call('LPOP', backlog(queue))
    if not other then break end
    if redis.call('HGET', key_of(other), 'status') == 'queued' then
      sent = sent + 1
      forward(other, key_of(other))
    end
  end
  redis.call('HSET', prefix .. 'run:' .. run, '_sent:' .. queue, sent)
end

local function finish()
  redis.call('EXPIRE', prefix .. 'counters', keep)
  redis.call('HSET', key, 'status', new, 'finished_at', now, 'progress', '', 'lease_until', 0, 'result', payload)
  redis.call('ZREM', prefix .. 'open:' .. queue, id)
  redis.call('ZREM', prefix .. 'running:' .. queue, id)
  local optional, blocked = stage == 'generation' or stage == 'refactoring', false
  if new == 'skipped' then
    blocked = task[10]
  elseif new ~= 'completed' and not optional then
    blocked = "'" .. task[9] .. "' " .. new
  end
  local runs = run and prefix .. 'run:' .. run
  local known = run and redis.call('HMGET', runs, 'left', '_sent:' .. queue)
  if known and known[2] and waiting(queue) > 0 then follow(tonumber(known[2])) end
  release(blocked)
  if task[7] then observe('task_seconds:' .. stage, tonumber(now) - tonumber(task[7])) end
  if not (known and known[1]) then return end
  if new ~= 'completed' and not optional then redis.call('HSET', runs, 'failed', 1) end
  if redis.call('HINCRBY', runs, 'left', -1) == 0 then
    known = redis.call('HMGET', runs, 'created_at', 'failed', 'cancelled')
    local how = (known[3] == '1' and 'cancelled') or (known[2] and 'failed') or 'completed'
    redis.call('HINCRBY', prefix .. 'counters', 'runs:' .. how, 1)
    observe('run_seconds:' .. how, tonumber(now) - tonumber(known[1]))
    redis.call('EXPIRE', runs, keep)
  end
end

if new == 'progress' then
  if status ~= 'running' then return {'ended'} end
  redis.call('HSET', key, 'progress', payload)
  message = payload
elseif new == 'queued' then
  if worker == '' and held then return {'busy'} end
  if worker ~= '' and (status ~= 'running' or task[8] ~= worker) then return {'busy'} end
  if status == 'running' and mark == '1' then redis.call('HINCRBY', key, 'losses', 1) end
  redis.call('HSET', key, 'status', new, 'progress', payload, 'lease_until', 0, 'published_at', now)
  redis.call('ZADD', prefix .. 'open:' .. queue, deadline and math.min(tonumber(deadline), tonumber(due)) or due, id)
  redis.call('ZREM', prefix .. 'running:' .. queue, id)
  message = payload
else
  finish()
end
if status == 'parked' then redis.call('ZREM', prefix .. 'parked:' .. queue, id) end
for i = 12, #ARGV, 2 do
  local how = string.find(ARGV[i + 1], '.', 1, true) and 'HINCRBYFLOAT' or 'HINCRBY'
  redis.call(how, prefix .. 'counters', ARGV[i], ARGV[i + 1])
end
local stream = run or id
redis.call('XADD', prefix .. 'events:' .. stream, 'MAXLEN', '~', max_events, '*', 'run_id', stream, 'task_id', id,
           'at', now, 'what', new, 'message', message, 'worker', worker)
redis.call('EXPIRE', key, keep)
if not task[7] then redis.call('EXPIRE', prefix .. 'events:' .. stream, keep) end
if new ~= 'progress' then redis.call('PUBLISH', key, new) end
push()
return answer
"""
)

# ARGV from 5: task id, queue, worker, end of the lease.
RENEW: Final = """
local prefix, keep, id, queue, worker, due = ARGV[1], ARGV[2], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local key = prefix .. 'task:' .. id
local task = redis.call('HMGET', key, 'status', 'worker', 'deadline')
if task[1] ~= 'running' or task[2] ~= worker then return 0 end
redis.call('HSET', key, 'lease_until', due)
redis.call('ZADD', prefix .. 'open:' .. queue, task[3] and math.min(tonumber(task[3]), tonumber(due)) or due, id)
redis.call('ZADD', prefix .. 'running:' .. queue, due, id)
redis.call('EXPIRE', key, keep)
return 1
"""
