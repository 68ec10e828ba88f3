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

-- The fields of a hash that there are.
local function read(key, ...)
  local found, values = {}, redis.call('HMGET', key, ...)
  for i, name in ipairs({...}) do
    if values[i] then found[name] = values[i] end
  end
  return found
end

-- Adds to counters: name and amount, from this argument on.
local function count(first)
  for i = first, #ARGV, 2 do
    local how = string.find(ARGV[i + 1], '.', 1, true) and 'HINCRBYFLOAT' or 'HINCRBY'
    redis.call(how, prefix .. 'counters', ARGV[i], ARGV[i + 1])
  end
end

-- Tells what happened to a task to who watches its run, or it.
local function tell(run, id, what, message, worker)
  local stream = run or id
  redis.call('XADD', prefix .. 'events:' .. stream, 'MAXLEN', '~', max_events, '*', 'run_id', stream, 'task_id', id,
             'at', now, 'what', what, 'message', message, 'worker', worker)
end

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

-- Earlier tasks that are waited for, and which of these come after each.
local awaited = {}
-- Makes `id` wait for those of `earlier` that have not ended; how many there are, and why it need not be begun at all.
local function wait(id, earlier)
  local waits, blocked = 0, nil
  for other in string.gmatch(earlier, '%S+') do
    local before = redis.call('HMGET', key_of(other), 'status', 'label', 'stage')
    if before[1] and not ended(before[1]) then
      waits = waits + 1
      awaited[other] = awaited[other] or {redis.call('HGET', key_of(other), '_after') or ''}
      table.insert(awaited[other], id .. ' ')
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
    local fields = {'request', request, 'status', 'queued', 'label', label,
                    unpack(unmet > 0 and kind.fields or kind.ready)}
    local function set(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
    if after ~= '' then set('_after', after) end
    if blocked then set('_blocked', blocked) end
    if unmet > 0 then
      look = kind.deadline or now + keep / 2
      set('unmet', unmet)
      set('_list', kind.list)
      if #kind.message > 0 then set('_message', message_of(kind, id, shown)) end
    elseif not delivered and #kind.message > 0 then
      pushed[kind.list] = pushed[kind.list] or {}
      table.insert(pushed[kind.list], message_of(kind, id, shown))
    elseif not delivered then
      answers[#answers] = 2
    end
    redis.call('HSET', key, unpack(fields))
    redis.call('EXPIRE', key, keep)
    opened[kind.queue] = opened[kind.queue] or {}
    table.insert(opened[kind.queue], look)
    table.insert(opened[kind.queue], id)
  end
end
for other, after in pairs(awaited) do redis.call('HSET', key_of(other), '_after', table.concat(after)) end
for queue, tasks in pairs(opened) do redis.call('ZADD', prefix .. 'open:' .. queue, unpack(tasks)) end
push()
return answers
"""
)

# How a worker begins a task.
BEGINNING: Final = """
-- ``fields`` are more of the task's own, in pairs.
local function begin(id, key, task, worker, slots, due, mark, fields)
  redis.call('HSET', key, 'status', 'running', 'worker', worker, 'slots', slots, 'progress', '', 'lease_until', due,
             '_start', mark, 'started_at', task.started_at or now, 'attempts', (task.attempts or 0) + 1, unpack(fields))
  -- However alive its worker is: a deadline must not go unnoticed.
  local look = task.deadline and math.min(tonumber(task.deadline), tonumber(due)) or due
  redis.call('ZADD', prefix .. 'open:' .. task.queue, look, id)
  redis.call('ZADD', prefix .. 'running:' .. task.queue, due, id)
  redis.call('HINCRBY', prefix .. 'counters', 'started:' .. task.stage, 1)
  tell(task.run_id, id, 'running', '', worker)
end
"""

# ARGV from 5: task id, name, worker, its slots, end of the lease, name of this start (it may be sent twice when its
# connection breaks before the answer), 1 if the broker delivers its message again, 1 if a promotion was seen to.
# Answers what became of it and the task's fields: moved; unknown, foreign (it has another name), ended, early (it waits
# for others), unwanted (its run was cancelled), blocked (what it needs did not end well), busy (somebody is doing it),
# ready (a deployment whose promotion is to be seen to).
BEGIN: Final = (
    HEAD
    + BEGINNING
    + """
local id, name, worker, slots, due, mark = unpack(ARGV, 5, 10)
local key = key_of(id)
local task = read(key, 'status', 'name', 'unmet', 'run_id', '_blocked', 'lease_until', '_start', 'queue', 'deadline',
                  'stage', 'started_at', 'attempts')
if not task.status then return {'unknown'} end

local function refusal()
  if task.name ~= name then return 'foreign' end
  if ended(task.status) then return 'ended' end
  if tonumber(task.unmet or 0) > 0 then return 'early' end
  if task.run_id and redis.call('HGET', prefix .. 'run:' .. task.run_id, 'cancelled') == '1' then return 'unwanted' end
  if task._blocked then return 'blocked' end
  -- A copy of the message, while somebody is at work: one of them is enough.
  local held = task.status == 'running' and tonumber(task.lease_until or 0) > tonumber(now)
  if held then return task._start == mark and 'moved' or 'busy' end
  if name == 'tta_tasks.deploy' and ARGV[12] ~= '1' and not task.started_at then return 'ready' end
end

local refused = refusal()
if refused then return {refused, redis.call('HGETALL', key)} end
if task.status == 'running' then redis.call('HINCRBY', key, 'losses', 1) end
if task.status == 'parked' then redis.call('ZREM', prefix .. 'parked:' .. task.queue, id) end
if ARGV[11] == '1' then redis.call('HINCRBY', prefix .. 'counters', 'redelivered:' .. task.stage, 1) end
begin(id, key, task, worker, slots, due, mark, {})
redis.call('EXPIRE', prefix .. 'events:' .. (task.run_id or id), keep)
return {'moved', redis.call('HGETALL', key)}
"""
)

# ARGV from 5: task id, new status, worker, payload, due, mark, counter, amount, ...
# new status: progress (payload = message); queued (payload = why, due = when to look after it, mark = 1 when it was
#   lost while it ran; with a worker only if that one is doing it, without only if nobody holds it).
# Answers moved, ended, busy or unknown.
MOVE: Final = (
    HEAD
    + """
local id, new, worker, payload, due, mark = unpack(ARGV, 5, 10)
local key = key_of(id)
local task = read(key, 'status', 'lease_until', 'deadline', 'queue', 'run_id', 'worker', 'started_at')
if not task.status then return 'unknown' end
if ended(task.status) then return 'ended' end

if new == 'progress' then
  if task.status ~= 'running' then return 'ended' end
  redis.call('HSET', key, 'progress', payload)
else
  local held = task.status == 'running' and tonumber(task.lease_until or 0) > tonumber(now)
  if worker == '' and held then return 'busy' end
  if worker ~= '' and (task.status ~= 'running' or task.worker ~= worker) then return 'busy' end
  if task.status == 'running' and mark == '1' then redis.call('HINCRBY', key, 'losses', 1) end
  redis.call('HSET', key, 'status', new, 'progress', payload, 'lease_until', 0, 'published_at', now)
  local look = task.deadline and math.min(tonumber(task.deadline), tonumber(due)) or due
  redis.call('ZADD', prefix .. 'open:' .. task.queue, look, id)
  redis.call('ZREM', prefix .. 'running:' .. task.queue, id)
  if task.status == 'parked' then redis.call('ZREM', prefix .. 'parked:' .. task.queue, id) end
  redis.call('PUBLISH', key, new)
end
count(11)
tell(task.run_id, id, new, payload, worker)
redis.call('EXPIRE', key, keep)
if not task.started_at then redis.call('EXPIRE', prefix .. 'events:' .. (task.run_id or id), keep) end
return 'moved'
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

# ARGV from 5: task id, terminal status, worker, result, grace; to begin the run's next task of the same name with it:
# name of that start (else empty), task whose message the worker goes on with, slots, end of the lease; counter,
# amount, ...
# Answers moved, ended or unknown; ids of tasks that can begin now and are to be published by the caller; id and fields
# of the task that was begun, where one was.
FINISH: Final = (
    HEAD
    + BEGINNING
    + OBSERVE
    + f"local MIN_WINDOW = {MIN_WINDOW}\n"
    + """
local id, new, worker, result, grace, mark, head, slots, due = unpack(ARGV, 5, 13)
local key, ready = key_of(id), {}
local task = read(key, 'status', 'name', 'queue', 'stage', 'run_id', 'started_at', 'label', '_blocked', '_after',
                  'published_at')
if not task.status then return {'unknown', ready} end
local queue, run = task.queue, task.run_id
local runs = run and prefix .. 'run:' .. run

if ended(task.status) then
  -- Told twice, when its connection broke before the answer: what was begun then still is, if nobody took it for lost.
  local other = mark ~= '' and redis.call('HGET', key_of(head), '_then')
  local found = other and read(key_of(other), '_start', 'status')
  if found and found._start == mark and found.status == 'running' then
    return {'ended', ready, other, redis.call('HGETALL', key_of(other))}
  end
  return {'ended', ready}
end

local function backlog(place) return prefix .. 'backlog:' .. run .. ':' .. place end
local function waiting(place) return redis.call('LLEN', backlog(place)) end

local widths = {}
local function window(place)
  if not widths[place] then widths[place] = tonumber(redis.call('GET', prefix .. 'window:' .. place) or MIN_WINDOW) end
  return widths[place]
end

local function forward(other, its_key)
  local found = read(its_key, 'queue', 'deadline', '_list', '_message')
  redis.call('HDEL', its_key, '_list', '_message')
  publish(other, its_key, found.queue, found._list, found._message, found.deadline, grace, ready)
end

-- What comes after this task waits for one less. ``blocked``: why it need not be begun at all.
local function release(blocked)
  local sent, room = {}, {}
  for other in string.gmatch(task._after or '', '%S+') do
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
      if room[place] > 0 then redis.call('HSET', runs, '_sent:' .. place, room[place]) end
    end
  end
end

-- The next of the run's tasks that is still to be done.
local function next_waiting()
  while true do
    local other = redis.call('LPOP', backlog(queue))
    if not other or redis.call('HGET', key_of(other), 'status') == 'queued' then return other end
  end
end

-- The worker begins the task at once, if it is one that needs no message of its own, nor its promotion seen to.
local begun
local function take(other, cancelled)
  if begun or mark == '' or cancelled == '1' or task.name == 'tta_tasks.deploy' then return false end
  local its_key = key_of(other)
  local found = read(its_key, 'name', 'queue', 'stage', 'run_id', 'deadline', '_blocked')
  if found.name ~= task.name or found._blocked then return false end
  redis.call('HDEL', its_key, '_list', '_message')
  begin(other, its_key, found, worker, slots, due, mark, {'published_at', now})
  redis.call('HSET', key_of(head), '_then', other)
  begun = other
  return true
end

-- Others follow from the run's backlog. ``sent`` of its tasks were published, and had not ended.
local function follow(sent, cancelled)
  if task.published_at then sent = sent - 1 end
  while sent < window(queue) do
    local other = next_waiting()
    if not other then break end
    sent = sent + 1
    if not take(other, cancelled) then forward(other, key_of(other)) end
  end
  redis.call('HSET', runs, '_sent:' .. queue, sent)
end

local optional, blocked = task.stage == 'generation' or task.stage == 'refactoring', false
if new == 'skipped' then
  blocked = task._blocked
elseif new ~= 'completed' and not optional then
  blocked = "'" .. task.label .. "' " .. new
end
redis.call('HSET', key, 'status', new, 'finished_at', now, 'progress', '', 'lease_until', 0, 'result', result)
redis.call('EXPIRE', key, keep)
redis.call('ZREM', prefix .. 'open:' .. queue, id)
redis.call('ZREM', prefix .. 'running:' .. queue, id)
if task.status == 'parked' then redis.call('ZREM', prefix .. 'parked:' .. queue, id) end
redis.call('PUBLISH', key, new)
tell(run, id, new, '', worker)
if not task.started_at then redis.call('EXPIRE', prefix .. 'events:' .. (run or id), keep) end
local function has_ended(what_run, what_task, how)
  redis.call('XADD', prefix .. 'ends', 'MAXLEN', '~', 10000, '*', 'run_id', what_run, 'task_id', what_task,
             'status', how, 'at', now)
  redis.call('EXPIRE', prefix .. 'ends', keep)
end
has_ended(run or '', id, new)

local known = run and read(runs, 'left', '_sent:' .. queue, 'cancelled') or {}
if known['_sent:' .. queue] and waiting(queue) > 0 then
  follow(tonumber(known['_sent:' .. queue]), known.cancelled)
end
release(blocked)
count(14)
if task.started_at then observe('task_seconds:' .. task.stage, tonumber(now) - tonumber(task.started_at)) end
if known.left then
  if new ~= 'completed' and not optional then redis.call('HSET', runs, 'failed', 1) end
  if redis.call('HINCRBY', runs, 'left', -1) == 0 then
    known = read(runs, 'created_at', 'failed', 'cancelled')
    local how = (known.cancelled == '1' and 'cancelled') or (known.failed and 'failed') or 'completed'
    redis.call('HINCRBY', prefix .. 'counters', 'runs:' .. how, 1)
    observe('run_seconds:' .. how, tonumber(now) - tonumber(known.created_at))
    has_ended(run, '', how)
    redis.call('EXPIRE', runs, keep)
    redis.call('EXPIRE', prefix .. 'counters', keep)
  end
else
  redis.call('EXPIRE', prefix .. 'counters', keep)
end
push()
if begun then return {'moved', ready, begun, redis.call('HGETALL', key_of(begun))} end
return {'moved', ready}
"""
)

# ARGV from 5: task id, queue, worker, end of the lease.
# The worker may have gone on with another task meanwhile, on this one's message.
RENEW: Final = (
    HEAD
    + """
local id, queue, worker, due = unpack(ARGV, 5, 8)
id = redis.call('HGET', key_of(id), '_then') or id
local task = read(key_of(id), 'status', 'worker', 'deadline')
if task.status ~= 'running' or task.worker ~= worker then return 0 end
redis.call('HSET', key_of(id), 'lease_until', due)
local look = task.deadline and math.min(tonumber(task.deadline), tonumber(due)) or due
redis.call('ZADD', prefix .. 'open:' .. queue, look, id)
redis.call('ZADD', prefix .. 'running:' .. queue, due, id)
redis.call('EXPIRE', key_of(id), keep)
return 1
"""
)
