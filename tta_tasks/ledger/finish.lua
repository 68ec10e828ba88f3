-- Records how a task ended, publishes what waited for that, and lets the worker go on with the run's next task.
-- args: prefix, retention, max_events, max_ends, edges, min_window, grace, lease,
--       task_id, status, worker, result, start, message_id, slots, counters...
--
-- max_ends: ends kept for observers.  edges: of the buckets of histograms.
-- min_window: messages a run may have in a queue, however few workers there are.
-- lease: how long the next task is the worker's without a sign of life, in seconds.
-- start: names the start of the run's next task of the same name; empty if the worker does not go on.
-- message_id: the task whose message the worker has.
-- Returns applied, ended or unknown; ids of tasks that can begin now and are to be published by the caller; id and
-- fields of the task that was begun, if one was.
--#include _tasks
--#include _ended
--#include _push
--#include _begin
--#include _count
--#include _observe

local key, ready = key_of(task_id), {}
local task = read(key, 'status', 'name', 'queue', 'stage', 'run_id', 'started_at', 'label', '_blocked', '_after',
                  'published_at', 'optional', 'gated')
if not task.status then return {'unknown', ready} end
local queue, run = task.queue, task.run_id
local runs = run and prefix .. 'run:' .. run

if ended(task.status) then
  -- Told twice, when its connection broke before the answer: what was begun then still is, if nobody took it for lost.
  local other = start ~= '' and redis.call('HGET', key_of(message_id), '_then')
  local found = other and read(key_of(other), '_start', 'status')
  if found and found._start == start and found.status == 'running' then
    return {'ended', ready, other, redis.call('HGETALL', key_of(other))}
  end
  return {'ended', ready}
end

local function backlog(place) return prefix .. 'backlog:' .. run .. ':' .. place end
local function waiting(place) return redis.call('LLEN', backlog(place)) end

local widths = {}
local function window(place)
  if not widths[place] then widths[place] = tonumber(redis.call('GET', prefix .. 'window:' .. place) or min_window) end
  return widths[place]
end

-- The task can begin: its message goes into its queue, if the broker is this Redis; else its caller publishes it.
local function publish(other)
  local its_key = key_of(other)
  local found = read(its_key, 'queue', 'deadline', '_list', '_message')
  redis.call('HDEL', its_key, '_list', '_message')
  redis.call('HSET', its_key, 'published_at', now)
  redis.call('ZADD', prefix .. 'open:' .. found.queue, next_check(found, now + grace), other)
  if found._message then
    push_later(found._list, found._message)
  else
    ready[#ready + 1] = other
  end
end

-- What comes after this task waits for one less. `blocked`: why it need not be begun at all.
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
          publish(other)
        else
          redis.call('RPUSH', backlog(place), other)
        end
      end
    end
  end
  for place, number in pairs(sent) do
    if number > room[place] then
      redis.call('EXPIRE', backlog(place), retention)
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

-- The worker begins the task at once, if it needs neither a message of its own nor a check of its promotion.
local begun
local function take(other, cancelled)
  if begun or start == '' or cancelled == '1' or task.gated == '1' then return false end
  local its_key = key_of(other)
  local found = read(its_key, 'name', 'queue', 'stage', 'run_id', 'deadline', '_blocked')
  local late = found.deadline and now > tonumber(found.deadline)
  if found.name ~= task.name or found._blocked or late then return false end
  redis.call('HDEL', its_key, '_list', '_message')
  begin(other, its_key, found, {'published_at', now})
  redis.call('HSET', key_of(message_id), '_then', other)
  begun = other
  return true
end

-- Others follow from the run's backlog. `sent` of its tasks were published, and had not ended.
local function follow(sent, cancelled)
  if task.published_at then sent = sent - 1 end
  while sent < window(queue) do
    local other = next_waiting()
    if not other then break end
    sent = sent + 1
    if not take(other, cancelled) then publish(other) end
  end
  redis.call('HSET', runs, '_sent:' .. queue, sent)
end

-- A run, or a task, has ended; there is a stream for that while there are observers.
local function append_end(id_of_run, id_of_task, how)
  redis.call('XADD', prefix .. 'ends', 'NOMKSTREAM', 'MAXLEN', '~', max_ends, '*', 'run_id', id_of_run,
             'task_id', id_of_task, 'status', how, 'at', now)
end

local optional, blocked = task.optional == '1', false
if status == 'skipped' then
  blocked = task._blocked
elseif status ~= 'completed' and not optional then
  blocked = "'" .. task.label .. "' " .. status
end
redis.call('HSET', key, 'status', status, 'finished_at', now, 'progress', '', 'lease_until', 0, 'result', result)
redis.call('EXPIRE', key, retention)
redis.call('ZREM', prefix .. 'open:' .. queue, task_id)
redis.call('ZREM', prefix .. 'running:' .. queue, task_id)
if task.status == 'parked' then redis.call('ZREM', prefix .. 'parked:' .. queue, task_id) end
redis.call('PUBLISH', key, status)
tell(run, task_id, status, '', worker)
if not task.started_at then redis.call('EXPIRE', prefix .. 'events:' .. (run or task_id), retention) end
append_end(run or '', task_id, status)

local known = run and read(runs, 'left', '_sent:' .. queue, 'cancelled') or {}
if known['_sent:' .. queue] and waiting(queue) > 0 then
  follow(tonumber(known['_sent:' .. queue]), known.cancelled)
end
release(blocked)
count(counters)
if task.started_at then observe('task_seconds:' .. task.stage, now - tonumber(task.started_at)) end
if known.left then
  if status ~= 'completed' and not optional then redis.call('HSET', runs, 'failed', 1) end
  if redis.call('HINCRBY', runs, 'left', -1) == 0 then
    known = read(runs, 'created_at', 'failed', 'cancelled')
    local how = (known.cancelled == '1' and 'cancelled') or (known.failed and 'failed') or 'completed'
    redis.call('HINCRBY', prefix .. 'counters', 'runs:' .. how, 1)
    observe('run_seconds:' .. how, now - tonumber(known.created_at))
    append_end(run, '', how)
    redis.call('EXPIRE', runs, retention)
    redis.call('EXPIRE', prefix .. 'counters', retention)
  end
else
  redis.call('EXPIRE', prefix .. 'counters', retention)
end
push()
if begun then return {'applied', ready, begun, redis.call('HGETALL', key_of(begun))} end
return {'applied', ready}
